"""MedMNIST v2 and v2+ (Yang et al., Sci Data 10, 2023): one .npz file of all splits, 2-D or 3-D, any size."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from medrobust.data.class_names import MEDMNIST, name_classes, numbered
from medrobust.data.dataset import DatasetInfo, Sample, TaskName
from medrobust.data.images import printable, resize, with_channels
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import BadSampleError, InputError

SPLITS = ("train", "val", "test")

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class ArrayHeader:
    """What an array in the file says of itself before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, eq=False)
class MedMNISTDataset:
    """One split of a MedMNIST file. Pixels are read at the first sample asked for, and only those needed."""

    info: DatasetInfo
    path: Path
    split: str
    rows: Sequence[int]  # of the split's arrays
    labels: npt.NDArray[np.int64]  # (len(rows), L)
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Image `(C, H, W)` or `(1, D, H, W)` float32 in [0, 1]; truth `()` or, multi-label, `(L,)`."""
        stored = torch.from_numpy(self._pixels[index].astype(np.float32) / np.float32(255))
        is_colour = stored.ndim == 3 and self.info.spatial_dims == 2
        image = stored.permute(2, 0, 1).contiguous() if is_colour else stored[None]
        image = with_channels(image, self.info.channels)
        labels = torch.from_numpy(self.labels[index].copy())
        return Sample(
            id=f"{self.split}/{self.rows[index]}",
            image=image if self.size is None else resize(image, self.size),
            truth=labels if self.info.task == "multilabel" else labels[0],
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the file, the split, the rows, and how they are read.

        Raises:
            InputError: the file is not there any more.
        """
        try:
            with self.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256")
        except OSError as error:
            raise InputError(f"{printable(self.path)}: cannot be read ({error.strerror})") from error
        reading = (self.size, self.info.channels, self.info.classes)
        digest.update(repr((self.split, tuple(self.rows), reading)).encode())
        return digest.hexdigest()

    @cached_property
    def _pixels(self) -> npt.NDArray[np.uint8]:
        """(len(rows), H, W[, 3]) or (len(rows), D, H, W)."""
        name = f"{self.split}_images"
        try:
            return _read_rows(self.path, name, self.rows)
        except _DAMAGE as error:
            raise BadSampleError(f"{printable(self.path)}, array {name!r}: {_damaged(error)}") from error


def detect(path: Path, options: DataOptions) -> bool:  # noqa: ARG001
    """Is it an .npz file?"""
    return path.is_file() and path.suffix.lower() == ".npz"


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:  # noqa: ARG001
    """The splits of which there are images."""
    headers = _read_headers(path)
    return tuple(split for split in SPLITS if f"{split}_images" in headers)


def open_medmnist(path: Path, options: DataOptions) -> MedMNISTDataset:
    """Open one split of a MedMNIST file.

    RetinaMNIST is ordinal, sets with several labels are multi-label, all others classification.

    Raises:
        InputError: the file is damaged or not laid out like MedMNIST; the message names file and array.
    """
    source = printable(path)
    headers = _read_headers(path)
    splits = [split for split in SPLITS if f"{split}_images" in headers]
    if not splits:
        raise InputError(
            f"{source}: no array 'train_images', 'val_images' or 'test_images'; it holds "
            f"{', '.join(map(repr, sorted(headers))) or 'none'}: give a MedMNIST file"
        )
    if options.split not in splits:
        raise InputError(f"{source}: no split {options.split!r}; choose one of: {', '.join(splits)}")
    images = _check_images(source, f"{options.split}_images", headers)
    labels = {split: _read_labels(path, split, headers) for split in splits}
    name = re.sub(r"_\d+$", "", path.stem.lower())  # retinamnist_224 is retinamnist
    task, classes = _task_and_classes(source, name, labels, options)
    spatial_dims = 3 if len(images.shape) == 4 and images.shape[-1] != 3 else 2
    if spatial_dims == 3 and options.resize is not None:
        raise InputError(f"{source}: resize is for 2-D images, and these are 3-D; leave it out")
    rows = evenly(range(images.shape[0]), options.limit)
    stored_channels = 3 if len(images.shape) == 4 and spatial_dims == 2 else 1
    info = DatasetInfo(
        name=printable(path.stem),
        task=task,
        classes=classes,
        channels=options.channels or stored_channels,
        spatial_dims=spatial_dims,
        source=source,
    )
    return MedMNISTDataset(info, path, options.split, rows, labels[options.split][list(rows)], options.size)


