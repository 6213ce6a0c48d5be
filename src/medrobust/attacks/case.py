"""One batch to attack, checked and on the victim's terms; and how a candidate for it is judged.

Every attack, with gradients or without, opens a case, searches, and hands in candidates. What is judged is the image
as it would be saved, by a forward of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.per_image import either, tiled
from medrobust.attacks.result import AttackResult
from medrobust.attacks.trajectory import Trajectory
from medrobust.errors import InputError
from medrobust.threat import Space, Threat, sample_generators, towards
from medrobust.victim import HALF, Victim, check_finite


@dataclass(frozen=True)
class Candidate:
    """Images that could be handed in, judged; all `(B, …)`, see `AttackResult`."""

    image: Tensor
    outputs: Any
    loss: Tensor
    success: Tensor
    trajectory: Trajectory | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class Case:
    """One batch to attack: what stays the same while an attack searches.

    Attributes:
        victim: in use (`evaluating()`), with gradients enabled.
        clean: `(B, C, *spatial)` float32 or float64, on the images' device, in the victim's layout.
        truth: `(B, …)`, the true answers (the wanted ones, when targeted).
        threat: its region looked up.
        seed, ids: of all randomness.
        targeted: whether `truth` is the answer to reach.
        dtype: of the caller's images.
    """

    victim: Victim
    clean: Tensor
    truth: Tensor
    threat: Threat
    seed: int
    ids: Sequence[object]
    targeted: bool
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def sign(self) -> int:
        """+1 to leave the truth, −1 to reach the target."""
        return -1 if self.targeted else 1

    @cached_property
    def space(self) -> Space:
        """What the attacker may choose from."""
        return self.threat.space(self.clean, self.victim.bounds)

    def truth_at(self, variables: Tensor, space: Space | None = None) -> Tensor:
        """The truth in register with the images of the variables; a target is of the pixels, and stays where it is.

        Args:
            variables: `(copies · B, …)`, copy k of image b in row k · B + b.
            space: of as many copies, if there are several.
        """
        truth = tiled(self.truth, len(variables) // len(self), len(self))
        return truth if self.targeted else (space or self.space).truth(truth, variables)

    def generators(self, purpose: str) -> list[torch.Generator]:
        """A generator for each image, from seed, id and purpose alone."""
        return sample_generators(self.seed, self.ids, purpose)

    def rows(self, index: Tensor) -> Case:
        """The case of some of the images, `(n,)` int64."""
        index = index.to(self.clean.device)
        return replace(
            self,
            clean=self.clean[index],
            truth=self.truth[index],
            threat=self.threat.rows(index, len(self)),
            ids=[self.ids[place] for place in index.tolist()],
        )

    def under(self, threat: Threat) -> Case:
        """The same batch under another threat."""
        return replace(self, threat=threat.for_truth(self.truth, self.clean, self.victim.task.classes))

    def measure(self, outputs: Any, truth: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The task's loss and whether the goal is met, `(B,)` each."""
        task, truth = self.victim.task, self.truth if truth is None else truth
        fooled = task.fooled(outputs, truth)
        return task.loss(outputs, truth), ~fooled if self.targeted else fooled

    def saved(self, variables: Tensor) -> Tensor:
        """The images of allowed variables as they would be saved: on the threat's grid, in the caller's dtype."""
        made = self.threat.finish(self.clean, self.space.images(variables), self.victim.bounds)
        return towards(self.clean, made, self.dtype)

    @torch.no_grad()
    def judge(self, variables: Tensor, trajectory: Trajectory | None = None) -> Candidate:
        """Make the images as they would be saved, and measure the model on exactly that.

        Args:
            variables: of the threat's space, allowed; of a pixel threat, images.
            trajectory: to go with the candidate.
        """
        image = self.saved(variables)
        truth = self.truth_at(variables)
        outputs = self.victim.forward(image)
        loss, success = self.measure(outputs, truth)
        return Candidate(image, outputs, loss, success, trajectory, None if truth is self.truth else truth)

    def left(self, candidate: Candidate) -> Tensor:
        """What is left of the true answers, `(B,)` in [0, 1]; see `Task.worth`."""
        truth = self.truth if candidate.truth is None else candidate.truth
        return self.victim.task.worth(candidate.outputs, truth)

    def worse(self, kept: Candidate, other: Candidate) -> Candidate:
        """Per image the candidate that serves the attacker better."""
        return either(beats(other.success, self.sign * other.loss, kept.success, self.sign * kept.loss), kept, other)


