import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.detection import MeanAveragePrecision

from medrobust.statistics.average_precision import RECALLS, AveragePrecision, mean_over_classes
from medrobust.statistics.detection_metrics import coco_estimates
from medrobust.statistics.matching import THRESHOLDS, Boxes, matches, ranked
from medrobust.statistics.resampling import multiplicities, percentile_interval

BOX = (0.0, 0.0, 10.0, 10.0)
ELSEWHERE = (50.0, 50.0, 60.0, 60.0)


def boxes(*rows: tuple) -> Boxes:
    """From rows of image, label, corners and, for detections, the score."""
    rows = sorted(rows, key=lambda row: row[0])
    image, label = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
    corners = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    return Boxes(image, label, corners, np.array([row[3] if len(row) > 3 else 1.0 for row in rows]))


def repeated(of: Boxes, times: np.ndarray) -> Boxes:
    """Each image as often as `times` says, the copies as images of their own."""
    starts = np.cumsum(times) - times
    rows = [
        (int(starts[image] + copy), int(label), tuple(corners), float(score))
        for image, label, corners, score in zip(of.image, of.label, of.corners.tolist(), of.score, strict=True)
        for copy in range(int(times[image]))
    ]
    return boxes(*rows)


def precision(truth: Boxes, found: Boxes, images: int) -> np.ndarray:
    """Of the images as they are: `(2, classes)`."""
    table = AveragePrecision.ranked(truth, found, np.arange(images), images)
    return table.draws(np.ones((images, 1), np.float32))[..., 0]


@pytest.mark.parametrize(
    ("found", "value"),
    [
        ([], 0.0),
        ([(0, 0, BOX, 0.9), (1, 0, BOX, 0.8)], 1.0),
        ([(0, 0, BOX, 0.9)], 51 / 101),  # recall 0.5, so of 101 recalls the first 51
        ([(0, 0, ELSEWHERE, 0.9), (0, 0, BOX, 0.8)], 51 / 101 / 2),  # the wrong one first: precision 1/2
        ([(0, 0, BOX, 0.9), (0, 0, BOX, 0.8)], 51 / 101),  # the second finds the box taken
        ([(0, 0, BOX, 0.9), (0, 0, ELSEWHERE, 0.8), (1, 0, BOX, 0.7)], (51 + 50 * 2 / 3) / 101),
        ([(0, 1, BOX, 0.9)], 0.0),  # the right place, the wrong class
        ([(1, 0, BOX, 0.9), (0, 0, (0.0, 0.0, 10.0, 7.2), 0.8)], 51 / 101 + 50 / 101 * 5 / 10),  # IoU 0.72: 5 of 10
    ],
)
def test_by_hand(found, value):
    truth = boxes((0, 0, BOX), (1, 0, BOX))
    assert precision(truth, boxes(*found), 2)[AveragePrecision.OVER_ALL] == pytest.approx([value])


def test_a_detection_takes_the_box_it_overlaps_most():
    truth = boxes((0, 0, (0.0, 0.0, 10.0, 10.0)), (0, 0, (2.0, 0.0, 12.0, 10.0)))
    found = boxes((0, 0, (2.0, 0.0, 12.0, 10.0), 0.9), (0, 0, (0.0, 0.0, 10.0, 10.0), 0.8))
    assert matches(truth, ranked(found)).all()


def test_a_box_that_is_taken_is_free_at_a_threshold_where_it_was_not_reached():
    truth = boxes((0, 0, (0.0, 0.0, 10.0, 10.0)))
    found = boxes((0, 0, (0.0, 0.0, 10.0, 6.2), 0.9), (0, 0, (0.0, 0.0, 10.0, 9.2), 0.8))
    first, second = matches(truth, ranked(found))
    assert first.tolist() == [threshold <= 0.62 for threshold in THRESHOLDS]
    assert second.tolist() == [0.62 < threshold <= 0.92 for threshold in THRESHOLDS]


