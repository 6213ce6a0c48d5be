"""Walking along the decision boundary: no gradient, no scores, only whether an image is fooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.asking import NORMS, Decisions
from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Case, Effort, Found, rows_where
from medrobust.attacks.fooled_starts import first_fooled
from medrobust.attacks.hop_skip_jump_lengths import BISECTIONS, Lengths
from medrobust.attacks.protocols import Needs
from medrobust.checks import at_least, boolean, positive
from medrobust.errors import InputError
from medrobust.threat import TINY, nested, per_image
from medrobust.threat.drawing import drawn

MOST_DIRECTIONS = 10_000
HALVINGS = 20  # of a step that is too long


@dataclass(frozen=True, kw_only=True, eq=False)
class HopSkipJump(SearchAttack):
    """From a fooled image to the boundary, along it by an estimated gradient, and back to it, ever nearer.

    Chen, Jordan, Wainwright: HopSkipJumpAttack, S&P 2020, arXiv 1904.02144, algorithms 1 and 2. It looks for the
    smallest change; what is handed in lies in the threat's ball all the same: the change found, as far as the ball
    goes. `AttackResult.smallest` tells its size: 0 for an image that is wrong already, infinity where no fooled image
    was found to begin with. Of several budgets the search is made once.

    Args:
        queries: the most questions about an image, all in all.
        steps: the most rounds of bisection, estimate and step.
        directions: questions of the first estimate; √t times as many in round t, at most 10 000.
        gamma: precision of the bisection, the paper's γ: its θ is γ/d^1.5 (L2) or γ/d² (L∞) of d values.
        start: `(N, C, *spatial)` images in data units to begin at, tried in turn for every image, before noise is; see
            `first_fooled`.
        at_once: the most questions about one image in a batch; the result is the same.
        targeted: `truth` is the answer to reach, not the one to leave; needs `start`, among which each image finds one
            that is answered so.

    Raises:
        InputError: an option has no such value.
    """

    queries: int = 10_000
    steps: int = 64
    directions: int = 100
    gamma: float = 1.0
    start: Tensor | None = None
    at_once: int = 16
    targeted: bool = False

    needs: ClassVar[Needs] = "decisions"
    norms: ClassVar[tuple[str, ...] | None] = NORMS

    def __post_init__(self) -> None:
        for name in ("queries", "steps", "directions", "at_once"):
            at_least(name, getattr(self, name), 1)
        positive("gamma", self.gamma)
        boolean("targeted", self.targeted)
        if self.start is not None and not (isinstance(self.start, Tensor) and len(self.start)):
            raise InputError("start must be a tensor of one image or more, (N, C, *spatial)")
        if self.targeted and self.start is None:
            raise InputError("a targeted hopskipjump begins at images that are answered so: give some as start")

    @property
    def shares_budgets(self) -> bool:
        """The search does not depend on eps."""
        return True

    def search(self, case: Case) -> Found:
        """The smallest change, and what of it the threat allows.

        Raises:
            InputError: the start images are of another shape.
        """
        return self.search_all([case])[0]

    @torch.no_grad()
    def search_all(self, cases: Sequence[Case]) -> list[Found]:
        """As `search`, once for all budgets that differ in nothing else."""
        if len(cases) > 1 and not nested([case.threat for case in cases]):
            return [found for case in cases for found in self.search_all([case])]
        walk = _Walk(self, cases[0])
        walk.run()
        return [_handed_in(case, walk) for case in cases]


class _Walk:
    """The search for all images side by side, each with questions of its own.

    Attributes:
        best: `(B, C, *spatial)`, the nearest fooled images found, clean ones where none was.
        size: `(B,)` how far they are, infinite where none was found.
        ask: counts the questions.
    """

    def __init__(self, attack: HopSkipJump, case: Case) -> None:
        self.attack, self.case = attack, case
        self.best = case.clean.clone()
        self.size = torch.full_like(case.clean.flatten(1)[:, 0], torch.inf)
        self.ask = Decisions(case, attack.queries)
        self.lengths = Lengths(case, self.ask.free, attack.gamma)
        self.l2 = self.lengths.l2
        self.generators = case.generators("hopskipjump")

    def run(self) -> None:
        """Begin at the boundary, then walk until the questions or the rounds are used up."""
        rows = torch.arange(len(self.case), device=self.case.clean.device)
        wrong = self.ask(rows, self.case.clean)
        self.size[rows[wrong]] = 0
        rows, points = first_fooled(
            self.ask, rows[~wrong], self.attack.start, self.generators, noise=not self.attack.targeted
        )
        points = self._onto_boundary(rows, points)
        for index in range(1, self.attack.steps + 1):
            going = rows_where(self.ask.left(rows) > self.lengths.reserve(rows))
            rows, points = rows[going], points[going]
            if not len(rows):
                break
            direction = self._gradient(rows, points, index)
            points = self._onto_boundary(rows, self._stepped(rows, points, direction, index))

    def _onto_boundary(self, rows: Tensor, points: Tensor) -> Tensor:
        """Bisection between the clean images and fooled ones, whose fooled ends are returned, and kept if nearest.

        In L2 along the line between the two, in L∞ by the radius to which the change is cut.
        """
        clean = self.case.clean[rows]
        change, size = points - clean, self.lengths.size(points - clean)
        near, far = torch.zeros_like(size), torch.ones_like(size)
        rounds = self.lengths.bisections(rows)
        for index in range(BISECTIONS):
            active = rows_where((index < rounds) & (self.ask.left(rows) > 0))
            if not len(active):
                break
            middle = (near[active] + far[active]) / 2
            fooled = self.ask(rows[active], self._part(rows, clean, change, size, active, middle))
            far[active] = torch.where(fooled, middle, far[active])
            near[active] = torch.where(fooled, near[active], middle)
        everyone = torch.arange(len(rows), device=rows.device)
        points = torch.where(per_image(far < 1, points), self._part(rows, clean, change, size, everyone, far), points)
        size = self.lengths.size(points - clean)
        nearer = rows_where(size < self.size[rows])
        self.best[rows[nearer]], self.size[rows[nearer]] = points[nearer], size[nearer]
        return points

    def _part(self, rows: Tensor, clean: Tensor, change: Tensor, size: Tensor, active: Tensor, share: Tensor) -> Tensor:
        """The points at a share of the way, for some of the images."""
        clean, change = clean[active], change[active]
        if self.l2:
            return self.ask.limited(rows[active], clean + per_image(share, change) * change)
        radius = per_image(share * size[active], change)
        return self.ask.limited(rows[active], clean + change.clamp(-radius, radius))

    def _gradient(self, rows: Tensor, points: Tensor, index: int) -> Tensor:
        """The direction in which the images become more fooled, at unit length (L2) or as signs (L∞).

        The mean of the directions of probes, each weighted by its answer ±1 less the mean answer.
        """
        wanted = min(int(self.attack.directions * math.sqrt(index)), MOST_DIRECTIONS)
        counts = (self.ask.left(rows) - self.lengths.reserve(rows)).clamp_max(wanted)
        reach = self.lengths.reach(rows, self.lengths.size(points - self.case.clean[rows]), index)
        total, weighted = torch.zeros_like(points), torch.zeros_like(points)
        decisions = torch.zeros_like(reach)
        begin, most = 0, int(counts.max())
        while begin < most:
            taken = min(self.attack.at_once, most - begin)
            probes = self._probes(rows, points, reach, taken)
            asked = torch.arange(begin, begin + taken, device=rows.device).unsqueeze(1) < counts
            told = torch.zeros(asked.shape, dtype=points.dtype, device=points.device)
            answers = self.ask(rows.expand_as(asked)[asked], probes[asked])
            told[asked] = torch.where(answers, 1.0, -1.0).to(told)
            # one by one, so that the sums do not hang on how many are asked at once
            for along, answer, counted in zip(probes - points, told, asked.to(points), strict=True):
                total.addcmul_(along, per_image(counted, points))
                weighted.addcmul_(along, per_image(answer, points))
            decisions += told.sum(0)
            begin += taken
        mean = decisions / counts
        alike = mean.abs() == 1
        estimate = torch.where(
            per_image(alike, points), per_image(mean, points) * total, weighted - per_image(mean, points) * total
        )
        return self.case.space.steepest(estimate)

    def _probes(self, rows: Tensor, points: Tensor, reach: Tensor, count: int) -> Tensor:
        """`(count, n, …)` points around each image, a random direction away, cut to the bounds."""
        rows, generators = rows.repeat(count), [self.generators[row] for row in rows.tolist()] * count
        direction = drawn(torch.randn if self.l2 else _signed_uniform, self.case.clean[rows], generators)
        direction = torch.where(self.ask.free[rows], direction, 0)
        length = direction.flatten(1).norm(dim=1).clamp_min(TINY)
        moved = per_image(reach.repeat(count) / length, direction) * direction
        return self.ask.limited(rows, moved.reshape(count, *points.shape).add_(points).flatten(0, 1)).reshape(
            count, *points.shape
        )

    def _stepped(self, rows: Tensor, points: Tensor, direction: Tensor, index: int) -> Tensor:
        """Fooled points by a step of ‖x − x*‖/√t, halved until they are; the old ones where there is none."""
        length = self.lengths.size(points - self.case.clean[rows]) / math.sqrt(index)
        moved, open_ = points.clone(), torch.ones_like(rows, dtype=torch.bool)
        for _ in range(HALVINGS):
            active = rows_where(open_ & (self.ask.left(rows) > 0))
            if not len(active):
                break
            tried = points[active] + per_image(length[active], points) * direction[active]
            tried = self.ask.limited(rows[active], tried)
            fooled = self.ask(rows[active], tried)
            moved[active[fooled]] = tried[fooled]
            open_[active[fooled]] = False
            length = length / 2
        return moved


def _signed_uniform(shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(tuple(shape), generator=generator) - 1


def _handed_in(case: Case, walk: _Walk) -> Found:
    """Of the smallest change and the same one as long as the threat allows, cut to it, what serves better.

    The longer one lies deeper behind the boundary: it survives being saved.
    """
    change = walk.best - case.clean
    radius = torch.as_tensor(case.threat.eps).to(case.clean).expand(len(case))
    candidates = []
    for factor in (torch.ones_like(radius), (radius / walk.size.clamp_min(TINY)).clamp_min(1)):
        variables = case.clean + per_image(factor, change) * change
        case.space.project_(variables)
        candidates.append(case.judge(variables))
    effort = Effort.of(case)
    effort.queries += walk.ask.spent
    return Found(case.worse(*candidates), effort, smallest=walk.size.clone())
