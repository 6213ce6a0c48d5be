"""One change for a whole set of images: a universal perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.applicable import check_kinds, check_seen
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.attack import BatchAttack, SearchAttack
from medrobust.attacks.case import Case, Effort, Found, opened
from medrobust.attacks.gradients import unit_mean
from medrobust.attacks.losses_catalogue import make_loss
from medrobust.attacks.objectives import Iterate, Objective, TaskLoss
from medrobust.attacks.protocols import Needs
from medrobust.attacks.result import AttackResult
from medrobust.checks import at_least, boolean, positive
from medrobust.data import Dataset, stack
from medrobust.errors import InputError
from medrobust.threat import Space, Threat
from medrobust.victim import Victim

PIXEL_NORMS = ("linf", "l2", "l1")
Batches = Sequence[tuple[Tensor, Tensor, Sequence[object]]]


@dataclass(frozen=True)
class OneChange(SearchAttack):
    """Adds the same change to every image; what leaves an image's ball or bounds is cut off.

    Args:
        change: `(C, *spatial)` in data units.
    """

    norms = PIXEL_NORMS
    change: Tensor
    targeted: bool = field(default=False, kw_only=True)

    def search(self, case: Case) -> Found:
        """The change, as far as it is allowed.

        Raises:
            InputError: the images are of another size.
        """
        if case.clean.shape[1:] != self.change.shape:
            shapes = f"{tuple(self.change.shape)}, the images {tuple(case.clean.shape[1:])}"
            raise InputError(f"a universal change of shape {shapes}: they must be of one size")
        moved = case.clean + self.change.to(case.clean)
        case.space.project_(moved)
        return Found(case.judge(moved), Effort.of(case))


@dataclass(frozen=True, kw_only=True)
class Universal(BatchAttack):
    """δ ← Π(δ + α · steepest(mean over a batch of ∇J(x + δ)/mean|∇J|)), over all images, several times.

    Universal perturbations are Moosavi-Dezfooli et al.'s (arXiv 1610.08401); this way to them is that of Shafahi,
    Najibi et al. (arXiv 1811.11304, algorithm 1), with every image's gradient at the same size, so that few cannot
    outvote the others. Any objective will do, also SMIA's: `Universal(loss=Stabilized(TaskLoss(), a2=1))`.

    An evaluation makes one δ of the whole data set at every budget; called on a batch, it makes one of that batch: the
    only attack in which an image's result depends on the others. `fit` makes one of images that are not attacked.

    Args:
        epochs: times that all images are gone through.
        step_size: α in data units; eps/10 when not given.
        batch_size: images that a step is made of.
        loss: what is climbed.
        targeted: `truth` is the answer to reach.

    Raises:
        InputError: an option has no such value, or the images are of different sizes.
    """

    norms = PIXEL_NORMS
    needs: ClassVar[Needs] = "gradients"
    epochs: int = 10
    step_size: float | None = None
    batch_size: int = 16
    loss: Objective = field(default_factory=TaskLoss)
    targeted: bool = False

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)
        boolean("targeted", self.targeted)
        if self.step_size is not None:
            positive("step_size", self.step_size)
        object.__setattr__(self, "loss", make_loss(self.loss))

    @property
    def independent(self) -> bool:
        """No: one change is for all."""
        return False

    def fit(self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int = 0) -> OneChange:
        """The change for these images `(N, C, *spatial)`, as an attack on any others of their size.

        Raises:
            InputError: the victim gives no gradients, or images, truth and threat do not fit.
        """
        return self._fitted(victim, list(self._cut(images, truth, range(len(images)))), threat, seed)

    def prepared(self, victim: Victim, dataset: Dataset, threat: Threat, seed: int) -> OneChange:
        """The change for all images of a data set."""
        return self._fitted(victim, _Stored(dataset, victim, self.batch_size), threat, seed)

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """The change for this batch, on this batch."""
        batches = list(self._cut(images, truth, range(len(images)) if ids is None else ids))
        if batches:
            made = self._fitted(victim, batches, threat, seed)
        else:
            made = OneChange(torch.zeros(images.shape[1:]), targeted=self.targeted)
        found = made(victim, images, truth, threat, seed, ids)
        return replace(found, steps_used=found.steps_used + self.epochs)

    def _cut(
        self, images: Tensor, truth: Tensor, ids: Sequence[object]
    ) -> Iterator[tuple[Tensor, Tensor, Sequence[object]]]:
        for begin in range(0, len(images), self.batch_size):
            rows = slice(begin, begin + self.batch_size)
            yield images[rows], truth[rows], list(ids)[rows]

    def _fitted(self, victim: Victim, batches: Batches, threat: Threat, seed: int) -> OneChange:
        check_seen(self, victim)
        check_kinds(self, victim, [threat])
        if isinstance(threat.eps, Tensor) or threat.mask is not None or threat.region is not None:
            raise InputError(
                "a universal change is one for all images: it needs linf, l2 or l1 without a mask or region"
            )
        loose = replace(threat, quantum=None)
        change: Tensor | None = None
        space: Space | None = None
        at_once = AtOnce(self.batch_size)
        alpha = threat.eps / 10 if self.step_size is None else self.step_size
        for _ in range(self.epochs):
            for images, truth, ids in batches:
                with opened(victim, images, truth, loose, seed, ids, targeted=self.targeted) as case:
                    if change is None or space is None:
                        zero = torch.zeros_like(case.clean[:1])
                        change, space = zero, loose.space(zero, (-torch.inf, torch.inf))
                    if case.clean.shape[1:] != change.shape[1:]:
                        raise InputError("a universal change is for images of one size: give resize")
                    step = space.steepest(self._mean_gradient(case, change, at_once), change)
                    change = change + alpha * step
                    space.project_(change)
        if change is None:
            raise InputError("a universal change needs images to be made of")
        return OneChange(change[0], targeted=self.targeted)

    def _mean_gradient(self, case: Case, change: Tensor, at_once: AtOnce) -> Tensor:
        return at_once.run(lambda rows: self._gradients(case.rows(rows), change), len(case)).mean(0, keepdim=True)

    def _gradients(self, case: Case, change: Tensor) -> Tensor:
        """Of each image at the change, all of one size, `(n, C, *spatial)`."""
        moved = (case.clean + change).clamp(*case.victim.bounds).requires_grad_()
        objective = self.loss.begin(case.victim, case.clean, case.truth)
        terms = objective(case.victim, Iterate(0, 1, case.clean, moved, case.truth, case.sign))
        (gradient,) = torch.autograd.grad(terms.total.sum(), moved)
        return unit_mean(torch.where(torch.isfinite(gradient), gradient, 0))


class _Stored(Sequence[tuple[Tensor, Tensor, Sequence[object]]]):
    """The batches of a data set, read anew every time."""

    def __init__(self, dataset: Dataset, victim: Victim, size: int) -> None:
        self._dataset, self._victim, self._size = dataset, victim, size

    def __len__(self) -> int:
        return -(-len(self._dataset) // self._size)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Sequence[object]]:  # type: ignore[override]
        if not 0 <= place < len(self):
            raise IndexError(place)
        begin = place * self._size
        samples = [self._dataset[index] for index in range(begin, min(begin + self._size, len(self._dataset)))]
        if len({sample.image.shape for sample in samples}) > 1:
            raise InputError("a universal change is for images of one size: give resize")
        images, truth, ids = stack(samples)
        return images.to(self._victim.device), truth.to(self._victim.device), ids
