"""Which detections match the truth: COCO's rule, once an image, at each of its ten thresholds of overlap.

Lin et al., Microsoft COCO, arXiv 1405.0312, as `pycocotools` does it (area "all", no crowds): within image and class
the detections choose in the order of their scores, ties in the order in which they come, the first 100 alone; each
takes, of the boxes of the truth that are still free and overlap it enough, the one that it overlaps most, the last of
equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)  # of the intersection over union
MOST = 100  # detections of a class in an image


@dataclass(frozen=True)
class Boxes:
    """The boxes of many images in one table, `n` in all, image after image.

    Attributes:
        image: `(n,)` int64 place of the image.
        label: `(n,)` int64 class.
        corners: `(n, 4)` float64 x1, y1, x2, y2.
        score: `(n,)` float64; 1 for the truth.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    corners: NDArray[np.float64]
    score: NDArray[np.float64]

    @classmethod
    def of_rows(cls, rows: pl.DataFrame, labels: str, corners: str, scores: str | None = None) -> Boxes:
        """The boxes that the columns named hold, one list a row; null is as good as empty."""
        counts = rows[labels].list.len().fill_null(0).to_numpy()
        filled = rows.filter(pl.Series(counts > 0))
        label = filled[labels].explode().to_numpy().astype(np.int64)
        corner = filled[corners].explode().cast(pl.List(pl.Float64)).list.to_array(4).to_numpy().reshape(-1, 4)
        score = np.ones(len(label)) if scores is None else filled[scores].explode().cast(pl.Float64).to_numpy()
        return cls(np.repeat(np.arange(len(rows)), counts), label, corner, score)

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Boxes:
        return Boxes(self.image[chosen], self.label[chosen], self.corners[chosen], self.score[chosen])

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.image)


def ranked(found: Boxes) -> Boxes:
    """Detections by falling score, those of equal score as they come; the first `MOST` of a class in an image."""
    found = found[np.argsort(-found.score, kind="stable")]
    grouped = np.lexsort((np.arange(len(found)), found.label, found.image))
    image, label = found.image[grouped], found.label[grouped]
    starts = np.flatnonzero(np.diff(image, prepend=-1) | np.diff(label, prepend=-1))
    rank = np.arange(len(found)) - np.repeat(starts, np.diff(starts, append=len(found)))
    return found[np.sort(grouped[rank < MOST])]


def matches(truth: Boxes, found: Boxes) -> NDArray[np.bool_]:
    """Whether each detection, of those by falling score, matches: `(n, thresholds)`."""
    hits = np.zeros((len(found), len(THRESHOLDS)), bool)
    taken: list[set[int]] = [set() for _ in THRESHOLDS]
    for place, candidates in _candidates(truth, found):
        most = max(overlap for _, overlap in candidates)
        for level, threshold in enumerate(THRESHOLDS.tolist()):
            if most < threshold:
                break
            chosen = _chosen(candidates, taken[level], threshold)
            if chosen is not None:
                taken[level].add(chosen)
                hits[place, level] = True
    return hits


def _chosen(candidates: Sequence[tuple[int, float]], taken: set[int], least: float) -> int | None:
    """The free box of the truth that is overlapped most, by at least `least`."""
    chosen = None
    for box, overlap in candidates:
        if overlap >= least and box not in taken:
            chosen, least = box, overlap
    return chosen


def _candidates(truth: Boxes, found: Boxes) -> list[tuple[int, list[tuple[int, float]]]]:
    """Detections in their order, each with the boxes of its image and class that it may match, and the overlaps."""
    tables = [
        pl.DataFrame({"image": boxes.image, "label": boxes.label, name: np.arange(len(boxes))})
        for name, boxes in (("found", found), ("truth", truth))
    ]
    pairs = tables[0].join(tables[1], ["image", "label"]).sort("found", "truth")
    mine, theirs = (pairs[name].to_numpy() for name in ("found", "truth"))
    overlap = _overlap(found.corners[mine], truth.corners[theirs])
    close = overlap >= THRESHOLDS[0]
    grouped: dict[int, list[tuple[int, float]]] = {}
    for place, box, size in zip(mine[close].tolist(), theirs[close].tolist(), overlap[close].tolist(), strict=True):
        grouped.setdefault(place, []).append((box, size))
    return list(grouped.items())


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes `(n, 4)`, pair by pair."""
    inner = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    inside = inner.clip(0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0] + areas[1] - inside
    return np.asarray(np.divide(inside, union, out=np.zeros(len(inside)), where=union > 0))
