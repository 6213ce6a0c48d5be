"""Chosen answers: erase a lesion, move it, or draw any mask. `Towards` (towards.py) takes an attack there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from medrobust.checks import at_least
from medrobust.data.file_types import is_readable, read_stored_mask
from medrobust.errors import InputError
from medrobust.tasks import Segmentation


class Target(Protocol):
    """Makes the wanted answer of the true one."""

    def of(self, task: Segmentation, truth: Tensor, ids: Sequence[object] | None) -> Tensor:
        """The wanted answers, in the form of the truth; pixels to be ignored stay so."""
        ...

    def reached(self, task: Segmentation, outputs: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """Bool `(B,)`: is the answer the wanted one?"""
        ...

    def describe(self) -> dict[str, object]:
        """Name and options, for records and reports."""
        ...


@dataclass(frozen=True)
class EmptyMask:
    """All background: "erase the lesion".

    It is reached when the answer has no pixel of the erased classes anywhere. An image whose truth has none of them
    has nothing to erase, and does not count as reached.

    Args:
        classes: erase only these (indices; of labels, when multi-label), all but the background when not given.

    Raises:
        InputError: a class is no index, or is the background.
    """

    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for number in self.classes:
            at_least("a class to erase", number, 0)
        object.__setattr__(self, "classes", tuple(self.classes))

    def describe(self) -> dict[str, object]:
        """Its name, with the classes."""
        return {"kind": "empty", "classes": list(self.classes)}

    def of(self, task: Segmentation, truth: Tensor, ids: Sequence[object] | None) -> Tensor:
        """The truth with the classes made background."""
        return truth.masked_fill(self._erased(task, truth), 0)

    def reached(self, task: Segmentation, outputs: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """No pixel of them is answered, and there was one to find."""
        answered = (self._erased(task, task.predict(outputs)) & ~_ignored(task, truth)).flatten(1).any(1)
        return ~answered & self._erased(task, truth).flatten(1).any(1)

    def _erased(self, task: Segmentation, labels: Tensor) -> Tensor:
        """Bool like the labels: which of them are of the erased classes."""
        least = 0 if task.multilabel else 1
        erased = self.classes or tuple(range(least, task.classes))
        if not all(least <= number < task.classes for number in erased):
            raise InputError(f"classes to erase are {least} to {task.classes - 1}, got {list(erased)}")
        if least and task.ignore_index in (0, *erased):
            raise InputError(
                f"the task ignores class {task.ignore_index}: it is neither erased nor put in another's place"
            )
        if least:
            return torch.isin(labels, torch.tensor(erased, device=labels.device))
        chosen = torch.isin(torch.arange(task.classes), torch.tensor(erased)).to(labels.device)
        return (labels == 1) & chosen.view(1, -1, *[1] * (labels.ndim - 2))


def _ignored(task: Segmentation, truth: Tensor) -> Tensor:
    """Bool like the truth: where it is not known."""
    return torch.zeros_like(truth, dtype=torch.bool) if task.ignore_index is None else truth == task.ignore_index


class _Resembled:
    """Reached at a mean Dice with the wanted mask of at least `success_dice`, if that with the truth is lower.

    The second, because a mask moved by little is met by the right answer already.
    """

    def reached(self, task: Segmentation, outputs: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """Is the answer the wanted mask rather than the true one?"""
        with_wanted, with_truth = (task.image_metrics(outputs, mask)["dice"] for mask in (wanted, truth))
        return ~task.fooled(outputs, wanted) & (with_wanted > with_truth)


@dataclass(frozen=True)
class ShiftedMask(_Resembled):
    """The truth, moved; background comes in at the side, and what leaves the image is lost.

    Args:
        by: pixels down and to the right (dy, dx), or voxels (dz, dy, dx); negative for the other way.

    Raises:
        InputError: these are not two or three whole numbers.
    """

    by: Sequence[int]

    def __post_init__(self) -> None:
        if not isinstance(self.by, tuple | list) or len(self.by) not in (2, 3):
            raise InputError(f"a shift is (dy, dx) or (dz, dy, dx), got {self.by!r}")
        for step in self.by:
            if isinstance(step, bool) or not isinstance(step, int):
                raise InputError(f"a shift is of whole pixels, got {list(self.by)}")
        object.__setattr__(self, "by", tuple(self.by))

    def describe(self) -> dict[str, object]:
        """Its name, with the way."""
        return {"kind": "shifted", "by": list(self.by)}

    def of(self, task: Segmentation, truth: Tensor, ids: Sequence[object] | None) -> Tensor:
        """The truth, moved."""
        axes = range(truth.ndim - len(self.by), truth.ndim)
        if axes.start != (2 if task.multilabel else 1):
            raise InputError(f"a shift by {list(self.by)} does not fit masks {tuple(truth.shape[1:])}")
        ignored = _ignored(task, truth)
        moved = truth.masked_fill(ignored, 0)
        for axis, step in zip(axes, self.by, strict=True):
            moved = _shifted(moved, axis, step)
        return torch.where(ignored, truth, moved)


def _shifted(masks: Tensor, axis: int, step: int) -> Tensor:
    length = masks.shape[axis]
    kept = max(length - abs(step), 0)
    moved = torch.zeros_like(masks)
    if kept:
        moved.narrow(axis, max(step, 0), kept).copy_(masks.narrow(axis, max(-step, 0), kept))
    return moved


@dataclass(frozen=True)
class MaskFile(_Resembled):
    """A mask drawn by somebody: a file of class indices, named as the last part of the sample's id without its ending.

    Args:
        folder: where the masks are; of any kind of file that is read.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    def describe(self) -> dict[str, object]:
        """Its name, with that of the folder: reports show no paths."""
        return {"kind": "files", "folder": self.folder.name}

    def of(self, task: Segmentation, truth: Tensor, ids: Sequence[object] | None) -> Tensor:
        """The masks read; pixels that the truth ignores are ignored.

        Raises:
            InputError: a file is missing, of another size, or holds a value that is no class.
        """
        if task.multilabel:
            raise InputError("a mask file holds one class per pixel: it is no target for a multi-label task")
        if ids is None:
            raise InputError("mask files are found by the samples' ids: give ids to the attack")
        masks = []
        for sample_id, true in zip(ids, truth, strict=True):
            path = self._file(str(sample_id))
            mask = read_stored_mask(path).to(truth.device)
            if mask.shape != true.shape:
                raise InputError(f"{path}: the mask is {tuple(mask.shape)}, the image {tuple(true.shape)}; resize it")
            try:
                task.check_truth(mask.unsqueeze(0))
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            masks.append(mask)
        return torch.where(_ignored(task, truth), truth, torch.stack(masks)) if masks else truth

    def _file(self, sample_id: str) -> Path:
        stem = _stem(Path(sample_id).name)
        try:
            found = [path for path in sorted(self.folder.iterdir()) if _stem(path.name) == stem and is_readable(path)]
        except OSError as error:
            raise InputError(f"{self.folder}: the masks cannot be listed: {error.strerror or error}") from error
        if not found:
            raise InputError(f"{self.folder} has no mask for image {sample_id!r}: it needs a file {stem}.png or alike")
        if len(found) > 1:
            raise InputError(
                f"{self.folder} has two masks for image {sample_id!r}: {found[0].name} and {found[1].name}"
            )
        return found[0]


def _stem(name: str) -> str:
    """A file's name without its ending, which is ".nii.gz" in one piece."""
    return re.sub(r"(\.nii\.gz|\.[^.]+)$", "", name, flags=re.IGNORECASE)


def make_target(written: object) -> Target:
    """A target as a configuration writes it: "empty", {"empty": [2]}, {"shift": [5, 0]} or {"files": "masks/"}.

    Raises:
        InputError: it is none of these.
    """
    if written == "empty":
        return EmptyMask()
    if isinstance(written, dict) and len(written) == 1:
        ((kind, value),) = written.items()
        if kind == "empty" and isinstance(value, list):
            return EmptyMask(tuple(value))
        if kind == "shift" and isinstance(value, list):
            return ShiftedMask(tuple(value))
        if kind == "files" and isinstance(value, str):
            return MaskFile(Path(value))
    raise InputError(f"target must be empty, {{empty: [2]}}, {{shift: [5, 0]}} or {{files: FOLDER}}, got {written!r}")
