"""Runs without a model: records, info and gallery shaped as real ones, for statistics and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch

from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import (
    SCHEMA,
    GalleryAttack,
    GalleryImage,
    PartInfo,
    RunInfo,
    Skipped,
)

STRENGTH = {"fgsm": 0.6, "pgd": 1.0, "smia": 1.05}
BUDGETS = (1 / 255, 2 / 255, 4 / 255)


@dataclass(frozen=True)
class SyntheticRun:
    records: pl.DataFrame
    info: RunInfo
    gallery: list[GalleryImage]


def part_info(task: str, classes: Sequence[str], *, name: str = "synthetic", **changes) -> PartInfo:
    dataset = DatasetInfo(
        name=name,
        task=task,
        classes=tuple(classes),
        channels=1,
        unit=changes.pop("unit", "[0, 1]"),
        bounds=changes.pop("bounds", (0.0, 1.0)),
        source="embedded",
        notes=changes.pop("notes", ()),
    )
    part = PartInfo(
        dataset=dataset,
        size=64,
        evaluated=60,
        data_sha256="d" * 64,
        model="timm:resnet18",
        weights_sha256="a" * 64,
        parameters=11_170_000,
        task=task,
        attacks={label: {"attack": label.upper(), "steps": 10, "targeted": False} for label in STRENGTH},
        threats=[{"norm": "linf", "eps": eps, "unit": dataset.unit} for eps in BUDGETS],
        success_dice=0.5 if task == "segmentation" else None,
        victim={"bounds": list(dataset.bounds), "mean": [0.5], "std": [0.25], "channels_last": False},
    )
    return replace(part, **changes)


def run_info(parts: dict[str, PartInfo], **changes) -> RunInfo:
    info = RunInfo(
        parts=parts,
        seed=0,
        created="2026-03-01T12:00:00+00:00",
        seconds=81.4,
        device="cpu",
        versions={"medrobust": "0.1.0", "torch": "2.6.0", "python": "3.11.7"},
        config={
            "data": "synthetic",
            "attacks": list(STRENGTH),
            "eps": ["1/255", "2/255", "4/255"],
            "seed": 0,
        },
    )
    return replace(info, **changes)


def row(part: str = "p", index: int = 0, attack: str = "pgd", eps: float = 1 / 255, **values) -> dict[str, object]:
    """A row of records; what is not given is null, but for the norm and the change."""
    base: dict[str, object] = dict.fromkeys(SCHEMA)
    base |= {
        "part": part,
        "index": index,
        "id": f"secret-id-{index}",
        "attack": attack,
        "norm": "linf",
        "eps": eps,
    }
    base |= {"linf": eps, "l2": 10 * eps, "psnr": 40.0, "ssim": 0.95, "zero_gradients": 0, "steps_used": 10}
    return base | values


def answer_row(truth: int, before: int, after: int, *, loss: float = 1.0, **values) -> dict[str, object]:
    """A row of a classifier's records from the three labels."""
    return row(
        truth=[truth],
        prediction_before=[before],
        prediction_after=[after],
        right_before=truth == before,
        right_after=truth == after,
        success=truth != after,
        loss_before=0.1,
        loss_after=loss,
        **values,
    )


