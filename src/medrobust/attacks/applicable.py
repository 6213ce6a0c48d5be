"""Whether an attack can attack a victim within a threat at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medrobust.attacks.protocols import needs_of
from medrobust.errors import InputError
from medrobust.tasks import Detection
from medrobust.threat import Threat
from medrobust.victim import Victim

if TYPE_CHECKING:
    from medrobust.attacks.attack import BatchAttack


def check_seen(attack: BatchAttack, victim: Victim) -> None:
    """Raise `InputError` when the attack needs gradients and the victim gives none."""
    if needs_of(attack) == "gradients" and not victim.differentiable:
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
    if attack.answers == "pixel" and not task.dense:
        raise InputError(f"{name} needs an answer at every pixel (a segmentation task), got {task.name}")
    if attack.answers == "image" and (task.dense or isinstance(task, Detection)):
        raise InputError(f"{name} needs one answer per image, got {task.name}")
    for threat in threats:
        if attack.norms is not None and threat.norm not in attack.norms:
            raise InputError(f"{name} is for changes within {' or '.join(attack.norms)}, the threat is {threat.norm}")
        if attack.pixels_only and not threat.pixels:
            raise InputError(f"{name} is for changes of single pixels, the threat is {threat.norm}")
