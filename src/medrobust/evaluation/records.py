"""What a run leaves behind: one row per image × attack × budget, and what is needed to read the rows.

Everything shown anywhere is computed from these; no model is needed to build a report again. The columns are
described, for users, in `docs/records.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl
from torch import Tensor

from medrobust.data import DatasetInfo
from medrobust.data.dataset import TaskName
from medrobust.evaluation.probes import Probes

SCHEMA_VERSION = 4

# What the tables call the unattacked images and the worst attack on each: no attack may be labelled so.
CLEAN = "clean"
WORST_CASE = "worst case"

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,  # which data set × model of the run, a key of RunInfo.parts
    "index": pl.Int64,  # place in the data set
    "id": pl.String,  # the sample's id
    "patient": pl.String,  # hash of the patient's identity; null when unknown
    # the group that it is of, by each column named; null when none is, a null value where it is unknown
    "groups": pl.List(pl.Struct({"column": pl.String, "group": pl.String})),
    "attack": pl.String,  # label of the attack in this run
    "norm": pl.String,  # or the family, with its options where they are not the usual ones
    "eps": pl.Float64,  # in the unit of the threat, see PartInfo.threats
    "truth": pl.List(pl.Int64),  # class, one 0/1 per label, or the classes of the boxes; null for dense tasks
    "prediction_before": pl.List(pl.Int64),
    "prediction_after": pl.List(pl.Int64),
    "scores_before": pl.List(pl.Float32),  # class probabilities, or one a detection; null for dense tasks
    "scores_after": pl.List(pl.Float32),
    "right_before": pl.Boolean,  # the clean image was answered right
    "right_after": pl.Boolean,  # the attacked image was
    "success": pl.Boolean,  # the attack's goal is met on the attacked image
    "loss_before": pl.Float64,  # cross-entropy against the truth (the target, when targeted)
    "loss_after": pl.Float64,
    "dice_before": pl.Float64,  # mean over the foreground classes present; null for other tasks
    "dice_after": pl.Float64,
    "iou_before": pl.Float64,
    "iou_after": pl.Float64,
    "dice_by_class_before": pl.List(pl.Float64),  # NaN where the class is in neither truth nor answer
    "dice_by_class_after": pl.List(pl.Float64),
    "iou_by_class_before": pl.List(pl.Float64),
    "iou_by_class_after": pl.List(pl.Float64),
    "hd95_before": pl.Float64,  # mm; NaN where the spacing is unknown
    "hd95_after": pl.Float64,
    "hd95_by_class_before": pl.List(pl.Float64),
    "hd95_by_class_after": pl.List(pl.Float64),
    "surface_dice_before": pl.Float64,  # at the task's tolerance; NaN where the spacing is unknown
    "surface_dice_after": pl.Float64,
    "surface_dice_by_class_before": pl.List(pl.Float64),
    "surface_dice_by_class_after": pl.List(pl.Float64),
    "volume_unit": pl.String,  # of the volumes in this row: ml, mm², voxels or pixels
    "missed_volume_before": pl.Float64,  # of the true masks, all classes together
    "missed_volume_after": pl.Float64,
    "missed_volume_by_class_before": pl.List(pl.Float64),
    "missed_volume_by_class_after": pl.List(pl.Float64),
    "lesion_volumes_before": pl.List(pl.Float64),  # one per connected part of the task's lesion classes
    "lesion_volumes_after": pl.List(pl.Float64),  # the same, unless a deformation moved the truth
    "lesion_covered_before": pl.List(pl.Float64),  # share of each that the answer covers
    "lesion_covered_after": pl.List(pl.Float64),
    "truth_boxes": pl.List(pl.List(pl.Float32)),  # x1, y1, x2, y2 in pixels, one a class of truth; null for other tasks
    "boxes_before": pl.List(pl.List(pl.Float32)),  # likewise, one a prediction
    "boxes_after": pl.List(pl.List(pl.Float32)),
    "f1_before": pl.Float64,  # of the image's detections that score enough
    "f1_after": pl.Float64,
    "false_positives_before": pl.Float64,  # such detections that match no truth
    "false_positives_after": pl.Float64,
    "misses_before": pl.Float64,  # boxes of the truth that no such detection matches
    "misses_after": pl.Float64,
    "linf": pl.Float64,  # of the change, in data units
    "l2": pl.Float64,
    "psnr": pl.Float64,  # decibel, over the range of the bounds; +inf when nothing changed
    "ssim": pl.Float64,
    "zero_gradients": pl.Int64,  # steps in which the gradient was exactly zero or not finite
    "steps_used": pl.Int64,
    "queries": pl.Int64,  # of an attack that sees answers alone; 0 for the others
    "smallest_eps": pl.Float64,  # size of the smallest change found to fool, +inf none; null when not looked for
    "found_by": pl.String,  # of an ensemble, the member that the image is from
    "seconds": pl.Float64,  # share of the batch's wall time
}


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read and was left out with `--skip-bad`."""

    index: int
    reason: str


