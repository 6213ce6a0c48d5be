"""What a user may want to know of an attack before it is run."""

from __future__ import annotations

from dataclasses import dataclass

from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.catalogue import ENSEMBLE, entry_of, options_of
from medrobust.attacks.ensembles import Ensemble
from medrobust.attacks.protocols import Attack, needs_of
from medrobust.attacks.written import make_attack
from medrobust.threat import THREATS, make_threat


@dataclass(frozen=True)
class About:
    """An attack of the catalogue, told.

    Attributes:
        name: as users type it.
        summary: what it does, in a line.
        rule: the first line of its documentation, often its formula.
        reference: where it is from.
        needs: what it must see of a model.
        tasks: that it is for; empty: all.
        norms: of the threats that it can attack within; empty: all.
        options: with their defaults.
    """

    name: str
    summary: str
    rule: str
    reference: str
    needs: str
    tasks: tuple[str, ...]
    norms: tuple[str, ...]
    options: dict[str, object]


def about(name: str) -> About:
    """All of an attack of the catalogue, or of "ensemble".

    Raises:
        InputError: there is no such attack.
    """
    entry = entry_of(name)
    rule = (entry.attack.__doc__ or "").partition("\n")[0]
    attack = None if name == ENSEMBLE else make_attack(name)
    options = {option: getattr(attack, option, default) for option, default in options_of(name).items()}
    if attack is None or isinstance(attack, Ensemble):  # it looks for any wrong answer, and one with a name has members
        for useless in ("targeted", "target", *(() if attack is None else ("members",))):
            options.pop(useless)
    return About(name, entry.summary, rule, entry.reference, _needs(attack), entry.tasks, _norms(attack), options)


def _needs(attack: Attack | None) -> str:
    if attack is None:
        return "what its members need"
    needs = needs_of(attack)
    # of an ensemble that does with scores, the members that need gradients are left out then
    return "gradients, scores" if isinstance(attack, Ensemble) and needs == "scores" else needs


def _norms(attack: object) -> tuple[str, ...]:
    if not isinstance(attack, BatchAttack):
        return ()
    if attack.pixels_only:
        return tuple(norm for norm in THREATS if make_threat(norm, eps=0.01).pixels)
    return tuple(norm for norm in THREATS if norm in (attack.norms or ()))
