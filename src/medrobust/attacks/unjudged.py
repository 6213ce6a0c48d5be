"""Attacked images alone, for those who only learn from them: from a start of their own, not looked at in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from medrobust.attacks.applicable import check_kinds, check_seen, check_victim
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.case import opened
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.loop import walked
from medrobust.attacks.protocols import Attack
from medrobust.errors import InputError
from medrobust.threat import Threat
from medrobust.victim import Victim


def walks(attack: object) -> TypeGuard[IterativeAttack]:
    """Whether an attack hands in where one run of the loop ends, whatever the model says to it."""
    if not isinstance(attack, IterativeAttack) or type(attack).search is not IterativeAttack.search:
        return False
    return attack.restarts == 1 and attack.keep == "last" and not attack.early_stop and not attack.trace


def attacked_images(
    attack: Attack,
    victim: Victim,
    images: Tensor,
    truth: Tensor,
    threat: Threat,
    seed: int,
    ids: Sequence[object],
    start: Tensor | None = None,
) -> Tensor:
    """The images `(B, C, *spatial)` that a call of the attack hands in; of one that `walks`, for a forward less.

    Args:
        attack: the attack.
        victim, images, truth, threat, seed, ids: as for its call.
        start: `(B, C, *spatial)`, where a walk begins instead of where the attack says; put into the ball first.

    Raises:
        InputError: as its call; or a start is given for an attack that does not walk, or a threat not of pixels.
    """
    if not walks(attack):
        if start is not None:
            raise InputError(f"{type(attack).__name__} cannot be told where to start")
        return attack(victim, images, truth, threat, seed=seed, ids=ids).adversarial
    if start is not None and not threat.pixels:
        raise InputError(f"a start is an image, and a threat {threat.norm} does not change pixels")
    check_victim(victim)
    check_seen(attack, victim)
    threat = threat.over(images.ndim)
    check_kinds(attack, victim, [threat])

    def walk(rows: Tensor) -> Tensor:
        part, names = threat.rows(rows, len(images)), [ids[row] for row in rows.tolist()]
        with opened(victim, images[rows], truth[rows], part, seed, names, targeted=attack.targeted) as case:
            begin = None if start is None else victim.laid_out(start[rows].to(case.clean)).clone()
            if begin is not None:
                case.space.project_(begin)
            ended = case.saved(walked(attack.plan(case), case, begin)).detach()
            return torch.empty_like(images[rows]).copy_(ended)

    return AtOnce(len(images)).run(walk, len(images))
