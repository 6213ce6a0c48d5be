"""Ensembles by name: what AutoAttack runs, and that together with the attacks of this package.

Both are made for the victim and the threat at hand: what cannot attack them (a gradient attack a black box, FAB masks,
Square in L1) is left out, which a report tells, and `found_by` tells which members there were finds of.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medrobust.attacks.apgd import APGD, APGDT
from medrobust.attacks.applicable import keeps_to, sees_enough
from medrobust.attacks.dag import DAG
from medrobust.attacks.dense import CosPGD, SegPGD
from medrobust.attacks.ensembles import Ensemble, Member
from medrobust.attacks.fab import FAB
from medrobust.attacks.protocols import Needs
from medrobust.attacks.sea import SEA
from medrobust.attacks.sign import PGD
from medrobust.attacks.smia import SMIA
from medrobust.attacks.square import Square
from medrobust.attacks.tog import TOG, Goal
from medrobust.checks import at_least
from medrobust.errors import InputError, MedrobustWarning
from medrobust.tasks import Detection
from medrobust.threat import Threat
from medrobust.victim import Victim

GOALS: tuple[Goal, ...] = ("untargeted", "vanishing", "fabrication", "mislabelling")


@dataclass(frozen=True, kw_only=True)
class Standard(Ensemble):
    """APGD-CE, APGD-T, FAB-T and Square, the `standard` version of AutoAttack. arXiv 2003.01690, section 6.

    Images leave every member as soon as they are fooled. Where every answer has but two alternatives, APGD-T is APGD on
    the margin. In L1 there is no Square here.

    Masks are attacked by all but FAB, and the lowest Dice counts. Square does not go for it to the end: it leaves
    a mask that is wrong already (its Dice below `success_dice` without any change) as it is.

    Args:
        steps: of APGD and FAB, for each target.
        targets: classes that the targeted members go towards, at most.
        queries: of Square.

    Raises:
        InputError: an option has no such value; the task is detection.
    """

    steps: int = 100
    targets: int = 9
    queries: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("targets", self.targets, 1)
        at_least("queries", self.queries, 2)
        if self.members:
            raise InputError(f"{type(self).__name__} has its own members: an Ensemble takes others")

    @property
    def needs(self) -> Needs:
        """Scores: of a black box the members that need gradients are left out."""
        return "scores"

    def members_for(self, victim: Victim, threat: Threat) -> Sequence[Member]:
        """Those that can attack this victim within this threat.

        Warns:
            MedrobustWarning: the victim gives no gradients, and some are left out.
        """
        if not victim.differentiable:
            for told in self.omissions(type(self).__name__, victim, threat):
                warnings.warn(told, MedrobustWarning, stacklevel=1)  # from one place, which Python tells once
        return [one for one in self._all(victim) if _hindrance(one, victim, threat) is None]

    def omissions(self, label: str, victim: Victim, threat: Threat) -> Iterator[str]:
        """A sentence for each reason why members are left out, with those that are and those that are not."""
        reasons = {one.label: _hindrance(one, victim, threat) for one in self._all(victim)}
        left = [member for member, reason in reasons.items() if reason is None]
        if not left:
            return
        for reason in dict.fromkeys(filter(None, reasons.values())):
            without = ", ".join(member for member, why in reasons.items() if why == reason)
            yield f"{label} goes without {without} ({reason}); what is left: {', '.join(left)}."

    def _all(self, victim: Victim) -> Iterator[Member]:
        """All for such a task, cheapest first."""
        if isinstance(victim.task, Detection):
            raise InputError(f"{type(self).__name__} is not for detection: the ensemble medrobust is")
        yield from self._answers(victim)

    def _answers(self, victim: Victim) -> Iterator[Member]:
        """All four, cheapest first."""
        leave = not victim.task.dense
        yield Member("apgd", APGD(steps=self.steps, early_stop=leave))
        yield Member("apgd-t", APGDT(steps=self.steps, targets=self.targets, early_stop=leave))
        if not victim.task.dense:
            yield Member("fab-t", FAB(steps=self.steps, targets=self.targets))
        yield Member("square", Square(queries=self.queries, rescale=False))


@dataclass(frozen=True, kw_only=True)
class Medrobust(Standard):
    """`Standard` with SMIA before it; for masks SegPGD, CosPGD and SEA too, for boxes SMIA, PGD, TOG's goals and DAG.

    Args:
        steps, targets, queries: as `Standard`; of SEA `steps` for each of its losses.
    """

    def _all(self, victim: Victim) -> Iterator[Member]:
        """All for such a task."""
        if isinstance(victim.task, Detection):
            yield from self._boxes()
            return
        yield Member("smia", SMIA(keep="best", early_stop=not victim.task.dense))
        if victim.task.dense:
            yield Member("segpgd", SegPGD(keep="best"))
            yield Member("cospgd", CosPGD(keep="best"))
            yield Member("sea", SEA(steps=self.steps))
        yield from self._answers(victim)

    def _boxes(self) -> Iterator[Member]:
        yield Member("pgd", PGD(keep="best"))
        yield Member("smia", SMIA(keep="best"))
        for goal in GOALS:
            yield Member(f"tog {goal}", TOG(goal=goal))
        yield Member("dag", DAG())


def _hindrance(member: Member, victim: Victim, threat: Threat) -> str | None:
    """Why a member cannot attack this victim within this threat, if it cannot."""
    if not sees_enough(member.attack, victim):
        return "a black box gives no gradients"
    return None if keeps_to(member.attack, threat) else f"not for changes within {threat.norm}"
