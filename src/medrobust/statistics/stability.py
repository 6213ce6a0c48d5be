"""How steady attacks are, in figures of each image: what is told of an image, and the way of all step by step.

The claims to be checked are those of SMIA's paper (Qi et al., arXiv 2103.05232, sections 3.2 and 4): a perturbation
that moves to a fixed spot, and an effect of small variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.evaluation.records import PartInfo
from medrobust.evaluation.trajectories import MEASURES

EFFECT, LOSS = "effect", "loss rise"


@dataclass(frozen=True)
class Quantity:
    """What is told of an image under an attack.

    Attributes:
        title: as it begins a sentence.
        meaning: how it is measured.
        more_is: what a higher value says of the attack.
        tested: whether attacks are compared by it. Tests take the values of different images as independent; a mean
            distance to the other images is not, as any two of them share a pair.
    """

    title: str
    meaning: str
    more_is: Literal["stronger", "less steady"]
    tested: bool = True


QUANTITIES: dict[str, Quantity] = {
    EFFECT: Quantity("Effect", "drop of being right (0 or 1), of Dice or of F1", "stronger"),
    LOSS: Quantity("Loss", "the task's loss on the attacked image less that on the clean one", "stronger"),
    "movement": Quantity(
        "Movement of the perturbation",
        "over the last third of the steps, the mean change of δ in a step, ‖δ_t − δ_{t−1}‖ / ‖δ_T‖",
        "less steady",
    ),
    "sign flips": Quantity(
        "Sign flips",
        "over the last third of the steps, the share of values whose proposed step turned round; at the border of the "
        "budget, or of the image’s range, a value may stay where it is all the same",
        "less steady",
    ),
    "prediction change": Quantity(
        "Change of the prediction", "over the last third of the steps, the mean of KL(p_t ‖ p_{t−1})", "less steady"
    ),
    "effect change": Quantity(
        "Change of the effect",
        "over the last third of the steps, the mean change in a step of being right, of Dice or of F1, up or down",
        "less steady",
    ),
    "smoothing gap": Quantity(
        "Gap to the smoothed image",
        "KL between the predictions on the attacked image and on it smoothed, under one smoothing for all attacks. "
        "This is what SMIA’s own second term asks for: to be steadier in it alone shows that SMIA does its own job",
        "less steady",
    ),
    "seed distance": Quantity(
        "Distance between seeds",
        "between final perturbations from different starts, ‖a − b‖ over their mean length; 1.41 for unrelated ones",
        "less steady",
    ),
    "model distance": Quantity(
        "Distance between models",
        "the same between those of one image and start on different models of the same data, to about a twentieth; "
        "told of the first model",
        "less steady",
    ),
    "image distance": Quantity(
        "Distance between images",
        "the same between the perturbations of different images, from one seed; not tested, since the images’ values "
        "hang on each other",
        "less steady",
        tested=False,
    ),
}
TESTED = tuple(name for name, quantity in QUANTITIES.items() if quantity.tested)
Frame = dict[str, pl.DataType | type[pl.DataType]]
STEPS_SCHEMA: Frame = {
    "part": pl.String,
    "attack": pl.String,
    "step": pl.Int64,
    "measure": pl.String,
    "lower": pl.Float64,  # quartiles and median over the images, of each image's mean over the seeds
    "median": pl.Float64,
    "upper": pl.Float64,
}


def step_summary(steps: pl.DataFrame) -> pl.DataFrame:
    """Median and quartiles over the images of every measure at every step; columns as `STEPS_SCHEMA`.

    Args:
        steps: rows as `medrobust.evaluation.trajectories.STEP_SCHEMA`.
    """
    by_image = image_steps(steps)
    long = by_image.unpivot(MEASURES, index=["part", "attack", "step"], variable_name="measure").drop_nulls()
    value = pl.col("value").cast(pl.Float64)
    return (
        long.group_by("part", "attack", "step", "measure", maintain_order=True)
        .agg(
            value.quantile(0.25, "linear").alias("lower"),
            value.median().alias("median"),
            value.quantile(0.75, "linear").alias("upper"),
        )
        .select(list(STEPS_SCHEMA))
    )


def image_steps(steps: pl.DataFrame) -> pl.DataFrame:
    """One row per part × attack × image × step: each measure's mean over the seeds, null where it is undefined."""
    return (
        steps.with_columns(pl.col(MEASURES).fill_nan(None))
        .group_by("part", "attack", "index", "step", maintain_order=True)
        .agg(pl.col(MEASURES).mean())
    )


