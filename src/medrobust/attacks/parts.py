"""Parts by the name that a configuration writes: losses, inputs, gradients, steps, estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medrobust.attacks.copies import Expectation, Mixing, Scales
from medrobust.attacks.estimates import NaturalEvolution, SimultaneousPerturbation
from medrobust.attacks.gradients import (
    GradientPart,
    LowFrequency,
    Momentum,
    Normalisation,
    TranslationInvariance,
    VarianceTuning,
)
from medrobust.attacks.inputs import Diversity, InputPart, LookAhead
from medrobust.attacks.sources import GradientSource
from medrobust.attacks.steps import Adam, StepRule, Walk
from medrobust.by_name import make, split

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
    """A list of input parts, or of what a configuration writes for them: "di", {"si": {"copies": 3}}.

    Raises:
        InputError: there is no such part, no such option of it, or an option has no such value.
    """
    return tuple(_made("input", INPUTS, "{si: {copies: 3}}", one) for one in _listed(written))


def make_gradients(written: object) -> tuple[GradientPart, ...]:
    """A list of gradient parts, likewise."""
    return tuple(_made("gradient part", GRADIENTS, "{ti: {kernel_size: 5}}", one) for one in _listed(written))


def make_step(written: object) -> StepRule:
    """A rule of stepping, likewise."""
    made: StepRule = _made("step", STEPS, "{adam: {schedule: cosine}}", written)
    return made


def make_estimate(written: object) -> GradientSource:
    """An estimate of the gradient, likewise."""
    made: GradientSource = _made("estimate", ESTIMATES, "{nes: {directions: 10}}", written)
    return made


def _made(kind: str, catalogue: Mapping[str, Callable[..., Any]], example: str, written: object) -> Any:
    if hasattr(written, "begin") and not isinstance(written, type):
        return written
    return make(kind, catalogue, *split(kind, written, example))


def _listed(written: object) -> Sequence[object]:
    return written if isinstance(written, list | tuple) else [written]