def frame(rows: Sequence[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA)


def classifier_records(
    part: str = "grades",
    *,
    classes: int = 5,
    images: int = 60,
    patients: int | None = 20,
    attacks: Sequence[str] = tuple(STRENGTH),
    budgets: Sequence[float] = BUDGETS,
    seed: int = 0,
) -> pl.DataFrame:
    """A classifier that loses the more logit of the true class the stronger the attack and the larger eps."""
    rng = np.random.default_rng(seed)
    truth = np.arange(images) % classes
    base = rng.normal(0, 1, (images, classes))
    base[np.arange(images), truth] += 2.2
    rows = []
    for attack in attacks:
        for eps in budgets:
            logits = base.copy()
            pull = 255 * eps * STRENGTH.get(attack, 1.0) + rng.normal(0, 0.3, images)
            logits[np.arange(images), truth] -= pull
            before, after = (_softmax(values) for values in (base, logits))
            for index in range(images):
                rows.append(
                    answer_row(
                        int(truth[index]),
                        int(before[index].argmax()),
                        int(after[index].argmax()),
                        loss=float(-np.log(after[index, truth[index]] + 1e-12)),
                        part=part,
                        index=index,
                        attack=attack,
                        eps=eps,
                        patient=None if patients is None else f"secret-patient-{index % patients}",
                        scores_before=before[index].tolist(),
                        scores_after=after[index].tolist(),
                        psnr=float(48 - 12 * np.log10(255 * eps)),
                        ssim=float(1 - 2 * eps),
                    )
                )
    return frame(rows)


def label_records(part: str = "findings", *, labels: int = 4, images: int = 60, seed: int = 1) -> pl.DataFrame:
    """A multi-label classifier; some labels are unknown (−1)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((images, labels)) < 0.3).astype(int)
    truth[rng.random(truth.shape) < 0.05] = -1
    base = rng.normal(0, 1, truth.shape) + np.where(truth == 1, 2.5, -2.5)
    rows = []
    for attack in STRENGTH:
        for eps in BUDGETS:
            logits = base - np.where(truth == 1, 1, -1) * 255 * eps * STRENGTH[attack]
            before, after = (1 / (1 + np.exp(-values)) for values in (base, logits))
            for index in range(images):
                known = truth[index] >= 0
                answers = [(scores[index] > 0.5).astype(int) for scores in (before, after)]
                right = [bool((answer == truth[index])[known].all()) for answer in answers]
                rows.append(
                    row(
                        part=part,
                        index=index,
                        attack=attack,
                        eps=eps,
                        truth=truth[index].tolist(),
                        prediction_before=answers[0].tolist(),
                        prediction_after=answers[1].tolist(),
                        scores_before=before[index].tolist(),
                        scores_after=after[index].tolist(),
                        right_before=right[0],
                        right_after=right[1],
                        success=not right[1],
                        loss_before=0.1,
                        loss_after=float(eps),
                    )
                )
    return frame(rows)


def segmenter_records(
    part: str = "tissue",
    *,
    images: int = 40,
    classes: int = 3,
    budgets: Sequence[float] = BUDGETS,
    seed: int = 2,
) -> pl.DataFrame:
    """A segmenter; the last class is absent from every fifth image."""
    rng = np.random.default_rng(seed)
    rows = []
    clean = rng.uniform(0.82, 0.95, (images, classes))
    clean[::5, -1] = np.nan
    for attack in STRENGTH:
        for eps in budgets:
            attacked = clean - 4 * eps / max(budgets) * 0.12 * STRENGTH[attack] * rng.uniform(0.6, 1.2, clean.shape)
            for index in range(images):
                dice = [float(np.nanmean(values[index])) for values in (clean, attacked)]
                rows.append(
                    row(
                        part=part,
                        index=index,
                        attack=attack,
                        eps=eps,
                        right_before=dice[0] >= 0.5,
                        right_after=dice[1] >= 0.5,
                        success=dice[1] < 0.5,
                        loss_before=0.2,
                        loss_after=1.0,
                        dice_before=dice[0],
                        dice_after=dice[1],
                        iou_before=dice[0] / (2 - dice[0]),
                        iou_after=dice[1] / (2 - dice[1]),
                        dice_by_class_before=clean[index].tolist(),
                        dice_by_class_after=attacked[index].tolist(),
                    )
                )
    return frame(rows)


def phantom_boxes(index: int, size: int = 64) -> list[list[float]]:
    """Where the two organs of the phantoms of `gallery_images` lie."""
    middles = ((-0.35, -0.05 * index, 0.07**0.5), (0.35, 0.2, 0.05**0.5))
    corners = [(x - r, y - r, x + r, y + r) for x, y, r in middles]
    return [[(corner + 1) / 2 * (size - 1) for corner in box] for box in corners]


def detector_records(
    part: str = "organs",
    *,
    images: int = 30,
    patients: int | None = 10,
    seed: int = 3,
    budgets: Sequence[float] = BUDGETS,
) -> pl.DataFrame:
    """A detector of two organs, in every fifth image of none, that finds them less well and other things besides."""
    rng = np.random.default_rng(seed)
    rows = []
    truths = [phantom_boxes(index % 2) if index % 5 != 4 else [] for index in range(images)]
    clean = [_detected(truth, 0.0, rng) for truth in truths]
    for attack in STRENGTH:
        for eps in budgets:
            for index, truth in enumerate(truths):
                attacked = _detected(truth, 255 * eps * STRENGTH[attack], rng)
                rows.append(
                    detection_row(
                        [(0, *truth[0]), (1, *truth[1])] if truth else [],
                        clean[index],
                        attacked,
                        part=part,
                        index=index,
                        attack=attack,
                        eps=eps,
                        patient=None if patients is None else f"secret-patient-{index % patients}",
                        loss_before=0.3,
                        loss_after=0.3 + 255 * eps,
                    )
                )
    return frame(rows)


Detection = tuple[int, float, float, float, float, float]  # class, corners, score


def detection_row(
    truth: Sequence[tuple[float, ...]], before: Sequence[Detection], after: Sequence[Detection], **values
) -> dict[str, object]:
    """A row of a detector's records: of each image what scores at least 0.5 is matched at an IoU of 0.5."""
    columns: dict[str, object] = {
        "truth": [int(box[0]) for box in truth],
        "truth_boxes": [[float(corner) for corner in box[1:5]] for box in truth],
    }
    for when, found in (("before", before), ("after", after)):
        found = sorted(found, key=lambda detection: -detection[5])
        hits = _hits(truth, [detection for detection in found if detection[5] >= 0.5])
        wrong, missed = len([d for d in found if d[5] >= 0.5]) - hits, len(truth) - hits
        f1 = 2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else 1.0
        columns |= {
            f"prediction_{when}": [int(detection[0]) for detection in found],
            f"boxes_{when}": [[float(corner) for corner in detection[1:5]] for detection in found],
            f"scores_{when}": [detection[5] for detection in found],
            f"f1_{when}": f1,
            f"false_positives_{when}": float(wrong),
            f"misses_{when}": float(missed),
            f"right_{when}": f1 >= 0.5,
        }
    return row(**columns, success=not columns["right_after"], **values)  # type: ignore[arg-type]


def _hits(truth: Sequence[tuple[float, ...]], found: Sequence[Detection]) -> int:
    """How many boxes are found; enough for boxes that do not overlap each other."""
    return sum(any(box[0] == d[0] and _iou(box[1:5], d[1:5]) >= 0.5 for d in found) for box in truth)


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    sides = [min(first[k + 2], second[k + 2]) - max(first[k], second[k]) for k in (0, 1)]
    inside = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return inside / (sum(areas) - inside)


def _detected(truth: Sequence[Sequence[float]], pull: float, rng: np.random.Generator) -> list[Detection]:
    """The boxes a little out of place and less sure the stronger the pull; and ever more where nothing is."""
    found: list[Detection] = []
    for label, box in enumerate(truth):
        x1, y1, x2, y2 = (np.array(box) + rng.normal(0, 0.7 + 0.6 * pull, 4)).tolist()
        found.append((label, x1, y1, max(x2, x1 + 1), max(y2, y1 + 1), float(rng.beta(9, 2 + 2 * pull))))
    for _ in range(rng.poisson(0.3 + 0.5 * pull)):
        x, y = rng.uniform(0, 44, 2).tolist()
        found.append((int(rng.integers(2)), x, y, x + 14.0, y + 12.0, float(rng.beta(4, 4))))
    return found


def gallery_images(
    part: str,
    *,
    images: int = 2,
    size: int = 64,
    channels: int = 1,
    dense: bool = False,
    low: float = 0.0,
    high: float = 1.0,
    eps: float = 4 / 255,
    told_eps: float | None = None,
) -> list[GalleryImage]:
    """Phantoms: an ellipse with two organs in it, and a noise pattern for the attack.

    `eps` is the noise as a share of the range; `told_eps` the same in the images' unit, where that is another.
    """
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    found = []
    for index in range(images):
        generator = torch.Generator().manual_seed(index)
        body = (x / 0.8).square() + (y / 0.9).square() < 1
        left = (x + 0.35).square() + (y + 0.05 * index).square() < 0.07
        right = (x - 0.35).square() + (y - 0.2).square() < 0.05
        truth = body.long() + left.long() + 2 * right.long()
        clean = (0.15 + 0.35 * body + 0.25 * left + 0.35 * right).clamp(0, 1)
        clean = clean + 0.03 * torch.rand(clean.shape, generator=generator)
        clean = (low + (high - low) * clean.clamp(0, 1)).expand(channels, size, size).contiguous()
        attacks = []
        for attack in STRENGTH:
            noise = torch.sign(torch.randn(clean.shape, generator=generator)) * eps * (high - low)
            after = torch.roll(truth, (5, -4), (0, 1)) if dense else None
            attacks.append(GalleryAttack(attack, "linf", told_eps or eps, (clean + noise).clamp(low, high), after))
        before = torch.roll(truth, (1, 0), (0, 1)) if dense else None
        found.append(GalleryImage(part, index, clean, attacks, truth if dense else None, before))
    return found


def stacked(images: Sequence[GalleryImage]) -> list[GalleryImage]:
    """Volumes of three slices: the image, the same a little darker, and upside down."""

    def stack(values: torch.Tensor | None) -> torch.Tensor | None:
        if values is None:
            return None
        darker = values * 0.9 if values.is_floating_point() else values
        return torch.stack([values, darker, values.flip(-2)], -3)

    return [
        replace(
            image,
            clean=stack(image.clean),
            truth=stack(image.truth),
            before=stack(image.before),
            slices=(2, 5, 8),
            attacks=[
                replace(made, adversarial=stack(made.adversarial), after=stack(made.after)) for made in image.attacks
            ],
        )
        for image in images
    ]


def ct_run() -> SyntheticRun:
    """A segmenter of CT volumes in Hounsfield units."""
    part = part_info("segmentation", ["background", "liver", "spleen", "kidney"], name="abdomen", unit="HU")
    dataset = replace(part.dataset, bounds=(-1024.0, 3071.0), spatial_dims=3)
    threats = [{"norm": "linf", "eps": 10.0, "unit": "HU"}]
    part = replace(part, dataset=dataset, threats=threats, evaluated=40)
    records = segmenter_records("abdomen", budgets=(10.0,))
    images = gallery_images("abdomen", images=3, dense=True, low=-1024, high=476, eps=10 / 1500, told_eps=10.0)
    return SyntheticRun(records, run_info({"abdomen": part}), stacked(images))


def large_run(images: int = 200, size: int = 224) -> SyntheticRun:
    """A grader of fundus-like colour images, all of them kept for looking at."""
    part = part_info("ordinal", ["no DR", "mild", "moderate", "severe", "proliferative"], name="fundus grades")
    part = replace(part, size=images, evaluated=images)
    records = classifier_records("fundus grades", images=images)
    gallery = gallery_images("fundus grades", images=images, size=size, channels=3)
    return SyntheticRun(records, run_info({"fundus grades": part}), gallery)


def two_part_run() -> SyntheticRun:
    """Ordinal grades by patient, and a segmenter: what the embedded default looks like."""
    parts = {
        "grades": part_info(
            "ordinal",
            ["no DR", "mild", "moderate", "severe", "proliferative"],
            name="fundus grades",
            notes=("Synthetic images, made for tests.",),
            skipped=[
                Skipped(3, "/home/jane/secret_scan.png: truncated file"),
                Skipped(9, "secret_9.png: not found"),
            ],
        ),
        "tissue": part_info(
            "segmentation",
            ["background", "grey matter", "white matter", "fluid"],
            name="brain tissue",
            notes=("One subject: the figures say nothing about other people.",),
            model="a U-Net trained by medrobust",
            evaluated=40,
        ),
    }
    records = pl.concat([classifier_records(), segmenter_records()])
    gallery = gallery_images("grades", channels=3) + gallery_images("tissue", dense=True)
    return SyntheticRun(records, run_info(parts), gallery)


def detection_run() -> SyntheticRun:
    """A detector by patient, with its images."""
    options = {"task": "detection", "classes": 2, "score": 0.5, "iou": 0.5, "success_f1": 0.5}
    part = part_info("detection", ["left organ", "right organ"], name="organs", model="torchvision:ssdlite", size=30)
    part = replace(part, evaluated=30, victim={**part.victim, "task_options": options})
    return SyntheticRun(detector_records(), run_info({"organs": part}), gallery_images("organs"))


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
