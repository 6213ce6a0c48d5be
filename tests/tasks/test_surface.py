"""Borders and volumes in millimetres, against a search over all pairs of border pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from medrobust.errors import InputError
from medrobust.tasks import Segmentation
from medrobust.tasks.lesions import volume_unit
from medrobust.tasks.surface import surface_metrics


def border(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Pixels of the mask with a neighbour by a face that is not of it, or that is outside the image."""
    found = []
    for place in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                found.append(tuple(int(i) for i in place))
                break
    return found


def distances(a: np.ndarray, b: np.ndarray, spacing) -> np.ndarray:
    """From every border pixel of a to the nearest of b, in mm."""
    ends = [[i * s for i, s in zip(place, spacing, strict=True)] for place in border(b)]
    return np.array(
        [min(math.dist([i * s for i, s in zip(p, spacing, strict=True)], q) for q in ends) for p in border(a)]
    )


def blobs(shape, seed) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    for axis in range(len(shape)):
        values = values + np.roll(values, 1, axis) + np.roll(values, -1, axis)
    return values > np.quantile(values, 0.7)


CASES = [((9, 11), (1.0, 1.0)), ((9, 11), (0.7, 2.5)), ((6, 7, 8), (3.0, 0.8, 0.9)), ((5, 8, 6), (1.25, 1.25, 5.0))]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_by_all_pairs(shape, spacing, tolerance):
    for seed in range(3):
        answer, wanted = blobs(shape, seed), blobs(shape, seed + 50)
        there, back = distances(answer, wanted, spacing), distances(wanted, answer, spacing)
        masks = [torch.from_numpy(mask)[None, None] for mask in (answer, wanted)]
        found = surface_metrics(*masks, [spacing], tolerance)
        expected = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
        assert float(found["hd95"]) == pytest.approx(expected, rel=1e-5)
        near = np.concatenate([there, back]) <= tolerance
        assert float(found["surface_dice"]) == pytest.approx(near.mean(), abs=1e-6)


def test_two_squares_by_hand():
    """A square moved by 2 pixels of 3 mm along one axis, 0.5 mm along the other."""
    wanted = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    wanted[..., 4:10, 4:10] = True
    for axis, distance in ((2, 6.0), (3, 1.0)):
        found = surface_metrics(wanted.roll(2, axis), wanted, [(3.0, 0.5)], 2.0)
        assert float(found["hd95"]) == pytest.approx(distance)
    assert float(surface_metrics(wanted, wanted, [(3.0, 0.5)], 2.0)["hd95"]) == 0
    assert float(surface_metrics(wanted, wanted, [(3.0, 0.5)], 2.0)["surface_dice"]) == 1


def test_classes_that_are_missing():
    """Class 1 in both, 2 in the truth alone, 3 in the answer alone, 4 in neither; an image without any; one unknown."""
    truth, answer = torch.zeros(3, 6, 8, dtype=torch.int64), torch.zeros(3, 6, 8, dtype=torch.int64)
    truth[0, 1:4, 1:4], answer[0, 1:4, 1:4] = 1, 1
    truth[0, 5, 5], answer[0, 5, 0] = 2, 3
    outputs = torch.nn.functional.one_hot(answer, 5).movedim(-1, 1).float()
    task = Segmentation(5)
    found = task.image_metrics(outputs, truth, [(2.0, 1.5), (1.0, 1.0), None])
    diagonal = math.hypot(12, 12)
    assert found["hd95_by_class"][0].tolist() == pytest.approx([0, diagonal, diagonal, math.nan], nan_ok=True)
    assert found["surface_dice_by_class"][0].tolist() == pytest.approx([1, 0, 0, math.nan], nan_ok=True)
    assert found["hd95"].tolist() == pytest.approx([2 * diagonal / 3, 0, math.nan], nan_ok=True)
    assert found["surface_dice"].tolist() == pytest.approx([1 / 3, 1, math.nan], nan_ok=True)
    assert found["missed_volume_by_class"][0].tolist() == [0, 3.0, 0, 0]
    assert found["missed_volume"].tolist() == [3.0, 0, 0]


