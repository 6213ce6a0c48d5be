"""SMIA joined with what makes other attacks transfer: momentum, input diversity, translation invariance, variance.

Every iterative attack takes these parts; here they are under a name, with the defaults of the attacks they are from.
"""

from __future__ import annotations

from dataclasses import dataclass

from medrobust.attacks.gradients import GradientPart, TranslationInvariance, VarianceTuning
from medrobust.attacks.inputs import Diversity, InputPart
from medrobust.attacks.smia import SMIA


@dataclass(frozen=True, kw_only=True)
class MomentumSMIA(SMIA):
    """SMIA along the momentum of normalised gradients (MI, arXiv 1710.06081)."""

    momentum: float = 1.0

    def default_step_size(self, eps: float) -> float:
        """The budget, shared out over the steps, as MI-FGSM does."""
        return eps / self.steps


@dataclass(frozen=True, kw_only=True)
class DiverseSMIA(SMIA):
    """SMIA on images that are randomly made smaller and moved (DI, arXiv 1803.06978); options as `Diversity`."""

    diversity_probability: float = 0.5
    diversity_rate: float = 1.1

    def input_parts(self) -> tuple[InputPart, ...]:
        """Input diversity, as configured."""
        return (*self.inputs, Diversity(self.diversity_probability, self.diversity_rate))


@dataclass(frozen=True, kw_only=True)
class TranslationSMIA(SMIA):
    """SMIA along a smoothed gradient (TI, arXiv 1904.02884); options as `TranslationInvariance`."""

    pixels_only = True
    translation_kernel: int = 15
    translation_sigma: float | None = None

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """Smoothed, then the momentum, if any."""
        return (TranslationInvariance(self.translation_kernel, self.translation_sigma), *super().gradient_parts())


@dataclass(frozen=True, kw_only=True)
class VarianceSMIA(MomentumSMIA):
    """SMIA with the gradient tuned by its change to neighbours (VMI, arXiv 2103.15571); options as `VarianceTuning`."""

    neighbours: int = 5
    radius: float = 1.5

    def gradient_parts(self) -> tuple[GradientPart, ...]:
        """The variance, then the momentum."""
        return (VarianceTuning(self.neighbours, self.radius), *super().gradient_parts())
