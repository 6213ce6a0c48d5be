"""The embedded default: axial slices of the MNI152 brain that nilearn ships, with three kinds of truth.

The template (ICBM 152 nonlinear symmetric, 2009a; Fonov et al., NeuroImage 54, 2011) is the average of T1
scans of 152 healthy young adults and of their mirror images: real MRI, but one averaged brain. What that
means for a figure computed from it is said in `DatasetInfo.notes`, which every report prints.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import tempfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
from torch import Tensor

from medrobust.data.dataset import DatasetInfo, Sample, TaskName
from medrobust.data.embedded_boxes import STRUCTURES, structure_boxes
from medrobust.errors import InputError, unknown

EmbeddedName = Literal["tissue", "level", "structures"]
Split = Literal["train", "test"]

TISSUES = ("background", "grey matter", "white matter")
LEVELS = ("lowest", "low", "middle", "high", "highest")
_TASKS: dict[EmbeddedName, tuple[TaskName, tuple[str, ...]]] = {
    "tissue": ("segmentation", TISSUES),
    "level": ("ordinal", LEVELS),
    "structures": ("detection", STRUCTURES),
}

# Slices from 62 mm below to 76 mm above the anterior commissure: each shows at least 4 cm² of brain.
LOWEST_MM, HIGHEST_MM = -62, 76
PIXEL_MM = 2.0
# In-plane the 197 × 233 mm of the template are padded to 208 × 240 and averaged 2 by 2.
PADDING = ((5, 6), (3, 4), (0, 0))
SLICE_SIZE = (120, 104)
# Blocks repeat along the axis as train · gap · test · gap. Across the 5 mm from a test slice to the nearest
# training slice, pixels inside the brain correlate with 0.6 (1 mm: 0.95) and a third of the labels change.
# 22 is no divisor of a level's 28 slices, so that some test blocks lie at the border of two levels.
TRAIN_SLICES, GAP_SLICES, TEST_SLICES = 8, 4, 6
# Part of the fingerprint: to be raised whenever a change above or below gives other slices.
SLICES_VERSION = "2"

_NOTES = (
    "The images are slices of one averaged brain, not of a patient's scan: the MNI152 template that nilearn "
    "ships (ICBM 152 nonlinear symmetric 2009a, skull-stripped), the mean of T1 scans of 152 healthy young "
    "adults and of their mirror images.",
    "There is no patient to resample, so intervals are over slices: they tell how figures vary among slices "
    "of this one brain, nothing about other people, scanners or diseases; and as neighbouring slices look "
    "alike, they are narrower than they should be even for that.",
    f"The embedded model learned from other slices of the same brain, at least {GAP_SLICES + 1} mm away, and "
    "an average has neither the noise nor the variety of single scans: expect lower clean figures on "
    "patients, and another robustness.",
)
_TRUTH_NOTES = {
    "tissue": "The truth is the likeliest tissue in the template's probability maps, which are averages of "
    "automatic segmentations, not drawn by experts; cerebrospinal fluid counts as background.",
    "level": "The truth is the fifth of the brain's height that a slice lies in: next to a border it hangs "
    "on a millimetre.",
    "structures": "The boxes are drawn by a rule from the template's tissue probability maps, not by experts: round "
    "the lateral ventricles, the white matter of either hemisphere above the corpus callosum, and the hindbrain "
    "(cerebellum, pons and medulla) where it lies apart from the rest; next to a rule's border an object hangs on a "
    "pixel or a millimetre. A quarter of the slices show none of them.",
}


@dataclass(frozen=True)
class EmbeddedDataset:
    """One split of the embedded slices; see `open_embedded`."""

    info: DatasetInfo
    images: npt.NDArray[np.float32]  # (N, H, W) in [0, 1]
    truths: tuple[Tensor, ...]  # N of (H, W) tissue, () level, or (n, 5) boxes
    heights: npt.NDArray[np.int64]  # (N,) mm above the anterior commissure
    digest: str

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Slice `index`, counted upwards."""
        height = int(self.heights[index])
        return Sample(
            id=f"mni152-z{height:+03d}",
            image=torch.tensor(self.images[index]).unsqueeze(0),
            truth=self.truths[index].clone(),
            columns={"z_mm": str(height)},
            spacing=(PIXEL_MM, PIXEL_MM),
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the template's files, the way slices are made, and which of them these are."""
        return self.digest


def open_embedded(name: EmbeddedName, split: Split = "test") -> EmbeddedDataset:
    """Open the embedded brain slices.

    Images are `(1, 120, 104)` float32 in [0, 1] at 2 mm in-plane, anterior up; slices are 1 mm apart. The
    first call makes the slices from nilearn's files and keeps them in `cache_folder()`; later ones read that.

    Args:
        name: "tissue": segmentation into background, grey and white matter. "level": ordinal
            classification, which fifth of the brain's height, bottom to top, the slice is from. "structures":
            detection of the boxes of `medrobust.data.embedded_boxes`, in slices with up to two of them.
        split: "test" are blocks of 6 slices, each kept 4 slices away from the blocks of "train".

    Raises:
        InputError: the name or split is unknown, nilearn's files are missing, or the cache folder cannot be
            written.
    """
    if name not in get_args(EmbeddedName):
        raise unknown("embedded data set", name, get_args(EmbeddedName))
    if split not in get_args(Split):
        raise unknown("split", split, get_args(Split))
    slices = _slices()
    chosen = np.flatnonzero(_split_of_slices(len(slices.images)) == split)
    task, classes = _TASKS[name]
    return EmbeddedDataset(
        info=DatasetInfo(
            name=f"mni152-{name}",
            task=task,
            classes=classes,
            channels=1,
            source="embedded",
            notes=(*_NOTES, _TRUTH_NOTES[name]),
        ),
        images=slices.images[chosen],
        truths=tuple(_truth(name, slices, int(number)) for number in chosen),
        heights=slices.heights[chosen].astype(np.int64),
        digest=hashlib.sha256(f"{source_fingerprint()} {name} {split}".encode()).hexdigest(),
    )


def source_fingerprint() -> str:
    """SHA-256 (hex) of nilearn's template files and the version of the slicing; does not import nilearn."""
    package = importlib.util.find_spec("nilearn")
    folders = package.submodule_search_locations if package else None
    data = Path(next(iter(folders or []), "")) / "datasets" / "data"
    files = sorted(data.glob("mni_icbm152_*.nii.gz"))
    if not files:
        raise InputError(f"{data}: the MNI152 files of nilearn are missing; run: pip install --force-reinstall nilearn")
    digest = hashlib.sha256(f"slices {SLICES_VERSION}".encode())
    for file in files:
        digest.update(file.name.encode())
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); mend its permissions") from error
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where slices and trained models are kept: `$MEDROBUST_CACHE`, or the user's cache folder."""
    folder = os.environ.get("MEDROBUST_CACHE") or platformdirs.user_cache_dir("medrobust", appauthor=False)
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:  # of ~someone
        raise InputError(f"MEDROBUST_CACHE={folder}: there is no such home folder; set another") from error


