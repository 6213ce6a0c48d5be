"""torchvision's families tell what torchvision itself computes, image by image and without train mode."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from tiny_detectors import CLASSES, FAMILIES, faster_rcnn, fcos, retinanet, tiny_detector
from torch import nn
from torchvision.models import detection
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from medrobust.data.dataset import pad_boxes
from medrobust.detectors import Detector, DetectorOutputs, detector_of
from medrobust.detectors.sampling import FreshSampler
from medrobust.errors import InputError
from medrobust.model_state import in_use

TRUTHS = [
    torch.tensor([[5.0, 8, 30, 40, 0], [20, 4, 50, 26, 2], [33, 30, 60, 60, 1]]),
    torch.zeros(0, 5),
    torch.tensor([[10.0, 10, 42, 44, 1]]),
]
SIGMOID = ("retinanet", "retinanet_giou", "fcos")


@pytest.fixture(params=list(FAMILIES))
def family(request) -> str:
    return request.param


@pytest.fixture
def model(family) -> nn.Module:
    return tiny_detector(family)


def pictures(count: int = 3, size: tuple[int, int] = (64, 64), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)


class ReseededSampler(BalancedPositiveNegativeSampler):
    """torchvision's own draw, from a global generator that starts at 0."""

    def __call__(self, matched_idxs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().__call__(matched_idxs)


def loss_of_torchvision(model: nn.Module, image: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for part in (getattr(model, "rpn", None), getattr(model, "roi_heads", None)):
        if part is not None:
            old = part.fg_bg_sampler
            part.fg_bg_sampler = ReseededSampler(old.batch_size_per_image, old.positive_fraction)
    target = {"boxes": rows[:, :4].to(image), "labels": rows[:, 4].long() + 1}
    return sum(model([image], [target]).values())


@pytest.mark.parametrize("size", [(64, 64), (50, 71), (70, 120)])
@pytest.mark.parametrize("rows", TRUTHS, ids=["three", "none", "one"])
def test_the_loss_and_its_gradient_are_those_of_torchvisions_train_mode(family, model, rows, size):
    if family.startswith("ssd") and not len(rows):
        pytest.skip("torchvision's own is 0 there: see the test of images without objects")
    rows = rows * torch.tensor([size[1] / 64, size[0] / 64] * 2 + [1])
    ours = pictures(1, size).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    detector = detector_of(model)
    loss = detector.loss(detector.forward(ours), rows[None])
    expected = loss_of_torchvision(model, theirs[0], rows)
    torch.testing.assert_close(loss, expected[None], rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), ours)
    (expected_gradient,) = torch.autograd.grad(expected, theirs)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5 * float(expected_gradient.abs().max()))


@pytest.mark.parametrize("size", [(64, 64), (50, 71), (70, 120)])
def test_detections_are_those_of_torchvisions_eval_mode(model, size):
    images = pictures(2, size)
    detector = detector_of(model)
    found = detector.detect(detector.forward(images))
    expected = model(list(images))
    for ours, theirs in zip(found, expected, strict=True):
        known = theirs["labels"] > 0
        assert known.sum() > 3
        assert torch.equal(ours.boxes, theirs["boxes"][known])
        assert torch.equal(ours.labels, theirs["labels"][known] - 1)
        assert torch.equal(ours.scores, theirs["scores"][known])
        assert (ours.scores.diff() <= 0).all()
        assert not ours.boxes.requires_grad
        assert ours.labels.dtype == torch.int64


def test_an_images_loss_scores_and_detections_do_not_depend_on_its_neighbours(model):
    # in double precision: rounding, which differs between batch sizes, cannot be taken for a neighbour's influence
    detector = detector_of(model.double())
    images, truth = pictures(dtype=torch.float64), pad_boxes(TRUTHS)
    outputs = detector.forward(images)
    assert len(outputs) == 3
    together = detector.loss(outputs, truth)
    found = detector.detect(outputs)
    scores = detector.log_probs(outputs, detector.places(outputs))
    assert together.shape == (3,)
    for place, rows in enumerate(TRUTHS):
        alone = detector.forward(images[place : place + 1])
        torch.testing.assert_close(detector.loss(alone, rows[None])[0], together[place])
        torch.testing.assert_close(detector.log_probs(alone, detector.places(alone))[0], scores[place])
        (one,) = detector.detect(alone)
        torch.testing.assert_close(one.boxes, found[place].boxes)
        torch.testing.assert_close(one.scores, found[place].scores)
        assert torch.equal(one.labels, found[place].labels)


