"""The one loop that every iterative attack is.

x' ← Π(x' + step_size · steepest(∇J(x'))), per sample, with the gradient taken with respect to the input alone.
Nothing in the loop reads a tensor back to Python, so that a GPU never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks.directions import Direction, Situation, steepest
from medrobust.attacks.gradients import GradientPart
from medrobust.attacks.inputs import InputPart
from medrobust.attacks.objectives import Iterate, Objective, Terms
from medrobust.attacks.smoothing import GaussianSmoothing
from medrobust.attacks.trajectory import Trajectory, TrajectoryRecorder
from medrobust.errors import InputError
from medrobust.tasks import Placement, picked
from medrobust.threat import Space, Threat, per_image, sample_generators, towards
from medrobust.victim import HALF, Victim, check_finite


@dataclass(frozen=True)
class Plan:
    """The choices that make the loop an attack; see `IterativeAttack` for the words."""

    steps: int
    step_size: float
    objective: Objective
    inputs: InputPart | None = None
    gradients: tuple[GradientPart, ...] = ()
    direction: Direction = steepest
    targeted: bool = False
    random_start: bool = False
    restarts: int = 1
    keep_best: bool = False
    watch: GaussianSmoothing | None = None

    @property
    def sign(self) -> int:
        """+1 to leave the truth, −1 to reach the target."""
        return -1 if self.targeted else 1


@dataclass(frozen=True)
class AttackResult:
    """What an attack made of a batch, on the images' device and in their dtype.

    Attributes:
        adversarial: `(B, C, *spatial)` in data units: in the ball, the bounds, the mask and on the grid.
        delta: adversarial − images.
        success: bool `(B,)`: the answer is wrong (is the target, when targeted), from a fresh forward of `adversarial`.
        loss: `(B,)`: the task's loss there, against the truth (the target).
        outputs: the model's outputs there, a tensor or `DetectorOutputs`.
        steps_used: int64 `(B,)`: gradient steps spent on the image, over all restarts.
        zero_gradients: int64 `(B,)`: how many of them had a gradient exactly zero or not finite, and went in a random
            direction instead.
        trajectory: of the restart that was kept, when asked for.
    """

    adversarial: Tensor
    delta: Tensor
    success: Tensor
    loss: Tensor
    outputs: Any
    steps_used: Tensor
    zero_gradients: Tensor
    trajectory: Trajectory | None = None


@dataclass(frozen=True)
class _Candidate:
    """An image that could be handed in, judged by a forward of its own."""

    image: Tensor
    outputs: Any
    loss: Tensor
    success: Tensor
    trajectory: Trajectory | None


@dataclass(frozen=True)
class _Job:
    """What stays the same over all restarts."""

    plan: Plan
    objective: Objective
    victim: Victim
    clean: Tensor
    truth: Tensor
    threat: Threat
    space: Space
    noise: Tensor
    dtype: torch.dtype


def run_plan(
    plan: Plan,
    victim: Victim,
    images: Tensor,
    truth: Tensor,
    threat: Threat,
    seed: int,
    ids: Sequence[object] | None,
) -> AttackResult:
    """Attack a batch by the plan; arguments as for `IterativeAttack.__call__`."""
    victim.check_images(images)
    victim.task.check_truth(truth)
    threat.check(images, victim.bounds)
    if plan.targeted and threat.region is not None:
        raise InputError(
            "a region is of the true answer, a targeted attack is given the wanted one: use Towards, or call "
            "threat.for_truth(truth, images) first"
        )
    images = images.detach()
    ids = list(range(len(images))) if ids is None else list(ids)
    if len(ids) != len(images) or len(truth) != len(images):
        raise InputError(f"{len(images)} images, {len(truth)} truths and {len(ids)} ids: they must be as many")
    with torch.inference_mode(mode=False), torch.enable_grad():
        clean = victim.laid_out(images.clone())
        if clean.dtype in HALF:
            clean = clean.float()
        truth = truth.detach().to(clean.device).clone()
        if not len(images):
            return _nothing(clean.to(images.dtype))
        threat = threat.for_truth(truth, clean, victim.task.classes)
        space, noise = threat.space(clean, victim.bounds), _directions(clean, seed, ids)
        with victim.evaluating():
            objective = plan.objective.begin(victim, clean, truth)
            job = _Job(plan, objective, victim, clean, truth, threat, space, noise, images.dtype)
            kept, stuck = _all_restarts(job, seed, ids)
    adversarial = torch.empty_like(images).copy_(kept.image)  # in the layout of the caller's images
    check_finite(kept.outputs, ids, "attacked")
    return AttackResult(
        adversarial=adversarial,
        delta=adversarial - images,
        success=kept.success,
        loss=kept.loss,
        outputs=kept.outputs,
        steps_used=torch.full_like(stuck, plan.steps * plan.restarts),
        zero_gradients=stuck,
        trajectory=kept.trajectory,
    )


def _all_restarts(job: _Job, seed: int, ids: Sequence[object]) -> tuple[_Candidate, Tensor]:
    """The worst candidate per sample, and the number of steps without a gradient."""
    kept: _Candidate | None = None
    stuck = torch.zeros(len(job.clean), dtype=torch.int64, device=job.clean.device)
    for restart in range(job.plan.restarts):
        start = job.clean
        if job.plan.random_start or restart:
            generators = sample_generators(seed, ids, f"start {restart}")
            start = job.space.random_start(generators)
        place = None
        if job.plan.inputs is not None:
            place = job.plan.inputs.begin(sample_generators(seed, ids, f"inputs {restart}"))
        for candidate in _climb(job, start, place, stuck):
            kept = candidate if kept is None else _worse(kept, candidate, job.plan.sign)
    assert kept is not None
    return kept, stuck


def _climb(
    job: _Job, start: Tensor, place: Callable[[Tensor], Placement] | None, stuck: Tensor
) -> Iterator[_Candidate]:
    """Run the loop once; gives the last iterate and, when the plan keeps the best, the best before it."""
    plan, victim, space = job.plan, job.victim, job.space
    parts = [part.begin() for part in plan.gradients]
    recorder = TrajectoryRecorder(victim, job.truth, job.clean, plan.watch) if plan.watch else None
    best = _BestIterate(job) if plan.keep_best else None
    iterate = Iterate(0, plan.steps, job.clean, start, job.truth, plan.sign, plan.step_size)
    direction: Tensor | None = None
    # written over and over: on a CPU, memory that comes and goes costs more than the arithmetic in it
    scratch, *iterates = (torch.empty_like(job.clean) for _ in range(3))
    for index in range(plan.steps):
        current = iterate.current.detach().requires_grad_()
        iterate = replace(iterate, index=index, current=current)
        shown = iterate if place is None else _placed(iterate, place(current), victim)
        terms = job.objective(victim, shown)
        # of an image that was moved the terms tell nothing about the iterate itself
        seen = terms if place is None else None
        if best is not None:
            best.see(current, seen)
        if recorder is not None:
            recorder.record(current, seen, direction)
        gradient = space.allowed(_gradient(terms.total, current))
        with torch.no_grad():
            gradient, lost = _revive(gradient, space.allowed(_pattern(job.noise, index, current)), scratch)
            stuck += lost if terms.left is None else lost & terms.left
            for part in parts:
                gradient = part(gradient)
            direction = plan.direction(gradient, Situation(job.threat, space, victim.task, shown, terms.outputs))
            if terms.left is not None:
                direction = torch.where(per_image(terms.left, direction), direction, 0)
            # the iterate before last is nobody's any more
            moved = torch.add(current, direction, alpha=plan.step_size, out=iterates[index % 2])
            job.space.project_(moved)
        iterate = replace(iterate, current=moved, previous=current.detach(), direction=direction)
        del terms, shown, seen, gradient
    if recorder is not None:
        recorder.record(iterate.current, None, direction)
    yield _judge(job, iterate.current, recorder.finish() if recorder else None)
    if best is not None:
        yield _judge(job, best.image, recorder.finish() if recorder else None)


def _placed(iterate: Iterate, placement: Placement, victim: Victim) -> Iterate:
    """The iterate as the model is to see it, with all that belongs to it in register."""
    low = victim.bounds[0]
    return replace(
        iterate,
        current=placement.images(iterate.current, low),
        clean=placement.images(iterate.clean, low),
        truth=victim.task.placed(iterate.truth, placement, iterate.clean.shape[2:]),
        previous=None if iterate.previous is None else placement.images(iterate.previous, low),
        direction=None if iterate.direction is None else placement.images(iterate.direction, 0),
        placement=placement,
    )


class _BestIterate:
    """Per sample the best iterate so far, by the outputs that the objective computed anyway."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self.image = job.clean
        self._success = torch.zeros(len(job.clean), dtype=torch.bool, device=job.clean.device)
        self._goal = torch.full((len(job.clean),), -torch.inf, device=job.clean.device)

    @torch.no_grad()
    def see(self, current: Tensor, terms: Terms | None) -> None:
        """Take an iterate where it is better."""
        outputs = self._job.victim.forward(current) if terms is None else terms.outputs
        loss, success = _measure(self._job, outputs)
        goal = self._job.plan.sign * loss
        better = _beats(success, goal, self._success, self._goal)
        self.image = torch.where(per_image(better, current), current, self.image)
        self._success = torch.where(better, success, self._success)
        self._goal = torch.where(better, goal, self._goal)


