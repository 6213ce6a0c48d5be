"""What kind an attack of a run is, as those who ask for evidence tell attacks apart."""

from __future__ import annotations

from medrobust.attacks.catalogue import ATTACKS
from medrobust.evaluation.records import PartInfo
from medrobust.report.attack_wording import ensembles
from medrobust.statistics.attack_kinds import WITHOUT_GRADIENTS, attack_name, is_transfer

_DECISIONS = {"hopskipjump", "boundary"}
_ENSEMBLES = {"ensemble", "standard", "medrobust"}
_KNOWN = {entry.attack.__name__.lower() for entry in ATTACKS.values()}


def by_gradients(label: str, part: PartInfo) -> bool:
    """Whether an attack of the catalogue went along the attacked model's own gradients."""
    if is_transfer(label, part) or part.victim.get("black_box") is True:
        return False
    return bool(_names(label, part) & (_KNOWN - set(WITHOUT_GRADIENTS) - _ENSEMBLES))


def by_scores(label: str, part: PartInfo) -> bool:
    """Whether it saw the model's scores alone."""
    return not is_transfer(label, part) and bool(_names(label, part) & (set(WITHOUT_GRADIENTS) - _DECISIONS))


def by_decisions(label: str, part: PartInfo) -> bool:
    """Whether it saw the model's decisions alone."""
    return not is_transfer(label, part) and bool(_names(label, part) & _DECISIONS)


def by_answers(label: str, part: PartInfo) -> bool:
    """Whether it saw answers, of one kind or the other, alone."""
    return by_scores(label, part) or by_decisions(label, part)


def by_transfer(label: str, part: PartInfo) -> bool:
    """Whether it was made on another model."""
    return is_transfer(label, part)


def universal(label: str, part: PartInfo) -> bool:
    """Whether one change was made for all images."""
    return "universal" in _names(label, part)


def _names(label: str, part: PartInfo) -> set[str]:
    """Of the attack behind a label, or of an ensemble's members, in lower case."""
    members = ensembles(part).get(label)
    return {name.lower() for name in members} if members else {attack_name(label, part)}
