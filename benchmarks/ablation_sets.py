"""The data and networks of the ablation: five real sets, two networks each, learned here in a minute or so.

No image is in the repository: `--data` names a folder with IDRiD at 512 pixels (`idrid512/`), PneumoniaMNIST
(`pneumoniamnist.npz`), LungSegDB (`lung_ct/`) and TotalSegmentator's example CT (`totalseg/`); brain slices come along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

import medrobust as mr
from medrobust.data.embedded import open_embedded
from medrobust.data.options import evenly
from medrobust.data.subset import Subset
from medrobust.models.networks import UNet
from medrobust.models.randomness import seeded
from medrobust.reproduce.fitting import Fitting

CLASSIFIERS = ("timm:resnet18", "timm:mobilenetv3_small_100")
SEGMENTERS = ("U-Net", "smp:fpn-resnet18")
SIDE, FUNDUS_SIDE = 128, 224
SOFT_TISSUE = (40.0, 400.0)  # level and width of the window, HU
ORGANS = {5: 1, 1: 2, 2: 2, 3: 2}  # liver; spleen and kidneys
ORGAN_NAMES = ("background", "liver", "spleen or kidney")


@dataclass(frozen=True)
class Benchmark:
    """One set.

    Attributes:
        title: what is answered, on what.
        eps: of L∞ in 255ths: chosen on a few images of the first network so that PGD leaves a part of the answers.
        networks: two.
        open: folder of the data → training and test images.
        fitting: how the networks learn.
    """

    title: str
    eps: float
    networks: tuple[str, str]
    open: Callable[[Path], tuple[mr.Dataset, mr.Dataset]]
    fitting: Fitting


def network(name: str, data: mr.Dataset, seed: int) -> nn.Module:
    """An untrained network for a set."""
    info = data.info
    if name == "U-Net":
        with seeded(seed):
            return UNet(info.channels, len(info.classes))
    return mr.load_model(name, outputs=len(info.classes), channels=info.channels, task=info.task, seed=seed)


def _fundus(folder: Path) -> tuple[mr.Dataset, mr.Dataset]:
    paths = sorted(path for path in (folder / "idrid512").glob("*.jpg") if path.stem.split("_")[-1].isdigit())
    with_disease = [path for path in paths if "NAR" not in path.stem]
    without = [path for path in paths if "NAR" in path.stem]
    info = mr.DatasetInfo("fundus", "classification", ("no retinopathy", "retinopathy"), channels=3)
    samples = [
        mr.Sample(path.stem, _resized(_picture(path, "RGB"), FUNDUS_SIDE), torch.tensor(label))
        for label, group in enumerate((without, with_disease))
        for path in group
    ]
    return _third_apart(mr.InMemoryDataset(info, samples))


def _x_ray(folder: Path) -> tuple[mr.Dataset, mr.Dataset]:
    path = folder / "pneumoniamnist.npz"
    return mr.open_dataset(path, mr.DataOptions(split="train", limit=2000)), mr.open_dataset(path)


def _brain(_: Path) -> tuple[mr.Dataset, mr.Dataset]:
    return _all_padded(open_embedded("tissue", split="train")), _all_padded(open_embedded("tissue", split="test"))


def _lung(folder: Path) -> tuple[mr.Dataset, mr.Dataset]:
    info = mr.DatasetInfo("lung", "segmentation", ("background", "lung"), channels=1)
    paths = sorted((folder / "lung_ct" / "images").glob("*.png"))
    samples = [
        mr.Sample(
            path.stem,
            _resized(_picture(path, "L"), SIDE),
            (_resized(_picture(folder / "lung_ct" / "masks" / path.name, "L"), SIDE)[0] > 0.5).long(),
        )
        for path in paths
    ]
    whole = mr.InMemoryDataset(info, samples)
    return Subset(whole, range(0, len(paths), 2)), Subset(whole, range(1, len(paths), 2))


def _organs(folder: Path) -> tuple[mr.Dataset, mr.Dataset]:
    """Axial slices of one body: blocks of six to learn from and six to test on, three between them left out."""
    scan, mask = (
        np.asarray(nibabel.load(folder / "totalseg" / f"{name}.nii.gz").dataobj)
        for name in ("example_ct", "example_seg_fast_force_split")
    )
    level, width = SOFT_TISSUE
    grey = torch.from_numpy(((scan - level + width / 2) / width).clip(0, 1).astype(np.float32))
    truth = torch.zeros(mask.shape, dtype=torch.long)
    for stored, wanted in ORGANS.items():
        truth[torch.from_numpy(mask == stored)] = wanted
    samples = [
        mr.Sample(f"slice {z}", _padded(grey[:, :, z])[None], _padded(truth[:, :, z]))
        for z in range(grey.shape[2])
        if (truth[:, :, z] > 0).any()
    ]
    info = mr.DatasetInfo("organs", "segmentation", ORGAN_NAMES, channels=1, notes=("One patient.",))
    whole = mr.InMemoryDataset(info, samples)
    places = range(len(samples))
    return Subset(whole, [z for z in places if z % 18 < 6]), Subset(whole, [z for z in places if 9 <= z % 18 < 15])


BENCHMARKS = {
    "lung": Benchmark("lungs in CT (LungSegDB)", 8.0, SEGMENTERS, _lung, Fitting(60, 4, 3e-3)),
    "tissue": Benchmark("grey and white matter (MNI152)", 12.0, SEGMENTERS, _brain, Fitting(15, 8, 3e-3)),
    "x-ray": Benchmark("pneumonia or not (PneumoniaMNIST)", 3.0, CLASSIFIERS, _x_ray, Fitting(6, 64, 1e-3)),
    "organs": Benchmark("organs in CT (TotalSegmentator)", 8.0, SEGMENTERS, _organs, Fitting(100, 4, 3e-3)),
    "fundus": Benchmark("retinopathy or not (IDRiD)", 1.0, CLASSIFIERS, _fundus, Fitting(12, 8, 1e-3)),
}


def chosen(data: mr.Dataset, limit: int) -> mr.Dataset:
    """At most `limit` test images, evenly spread."""
    return Subset(data, evenly(range(len(data)), limit))


def _third_apart(whole: mr.Dataset) -> tuple[mr.Dataset, mr.Dataset]:
    places = range(len(whole))
    return Subset(whole, [place for place in places if place % 3]), Subset(whole, list(places[::3]))


def _picture(path: Path, mode: str) -> Tensor:
    values = np.asarray(Image.open(path).convert(mode), np.float32) / 255
    return torch.from_numpy(values[None] if values.ndim == 2 else values.transpose(2, 0, 1).copy())


def _resized(image: Tensor, side: int) -> Tensor:
    return interpolate(image[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


def _padded(plane: Tensor) -> Tensor:
    """`(H, W)` in the middle of 128 × 128 of the background: a side that networks can halve five times."""
    height, width = plane.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    whole = torch.zeros((SIDE, SIDE), dtype=plane.dtype)
    whole[top : top + height, left : left + width] = plane
    return whole


def _all_padded(data: mr.Dataset) -> mr.Dataset:
    samples = [
        replace(sample, image=_padded(sample.image[0])[None], truth=_padded(sample.truth))
        for sample in (data[place] for place in range(len(data)))
    ]
    return mr.InMemoryDataset(data.info, samples)


def every_cell(names: list[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    """Set, network and seed; the sets take turns, so that a run cut short holds some of each."""
    for seed in range(seeds):
        for place in range(2):
            for name in names:
                yield name, BENCHMARKS[name].networks[place], seed