@dataclass
class Effort:
    """What a search cost, int64 `(B,)` each."""

    steps: Tensor
    stuck: Tensor
    queries: Tensor

    @classmethod
    def of(cls, case: Case) -> Effort:
        """None yet."""
        return cls(*(torch.zeros(len(case), dtype=torch.int64, device=case.clean.device) for _ in range(3)))

    def add(self, other: Effort, rows: Tensor | slice) -> None:
        """What was spent on some of the images."""
        self.steps[rows] += other.steps
        self.stuck[rows] += other.stuck
        self.queries[rows] += other.queries


@dataclass(frozen=True)
class Found:
    """What a search ends with."""

    candidate: Candidate
    effort: Effort
    smallest: Tensor | None = None
    found_by: list[str] | None = None


def beats(success: Tensor, goal: Tensor, kept_success: Tensor, kept_goal: Tensor) -> Tensor:
    """The goal met first, then how far."""
    return (success & ~kept_success) | ((success == kept_success) & (goal > kept_goal))


def leaves_less(left: Tensor, loss: Tensor, kept_left: Tensor, kept_loss: Tensor) -> Tensor:
    """Less of the true answers first, then the higher loss."""
    return (left < kept_left) | ((left == kept_left) & (loss > kept_loss))


@contextmanager
def opened(
    victim: Victim,
    images: Tensor,
    truth: Tensor,
    threat: Threat,
    seed: int,
    ids: Sequence[object] | None,
    *,
    targeted: bool,
) -> Iterator[Case]:
    """The case of a batch, inside which the victim is in use and gradients are enabled.

    Raises:
        InputError: images, truth and threat do not fit the victim, or each other.
    """
    victim.check_images(images)
    victim.task.check_truth(truth)
    check_threat(threat, images, victim, targeted=targeted)
    ids = list(range(len(images))) if ids is None else list(ids)
    if len(ids) != len(images) or len(truth) != len(images):
        raise InputError(f"{len(images)} images, {len(truth)} truths and {len(ids)} ids: they must be as many")
    with torch.inference_mode(mode=False), torch.enable_grad(), victim.evaluating():
        clean = victim.laid_out(images.detach().clone())
        if clean.dtype in HALF:
            clean = clean.float()
        truth = truth.detach().to(clean.device).clone()
        threat = threat.for_truth(truth, clean, victim.task.classes) if len(images) else threat
        yield Case(victim, clean, truth, threat, seed, ids, targeted, images.dtype)


def check_threat(threat: Threat, images: Tensor, victim: Victim, *, targeted: bool) -> None:
    """Raise `InputError` when the threat does not fit the images, or is of a truth that the attack is not given."""
    threat.check(images, victim.bounds)
    if targeted and threat.region is not None:
        raise InputError(
            "a region is of the true answer, a targeted attack is given the wanted one: use Towards, or call "
            "threat.for_truth(truth, images) first"
        )


def handed_in(case: Case, found: Found, images: Tensor) -> AttackResult:
    """The result for the caller, in the layout of the caller's images.

    Raises:
        InputError: the model gives NaN or infinite outputs for an attacked image.
    """
    candidate, images = found.candidate, images.detach()
    adversarial = torch.empty_like(images).copy_(candidate.image)
    check_finite(candidate.outputs, case.ids, "attacked")
    return AttackResult(
        adversarial=adversarial,
        delta=adversarial - images,
        success=candidate.success,
        loss=candidate.loss,
        outputs=candidate.outputs,
        steps_used=found.effort.steps,
        zero_gradients=found.effort.stuck,
        queries=found.effort.queries,
        trajectory=candidate.trajectory,
        smallest=found.smallest,
        found_by=found.found_by,
        truth=candidate.truth,
    )


def nothing(images: Tensor) -> AttackResult:
    """The result for an empty batch, without asking the model."""
    none = torch.zeros(0, device=images.device)
    count = none.long()
    return AttackResult(images.detach(), images.detach().clone(), none.bool(), none, none, count, count, count)


def rows_where(chosen: Tensor) -> Tensor:
    """Bool `(B,)` → the places where it is True."""
    return chosen.nonzero().flatten()
