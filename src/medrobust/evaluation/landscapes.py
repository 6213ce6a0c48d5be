"""What is kept of a few images to be drawn: maps of the divergences, and the loss around the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.trajectory import Trajectory
from medrobust.evaluation.batches import Batch
from medrobust.threat import Threat, sample_generators
from medrobust.threat.drawing import drawn
from medrobust.victim import Victim

RANDOM = "random"
REACH, POINTS = 1.6, 17  # of the axes, in lengths of the perturbation; 0 and ±1 are among the points
ANGLES = 721  # at which the border is followed
LEAST_ANGLE = 1e-3  # of two directions that span a plane, as a sine


@dataclass(frozen=True)
class StepMaps:
    """The way of one attack on one image, pixel by pixel; of a volume, its middle slice.

    Attributes:
        steps: after which steps.
        clean: `(C, H, W)` in data units.
        final, initial: `(len(steps), H, W)`: KL(p_t ‖ p_T) and KL(p_0 ‖ p_t); NaN where a pixel is to be ignored.
    """

    part: str
    index: int
    attack: str
    steps: tuple[int, ...]
    clean: Tensor
    final: Tensor
    initial: Tensor


@dataclass(frozen=True)
class LossSurface:
    """The loss at x + a·u + b·w, cut to the bounds, in the plane of two perturbations u and v of one image.

    w is the part of v that is orthogonal to u, made as long as u: so the plane is drawn as it is.

    Attributes:
        first, second: what u and v are of: an attack's label, or "random".
        end: a and b of v; those of u are 1 and 0.
        along: `(n,)` the values of a and of b.
        loss: `(n, n)`, row for b, column for a.
        border: `(m, 2)`, a and b along the border of the budget, before the cut to the bounds.
    """

    part: str
    index: int
    first: str
    second: str
    end: tuple[float, float]
    along: Tensor
    loss: Tensor
    border: Tensor


@dataclass(frozen=True)
class Landscape:
    """An image, `(1, C, *spatial)`, whose surroundings are looked at."""

    part: str
    index: int
    image: Tensor
    truth: Tensor
    threat: Threat
    seed: int
    sample_id: str


def step_maps(part: str, index: int, attack: str, batch: Batch, place: int, way: Trajectory) -> Iterator[StepMaps]:
    """The maps of one image of a batch at the first, the last and a few steps between; none if the task has none."""
    if way.kl_final_map is None or way.kl_initial_map is None:
        return
    last = len(way.kl_final_map) - 1
    steps = sorted({0, min(1, last), round(last / 3), round(2 * last / 3), last})
    axes = batch.images.ndim - 2
    final, initial = (
        _over_labels(maps[steps, place], axes) for maps in (way.kl_final_map, way.kl_initial_map)
    )  # (n, *spatial)
    volumes = batch.volumes
    clean = _middle(batch.images[place], volumes).float()
    yield StepMaps(part, index, attack, tuple(steps), clean, _middle(final, volumes), _middle(initial, volumes))


@torch.no_grad()
def landscapes(
    at: Landscape, victim: Victim, perturbations: Mapping[str, Tensor], reference: str, at_once: AtOnce
) -> Iterator[LossSurface]:
    """The planes of the reference's perturbation with that of the first other attack, and with a random one.

    The random perturbation is as long (in L2) as the reference's. Two perturbations that are one and the same span no
    plane.
    """
    space = (
        at.threat.over(at.image.ndim).for_truth(at.truth, at.image, victim.task.classes).space(at.image, victim.bounds)
    )
    noise = drawn(torch.randn, at.image, sample_generators(at.seed, [at.sample_id], "loss surface"))
    random = space.steepest(space.allowed(noise))
    random = random / random.norm() * perturbations[reference].norm()
    others = [label for label in perturbations if label != reference][:1]
    seconds = [(label, perturbations[label]) for label in others] + [(RANDOM, random)]
    for label, second in seconds:
        plane_of = _plane_of(perturbations[reference].double(), second.double())
        if plane_of is not None:
            yield _surface(at, victim, (reference, label), *plane_of, at_once)


def _plane_of(u: Tensor, v: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[float, float]] | None:
    """The vectors u and w, and where v ends; None where they span no plane."""
    length = float(u.norm())
    if length == 0:
        return None
    along = float((u * v).sum()) / length**2
    rest = v - along * u
    across = float(rest.norm()) / length
    return None if across < LEAST_ANGLE else ((u, rest / across), (along, across))


def _surface(
    at: Landscape,
    victim: Victim,
    names: tuple[str, str],
    axes: tuple[Tensor, Tensor],
    end: tuple[float, float],
    at_once: AtOnce,
) -> LossSurface:
    along = torch.linspace(-REACH, REACH, POINTS)
    b, a = torch.meshgrid(along, along, indexing="ij")
    places = torch.stack([a.flatten(), b.flatten()], 1).double()  # (n², 2)

    def look(index: Tensor) -> Tensor:
        changed = at.image + _combined(axes, places[index])
        images = changed.clamp(*victim.bounds).to(at.image.dtype)
        loss = victim.task.loss(victim.forward(images), at.truth.expand(len(images), *at.truth.shape[1:]))
        return loss.double().cpu()

    loss = at_once.run(look, len(places)).reshape(POINTS, POINTS)
    return LossSurface(at.part, at.index, *names, end, along, loss, _border(axes, at.threat))


def _combined(axes: tuple[Tensor, Tensor], weights: Tensor) -> Tensor:
    """a·u + b·w for weights `(rows, 2)`: `(rows, C, *spatial)`."""
    shape = (-1, *[1] * (axes[0].ndim - 1))
    along, across = weights.to(axes[0]).unbind(1)
    return along.reshape(shape) * axes[0] + across.reshape(shape) * axes[1]


def _border(axes: tuple[Tensor, Tensor], threat: Threat) -> Tensor:
    """Where the norm of a·u + b·w is eps: for each angle, eps over the norm of the unit vector's change."""
    angles = torch.linspace(0, 2 * math.pi, ANGLES, dtype=torch.float64)
    units = torch.stack([angles.cos(), angles.sin()], 1)
    order = {"l2": 2.0, "l1": 1.0}.get(threat.norm, math.inf)  # band noise is bounded value by value, as L∞
    sizes = [torch.linalg.vector_norm(_combined(axes, unit[None]), order) for unit in units]
    return units * threat.budget() / torch.stack(sizes).cpu().unsqueeze(1)


def _over_labels(maps: Tensor, axes: int) -> Tensor:
    """`(n, *positions)` → `(n, *spatial)`: the mean over the labels of a multi-label mask."""
    return maps if maps.ndim == axes + 1 else maps.mean(1)


def _middle(values: Tensor, volumes: bool) -> Tensor:
    """`(…, H, W)` as it is; of `(…, D, H, W)` the middle of D."""
    values = values.detach().cpu()
    return values[..., values.shape[-3] // 2, :, :].clone() if volumes else values