def test_outputs_can_be_taken_apart_and_changed(model):
    detector = detector_of(model)
    outputs = detector.forward(pictures())
    last = outputs.map(lambda tensor: tensor[2:].detach())
    assert len(last) == 1
    assert last.image_size == (64, 64)
    truth = pad_boxes(TRUTHS)
    torch.testing.assert_close(detector.loss(last, truth[2:]), detector.loss(outputs, truth)[2:], rtol=1e-5, atol=1e-5)
    assert all(len(tensor) == 3 for tensor in outputs.tensors.values())


def test_rows_that_only_fill_up_and_their_order_do_not_count(model):
    detector = detector_of(model)
    outputs = detector.forward(pictures(1))
    rows = TRUTHS[0]
    filled = torch.cat([rows[:1], torch.tensor([[0.0, 0, 0, 0, -1], [3, 3, 9, 9, -1]]), rows[1:]])
    torch.testing.assert_close(detector.loss(outputs, filled[None]), detector.loss(outputs, rows[None]))


def snapshot(model: nn.Module) -> list[object]:
    return [
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [weight.grad for weight in model.parameters()],
        [weight.requires_grad for weight in model.parameters()],
        [module.training for module in model.modules()],
        [getattr(module, "fg_bg_sampler", None) for module in model.modules()],
        torch.get_rng_state(),
    ]


@pytest.mark.parametrize("training", [False, True])
def test_nothing_of_the_model_nor_the_global_random_state_changes(model, training):
    expected = model(list(pictures()))
    model.train(training)
    before = snapshot(model)
    detector = detector_of(model)
    images = pictures().requires_grad_()
    outputs = detector.forward(images)
    scores = detector.log_probs(outputs, detector.places(outputs))
    torch.autograd.grad(detector.loss(outputs, pad_boxes(TRUTHS)).sum() + scores.sum(), images)
    found = detector.detect(outputs)
    after = snapshot(model)
    assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())
    assert before[1:5] == after[1:5]
    assert torch.equal(before[5], after[5])
    # and a model in train mode answers as in eval mode
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.scores, theirs["scores"][theirs["labels"] > 0])


def test_losses_are_finite_without_objects_and_can_be_climbed(family, model):
    detector = detector_of(model)
    images = pictures(1).requires_grad_()
    loss = detector.loss(detector.forward(images), torch.zeros(1, 0, 5))
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()
    assert (loss > 0).all()
    assert gradient.any()
    if family.startswith("ssd"):  # torchvision's own is 0 there
        background = detector.log_probs(detector.forward(images))[:, 0]
        torch.testing.assert_close(loss, -background.sum(1))


def test_gradients_go_through_the_resizing(model):
    detector = detector_of(model)
    images = pictures(2, (40, 57)).requires_grad_()
    truth = pad_boxes([TRUTHS[2], TRUTHS[2]])
    outputs = detector.forward(images)
    (gradient,) = torch.autograd.grad(detector.loss(outputs, truth).sum(), images, retain_graph=True)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    scores = detector.log_probs(outputs, detector.places(outputs))
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), images)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_double_precision(model):
    single = detector_of(model)
    exact = detector_of(copy.deepcopy(model).double())
    truth = pad_boxes(TRUTHS)
    loss = exact.loss(exact.forward(pictures().double()), truth)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss.float(), single.loss(single.forward(pictures()), truth), rtol=1e-4, atol=1e-4)
    (found, *_) = exact.detect(exact.forward(pictures().double()))
    assert found.boxes.dtype == found.scores.dtype == torch.float32


