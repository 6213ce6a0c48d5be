"""Is the file the model? Both are run on real images, in batches of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medrobust.data import Dataset
from medrobust.data.options import evenly
from medrobust.errors import InputError
from medrobust.victim import Victim

TOLERANCE = 1e-4
TRACED = 2  # images in the batch that files are made with
BATCHES = (1, 3, 4)  # and in those that they are checked with


@dataclass(frozen=True)
class Agreement:
    """How far a file's outputs are from the model's.

    Attributes:
        max_difference: the largest difference of two outputs.
        largest_output: the largest output of the model, in absolute value.
    """

    max_difference: float
    largest_output: float

    @property
    def allowed(self) -> float:
        """`TOLERANCE`, of the largest output where that is above 1: float32 holds seven digits of a number."""
        return TOLERANCE * max(1.0, self.largest_output)


def images_to_check(dataset: Dataset, victim: Victim) -> Tensor:
    """Images `(n, C, *spatial)` spread over a data set, as many as `BATCHES` take; some twice, of a smaller set.

    Raises:
        InputError: there is none, they differ in shape, or the victim cannot take them.
    """
    count = sum(BATCHES)
    if not len(dataset):
        raise InputError("there is no image to check the files with")
    places = evenly(range(len(dataset)), count)
    images = [dataset[place].image for place in places]
    for image in images:
        if image.shape != images[0].shape:
            shapes = " and ".join(str(tuple(one.shape)) for one in (images[0], image))
            raise InputError(f"a file takes images of one size, {dataset.info.name!r} has {shapes}: set data.resize")
    stacked = torch.stack([images[place % len(images)] for place in range(count)]).float()
    victim.check_images(stacked)
    return stacked


def agreement(run: Callable[[Tensor], Tensor], victim: Victim, images: Tensor) -> Agreement:
    """Compare a file that was read with the victim that it was made of.

    Args:
        run: from images `(B, C, *spatial)` float32 in data units to outputs.
        victim: the model, called in its own way.
        images: `(n, C, *spatial)`, n the sum of `BATCHES`.

    Raises:
        InputError: the file cannot be run on a batch, answers it in another shape or by what is not finite, or further
            from the model than `Agreement.allowed`.
    """
    worst, largest = 0.0, 0.0
    for batch in torch.split(images, list(BATCHES)):
        with torch.no_grad():
            expected, answer = victim(batch).double(), _answer(run, batch).double()
        size = f"a batch of {len(batch)}"
        if answer.shape != expected.shape:
            raise InputError(f"{size} is answered in shape {tuple(answer.shape)}, not {tuple(expected.shape)}")
        difference = (answer - expected).abs()
        if not bool(torch.isfinite(difference).all()):
            raise InputError(f"{size} is answered by values that are not finite")
        worst, largest = max(worst, float(difference.max())), max(largest, float(expected.abs().max()))
    found = Agreement(worst, largest)
    if worst > found.allowed:
        raise InputError(
            f"its outputs differ from the model's by up to {worst:.3g}, more than {found.allowed:.3g} (1e-4, of the "
            "largest output where that is above 1)"
        )
    return found


def _answer(run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    try:
        return run(batch)
    except Exception as error:  # whatever a program raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"the file cannot be run on a batch of {len(batch)}: {lines[-1].strip()[:300]}") from error
