"""The words for attacks: their names, options, and what they must see of a model."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo
from medrobust.report.numbers import counted, listed, plain
from medrobust.statistics.attack_kinds import WITHOUT_GRADIENTS, attack_name, is_transfer


def knows_answers_alone(part: PartInfo) -> bool:
    """Whether no attack used the model's gradients."""
    blind = (is_transfer(label, part) or attack_name(label, part) in WITHOUT_GRADIENTS for label in part.attacks)
    return part.victim.get("black_box") is True or all(blind)


def without_gradients(part: PartInfo) -> list[str]:
    """The attacks on the model itself that need no gradients, also as members of an ensemble, by their names."""
    ran = {attack_name(label, part) for label in part.attacks if not is_transfer(label, part)}
    for label, members in ensembles(part).items():
        ran |= set() if is_transfer(label, part) else {name.lower() for name in members}
    return [name for name in WITHOUT_GRADIENTS if name in ran]


def ensembles(part: PartInfo) -> dict[str, list[str]]:
    """Label of every ensemble → the names of its members' attacks, where the run tells them."""

    def name(label: object, member: object) -> str:
        return str(member.get("part", label) if isinstance(member, dict) else label)

    found = {label: options["members"] for label, options in part.attacks.items() if "members" in options}
    return {
        label: [name(one, member) for one, member in members.items()] if isinstance(members, dict) else []
        for label, members in found.items()
    }


def ensemble_sentence(part: PartInfo) -> str | None:
    """What the figure of an ensemble is; None when there is none."""
    told = [
        plain(label, 40) + (f" (of {counted(len(names), 'attack')})" if names else "")
        for label, names in ensembles(part).items()
    ]
    if not told:
        return None
    is_one = "is an ensemble" if len(told) == 1 else "are ensembles"
    return f"{listed(told)} {is_one}: the figure is the worst of the members for every image."


def options_text(options: dict[str, object]) -> str:
    """An attack's options in a line; the name and what is not set are left out."""
    return plain(_told({name: value for name, value in options.items() if name != "attack"}), 400)


def _told(options: dict[str, object]) -> str:
    chosen = [(name, value) for name, value in options.items() if value is not None and value not in ([], (), {})]
    return ", ".join(f"{name} {_value(value)}" for name, value in chosen)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " + ".join(map(_value, value))
    if isinstance(value, dict):
        inner = _told({str(name): one for name, one in value.items() if name != "part"})
        name = str(value.get("part", ""))
        return " ".join(filter(None, (name, f"({inner})" if inner else "")))
    return str(value)