def test_scores_are_probabilities_and_the_same_for_the_same_image(family, model):
    detector = detector_of(model)
    outputs = detector.forward(pictures(2))
    places = detector.places(outputs)
    scores = detector.log_probs(outputs, places)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones_like(scores[:, 0]))
    assert scores.shape[:2] == (2, 2 if family in SIGMOID else CLASSES + 1)
    assert (places is None) == (not family.startswith("faster"))
    again = detector.forward(pictures(2))
    assert torch.equal(detector.log_probs(again, places), scores)
    assert torch.equal(detector.log_probs(again, None), scores)
    other = detector.forward(pictures(2) * 0.9)
    assert not torch.equal(detector.log_probs(other, places), scores)


def test_another_layout_and_half_precision(model):
    detector, truth = detector_of(model), pad_boxes(TRUTHS)
    expected = detector.loss(detector.forward(pictures()), truth)
    with in_use(model, channels_last=True):
        outputs = detector.forward(pictures().contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(detector.loss(outputs, truth), expected, rtol=1e-5, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = detector.forward(pictures())
        torch.testing.assert_close(detector.loss(outputs, truth).float(), expected, rtol=0.1, atol=0.1)
        assert detector.log_probs(outputs, detector.places(outputs)).dtype == torch.float32


@pytest.mark.parametrize("family", ["retinanet", "ssd", "faster_rcnn"])
def test_every_detections_score_is_among_the_scores(family, model):
    detector = detector_of(model)
    outputs = detector.forward(pictures(1))
    probabilities = detector.log_probs(outputs, detector.places(outputs)).exp()[:, 1:].flatten()
    for score in detector.detect(outputs)[0].scores[:20]:
        assert (probabilities - score).abs().min() < 1e-6


def test_places_are_the_best_proposals_of_testing_as_many_for_every_image():
    model = tiny_detector("faster_rcnn")
    images = pictures(2)
    expected = []
    model.rpn.register_forward_hook(lambda module, inputs, outputs: expected.extend(outputs[0]))
    model(list(images))
    detector = detector_of(model)
    places = detector.places(detector.forward(images))
    assert places.shape == (2, 256, 4)
    for ours, theirs in zip(places, expected, strict=True):
        assert 2 < len(theirs) <= 80
        assert torch.equal(ours[: len(theirs)], theirs)
        assert torch.equal(ours[len(theirs)], theirs[0])


def test_a_first_stage_without_proposals():
    model = faster_rcnn(rpn_score_thresh=1.1).eval()
    detector = detector_of(model)
    outputs = detector.forward(pictures(2))
    assert torch.isfinite(detector.loss(outputs, torch.zeros(2, 0, 5))).all()
    places = detector.places(outputs)
    assert torch.equal(places[0, 7], torch.tensor([0.0, 0, 64, 64]))
    assert torch.isfinite(detector.log_probs(outputs, places)).all()
    assert [len(found.scores) for found in detector.detect(outputs)] == [0, 0]


def test_a_mask_rcnn_is_taken_by_its_boxes():
    plain = tiny_detector("faster_rcnn")
    masks = copy.deepcopy(plain)
    masks.roi_heads.mask_roi_pool = masks.roi_heads.mask_head = masks.roi_heads.mask_predictor = nn.Identity()
    truth = pad_boxes(TRUTHS)
    first, second = detector_of(plain), detector_of(masks)
    assert torch.equal(second.loss(second.forward(pictures()), truth), first.loss(first.forward(pictures()), truth))
    found, expected = second.detect(second.forward(pictures())), first.detect(first.forward(pictures()))
    assert all(torch.equal(one.boxes, other.boxes) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("positives", [0, 3, 40])
def test_the_draw_is_torchvisions_after_the_same_seed(positives):
    labels = torch.zeros(100)
    labels[:positives], labels[90:] = 1, -1
    ours = FreshSampler(32, 0.25)([labels, labels])
    theirs = ReseededSampler(32, 0.25)([labels])
    for mine, (other,) in zip(ours, theirs, strict=True):
        assert torch.equal(mine[0], other)
        assert torch.equal(mine[1], other)


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_a_model_with_as_many_columns_as_classes_numbers_them_from_0(build):
    model = build(num_classes=CLASSES, score_thresh=0.0).eval()
    detector = detector_of(model, classes=CLASSES)
    assert detector.classes == CLASSES
    images = pictures(1)
    outputs = detector.forward(images)
    (found,), (expected,) = detector.detect(outputs), model(list(images))
    assert torch.equal(found.labels, expected["labels"])
    assert 0 in found.labels
    assert detector.log_probs(outputs, None).shape[-1] == CLASSES * outputs.tensors["anchors"].shape[1]
    rows = TRUTHS[0]
    expected = loss_of_torchvision(model, images[0], rows - torch.tensor([0.0, 0, 0, 0, 1]))
    torch.testing.assert_close(detector.loss(outputs, rows[None])[0], expected)


def test_the_number_of_classes_is_without_the_background(model):
    assert detector_of(model).classes == CLASSES
    assert detector_of(model, classes=CLASSES).classes == CLASSES
    assert isinstance(detector_of(model), Detector)
    with pytest.raises(InputError, match=r"num_classes=4, which is 3 without .*; the data have 7: .*num_classes=8$"):
        detector_of(model, classes=7)


def test_a_head_that_does_not_tell_its_classes():
    model = tiny_detector("faster_rcnn")
    model.roi_heads.box_predictor = nn.Identity()
    with pytest.raises(InputError, match=r"set model\.roi_heads\.box_predictor\.cls_score\.out_features$"):
        detector_of(model)


def test_a_module_of_no_known_family():
    with pytest.raises(InputError, match=r"^Linear is no detector .*own_detector.py shows; it lacks loss, places, log"):
        detector_of(nn.Linear(2, 2))


def test_several_threads_give_what_one_gives():
    model = tiny_detector("faster_rcnn")
    detector, truth = detector_of(model), pad_boxes(TRUTHS)
    expected = detector.loss(detector.forward(pictures()), truth)
    results: list[torch.Tensor] = []
    work = [
        threading.Thread(target=lambda: results.append(detector.loss(detector.forward(pictures()), truth)))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "options", "size"),
    [
        ("ssdlite320_mobilenet_v3_large", {}, (200, 260)),
        ("ssd300_vgg16", {}, (200, 260)),
        ("fasterrcnn_resnet50_fpn", {"min_size": 128, "max_size": 200}, (100, 140)),
        ("fasterrcnn_resnet50_fpn_v2", {"min_size": 128, "max_size": 200}, (100, 140)),
        ("retinanet_resnet50_fpn_v2", {"min_size": 128, "max_size": 200}, (100, 140)),
        ("fcos_resnet50_fpn", {"min_size": 128, "max_size": 200}, (100, 140)),
        ("maskrcnn_resnet50_fpn", {"min_size": 128, "max_size": 200}, (100, 140)),
    ],
)
def test_torchvisions_own_models(build, options, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(detection, build)(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **options)
    model.eval()
    detector = detector_of(model, classes=CLASSES)
    images = pictures(1, size).requires_grad_()
    outputs: DetectorOutputs = detector.forward(images)
    loss = detector.loss(outputs, TRUTHS[0][None])
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.any()
    if not build.startswith("mask"):
        torch.testing.assert_close(
            loss[0], loss_of_torchvision(model, images.detach()[0], TRUTHS[0]), rtol=1e-4, atol=0
        )
    (found,), (expected,) = detector.detect(outputs), model(list(images.detach()))
    known = expected["labels"] > 0
    assert torch.equal(found.boxes, expected["boxes"][known])
    assert torch.equal(found.scores, expected["scores"][known])


def test_the_whole_image_stands_in_for_proposals_that_are_none():
    from medrobust.detectors.two_stage import _never_none

    some = torch.tensor([[1.0, 2, 3, 4]])
    whole, kept = _never_none([some[:0], some], (48, 64))  # (height, width)
    assert whole.tolist() == [[0, 0, 64, 48]]
    assert kept is some
