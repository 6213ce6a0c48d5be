"""Several attacks as one: the worst of them for every image, each next one only on what still stands.

The order is that of their cost. AutoAttack (Croce & Hein, ICML 2020, arXiv 2003.01690, section 6) is such an ensemble.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medrobust.attacks.applicable import check_kinds
from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.case import (
    Case,
    Effort,
    Found,
    check_threat,
    handed_in,
    leaves_less,
    nothing,
    opened,
    rows_where,
)
from medrobust.attacks.describing import described
from medrobust.attacks.per_image import either, exchanged, rows_of
from medrobust.attacks.protocols import Needs, needs_of, to_prepare
from medrobust.attacks.result import AttackResult
from medrobust.attacks.towards import Towards
from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.threat import Threat, nested
from medrobust.victim import Victim

LEAST_FIRST: tuple[Needs, ...] = ("decisions", "scores", "gradients")
UNTOUCHED = "clean"  # found by nobody: the image was answered wrong as it is


class Member(NamedTuple):
    """An attack of an ensemble, under the label that tells whose find an image is."""

    label: str
    attack: BatchAttack


@dataclass(frozen=True, kw_only=True)
class Ensemble(BatchAttack):
    """The worst case, per image, over attacks that are run one after the other.

    For one answer an image, the worst is a wrong one, and an image that is fooled is left alone from then on. For masks
    and boxes it is the lowest Dice (F1): every member attacks every image that has any of it left. Among equals the
    higher loss is worse. Several budgets are taken from the smallest on: what was found there holds in the larger ball.

    Args:
        members: label → attack, or a sequence of such pairs or of attacks; the cheapest first.

    Raises:
        InputError: there is no attack, or one is targeted.
    """

    members: Sequence[Member] = ()
    targeted: bool = False

    def __post_init__(self) -> None:
        given: Any = self.members
        given = given.items() if isinstance(given, Mapping) else given
        made = [Member(*one) if isinstance(one, tuple) else Member(type(one).__name__, one) for one in given]
        if not made and type(self) is Ensemble:
            raise InputError("an ensemble needs attacks: members=[('pgd', PGD()), …], in a file members: {pgd: {}, …}")
        goals = [one.label for one in made if _has_a_goal(one.attack)]
        if self.targeted or goals:
            which = f", {goals[0]!r} is" if goals else ""
            raise InputError(f"an ensemble looks for any wrong answer: none of its attacks can be targeted{which}")
        object.__setattr__(self, "members", tuple(made))

    @property
    def needs(self) -> Needs:
        """The most that a member needs."""
        return max((needs_of(one.attack) for one in self.members), key=LEAST_FIRST.index, default="gradients")

    def members_for(self, victim: Victim, threat: Threat) -> Sequence[Member]:
        """The attacks that are run against such a victim and threat."""
        return self.members

    def omissions(self, label: str, victim: Victim, threat: Threat) -> Iterator[str]:
        """What is to be told of members that are left out against such a victim and threat: of members' own members."""
        for one in self.members:
            if isinstance(one.attack, Ensemble):
                yield from one.attack.omissions(f"{label} ({one.label})", victim, threat)

    @property
    def prepares(self) -> bool:
        """Whether a member must be prepared."""
        return any(to_prepare(one.attack) for one in self.members)

    def prepared(self, victim: Victim, dataset: Dataset, threat: Threat, seed: int) -> Ensemble:
        """With its members prepared for the data set at this budget, which then is attacked by itself."""
        if not self.prepares:
            return self
        return replace(
            self, members=[Member(one.label, _ready(one.attack, victim, dataset, threat, seed)) for one in self.members]
        )

    @property
    def independent(self) -> bool:
        """Whether every member is."""
        return all(one.attack.independent for one in self.members)

    @property
    def shares_budgets(self) -> bool:
        """What is broken within a smaller ball is not attacked again."""
        return True

    def describe(self) -> dict[str, object]:
        """Its members besides its options."""
        return {**super().describe(), "members": {one.label: described(one.attack) for one in self.members}}

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """All members, in turn."""
        return self.attack_budgets(victim, images, truth, [threat], seed, ids)[0]

    def attack_budgets(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threats: Sequence[Threat],
        seed: int,
        ids: Sequence[object] | None,
    ) -> list[AttackResult]:
        """All members at every budget, from the smallest on where the balls lie in each other."""
        check_kinds(self, victim, threats)
        for threat in threats[1:]:
            check_threat(threat, images, victim, targeted=False)
        with opened(victim, images, truth, threats[0], seed, ids, targeted=False) as case:
            if not len(case):
                return [nothing(images) for _ in threats]
            turn = _Turn(victim, images, case.truth, seed, case.ids)
            if not nested(threats):
                return [self._worst(turn, threat, _untouched(case.under(threat), images)) for threat in threats]
            results: dict[int, AttackResult] = {}
            worst = _untouched(case, images)
            for place in sorted(range(len(threats)), key=lambda place: threats[place].budget()):
                worst = results[place] = self._worst(turn, threats[place], _spent(worst))
            return [results[place] for place in range(len(threats))]

    def _worst(self, turn: _Turn, threat: Threat, worst: AttackResult) -> AttackResult:
        members = self.members_for(turn.victim, threat)
        if not members:
            raise InputError(
                f"none of the attacks of {type(self).__name__} can attack this victim within {threat.norm}"
            )
        for member in members:
            standing = rows_where(turn.left(worst) > 0)
            if not len(standing):
                break
            found = turn.attacked(member, threat, standing)
            before = rows_of(worst, standing)
            spent = _together(found, before)
            taken = turn.worse(before, found, standing)
            worst = exchanged(worst, either(taken, _with(before, spent), _with(found, spent)), standing)
        return worst


