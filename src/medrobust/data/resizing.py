"""A sample brought to another size in the plane, with its truth and its spacing."""

from __future__ import annotations

from dataclasses import replace

from medrobust.data.boxes import resize_boxes
from medrobust.data.dataset import Sample
from medrobust.data.images import resize, resize_mask


def resized(sample: Sample, size: tuple[int, int] | None) -> Sample:
    """The sample with images `(C, *spatial, H, W)` of `size` = (height, width); as it is where it has that already.

    Its values are no longer on the grid of its file: there is no quantum.
    """
    before = (sample.image.shape[-2], sample.image.shape[-1])
    if size is None or before == size:
        return sample
    truth, spacing = sample.truth, sample.spacing
    if truth.is_floating_point():
        truth = resize_boxes(truth, before, size)
    elif truth.ndim > 1:  # a class, or labels, have no size
        truth = resize_mask(truth, size)
    if spacing is not None:
        ratios = [*[1.0] * (len(spacing) - 2), *(old / new for old, new in zip(before, size, strict=True))]
        spacing = tuple(step * ratio for step, ratio in zip(spacing, ratios, strict=True))
    return replace(sample, image=resize(sample.image, size), truth=truth, spacing=spacing, quantum=None)