def test_only_the_first_hundred_of_a_class_in_an_image_count():
    found = [(0, 0, ELSEWHERE, 0.9)] * 100 + [(0, 0, BOX, 0.1), (0, 1, BOX, 0.1)]
    truth = boxes((0, 0, BOX), (0, 1, BOX))
    assert precision(truth, boxes(*found), 1)[0].tolist() == [0, 1]


# whole corners make overlaps that fall on the thresholds, few of them boxes that lie on each other
corner = st.integers(0, 12)
box = st.tuples(corner, corner, st.integers(1, 12), st.integers(1, 12)).map(
    lambda sides: (float(sides[0]), float(sides[1]), float(sides[0] + sides[2]), float(sides[1] + sides[3]))
)
IMAGES = 5
place = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, 2), box)
# few scores, so that many are equal
tied = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, 3), box, st.integers(1, 9).map(lambda tenths: tenths / 10))


@settings(max_examples=300, deadline=None)
@given(st.lists(place, min_size=1, max_size=12), st.lists(tied, max_size=25))
def test_images_as_they_are_give_faster_coco_evals_figures(objects, answers):
    truth, found = boxes(*objects), boxes(*answers)
    assert precision(truth, found, IMAGES) == pytest.approx(coco_estimates(truth, found, IMAGES), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(place, min_size=1, max_size=10),
    st.lists(tied, max_size=20),
    st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES),
)
def test_weights_are_repeated_images(objects, answers, times):
    # of equal scores within a class: which copy comes first is a matter of order, so here all differ
    answers = [(image, label, corners, k / 100 + 0.01) for k, (image, label, corners, _) in enumerate(answers)]
    truth, found, weights = boxes(*objects), boxes(*answers), np.array(times)
    table = AveragePrecision.ranked(truth, found, np.arange(IMAGES), IMAGES)
    drawn = table.draws(weights[:, None].astype(np.float32))[..., 0]
    again = repeated(truth, weights)
    expected = coco_estimates(again, repeated(found, weights), int(weights.sum()))
    occurs = np.isin(table.labels, again.label)
    assert drawn[:, occurs] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(drawn[:, ~occurs]).all()


@pytest.mark.parametrize("seed", range(3))
def test_mean_over_classes_is_torchmetrics(seed):
    truth, found = scene(40, 4, seed)
    # its own thresholds are float32, so that a recall of 29 / 100 misses 0.29
    levels = {"iou_thresholds": THRESHOLDS.tolist(), "rec_thresholds": RECALLS.tolist()}
    metric = MeanAveragePrecision(backend="faster_coco_eval", **levels)
    metric.warn_on_many_detections = False
    for image in range(40):
        answered, known = ({key: torch.from_numpy(values) for key, values in of_image(b, image).items()}
                           for b in (found, truth))  # fmt: skip
        metric.update([answered], [known])
    expected, values = metric.compute(), precision(truth, found, 40)
    assert values[0].mean() == pytest.approx(float(expected["map"]), abs=1e-6)
    assert values[1].mean() == pytest.approx(float(expected["map_50"]), abs=1e-6)


def of_image(of: Boxes, image: int) -> dict[str, np.ndarray]:
    here = of[of.image == image]
    return {"boxes": here.corners.astype(np.float32), "labels": here.label, "scores": here.score.astype(np.float32)}


def scene(images: int, classes: int, seed: int = 0, *, objects: int = 3, wrong: int = 17) -> tuple[Boxes, Boxes]:
    """Objects that are found a little out of place, and as many wrong detections as asked."""
    rng = np.random.default_rng(seed)

    def drawn(each: int) -> Boxes:
        corners = rng.integers(0, 200, (images * each, 2)).astype(float)
        corners = np.concatenate([corners, corners + rng.integers(16, 80, corners.shape)], 1)
        labels = rng.integers(0, classes, len(corners))
        return Boxes(np.repeat(np.arange(images), each), labels, corners, np.ones(len(corners)))

    truth, other = drawn(objects), drawn(wrong)
    near = truth.corners + rng.integers(-4, 5, truth.corners.shape)
    image = np.concatenate([truth.image, other.image])
    order = np.argsort(image, kind="stable")
    label, corners = np.concatenate([truth.label, other.label]), np.concatenate([near, other.corners])
    return truth, Boxes(image[order], label[order], corners[order], rng.permutation(len(order)) / len(order))