@dataclass(frozen=True)
class PartInfo:
    """One data set × model of a run.

    Attributes:
        dataset: what the data set says of itself.
        size: number of samples in it; evaluated: how many of them were attacked.
        data_sha256: fingerprint of the data.
        model: where the model came from, e.g. "timm:resnet18".
        weights_sha256: fingerprint of the model's parameters and buffers, whatever is wrapped around it.
        parameters: their number.
        task: "classification", "ordinal", "multilabel", "segmentation" or "detection".
        success_dice: segmentation: an image counts as right while its mean Dice is at least this.
        attacks: label → the attack's name and options.
        threats: each with norm, eps, the unit of eps ("%" and "pixels" of families that have one of their own, else
            that of the data), quantum, region, and the options of a family.
        skipped: samples left out.
        victim: how the model was called: "bounds" (lowest and highest value), "mean" and "std" (None when nothing was
            subtracted, nothing divided by), "channels_last", "compile", "autocast" and "task_options" (of detection:
            "score", the least that a detection must score to count, "iou", from which on it matches, and "success_f1",
            the least F1 of an image that counts as right); "defence", the transforms before the model, if any.
        probes: what a few images tell of whether the attacks can be trusted; None when none were probed.
        expected: what the user states the main metric on clean images to be; None when nothing was stated.
    """

    dataset: DatasetInfo
    size: int
    evaluated: int
    data_sha256: str
    model: str
    weights_sha256: str
    parameters: int
    task: TaskName
    attacks: dict[str, dict[str, object]]
    threats: list[dict[str, object]]
    success_dice: float | None = None
    skipped: list[Skipped] = field(default_factory=list)
    victim: dict[str, object] = field(default_factory=dict)
    probes: Probes | None = None
    expected: float | None = None

    def unit_of(self, norm: str) -> str:
        """The unit of eps under a norm: a family's own, or that of the data."""
        units = (threat.get("unit") for threat in self.threats if threat.get("norm") == norm)
        return next((unit for unit in units if isinstance(unit, str)), self.dataset.unit)


@dataclass(frozen=True)
class RunInfo:
    """`run.json`: all that a reader of the records needs to know. `created` is ISO 8601 in UTC."""

    parts: dict[str, PartInfo]
    seed: int
    created: str
    seconds: float
    device: str
    versions: dict[str, str]
    config: dict[str, object] | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class GalleryAttack:
    """What one attack made of a gallery image: `adversarial` (C, H, W) float32; `after` (H, W) int64 or None.

    Of a volume the kept slices, (C, S, H, W) and (S, H, W). `truth`, like `after`, is the truth where a deformation
    moved it; None is the image's own.
    """

    attack: str
    norm: str
    eps: float
    adversarial: Tensor
    after: Tensor | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class GalleryImage:
    """An image kept for looking at; of a volume, a few of its slices.

    `clean` is (C, H, W) float32 in data units. For segmentation `truth` and `before` are (H, W) int64 class maps
    (multi-label: (L, H, W) of 0/1); for classification and detection they are None, labels and boxes being in the
    records. Of a volume, `slices` are the places of the kept slices along the first spatial axis, and all have an axis
    of slices before (H, W).
    """

    part: str
    index: int
    clean: Tensor
    attacks: list[GalleryAttack]
    truth: Tensor | None = None
    before: Tensor | None = None
    slices: tuple[int, ...] = ()
