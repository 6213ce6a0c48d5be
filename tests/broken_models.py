"""Classifiers that look robust and are not, each broken in one way around an honest network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.transforms import JPEG

GREY = 255
COARSE = 15  # steps from 0 to 1 of images on few grey levels


class Wrapped(nn.Module):
    """A network with something wrong around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Saturated(Wrapped):
    """Logits a thousand times too large: the softmax is 1 to the last bit, and its gradient 0."""

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * self.inner(x)


class RoundedInput(Wrapped):
    """Rounds its input to grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * GREY).round() / GREY)


class RandomLayer(Wrapped):
    """Adds noise to its logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        return logits + logits.detach().std() * torch.randn_like(logits)


class CompressedInput(Wrapped):
    """Compresses its input by JPEG, through which no gradient goes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(JPEG(75)(x.detach(), (0.0, 1.0)).detach())


class StraightThrough(Wrapped):
    """Rounds its input to few grey levels, and pretends in the backward pass that it had not."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + ((x * 31).round() / 31 - x).detach())


class InnerSoftmax(Wrapped):
    """Gives probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).softmax(1)


class InnerSigmoid(Wrapped):
    """Gives probabilities of yes and no, each class a label of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).sigmoid()


class AnyNoise(Wrapped):
    """Answers wrongly, and hardly less so, whatever is not on whole grey levels."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        off = (x * GREY - (x * GREY).round()).abs().flatten(1).amax(1, keepdim=True) > 1e-2
        another = nn.functional.one_hot((logits.argmax(1) + 1) % logits.shape[1], logits.shape[1])
        return torch.where(off, 20 * another + 0.01 * logits, logits)


class Shattered(Wrapped):
    """A ripple on its input, far too small to see and far too steep to follow."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 5e-4 * torch.sin(1e5 * x))


class SwappedClasses(Wrapped):
    """Was trained with the classes in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).flip(1)


class OneAnswer(Wrapped):
    """Prefers the first class, whatever it sees."""

    def forward(self, x: Tensor) -> Tensor:
        logits = 0.01 * self.inner(x)
        return logits + nn.functional.one_hot(torch.tensor(0), logits.shape[1]) * 20


class OnlyAtTheData(Wrapped):
    """Has a gradient at images of whole grey levels alone: at the clean ones."""

    def forward(self, x: Tensor) -> Tensor:
        off = (x * GREY - (x * GREY).round()).abs().flatten(1).amax(1) > 1e-2
        return self.inner(_without_gradient(x, off))


class OnlyNearTheData(Wrapped):
    """Of images on few grey levels, has a gradient within 4/255 of them alone."""

    def forward(self, x: Tensor) -> Tensor:
        away = (x - (x * COARSE).round() / COARSE).abs().flatten(1).amax(1) > 4.5 / GREY
        return self.inner(_without_gradient(x, away))


class LuckyStarts(Wrapped):
    """Its gradient is turned round, but from one start in three, which the first pixel tells."""

    def forward(self, x: Tensor) -> Tensor:
        first = (7.3 * GREY * x[:, 0, 0, 0]).frac()
        first_pixel = torch.zeros_like(x, dtype=torch.bool)
        first_pixel[:, :, 0, 0] = True
        x = torch.where(first_pixel, x.detach(), x)
        lucky = ((first > 0.25) & (first < 0.85)).reshape(-1, 1, 1, 1)
        return self.inner(torch.where(lucky, x, 2 * x.detach() - x))


class BetweenGreyLevels(Wrapped):
    """Is upset by what lies between grey levels, and would not be by any file."""

    def forward(self, x: Tensor) -> Tensor:
        between = (x * GREY - (x * GREY).round().detach()).flatten(1).mean(1)
        return self.inner(x) * (1 - 50 * between.relu()).unsqueeze(1)


def by_batch_statistics(network: nn.Module) -> nn.Module:
    """A copy whose BatchNorm was never told that training is over."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return network


def untrained(network: nn.Module) -> nn.Module:
    """A copy with fresh weights: those of a file that was not loaded."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return network


def _without_gradient(x: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), x.detach() + 0 * x, x)


USUAL = {"fgsm": mr.FGSM(), "pgd": mr.PGD()}


def on_grid(images: Tensor) -> Tensor:
    return (images * GREY).round() / GREY


def on_few_levels(images: Tensor) -> Tensor:
    return (images * COARSE).round() / COARSE


def as_they_are(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True)
class Broken:
    """A model, the checks that it must not pass, and what to run it with."""

    model: Callable[[nn.Module], nn.Module]
    verdicts: dict[str, str]
    images: Callable[[Tensor], Tensor] = as_they_are
    options: dict = field(default_factory=dict)


NEAR = {"levels": (4, 7), "attacks": {"pgd": mr.PGD()}}
ALONE = {"attacks": {"square": mr.Square(queries=9)}}
STUCK = dict.fromkeys(("gradients", "steps", "noise", "answers alone"), "fail")
BROKEN = {
    "saturated logits": Broken(Saturated, STUCK),
    "rounded input": Broken(RoundedInput, STUCK),
    "a random layer": Broken(RandomLayer, {"repeated": "fail"}),
    "JPEG without a gradient": Broken(CompressedInput, {"gradients": "fail"}, options=ALONE),
    "a gradient straight through": Broken(StraightThrough, {"slopes": "warn"}),
    "a softmax inside": Broken(InnerSoftmax, {"logits": "fail"}),
    "BatchNorm in train mode": Broken(by_batch_statistics, {"company": "fail"}),
    "shattered gradients": Broken(Shattered, {"iterative": "fail", "slopes": "warn"}),
    "classes in another order": Broken(SwappedClasses, {"stated": "fail"}, options={"expect": 1.0}),
    "weights not loaded": Broken(untrained, {"stated": "fail"}, options={"expect": 1.0}),
    "one answer to all": Broken(OneAnswer, {"constant": "fail", "unlimited": "fail"}),
    "a gradient at the data alone": Broken(OnlyAtTheData, {"iterative": "fail"}, on_grid),
    "a gradient near the data alone": Broken(OnlyNearTheData, {"budgets": "fail"}, on_few_levels, NEAR),
    "lucky starts": Broken(LuckyStarts, {"restarts": "fail"}),
    "any noise breaks it": Broken(AnyNoise, {"noise": "fail"}, on_grid, {"levels": (2.4,)}),
    "between grey levels": Broken(BetweenGreyLevels, {"saved": "fail"}, on_grid, {"levels": (2.4,)}),
}