def test_a_resample_leaves_out_the_classes_it_lacks():
    truth = boxes((0, 0, BOX), (1, 1, BOX))
    found = boxes((0, 0, BOX, 0.9), (1, 1, ELSEWHERE, 0.9))
    table = AveragePrecision.ranked(truth, found, np.arange(3), 3)
    weights = np.array([[1, 2, 0, 0], [1, 0, 1, 0], [1, 1, 2, 3]], np.float32)
    assert mean_over_classes(table.draws(weights)[0]) == pytest.approx([0.5, 1, 0, np.nan], nan_ok=True)


def test_clusters_weigh_all_their_images():
    truth, found = scene(6, 2)
    by_image = AveragePrecision.ranked(truth, found, np.arange(6), 6)
    by_patient = AveragePrecision.ranked(truth, found, np.arange(6) // 2, 3)
    weights = np.array([[2, 0], [1, 3], [0, 1]], np.float32)
    assert by_patient.draws(weights) == pytest.approx(by_image.draws(weights.repeat(2, 0)), nan_ok=True)


def test_equal_boxes_make_equal_tables():
    first, again, other = (AveragePrecision.ranked(*scene(4, 2, seed), np.arange(4), 4) for seed in (0, 0, 1))
    assert first == again
    assert hash(first) == hash(again)
    assert first != other


def test_a_thousand_resamples_take_a_moment():
    truth, found = scene(500, 5)
    weights = np.random.default_rng(0).multinomial(500, np.full(500, 1 / 500), 1000).T.astype(np.float32)
    started = time.perf_counter()
    AveragePrecision.ranked(truth, found, np.arange(500), 500).draws(weights)
    assert time.perf_counter() - started < 3  # 0.6 s on an idle core


def sampled(images: int, rng: np.random.Generator) -> AveragePrecision:
    """Images that are more or less hard, two objects each on average and as many wrong detections."""
    hard = rng.gamma(2, 1.5, images)
    objects, answers = [], []
    for image in range(images):
        for _ in range(rng.poisson(2)):
            label, corners = int(rng.integers(3)), anywhere(rng)
            objects.append((image, label, tuple(corners)))
            if rng.random() < 0.9:
                near = corners + rng.normal(0, 1 + hard[image], 4)
                answers.append((image, label, tuple(near), rng.beta(6, 2 + hard[image] / 2)))
        answers += [(image, int(rng.integers(3)), tuple(anywhere(rng)), rng.beta(3, 5)) for _ in range(rng.poisson(2))]
    return AveragePrecision.ranked(boxes(*objects), boxes(*answers), np.arange(images), images)


def anywhere(rng: np.random.Generator) -> np.ndarray:
    corner = rng.uniform(0, 200, 2)
    return np.concatenate([corner, corner + rng.uniform(20, 80, 2)])


@pytest.mark.slow
def test_intervals_of_thirty_images_cover_less_than_they_say():
    rng, tries, covered = np.random.default_rng(0), 200, 0
    whole = sampled(8000, rng).draws(np.ones((8000, 1), np.float32))[0].mean()
    for seed in range(tries):
        table = sampled(30, rng)
        (weights,) = multiplicities(30, 400, seed)
        low, high = percentile_interval(mean_over_classes(table.draws(np.ascontiguousarray(weights.T))[0]), 0.95)
        covered += low <= whole <= high
    assert 0.75 < covered / tries < 0.9