def image_quantities(
    steps: pl.DataFrame, outcomes: pl.DataFrame, parts: Mapping[str, PartInfo] | None = None
) -> pl.DataFrame:
    """One row per part × image × attack × seed with every quantity of `QUANTITIES`, null where it is undefined.

    Args:
        steps: rows as `medrobust.evaluation.trajectories.STEP_SCHEMA`.
        outcomes: rows as `medrobust.evaluation.trajectories.OUTCOME_SCHEMA`.
        parts: what each part is of: those of one data set are models that are compared.
    """
    key = ["part", "index", "attack", "seed"]
    last = pl.col("step").max()
    late = pl.col("step") > last - (last // 3).clip(1)
    found = (
        steps.with_columns(pl.col(MEASURES).fill_nan(None).cast(pl.Float64))
        .sort("step")
        .group_by(key, maintain_order=True)
        .agg(
            pl.when(pl.col("l2").last() > 0)
            .then(pl.col("moved").filter(late).mean() / pl.col("l2").last())
            .alias("movement"),
            pl.col("sign_flips").filter(late).mean().alias("sign flips"),
            pl.col("kl_previous").filter(late).mean().alias("prediction change"),
            pl.col("worth").diff().abs().filter(late).mean().alias("effect change"),
            pl.col("kl_smoothed").last().alias("smoothing gap"),
        )
    )
    own = outcomes.select(
        *key,
        "patient",
        (pl.col("value_before") - pl.col("value_after")).alias(EFFECT),
        (pl.col("loss_after") - pl.col("loss_before")).alias(LOSS),
        pl.col("seed_distance").alias("seed distance"),
        pl.col("image_distance").alias("image distance"),
    )
    between = model_distances(outcomes, parts or {})
    return own.join(found, key, "left").join(between, key, "left").select(*key, "patient", *QUANTITIES)


def model_distances(outcomes: pl.DataFrame, parts: Mapping[str, PartInfo]) -> pl.DataFrame:
    """How far final perturbations of one image and start are from those on other models of the data, on average.

    One row per image × attack × seed of the first model of each data set that has several: ‖a − b‖ over the mean of ‖a‖
    and ‖b‖, from their lengths and the sketches of their directions.
    """
    key = ["index", "attack", "seed"]
    models: dict[str, list[str]] = {}
    for name, part in parts.items():
        models.setdefault(part.data_sha256, []).append(name)
    found = [pl.DataFrame(schema={"part": pl.String, "index": pl.Int64, "attack": pl.String, "seed": pl.Int64})]
    for first, *others in models.values():
        own = outcomes.filter(part=first).select(*key, "l2", "sketch")
        rest = outcomes.filter(pl.col("part").is_in(others)).select(*key, "l2", "sketch")
        pairs = own.join(rest, key, suffix="_other", maintain_order="left")
        if len(pairs):
            apart = pl.Series("model distance", _apart(pairs), pl.Float64)
            found.append(
                pairs.select(pl.lit(first).alias("part"), *key)
                .with_columns(apart.fill_nan(None))
                .group_by("part", *key, maintain_order=True)
                .mean()
            )
    return pl.concat([found[0].with_columns(pl.lit(None, pl.Float64).alias("model distance")), *found[1:]])


def _apart(pairs: pl.DataFrame) -> NDArray[np.float64]:
    """‖a − b‖ over the mean length, `(n,)`; NaN where both are zero."""
    one, other = (np.array(pairs[name].to_list(), float) for name in ("sketch", "sketch_other"))
    a, b = (pairs[name].to_numpy() for name in ("l2", "l2_other"))
    squared = a**2 + b**2 - 2 * a * b * (one * other).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(squared.clip(0)) / ((a + b) / 2))
