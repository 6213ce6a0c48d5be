"""Parts by the name that a configuration writes: losses, inputs, gradients, steps, estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medrobust.attacks.estimates import NaturalEvolution, SimultaneousPerturbation
from medrobust.attacks.gradients import (
    GradientPart,
    LowFrequency,
    Momentum,
    Normalisation,
    TranslationInvariance,
    VarianceTuning,
)
from medrobust.attacks.inputs import Diversity, Expectation, InputPart, LookAhead, Mixing, Scales
from medrobust.attacks.sources import GradientSource
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
ESTIMATES: dict[str, Callable[..., GradientSource]] = {"nes": NaturalEvolution, "spsa": SimultaneousPerturbation}


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


def make_estimate(written: object) -> GradientSource:
    """An estimate of the gradient, likewise."""
    made: GradientSource = make_part("estimate", ESTIMATES, written)
    return made


def make_part(kind: str, catalogue: Mapping[str, Callable[..., Any]], written: object) -> Any:
    """A part as it is, or of a catalogue by its name ("ti") or its name with options ({"ti": {"kernel_size": 5}}).

    Raises:
        InputError: there is no such part, no such option of it, or an option has no such value.
    """
    if not isinstance(written, str | Mapping):
        return written
    name: str = written if isinstance(written, str) else ""
    options: Mapping[str, Any] | None = {}
    if isinstance(written, Mapping):
        if len(written) != 1:
            raise InputError(f"{kind} must be a name, or one name with options, got {written!r}")
        ((name, options),) = written.items()
    if name not in catalogue:
        raise unknown(f"{kind} part", str(name), catalogue)
    if not isinstance(options, Mapping | None):
        raise InputError(f"{kind} part {name}: its options must be a mapping, got {options!r}")
    try:
        return catalogue[name](**(options or {}))
    except TypeError as error:
        raise InputError(f"{kind} part {name}: {error}") from error


def _listed(written: object) -> Sequence[object]:
    if isinstance(written, list | tuple):
        return written
    return [written]
