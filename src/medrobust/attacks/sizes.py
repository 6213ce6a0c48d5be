"""What attacks a batch attacks a list, too: images of different sizes in one call, each size a batch of its own.

Put into one frame they would not stay independent: a detector pads a batch to its largest image, and an image's
outputs then change with its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.result import AttackResult, in_a_line
from medrobust.data.dataset import pad_boxes
from medrobust.errors import InputError


@dataclass(frozen=True, repr=False)
class ListResult:
    """What an attack made of images of different sizes, in their order; see `AttackResult`.

    Attributes:
        adversarial, delta: a list of `(C, *spatial)`.
        success, loss, steps_used, zero_gradients, queries: `(B,)`.
        groups: for each size the places of its images and its result, with outputs and trajectory.
        smallest: `(B,)`; None for an attack that does not look for it.
        found_by: of an ensemble, a list of the members' labels.
        truth: a list, one `(…)` an image, where a deformation moved it.
    """

    adversarial: list[Tensor]
    delta: list[Tensor]
    success: Tensor
    loss: Tensor
    steps_used: Tensor
    zero_gradients: Tensor
    queries: Tensor
    groups: list[tuple[list[int], AttackResult]]
    smallest: Tensor | None = None
    found_by: list[str] | None = None
    truth: list[Tensor] | None = None

    def __repr__(self) -> str:
        """In one line, as an `AttackResult`."""
        return in_a_line(self, self.adversarial)


def by_size(
    attack: Callable[..., AttackResult],
    images: Sequence[Tensor] | Tensor,
    truth: Sequence[Tensor] | Tensor,
    ids: Sequence[object] | None,
) -> ListResult:
    """Attack images `(C, *spatial)` of any sizes, those of one size (and truth of one size) together.

    Args:
        attack: `attack(images, truth, ids=ids, places=places)` attacks images `(B, C, *spatial)` of a truth `(B, …)`,
            which are at these places of the list.
        images: the images.
        truth: of each image; boxes `(n, 5)` may differ in number.
        ids: of each image; its place when not given.

    Raises:
        InputError: there is no image, or there are not as many truths and ids as images.
    """
    ids = list(range(len(images))) if ids is None else list(ids)
    if not len(images) or len(truth) != len(images) or len(ids) != len(images):
        raise InputError(f"{len(images)} images, {len(truth)} truths and {len(ids)} ids: they must be as many, and any")
    boxes = all(rows.is_floating_point() and rows.shape[1:] == (5,) for rows in truth)
    places: dict[tuple[object, ...], list[int]] = {}
    for place, image in enumerate(images):
        key = (image.shape, None if boxes else truth[place].shape)
        places.setdefault(key, []).append(place)
    groups = []
    for members in places.values():
        truths = [truth[place] for place in members]
        batch = torch.stack([images[place] for place in members])
        together = pad_boxes(truths) if boxes else torch.stack(truths)
        result = attack(batch, together, ids=[ids[place] for place in members], places=torch.tensor(members))
        groups.append((members, result))
    return _gathered(groups)


def _gathered(groups: list[tuple[list[int], AttackResult]]) -> ListResult:
    order = torch.tensor([place for members, _ in groups for place in members]).argsort()
    back = order.tolist()

    def rows(name: str) -> list[Any]:
        joined = [row for _, result in groups for row in getattr(result, name)]
        return [joined[place] for place in back]

    def told(name: str) -> bool:
        return all(getattr(result, name) is not None for _, result in groups)

    return ListResult(
        adversarial=rows("adversarial"),
        delta=rows("delta"),
        success=torch.stack(rows("success")),
        loss=torch.stack(rows("loss")),
        steps_used=torch.stack(rows("steps_used")),
        zero_gradients=torch.stack(rows("zero_gradients")),
        queries=torch.stack(rows("queries")),
        groups=groups,
        smallest=torch.stack(rows("smallest")) if told("smallest") else None,
        found_by=rows("found_by") if told("found_by") else None,
        truth=rows("truth") if told("truth") else None,
    )
