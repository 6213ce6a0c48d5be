"""Parts by the name that a configuration writes: losses, inputs, gradients, steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from medrobust.attacks.gradients import (
    GradientPart,
    LowFrequency,
    Momentum,
    Normalisation,
    TranslationInvariance,
    VarianceTuning,
)
from medrobust.attacks.inputs import Diversity, Expectation, InputPart, LookAhead, Mixing, Scales
from medrobust.attacks.steps import Adam, StepRule, Walk
from medrobust.errors import InputError, unknown

INPUTS: dict[str, Callable[..., InputPart]] = {
    "di": Diversity,
    "si": Scales,
    "ni": LookAhead,
    "mix": Mixing,
    "eot": Expectation,
}
GRADIENTS: dict[str, Callable[..., GradientPart]] = {
    "momentum": Momentum,
    "normalisation": Normalisation,
    "ti": TranslationInvariance,
    "low_frequency": LowFrequency,
    "vt": VarianceTuning,
}
STEPS: dict[str, Callable[..., StepRule]] = {"walk": Walk, "adam": Adam}


def make_inputs(written: object) -> tuple[InputPart, ...]:
    """A list of input parts, or of what a configuration writes for them."""
    return tuple(make_part("input", INPUTS, one) for one in _listed(written))


def make_gradients(written: object) -> tuple[GradientPart, ...]:
    """A list of gradient parts, likewise."""
    return tuple(make_part("gradient", GRADIENTS, one) for one in _listed(written))


def make_step(written: object) -> StepRule:
    """A rule of stepping, likewise."""
    made: StepRule = make_part("step", STEPS, written)
    return made


def make_part(kind: str, catalogue: Mapping[str, Callable[..., Any]], written: object) -> Any:
    """A part as it is, or of a catalogue by its name ("ti") or its name with options ({"ti": {"kernel_size": 5}}).

    Raises:
        InputError: there is no such part, no such option of it, or an option has no such value.
    """
    if isinstance(written, str):
        return _named(kind, catalogue, written, {})
    if isinstance(written, Mapping) and len(written) == 1:
        ((name, options),) = written.items()
        if isinstance(options, Mapping | None):
            return _named(kind, catalogue, str(name), options or {})
        raise InputError(f"{kind} part {name}: its options must be a mapping, got {options!r}")
    if hasattr(written, "begin") and not isinstance(written, type):
        return written
    raise InputError(f"{kind} must be a name, or one name with options, got {written!r}")


def _named(kind: str, catalogue: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, Any]) -> Any:
    if name not in catalogue:
        raise unknown(f"{kind} part", name, catalogue)
    known = signature(catalogue[name]).parameters
    for option in options:
        if option not in known:
            raise unknown(f"option of {kind} part {name}", str(option), known)
    try:
        return catalogue[name](**options)
    except (InputError, TypeError) as error:
        raise InputError(f"{kind} part {name}: {error}") from error


def _listed(written: object) -> Sequence[object]:
    if isinstance(written, list | tuple):
        return written
    return [written]