def test_ignored_pixels_are_of_no_border():
    truth, answer = torch.zeros(1, 6, 6, dtype=torch.int64), torch.zeros(1, 6, 6, dtype=torch.int64)
    truth[0, 1:3, 1:3] = answer[0, 1:3, 1:3] = 1
    answer[0, 5, 5], truth[0, 5] = 1, 9
    outputs = torch.nn.functional.one_hot(answer, 2).movedim(-1, 1).float()
    found = Segmentation(2, ignore_index=9).image_metrics(outputs, truth, [(1.0, 1.0)])
    assert (float(found["hd95"]), float(found["surface_dice"])) == (0, 1)


def test_labels_and_volumes():
    truth = torch.zeros(1, 2, 3, 4, 5, dtype=torch.int64)
    truth[0, 0, 0, 1:3, 1:3], truth[0, 1, 1] = 1, 1
    outputs = torch.where(truth == 1, 1.0, -1.0)
    outputs[0, 1, 1, :2] = -1.0
    found = Segmentation(2, multilabel=True).image_metrics(outputs, truth, [(5.0, 2.0, 1.0)])
    assert found["missed_volume_by_class"].tolist() == [[0, pytest.approx(10 * 10 / 1000)]]
    assert found["hd95_by_class"][0, 0] == 0


def test_units():
    assert volume_unit((5.0, 1.0, 2.0), 3) == ("ml", 0.01)
    assert volume_unit((0.5, 0.5), 2) == ("mm²", 0.25)
    assert volume_unit(None, 3) == ("voxels", 1)
    assert volume_unit(None, 2) == ("pixels", 1)


def test_without_spacing_only_what_needs_none_is_computed(monkeypatch):
    """What an attack asks at every candidate must stay cheap."""
    monkeypatch.setattr("medrobust.tasks.segmentation.surface_metrics", None)
    task, outputs, truth = Segmentation(2), torch.randn(1, 2, 8, 8), torch.ones(1, 8, 8, dtype=torch.int64)
    assert set(task.image_metrics(outputs, truth)) == {"dice", "iou", "dice_by_class", "iou_by_class"}
    task.fooled(outputs, truth)


def test_lesions_one_by_one():
    """Corners join; classes come one after the other; half of the second is covered."""
    truth = torch.zeros(2, 6, 7, dtype=torch.int64)
    truth[0, 0, 0] = truth[0, 1, 1] = 2
    truth[0, 4:6, 3:5] = 2
    truth[0, 0, 5] = 3
    answer = truth.clone()
    answer[0, 4], answer[0, 0, 0] = 0, 3
    outputs = torch.nn.functional.one_hot(answer, 4).movedim(-1, 1).float()
    task = Segmentation(4, lesion_classes=(2, 3))
    first, second = task.lesions(outputs, truth, [(0.5, 2.0), None])
    assert [(lesion.volume, lesion.covered) for lesion in first] == [(2, 0.5), (4, 0.5), (1, 1)]
    assert second == []
    assert Segmentation(4).lesions(outputs, truth, [None, None]) is None


def test_lesions_in_three_dimensions_by_labels():
    truth = torch.zeros(1, 2, 3, 3, 3, dtype=torch.int64)
    truth[0, 1, 0, 0, 0] = truth[0, 1, 1, 1, 1] = 1
    truth[0, 0, 2, 2, 2] = 1
    task = Segmentation(2, multilabel=True, lesion_classes=[1])
    ((lesion,),) = task.lesions(-torch.ones(truth.shape), truth, [(10.0, 10.0, 10.0)])
    assert (lesion.volume, lesion.covered) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segmentation(3, surface_tolerance=0), "surface_tolerance must be a finite number above 0"),
        (lambda: Segmentation(3, lesion_classes=(0,)), r"lesion_classes must be among 1 to 2, got \[0\]"),
        (lambda: Segmentation(3, multilabel=True, lesion_classes=(3,)), "lesion_classes must be among 0 to 2"),
        (
            lambda: Segmentation(2).image_metrics(
                torch.rand(1, 2, 4, 4), torch.ones(1, 4, 4).long(), [(1.0, 1.0, 1.0)]
            ),
            r"spacing \(1.0, 1.0, 1.0\) does not fit an image of \(4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
