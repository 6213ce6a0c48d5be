"""Training of a benchmark's model on a data set read from disk: plain, seeded, from random weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medrobust.checks import at_least
from medrobust.data import Dataset, Sample, stack
from medrobust.data.dataset import NO_BOX
from medrobust.models.embedded_training import warm_up_and_cosine
from medrobust.models.randomness import seeded
from medrobust.tasks import Detection, Task


@dataclass(frozen=True)
class Fitting:
    """How long and how hard.

    Args:
        epochs: passes over the data.
        batch_size: images a step; fewer at the end of an epoch, or where sizes change.
        learning_rate: the highest, of AdamW under a cosine after a warm-up of a tenth of the steps.
        weight_decay: of AdamW.

    Raises:
        InputError: there are no epochs, or a batch holds nothing.
    """

    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)


def fit(
    model: nn.Module,
    task: Task,
    data: Dataset,
    how: Fitting,
    seed: int,
    normalise: Callable[[Tensor], Tensor] = lambda images: images,
    track: Callable[[range], Iterator[int]] = iter,
) -> None:
    """Train `model` in place and leave it in eval mode; the global random numbers stay as they were.

    The loss is the task's own; a torchvision detector's is what it gives in train mode.

    Args:
        model: takes normalised images.
        task: tells the loss.
        data: the training images.
        how: epochs, batch size, learning rate.
        seed: of the order of the images, and of what a model draws in train mode.
        normalise: data units → what the model sees.
        track: wraps the range of steps, to show how far it is.
    """
    steps = how.epochs * math.ceil(len(data) / how.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
    batches = _batches(data, how.batch_size, torch.Generator().manual_seed(seed))
    model.train()
    with seeded(seed), torch.enable_grad():
        for step in track(range(steps)):
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * warm_up_and_cosine(step / steps)
            loss = _loss(model, task, next(batches), normalise)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()


def _batches(data: Dataset, size: int, generator: torch.Generator) -> Iterator[list[Sample]]:
    """Shuffled batches without end."""
    while True:
        order = torch.randperm(len(data), generator=generator).tolist()
        for start in range(0, len(order), size):
            yield [data[index] for index in order[start : start + size]]


def _loss(model: nn.Module, task: Task, samples: Sequence[Sample], normalise: Callable[[Tensor], Tensor]) -> Tensor:
    if isinstance(task, Detection):
        images = [normalise(sample.image[None])[0] for sample in samples]
        losses: dict[str, Tensor] = model(images, [_target(sample.truth) for sample in samples])
        return torch.stack(list(losses.values())).sum()
    if len(samples) == 1 and any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        samples = [*samples, *samples]  # BatchNorm of one image's one pixel has no variance
    pictures, truth, _ = stack(samples)
    return task.loss(task.run(model, normalise(pictures)), truth).mean()


def _target(truth: Tensor) -> dict[str, Tensor]:
    """Boxes and labels as torchvision wants them, the background being label 0."""
    objects = truth[truth[:, 4] != NO_BOX]
    return {"boxes": objects[:, :4], "labels": objects[:, 4].long() + 1}
