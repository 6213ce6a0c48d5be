"""How often a model gives each answer to an image under Gaussian noise: SAMPLEUNDERNOISE of arXiv 1902.02918."""

from __future__ import annotations

import torch
from torch import Tensor

from medrobust.attacks.at_once import AtOnce
from medrobust.threat.drawing import drawn
from medrobust.victim import Victim


@torch.no_grad()
def answers_under_noise(
    victim: Victim, image: Tensor, sigma: float, draws: int, generator: torch.Generator, at_once: AtOnce
) -> Tensor:
    """How many of the noisy copies of an image get each answer, int64 `(K, *positions)`.

    K is the number of classes, or 2 for labels of yes or no; a classifier has no positions, several labels and masks
    have theirs. The noise is not cut to the bounds: what is proved of it holds for Gaussian noise alone.

    Args:
        victim: in use (`evaluating()`).
        image: `(C, *spatial)` in data units.
        sigma: standard deviation of the noise in data units.
        draws: how many copies.
        generator: of the image, on the CPU; drawn from copy by copy, so that the batch does not matter.
        at_once: how many copies the model sees together.
    """
    alternatives = 2 if victim.task.multilabel else victim.task.classes
    counts: Tensor | int = 0
    while draws:
        size = min(draws, at_once.images)
        copies = image.expand(size, *image.shape)
        noisy = copies + sigma * drawn(torch.randn, copies, [generator] * size)
        answers = at_once.over(lambda piece: victim.task.predict(victim.forward(piece)), noisy)
        counts = counts + torch.stack([(answers == answer).sum(0) for answer in range(alternatives)])
        draws -= size
    assert isinstance(counts, Tensor)
    return counts.cpu()
