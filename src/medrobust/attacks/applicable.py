"""Whether an attack can attack a victim within a threat at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medrobust.attacks.positions import check_dense
from medrobust.attacks.protocols import needs_of
from medrobust.errors import InputError
from medrobust.tasks import Detection
from medrobust.threat import Threat
from medrobust.victim import Victim

if TYPE_CHECKING:
    from medrobust.attacks.attack import BatchAttack


def sees_enough(attack: object, victim: Victim) -> bool:
    """Whether the victim gives gradients, where the attack needs them."""
    return victim.differentiable or needs_of(attack) != "gradients"


def keeps_to(attack: BatchAttack, threat: Threat) -> bool:
    """Whether the attack can keep to such a threat."""
    known = attack.norms is None or threat.norm in attack.norms
    return known and (threat.pixels or not attack.pixels_only)


def check_seen(attack: BatchAttack, victim: Victim) -> None:
    """Raise `InputError` when the attack needs gradients and the victim gives none."""
    if not sees_enough(attack, victim):
        raise InputError(
            f"{type(attack).__name__} needs gradients, and a black box gives none: use square, nes or hopskipjump, "
            "or attack another model (a surrogate) and show its images to this one"
        )


def check_victim(victim: object) -> None:
    """Raise `InputError` for a model that is not wrapped."""
    if not isinstance(victim, Victim):
        kind = type(victim).__name__
        raise InputError(f"victim must be a Victim, e.g. Victim(model, Classification(5)), got {kind}")


def check_kinds(attack: BatchAttack, victim: Victim, threats: Sequence[Threat]) -> None:
    """Raise `InputError` when the attack is for no such task, or cannot keep to such threats."""
    name, task = type(attack).__name__, victim.task
    if attack.answers == "pixel":
        check_dense(name, task)
    if attack.answers == "image" and (task.dense or isinstance(task, Detection)):
        raise InputError(f"{name} needs one answer per image, got {task.name}")
    for threat in threats:
        if not keeps_to(attack, threat):
            changes = "of single pixels" if attack.norms is None else f"within {' or '.join(attack.norms)}"
            raise InputError(f"{name} is for changes {changes}, the threat is {threat.norm}")