def _gradient(total: Tensor, current: Tensor) -> Tensor:
    if not total.requires_grad:
        raise InputError("the model's outputs do not depend on its input by a differentiable path: no gradient attack")
    (gradient,) = torch.autograd.grad(total.sum(), current, allow_unused=True)
    return torch.zeros_like(current) if gradient is None else gradient


def _revive(gradient: Tensor, noise: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Replace, per sample, a gradient that is all zero or not finite; also says `(B,)` where that was so."""
    largest = gradient.flatten(1).abs().amax(1)
    # a NaN anywhere makes the maximum NaN, which fails the comparison too
    alive = (largest > 0) & torch.isfinite(largest)
    return torch.where(per_image(alive, gradient), gradient, out.copy_(noise), out=out), ~alive


def _directions(clean: Tensor, seed: int, ids: Sequence[object]) -> Tensor:
    """Random signs per sample, the steps of an image that has no gradient; twice over, for `_pattern`."""
    draws = [
        torch.randint(0, 2, (image.numel(),), generator=generator, dtype=torch.int8)
        for image, generator in zip(clean, sample_generators(seed, ids, "no gradient"), strict=True)
    ]
    return (2 * torch.stack(draws) - 1).repeat(1, 2).to(clean.device)


def _pattern(noise: Tensor, index: int, like: Tensor) -> Tensor:
    """Other signs at every step, without drawing or copying: a window that moves over them."""
    size = noise.shape[1] // 2
    begin = index * 7919 % size
    return noise[:, begin : begin + size].view_as(like)


@torch.no_grad()
def _judge(job: _Job, image: Tensor, trajectory: Trajectory | None) -> _Candidate:
    """Make the image as it would be saved, and measure the model on exactly that."""
    image = towards(job.clean, job.threat.finish(job.clean, image, job.victim.bounds), job.dtype)
    outputs = job.victim.forward(image)
    loss, success = _measure(job, outputs)
    return _Candidate(image, outputs, loss, success, trajectory)


def _measure(job: _Job, outputs: Tensor) -> tuple[Tensor, Tensor]:
    task = job.victim.task
    fooled = task.fooled(outputs, job.truth)
    return task.loss(outputs, job.truth), ~fooled if job.plan.targeted else fooled


def _worse(kept: _Candidate, other: _Candidate, sign: int) -> _Candidate:
    """Per sample the candidate that serves the attacker better."""
    take = _beats(other.success, sign * other.loss, kept.success, sign * kept.loss)

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(per_image(take, a), b, a)

    trajectory = None
    if kept.trajectory is not None and other.trajectory is not None:
        trajectory = kept.trajectory.select(other.trajectory, take)
    return _Candidate(
        pick(kept.image, other.image),
        picked(take, kept.outputs, other.outputs),
        pick(kept.loss, other.loss),
        pick(kept.success, other.success),
        trajectory,
    )


def _beats(success: Tensor, goal: Tensor, kept_success: Tensor, kept_goal: Tensor) -> Tensor:
    """The goal met first, then how far."""
    return (success & ~kept_success) | ((success == kept_success) & (goal > kept_goal))


def _nothing(clean: Tensor) -> AttackResult:
    """The result for an empty batch, without asking the model."""
    none = torch.zeros(0, device=clean.device)
    count = none.long()
    return AttackResult(clean, clean.clone(), none.bool(), none, none, count, count)
