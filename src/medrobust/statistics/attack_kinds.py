"""What kind an attack of a run is, as its options in `run.json` tell."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo

WITHOUT_GRADIENTS = ("square", "nes", "spsa", "hopskipjump", "boundary", "simba", "zoo")
SINGLE_STEP = ("fgsm",)


def attack_name(label: str, part: PartInfo) -> str:
    """The catalogue name of the attack behind a label, in lower case."""
    return str(part.attacks.get(label, {}).get("attack", label)).lower()


def is_transfer(label: str, part: PartInfo) -> bool:
    """Whether the attack was made on another model."""
    return "surrogate" in part.attacks.get(label, {})


def is_ensemble(label: str, part: PartInfo) -> bool:
    """Whether the attack is the worst of several."""
    return "members" in part.attacks.get(label, {})


def sees_answers_alone(label: str, part: PartInfo) -> bool:
    """Whether the attack asks the model itself, and uses no gradient of it."""
    return not is_transfer(label, part) and (
        attack_name(label, part) in WITHOUT_GRADIENTS or part.attacks.get(label, {}).get("estimate") is not None
    )


def sees_gradients(label: str, part: PartInfo) -> bool:
    """Whether the attack goes along gradients of the model itself; an ensemble may do so besides other things."""
    return not (is_transfer(label, part) or sees_answers_alone(label, part) or is_ensemble(label, part))
