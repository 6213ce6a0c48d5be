"""An attack as it is written down: a name and options, in a file, on a command line or in a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from medrobust.attacks.catalogue import ENSEMBLE, entry_of, options_of
from medrobust.attacks.protocols import Attack
from medrobust.attacks.targets import make_target
from medrobust.attacks.towards import Towards
from medrobust.budget import Budget
from medrobust.errors import InputError, unknown


def make_attack(name: str, options: Mapping[str, object] | None = None, **further: object) -> Attack:
    """An attack from its catalogue name and options: `make_attack("pgd", steps=20)`.

    "ensemble" is one of one's own, whose members are written likewise: `members={"pgd": {"steps": 20}}`, the name
    under "attack" where the label is another one, or a list of names. The option "target" is no attack's own: it makes
    the attack go `Towards` a mask, see `make_target`. A `step_size` may be text, "1/255".

    Args:
        name: a name of `ATTACKS`, or "ensemble".
        options: as a configuration file gives them.
        further: more options, or all of them.

    Raises:
        InputError: no such attack, no such option of it, an option has no such value, or is given twice.
    """
    given = dict(options or {})
    for option in further:
        if option in given:
            raise InputError(f"attack {name}: {option} is given twice, in the mapping and by its keyword")
    return _made("", name, given | further)


def attack_at(place: str, label: str, written: Mapping[str, object] | None = None) -> Attack:
    """The attack of an entry `label: options` of a configuration; its option "attack" names it, else the label does.

    Args:
        place: of the entry, for errors: "attacks.mine".
        label: of the attack.
        written: its options.

    Raises:
        InputError: as `make_attack`, with the place.
    """
    options = dict(written or {})
    return _made(place, named(label, options), {option: options[option] for option in options if option != "attack"})


def named(label: str, written: Mapping[str, object]) -> str:
    """The name of the attack of an entry `label: options`."""
    return str(written.get("attack", label))


def members_at(place: str, written: object) -> dict[str, object]:
    """Label → options, or an attack, of the members of an ensemble.

    Args:
        place: of the members, for errors: "attacks.worst.members".
        written: a mapping of just that, a list of names, of mappings of one name, or of what an `Ensemble` takes.

    Raises:
        InputError: it has another form, or a label is there twice.
    """
    if isinstance(written, Mapping):
        pairs = list(written.items())
    elif isinstance(written, Sequence) and not isinstance(written, str):
        pairs = [_pair(place, one) for one in written]
    else:
        raise _no_members(place, written)
    labels = [str(label) for label, _ in pairs]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{place}: {label!r} is given twice; give each its own label: label: {{attack: {label}}}")
    return {label: {} if one is None else one for label, (_, one) in zip(labels, pairs, strict=True)}


def _pair(place: str, one: object) -> tuple[object, object]:
    if isinstance(one, str):
        return one, {}
    if isinstance(one, Mapping) and len(one) == 1:
        return next(iter(one.items()))
    if isinstance(one, tuple) and len(one) == 2:
        return one
    if callable(one):
        return type(one).__name__, one
    raise _no_members(place, one)


def _no_members(place: str, written: object) -> InputError:
    return InputError(f"{place}: members are names or label: options, e.g. {{pgd: {{steps: 20}}}}, got {written!r}")


def _made(place: str, name: str, options: Mapping[str, object]) -> Attack:
    given = dict(options)
    with _told_at(place):
        kind, known = entry_of(name).attack, options_of(name)
        for option in given:
            if option not in known:
                raise unknown(f"option of attack {name}", option, known)
    if name == ENSEMBLE and "members" in given:
        within = f"{place}.members" if place else "members"
        members = members_at(within, given["members"])
        given["members"] = {label: _member(f"{within}.{label}", label, one) for label, one in members.items()}
    with _told_at(place), _told_at(f"attack {name}"):
        target = given.pop("target", None)
        if target is not None:
            given["targeted"] = True
        if isinstance(given.get("step_size"), str):
            given["step_size"] = Budget.parse(str(given["step_size"]), "step_size").eps
        attack = kind(**given)
        return attack if target is None else Towards(attack, make_target(target))


def _member(place: str, label: str, written: object) -> object:
    """A member that is an attack already is taken as it is."""
    if callable(written):
        return written
    if not isinstance(written, Mapping):
        raise InputError(f"{place}: options are a mapping, e.g. {{steps: 20}}, got {written!r}")
    return attack_at(place, label, written)


@contextmanager
def _told_at(place: str) -> Iterator[None]:
    """Errors begin with the place, if there is one."""
    try:
        yield
    except InputError as error:
        if not place:
            raise
        raise InputError(f"{place}: {error}") from error