def _has_a_goal(attack: object) -> bool:
    return isinstance(attack, Towards) or bool(getattr(attack, "targeted", False))


def _ready(attack: BatchAttack, victim: Victim, dataset: Dataset, threat: Threat, seed: int) -> BatchAttack:
    if not to_prepare(attack):
        return attack
    made = attack.prepared(victim, dataset, threat, seed)
    if not isinstance(made, BatchAttack):
        raise InputError(f"an ensemble takes attacks on batches: prepared, {type(attack).__name__} is none")
    return made


def _untouched(case: Case, images: Tensor) -> AttackResult:
    """The images as they are, and what the model makes of them."""
    found = Found(case.judge(case.space.start()), Effort.of(case), found_by=[UNTOUCHED] * len(case))
    return handed_in(case, found, images)


class _Turn(NamedTuple):
    """What every member is given."""

    victim: Victim
    images: Tensor
    truth: Tensor
    seed: int
    ids: Sequence[object]

    def left(self, result: AttackResult, rows: Tensor | None = None) -> Tensor:
        """What is left of the answers, `(B,)` in [0, 1]."""
        truth = self.truth if rows is None else self.truth[rows]
        return self.victim.task.worth(result.outputs, truth if result.truth is None else result.truth)

    def attacked(self, member: Member, threat: Threat, rows: Tensor) -> AttackResult:
        """What a member makes of some of the images."""
        chosen = [self.ids[place] for place in rows.tolist()]
        part = threat.rows(rows, len(self.images))
        found = member.attack.attack_batch(self.victim, self.images[rows], self.truth[rows], part, self.seed, chosen)
        return replace(found, found_by=[member.label] * len(rows), trajectory=None)

    def worse(self, kept: AttackResult, other: AttackResult, rows: Tensor) -> Tensor:
        """Bool `(n,)`: is the other one worse for the model?"""
        return leaves_less(self.left(other, rows), other.loss, self.left(kept, rows), kept.loss)


def _together(first: AttackResult, second: AttackResult) -> dict[str, Tensor]:
    names = ("steps_used", "zero_gradients", "queries")
    return {name: getattr(first, name) + getattr(second, name) for name in names}


def _with(result: AttackResult, spent: Mapping[str, Any]) -> AttackResult:
    return replace(result, smallest=None, **spent)


def _spent(result: AttackResult) -> AttackResult:
    """The result as the next budget begins with it: nothing spent on it there yet."""
    none = torch.zeros_like(result.queries)
    return replace(result, steps_used=none, zero_gradients=none, queries=none)
