import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.ssd import SSD

from medrobust.data.dataset import NO_BOX, pad_boxes
from medrobust.data.embedded import SLICE_SIZE, open_embedded
from medrobust.models import load_embedded_model, load_model, weights_fingerprint
from medrobust.models.embedded_detection import bend, detection_loss, random_curve
from medrobust.models.embedded_training import Recipe, augment, train
from medrobust.models.networks import slice_detector
from medrobust.models.randomness import seeded


def untrained() -> torch.nn.Module:
    with seeded(1):
        return slice_detector(SLICE_SIZE)


def batch(*numbers):
    data = open_embedded("structures", "train")
    samples = [data[number] for number in numbers]
    return torch.stack([sample.image for sample in samples]), pad_boxes([sample.truth for sample in samples])


def targets_of(boxes):
    """Torchvision's form of the truth, written once more."""
    kept = [rows[rows[:, 4] >= 0] for rows in boxes]
    return [{"boxes": rows[:, :4], "labels": rows[:, 4].long() + 1} for rows in kept]


def mean_average_precision(network, split):
    samples = list(open_embedded("structures", split))
    metric = MeanAveragePrecision(backend="faster_coco_eval")
    with torch.no_grad():
        found = network([sample.image for sample in samples])
    metric.update(found, targets_of([sample.truth for sample in samples]))
    return metric.compute()


@pytest.mark.slow
def test_the_detector_finds_the_structures_in_held_out_slices(shared_cache):
    network = load_embedded_model("structures")
    assert isinstance(network, SSD)
    assert not network.training
    result = mean_average_precision(network, "test")
    assert result["map"] > 0.5
    assert result["map_50"] > 0.75
    again = load_model("embedded:structures", outputs=3, channels=1, task="detection")
    assert weights_fingerprint(again) == weights_fingerprint(network)


def test_an_untrained_detector_finds_nothing_of_use(shared_cache):
    assert mean_average_precision(untrained().eval(), "test")["map"] < 0.05


def test_images_of_any_size_and_empty_truth(shared_cache):
    network = untrained()
    found = network.eval()([torch.rand(1, 120, 104), torch.rand(1, 64, 90)])
    assert len(found) == 2
    assert set(found[0]) == {"boxes", "scores", "labels"}
    loss = detection_loss(network.train(), torch.rand(2, 1, 120, 104), torch.zeros(2, 0, 5))
    assert loss.isfinite()
    assert loss > 0


def test_the_loss_is_torchvisions_where_every_image_has_an_object(shared_cache):
    images, boxes = batch(0, 24, 36)
    network = untrained().train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # so that the images do not depend on each other
    expected = sum(network(list(images), targets_of(boxes)).values())
    torch.testing.assert_close(detection_loss(network, images, boxes), expected)
    # an image without objects adds the background's cross-entropy at its worst anchors, and is one image more
    empty, none = batch(16)
    both = detection_loss(network, torch.cat([images, empty]), pad_boxes([*boxes, *none]))
    head = network.head(list(network.backbone(network.transform(list(empty))[0].tensors).values()))
    worst = head["cls_logits"][0].softmax(1)[:, 0].sort().values[:10]
    torch.testing.assert_close(both, expected - worst.log().sum() / 4)
    assert not network.head._forward_hooks


def test_boxes_keep_to_their_objects_when_the_image_bends():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[12.0, 20, 30, 44, 1], [0, 0, 0, 0, NO_BOX]]).repeat(16, 1, 1)
    images = torch.zeros(16, 1, 60, 48)
    images[:, :, 20:44, 12:30] = 1
    curves = [random_curve(16, side, (0.2, 0.1, 0.4), generator) for side in (48, 60)]
    assert all((curve.diff(dim=1) > 0).all() for curve in curves)
    moved, after = bend(images, boxes, *curves)
    assert (after[:, 1, 4] == NO_BOX).all()
    assert (after[:, 0] - boxes[:, 0]).abs().max() > 3
    for image, (x1, y1, x2, y2, _) in zip(moved[:, 0], after[:, 0].tolist(), strict=True):
        rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (seen - torch.tensor([x1, y1, x2, y2])).abs().max() <= 0.75


def test_no_bend_moves_nothing_and_a_box_pushed_out_is_no_box():
    images, boxes = torch.rand(1, 1, 10, 8), torch.tensor([[[1.0, 2, 7, 9, 0], [0, 0, 3, 4, 2]]])
    across, along = ((2 * torch.arange(n)[None] + 1) / n - 1 for n in (8, 10))
    same, still = bend(images, boxes, across, along)
    torch.testing.assert_close(same, images)
    torch.testing.assert_close(still, boxes)
    _, pushed = bend(images, boxes, across + 1, along)  # half a width to the left: 4 pixels
    torch.testing.assert_close(pushed[0, 0], torch.tensor([0.0, 2, 3, 9, 0]))
    assert pushed[0, 1, 4] == NO_BOX


def test_training_lowers_the_loss_and_gives_the_same_weights_twice(shared_cache):
    images, boxes = batch(0, 24, 36, 16)
    recipe = Recipe(steps=15, batch_size=4, learning_rate=5e-3, bend=0.3)
    changed, moved = augment(images, boxes, recipe, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert not torch.equal(moved, boxes)
    one, two = untrained(), untrained()
    before = detection_loss(one.train(), images, boxes)
    train(one, images, boxes, recipe, detection_loss)
    train(two, images, boxes, recipe, detection_loss)
    detection_loss(two.train(), images, boxes)
    assert detection_loss(one.train(), images, boxes) < 0.8 * before
    for name, value in one.named_parameters():
        assert torch.equal(value, two.get_parameter(name))