def _read_headers(path: Path) -> dict[str, ArrayHeader]:
    """Name → header of every array; none of their values is read."""
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    header = _read_header(stream)
                    length = stream.tell()
                if header.dtype.hasobject:
                    raise InputError(
                        f"{printable(path)}, array {name!r}: holds Python objects, which are not read "
                        "because they can run code; save it as numbers"
                    )
                if member.file_size - length != header.dtype.itemsize * int(np.prod(header.shape, dtype=object)):
                    raise InputError(
                        f"{printable(path)}, array {name!r}: is cut short, it says shape {header.shape}; "
                        "download or save it again"
                    )
                headers[name] = header
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{printable(path)}: {_damaged(error)}") from error
    return headers


def _read_header(stream: Any) -> ArrayHeader:
    """Read past an array's header: the stream stands at its first value then."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"npy format {version} is not known")
    shape, fortran_order, dtype = readers[version](stream)
    if fortran_order and len(shape) > 1:
        raise ValueError("an array is in Fortran order, MedMNIST's are in C order")
    return ArrayHeader(shape, dtype)


def _read_rows(path: Path, name: str, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Read some rows of an array, streaming past the others so that they never fill memory."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        header = _read_header(stream)
        begin = stream.tell()
        pixels = np.empty((len(rows), *header.shape[1:]), header.dtype)
        length = pixels.itemsize * int(np.prod(header.shape[1:]))
        for place, row in enumerate(rows):
            stream.seek(begin + row * length)
            pixels[place] = np.frombuffer(stream.read(length), header.dtype).reshape(header.shape[1:])
    return cast("npt.NDArray[np.uint8]", pixels)


def _check_images(source: str, name: str, headers: Mapping[str, ArrayHeader]) -> ArrayHeader:
    header = headers[name]
    if header.dtype != np.uint8:
        raise InputError(f"{source}, array {name!r}: has dtype {header.dtype}; MedMNIST images are uint8")
    if len(header.shape) not in (3, 4) or 0 in header.shape[1:]:
        raise InputError(
            f"{source}, array {name!r}: has shape {header.shape}; "
            "MedMNIST images are (N, H, W), (N, H, W, 3) or (N, D, H, W)"
        )
    return header


def _read_labels(path: Path, split: str, headers: Mapping[str, ArrayHeader]) -> npt.NDArray[np.int64]:
    """(N, L) labels of a split."""
    name = f"{split}_labels"
    place = f"{printable(path)}, array {name!r}"
    if name not in headers:
        raise InputError(f"{place}: is missing; it holds {', '.join(map(repr, sorted(headers)))}")
    header, images = headers[name], headers[f"{split}_images"]
    if header.dtype.kind not in "iu":
        raise InputError(f"{place}: has dtype {header.dtype}; labels are whole numbers")
    if len(header.shape) != 2 or header.shape[1] == 0:
        raise InputError(f"{place}: has shape {header.shape}; it must be (N, 1), or (N, L) for L labels")
    if header.shape[:1] != images.shape[:1]:
        count = images.shape[0] if images.shape else 0
        raise InputError(f"{place}: has {header.shape[0]} labels for {count} images; save one label for each")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return cast("npt.NDArray[np.int64]", arrays[name].astype(np.int64))
    except _DAMAGE as error:
        raise InputError(f"{place}: {_damaged(error)}") from error


def _task_and_classes(
    source: str, name: str, labels: Mapping[str, npt.NDArray[np.int64]], options: DataOptions
) -> tuple[TaskName, tuple[str, ...]]:
    label_count = labels[options.split].shape[1]
    if label_count > 1:
        task = choose_task(options.task, "multilabel", ["multilabel"], source)
        needed, highest = label_count, 1
    else:
        default: TaskName = "ordinal" if name == "retinamnist" else "classification"
        task = choose_task(options.task, default, ["classification", "ordinal"], source)
        needed = max(2, 1 + max(int(array.max(initial=0)) for array in labels.values()))
        highest = None
    known = MEDMNIST.get(name, numbered(needed))
    classes = name_classes(options.classes, known)
    if label_count > 1 and len(classes) != label_count:
        raise InputError(f"{source}: there are {label_count} labels but {len(classes)} classes; set classes to match")
    highest = highest or len(classes) - 1
    for split, array in labels.items():
        outside = array[(array < 0) | (array > highest)]
        if outside.size:
            raise InputError(
                f"{source}, array '{split}_labels': label {outside[0]} is outside 0 to {highest}; "
                "mend it, or set classes to their number"
            )
    return task, classes


def _damaged(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror}); give an .npz file that can be"
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"is not a readable .npz file ({reason}); download or save it again"
