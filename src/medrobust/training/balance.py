"""Classes that are rare: drawn as often as the others, or of more weight in the loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.tasks import Classification, Segmentation, Task

Balance = Literal["none", "sampling", "loss"]


def check_balance(balance: Balance, task: Task) -> None:
    """Raise `InputError` when the task has no such balance."""
    one_an_image = isinstance(task, Classification) and not task.multilabel
    if balance == "sampling" and not one_an_image:
        raise InputError(f"balance 'sampling' is for one class an image, not {task.name}{_instead(task)}")
    if balance == "loss" and not one_an_image and (not isinstance(task, Segmentation) or task.multilabel):
        raise InputError(f"balance 'loss' is for one class an image or pixel, not {task.name}")


def drawing_chances(task: Task, data: Dataset) -> Tensor:
    """How likely each image is to be drawn, float64 `(N,)` of sum 1, so that all classes that occur come as often.

    Reads every image once.

    Raises:
        InputError: the task has not one class an image.
    """
    check_balance("sampling", task)
    assert isinstance(task, Classification)
    classes = torch.stack([data[place].truth for place in range(len(data))])
    counts = torch.bincount(classes, minlength=task.classes).double()
    return 1 / counts[classes] / (counts > 0).sum()


def class_weights(task: Task, data: Dataset) -> Tensor:
    """The weight of each class in the loss, float32 `(K,)`: n/(K · n_k), of n images (or pixels) n_k of class k.

    Their mean over the images (pixels) is 1, so that the loss keeps its scale; K counts the classes that occur, the
    others weigh 1. scikit-learn calls it "balanced". Reads every image once.

    Raises:
        InputError: the task has not one class an image or pixel.
    """
    check_balance("loss", task)
    assert isinstance(task, Classification | Segmentation)
    counts = torch.zeros(task.classes, dtype=torch.float64)
    for place in range(len(data)):
        truth = data[place].truth.flatten()
        known = truth if task.ignore_index is None else truth[truth != task.ignore_index]
        counts += torch.bincount(known, minlength=task.classes)
    occurring = counts > 0
    weights = counts.sum() / (occurring.sum() * counts)
    return torch.where(occurring, weights, 1).float()


def weights_at(weights: Tensor, truth: Tensor) -> Tensor:
    """The weights `(K,)` of the truth at every position: `(B,)` → `(B, 1)`, `(B, *spatial)` as it is.

    Where the truth is to be ignored it is any number.
    """
    weights = weights.to(truth.device)
    found = weights[truth.clamp(0, len(weights) - 1)]
    return found.unsqueeze(1) if found.ndim == 1 else found


def _instead(task: Task) -> str:
    return ": take 'loss'" if isinstance(task, Segmentation) and not task.multilabel else ""
