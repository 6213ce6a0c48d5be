"""How far apart perturbations are: ‖a − b‖₂ over the mean of ‖a‖₂ and ‖b‖₂; 0 for the same, √2 for unrelated ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SKETCH = 256  # numbers that are kept of a direction


def relative_distances(vectors: Tensor) -> Tensor:
    """Of every pair of rows `(n, d)`: float64 `(n, n)`; NaN where both are zero."""
    vectors = vectors.double()
    lengths = vectors.norm(dim=1)
    mean = (lengths[:, None] + lengths[None]) / 2
    apart = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(mean > 0, apart / mean, torch.nan)


def mean_to_others(vectors: Tensor) -> list[float | None]:
    """Of every row `(n, d)` the mean relative distance to the others; None for a row that is alone."""
    if len(vectors) < 2:
        return [None] * len(vectors)
    apart = relative_distances(vectors)
    others = ~torch.eye(len(vectors), dtype=torch.bool, device=apart.device)
    means = torch.where(others, apart, 0).sum(1) / (len(vectors) - 1)
    return [None if value != value else value for value in means.tolist()]


def mean_distances(deltas: Sequence[Tensor]) -> list[list[object]]:
    """Several perturbations `(B, …)` of the same images: for each, image by image, the mean distance to the others."""
    stacked = torch.stack([delta.flatten(1) for delta in deltas], 1)  # (B, several, d)
    by_image = [mean_to_others(rows) for rows in stacked]
    return [list(column) for column in zip(*by_image, strict=True)]


def sketched(deltas: Tensor) -> Tensor:
    """The directions of perturbations `(B, …)` in few numbers, float32 `(B, 256)`; zeros of one that is zero.

    Every value is added, with a random sign, to one of 256 sums, the same for all of one size (feature hashing:
    Weinberger et al., ICML 2009, arXiv 0902.2206): inner products of unit vectors are kept to about 1/√256.
    """
    flat = deltas.flatten(1).double().cpu()
    generator = torch.Generator().manual_seed(flat.shape[1])
    place = torch.randint(SKETCH, (flat.shape[1],), generator=generator)
    sign = torch.randint(2, (flat.shape[1],), generator=generator) * 2 - 1
    lengths = flat.norm(dim=1, keepdim=True)
    units = torch.where(lengths > 0, flat / lengths, 0)
    return torch.zeros(len(flat), SKETCH, dtype=torch.float64).index_add_(1, place, units * sign).float()


class ImageDistances:
    """How far the perturbations of different images are apart, attack by attack; between images of one size alone."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...]], list[tuple[int, Tensor]]] = {}

    def add(self, attack: str, indices: Sequence[int], delta: Tensor) -> None:
        """Keep perturbations `(B, …)` in half precision: only their directions and lengths are asked for."""
        largest = delta.flatten(1).abs().amax(1).clamp_min(1e-30).reshape(-1, *[1] * (delta.ndim - 1))
        kept = self._kept.setdefault((attack, tuple(delta.shape[1:])), [])
        kept += [(index, row.flatten().cpu()) for index, row in zip(indices, (delta / largest).half(), strict=True)]

    def rows(self) -> Iterator[tuple[int, str, float | None]]:
        """Index, attack and the mean distance to the other images."""
        for (attack, _), kept in self._kept.items():
            means = mean_to_others(torch.stack([vector for _, vector in kept]))
            for (index, _), mean in zip(kept, means, strict=True):
                yield index, attack, mean