def write_to_cache(name: str, content: bytes) -> None:
    """Put a file into the cache folder: it is there whole or not at all, whoever else writes it meanwhile."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(content)
                file.close()
                part.replace(folder / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write to the cache folder ({error.strerror}); "
            "set MEDROBUST_CACHE to a folder that can be written"
        ) from error


def _split_of_slices(count: int) -> npt.NDArray[np.str_]:
    """(count,) of "train", "test" or "gap"."""
    period = ["train"] * TRAIN_SLICES + ["gap"] * GAP_SLICES + ["test"] * TEST_SLICES + ["gap"] * GAP_SLICES
    return np.resize(np.array(period), count)


@dataclass(frozen=True)
class _Slices:
    """All slices of the template, from the lowest to the highest."""

    images: npt.NDArray[np.float32]  # (N, H, W)
    tissues: npt.NDArray[np.uint8]  # (N, H, W)
    boxes: npt.NDArray[np.float32]  # (M, 6): number of the slice, x1, y1, x2, y2, class
    heights: npt.NDArray[np.int16]  # (N,) in mm


def _truth(name: EmbeddedName, slices: _Slices, number: int) -> Tensor:
    if name == "tissue":
        return torch.tensor(slices.tissues[number].astype(np.int64))
    if name == "level":
        return torch.tensor(number * len(LEVELS) // len(slices.images))
    return torch.tensor(slices.boxes[slices.boxes[:, 0] == number, 1:])


def _slices() -> _Slices:
    """All slices from the cache, or made."""
    fingerprint, name = source_fingerprint(), "mni152-slices.npz"
    try:
        with np.load(cache_folder() / name, allow_pickle=False) as kept:
            if str(kept["fingerprint"]) == fingerprint:
                return _Slices(**{field.name: kept[field.name] for field in fields(_Slices)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or damaged: made anew
    slices = _make_slices()
    content = io.BytesIO()
    np.savez(content, fingerprint=np.array(fingerprint), **vars(slices))
    write_to_cache(name, content.getvalue())
    return slices


def _make_slices() -> _Slices:
    # here, because importing nilearn takes seconds and only the first use needs it
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    template = load_mni152_template(resolution=1)
    lowest = round(LOWEST_MM - float(template.affine[2, 3]))
    wanted = slice(lowest, lowest + HIGHEST_MM - LOWEST_MM + 1)
    volumes = (template, load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1))
    image, grey, white = (_axial(np.asarray(volume.get_fdata(), np.float32)[..., wanted]) for volume in volumes)
    tissues = np.stack([1 - grey - white, grey, white]).argmax(0).astype(np.uint8)
    heights = np.arange(LOWEST_MM, HIGHEST_MM + 1, dtype=np.int16)
    return _Slices(image, tissues, structure_boxes(image, grey, white, heights), heights)


def _axial(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(197, 233, N) at 1 mm, axes to the right, to the front and up → (N, 120, 104) at 2 mm, front on top."""
    padded = np.pad(volume, PADDING)
    width, depth, count = padded.shape
    halved = padded.reshape(width // 2, 2, depth // 2, 2, count).mean((1, 3))
    return cast("npt.NDArray[np.float32]", np.ascontiguousarray(halved.transpose(2, 1, 0)[:, ::-1]))
