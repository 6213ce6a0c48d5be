"""Boxes of three structures of the embedded brain slices, drawn by a rule from the template's probability maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

STRUCTURES = ("lateral ventricles", "hemispheric white matter", "hindbrain")

# A tissue is where its probability is at least this; fluid is what is neither grey nor white matter.
LEAST_PROBABILITY = 0.5
# The lateral ventricles are the largest piece of fluid this far inside the brain: that leaves out the sulci, the
# fissures and, but for a thread, the cisterns.
LEAST_DEPTH_MM = 20.0
VOXEL_MM = (1.0, 2.0, 2.0)  # height, front to back, left to right
# What shows less than 2 cm² of itself in a slice, or has a box with a side of less than 16 mm, is left out.
LEAST_PIXELS, LEAST_SIDE = 50, 8
# The first column right of the mid-plane, and the first row behind the anterior commissure.
MIDDLE, BEHIND = 52, 52

_Maps = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


def structure_boxes(
    images: _Maps, grey: _Maps, white: _Maps, heights: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Boxes (M, 6) of the structures in a stack of slices: number of the slice, x1, y1, x2, y2, class.

    - Lateral ventricles: one box round what the slice shows of both.
    - Hemispheric white matter: a box for the largest piece of white matter left and right of the mid-plane, in the
      slices above the corpus callosum, that is above the highest one in which white matter spans the mid-plane.
    - Hindbrain (cerebellum, pons and medulla): pieces of grey and white matter that lie, in their slice, wholly
      behind and below the anterior commissure; of these the largest piece through the slices.

    A piece hangs together, if only over corners. Corners of boxes are the outer edges of the outermost pixels.

    Args:
        images: brightness (N, H, W), 0 outside the brain; slices are 1 mm apart, pixels 2 mm wide, front on top.
        grey: probability of grey matter, of that shape.
        white: probability of white matter, of that shape.
        heights: mm above the anterior commissure (N,).
    """
    ventricles = _ventricles(images, grey, white)
    core = white >= LEAST_PROBABILITY
    spans = (core[:, :, MIDDLE - 1] & core[:, :, MIDDLE]).any(1)
    above_callosum = np.arange(len(core)) > np.max(np.flatnonzero(spans), initial=-1)
    hindbrain = _hindbrain(grey + white >= LEAST_PROBABILITY, heights)
    rows: list[tuple[int, ...]] = []
    for number in range(len(images)):
        shown = [(0, ventricles[number]), (2, hindbrain[number])]
        if above_callosum[number]:
            shown += [(1, _largest(side)) for side in _sides(core[number])]
        for label, piece in shown:
            if piece.sum() >= LEAST_PIXELS and _wide(corners := _corners(piece)):
                rows.append((number, *corners, label))
    return np.array(rows, np.float32).reshape(-1, 6)


def _ventricles(images: _Maps, grey: _Maps, white: _Maps) -> _Mask:
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(images > 0, sampling=VOXEL_MM)
    fluid = (1 - grey - white >= LEAST_PROBABILITY) & (depth >= LEAST_DEPTH_MM)
    return _largest(fluid)


def _hindbrain(brain: _Mask, heights: npt.NDArray[np.integer]) -> _Mask:
    found = np.zeros_like(brain)
    for number in np.flatnonzero(heights < 0):
        labels, count = _pieces(brain[number])
        in_front = np.unique(labels[:BEHIND])
        found[number] = np.isin(labels, np.setdiff1d(np.arange(1, count + 1), in_front))
    return _largest(found)


def _sides(mask: _Mask) -> Iterator[_Mask]:
    columns = np.arange(mask.shape[1])
    yield mask & (columns < MIDDLE)
    yield mask & (columns >= MIDDLE)


def _largest(mask: _Mask) -> _Mask:
    """The largest piece alone; all False when there is none."""
    labels, count = _pieces(mask)
    found: _Mask = labels == 1 + np.bincount(labels[mask], minlength=count + 2)[1:].argmax()
    return found


def _pieces(mask: _Mask) -> tuple[npt.NDArray[np.int32], int]:
    """The number of its piece for each pixel, from 1 on (0: none), and the number of pieces."""
    from scipy import ndimage  # here, because only the first use of the slices needs it

    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return labels, int(count)


def _corners(piece: _Mask) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(piece)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _wide(corners: tuple[int, int, int, int]) -> bool:
    x1, y1, x2, y2 = corners
    return min(x2 - x1, y2 - y1) >= LEAST_SIDE
