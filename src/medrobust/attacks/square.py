"""Random search by squares: no gradient, only the scores of images with a square of them changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.asking import NORMS, goal_met, movable
from medrobust.attacks.attack import SearchAttack
from medrobust.attacks.case import Candidate, Case, Effort, Found, rows_where
from medrobust.attacks.losses import Margin
from medrobust.attacks.losses_catalogue import make_loss
from medrobust.attacks.objectives import Iterate, Objective
from medrobust.attacks.per_image import joined, rows_of
from medrobust.attacks.protocols import Needs
from medrobust.attacks.square_moves import Bumps, Moves, Patches
from medrobust.checks import at_least, boolean
from medrobust.errors import InputError
from medrobust.threat import per_image

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10 000 queries
MOVES: dict[str, type[Moves]] = {"linf": Patches, "l2": Bumps}


@dataclass(frozen=True, kw_only=True)
class Square(SearchAttack):
    """Random changes within a square that shrinks, each kept if it brings the image nearer to its goal.

    Andriushchenko, Croce, Flammarion, Hein: Square Attack, ECCV 2020, arXiv 1912.00049, algorithms 1, 2 (L∞) and
    3 (L2). Of volumes the squares are cubes, in L∞ and L2 alike; a side is at most as long as the image's axis.
    Here every image has squares of its own, and is asked about as it would be saved: on the threat's grid. An image
    that is fooled leaves, one that is wrong from the beginning is left as it is.

    Args:
        queries: the most questions about an image in one restart: the clean image, the start, then a square each.
        p_init: share of the pixels in the first square.
        restarts: independent runs, each for the images that still stand.
        rescale: the squares shrink as over 10 000 queries, however many there are; False: as in AutoAttack's standard
            version, where fewer queries end at larger squares.
        loss: what is to rise instead of the margin.
        targeted: `truth` is the answer to reach, not the one to leave.

    Raises:
        InputError: an option has no such value.
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1
    rescale: bool = True
    loss: Objective | None = None
    targeted: bool = False

    needs: ClassVar[Needs] = "scores"
    norms: ClassVar[tuple[str, ...] | None] = NORMS

    def __post_init__(self) -> None:
        at_least("queries", self.queries, 2)
        at_least("restarts", self.restarts, 1)
        boolean("rescale", self.rescale)
        boolean("targeted", self.targeted)
        if isinstance(self.p_init, bool) or not isinstance(self.p_init, int | float) or not 0 < self.p_init <= 1:
            raise InputError(f"p_init must be above 0 and at most 1, got {self.p_init!r}")
        if self.loss is not None:
            object.__setattr__(self, "loss", make_loss(self.loss))

    @property
    def squares(self) -> int:
        """Questions of one restart about squares."""
        return self.queries - 2

    def share(self, index: int) -> float:
        """Share of the pixels in square `index`, from 0: p, halved at given places of 10 000."""
        place = int(index / self.squares * 10_000) if self.rescale else index
        return float(self.p_init) * 0.5 ** sum(place > halving for halving in HALVINGS)

    @torch.no_grad()
    def search(self, case: Case) -> Found:
        """Search by every restart, for the images that are neither wrong already nor fooled before."""
        effort, untouched = Effort.of(case), case.judge(case.space.start())
        effort.queries += 1
        attacked = ~untouched.success & movable(case)
        rows, left = rows_where(attacked), rows_where(~attacked)
        done = [(left, rows_of(untouched, left))]
        best, value = case.clean.clone(), torch.full_like(case.clean.flatten(1)[:, 0], -torch.inf)
        for restart in range(self.restarts):
            if not len(rows):
                break
            run = _Search(self, case.rows(rows), restart)
            run.run()
            effort.queries[rows] += run.spent
            done += [(rows[places], candidate) for places, candidate in run.left]
            rows = rows[run.places]
            best[rows] = torch.where(per_image(run.value > value[rows], run.best), run.best, best[rows])
            value[rows] = torch.maximum(run.value.to(value), value[rows])
        if len(rows):
            done.append((rows, case.rows(rows).judge(best[rows])))
        return Found(joined([candidate for _, candidate in done], [places for places, _ in done]), effort)


class _Search:
    """One restart; images leave it as they are fooled.

    Attributes:
        places: of the images that still stand, int64, in the case that it began with.
        best, value: their best image so far, and the objective there.
        spent: questions about each image of that case.
        left: places and candidates of those that are fooled.
    """

    def __init__(self, attack: Square, case: Case, restart: int) -> None:
        self.attack, self.case = attack, case
        self.objective: Objective = (attack.loss or Margin()).begin(case.victim, case.clean, case.truth)
        self.moves = MOVES[case.threat.norm](case, attack.squares, restart)
        self.places = torch.arange(len(case), device=case.clean.device)
        self.best = self.moves.start()
        self.value = torch.full_like(case.clean.flatten(1)[:, 0], -torch.inf)
        self.spent = Effort.of(case).queries
        self.left: list[tuple[Tensor, Candidate]] = []

    def run(self) -> None:
        """Ask about the start, then about a square at a time."""
        self._try(self.best, 0)
        for index in range(self.attack.squares):
            if not len(self.places):
                break
            self._try(self.moves(self.best, index, self.attack.share(index)), index + 1)

    def _try(self, images: Tensor, index: int) -> None:
        """Ask about the images, keep what is better, let go what is fooled."""
        case = self.case
        shown = case.saved(images).to(case.clean)
        iterate = Iterate(index, self.attack.queries, case.clean, shown, case.truth, case.sign)
        terms = self.objective(case.victim, iterate)
        self.spent[self.places] += 1
        success = goal_met(case, terms.outputs, case.truth)
        better = (terms.total > self.value) | success
        self.value = torch.where(better, terms.total, self.value)
        self.best = torch.where(per_image(better, images), images, self.best)
        reached = rows_where(success)
        if len(reached):
            self._let_go(reached)

    def _let_go(self, reached: Tensor) -> None:
        candidate = self.case.rows(reached).judge(self.best[reached])
        going = candidate.success
        # another batch may round otherwise: such an image was asked about once more, and stays
        self.spent[self.places[reached[~going]]] += 1
        self.left.append((self.places[reached[going]], rows_of(candidate, rows_where(going))))
        staying = torch.ones_like(self.places, dtype=torch.bool)
        staying[reached[going]] = False
        rows = rows_where(staying)
        self.places, self.best, self.value = self.places[rows], self.best[rows], self.value[rows]
        self.case, self.objective = self.case.rows(rows), self.objective.rows(rows)
        self.moves.keep(rows)
