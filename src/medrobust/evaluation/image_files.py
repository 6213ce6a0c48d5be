"""How attacked images are stored: as their source is, or else as 8-bit PNG, or as floats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medrobust.data import DatasetInfo, Sample
from medrobust.data.file_types import file_type_of, read_stored
from medrobust.data.images import read_image
from medrobust.errors import BadSampleError
from medrobust.evaluation.batches import Batch
from medrobust.threat import Threat

EIGHT_BIT = 1 / 255


class ImageFiles(Protocol):
    """One way to store the images of a batch."""

    def representable(self, images: Tensor) -> Tensor:
        """Clean images `(B, C, *spatial)` as they can be stored."""
        ...

    def limit(self, threat: Threat) -> Threat:
        """The threat whose results can be stored."""
        ...

    def suffix(self, sample: Sample) -> str:
        """What the name of the file ends with; "" for a folder."""
        ...

    def write(self, sample: Sample, image: Tensor, path: Path) -> None:
        """Store what was made of a sample, `(C, *spatial)`."""
        ...

    def read(self, sample: Sample, path: Path) -> Tensor:
        """What was stored, `(C, *spatial)` float32."""
        ...


def image_files(batch: Batch, info: DatasetInfo, threat: Threat, *, deidentify: bool) -> ImageFiles:
    """How to store a batch: in the sources' own format where they can be written back and hold these very images.

    They do not when images were resized, cut into slices or given other channels, or when the threat's quantum is no
    multiple of theirs. Then images in [0, 1] of two axes and 1 or 3 channels become PNG, unless the quantum is finer
    than 8 bits, and all others `.npy`.
    """
    if all(_is_written_back(sample, threat) for sample in batch.samples):
        return SourceFormat(batch.samples[0].quantum, deidentify)
    flat = info.unit == "[0, 1]" and info.spatial_dims == 2 and info.channels in (1, 3)
    return Png() if flat and _is_multiple(threat.quantum, EIGHT_BIT) else Npy()


@dataclass(frozen=True)
class SourceFormat:
    """The format of each image's own file, with its header."""

    quantum: float | None
    deidentify: bool

    def representable(self, images: Tensor) -> Tensor:
        """The images themselves: they are what a file holds."""
        return images

    def limit(self, threat: Threat) -> Threat:
        """Whole steps of the files' grid, wherever it begins."""
        if self.quantum is None:
            return threat
        return replace(threat, quantum=threat.quantum or self.quantum, origin="clean")

    def suffix(self, sample: Sample) -> str:
        """As the format has it."""
        assert sample.file is not None
        return file_type_of(sample.file).suffix(sample.file)

    def write(self, sample: Sample, image: Tensor, path: Path) -> None:
        """As the source is stored."""
        assert sample.file is not None
        writer = file_type_of(sample.file).write
        assert writer is not None
        writer(sample.file, image, path, deidentify=self.deidentify)

    def read(self, sample: Sample, path: Path) -> Tensor:
        """As any image of the format is read."""
        return read_stored(path, sample.image.numel()).pixels


@dataclass(frozen=True)
class Png:
    """8-bit PNG: images are put on its grid before the attack, and kept on it by the attack."""

    def representable(self, images: Tensor) -> Tensor:
        """The nearest of the 256 levels."""
        return ((images / EIGHT_BIT).round() * EIGHT_BIT).clamp(0, 1)

    def limit(self, threat: Threat) -> Threat:
        """Whole levels."""
        return replace(threat, quantum=threat.quantum or EIGHT_BIT)

    def suffix(self, sample: Sample) -> str:
        """Always the same."""
        return ".png"

    def write(self, sample: Sample, image: Tensor, path: Path) -> None:
        """Grey or RGB."""
        pixels = (image / EIGHT_BIT).round().to(torch.uint8).movedim(0, -1).numpy()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)

    def read(self, sample: Sample, path: Path) -> Tensor:
        """In [0, 1]."""
        return read_image(path, sample.image.numel())


@dataclass(frozen=True)
class Npy:
    """NumPy's own format, float32 in data units."""

    def representable(self, images: Tensor) -> Tensor:
        """Every float is."""
        return images

    def limit(self, threat: Threat) -> Threat:
        """Nothing is lost."""
        return threat

    def suffix(self, sample: Sample) -> str:
        """Always the same."""
        return ".npy"

    def write(self, sample: Sample, image: Tensor, path: Path) -> None:
        """`(C, *spatial)`."""
        np.save(path, image.numpy(), allow_pickle=False)

    def read(self, sample: Sample, path: Path) -> Tensor:
        """As written."""
        return torch.from_numpy(np.load(path, allow_pickle=False))


def _is_written_back(sample: Sample, threat: Threat) -> bool:
    if sample.file is None or file_type_of(sample.file).write is None:
        return False
    if sample.quantum is not None and not _is_multiple(threat.quantum, sample.quantum):
        return False
    try:
        return torch.equal(read_stored(sample.file, sample.image.numel()).pixels, sample.image)
    except BadSampleError:  # larger than the image that was made of it
        return False


def _is_multiple(quantum: float | None, step: float) -> bool:
    return quantum is None or (quantum > step / 2 and abs(quantum / step - round(quantum / step)) < 1e-6)
