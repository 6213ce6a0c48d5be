"""Where the variance of effect and loss comes from, under every attack, with intervals and against SMIA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.statistics.resampling import Clusters, clusters_of
from medrobust.statistics.reweighting import image_weights, recentred_interval
from medrobust.statistics.stability import EFFECT, LOSS, Frame
from medrobust.statistics.summary import check_resampling
from medrobust.statistics.variance_components import Components, Values, components

ALL_DATA_SETS = "all data sets"
DECOMPOSED = (EFFECT, LOSS)
TOTAL = "total"

COMPONENT_SCHEMA: Frame = {
    "scope": pl.String,  # a data set, or all of them, where the effect is a share of the data set's clean value
    "quantity": pl.String,
    "attack": pl.String,
    "component": pl.String,  # "image", "seed", "model", "residual", "data_set", and "total", their sum
    "value": pl.Float64,  # a variance; null where the design cannot tell
    "low": pl.Float64,
    "high": pl.Float64,
    "share": pl.Float64,  # of the total
    "difference": pl.Float64,  # of this value, under the reference less under this attack; null for the reference
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
    "images": pl.Int64,
    "seeds": pl.Int64,
    "models": pl.Int64,
    "clusters": pl.Int64,
}


def variance_components(
    quantities: pl.DataFrame,
    outcomes: pl.DataFrame,
    parts: Mapping[str, PartInfo],
    reference: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pl.DataFrame:
    """Where the variance of effect and loss comes from, under every attack; columns as `COMPONENT_SCHEMA`.

    Parts of the same data are one data set by several models. Over all data sets the effect is taken as a share of the
    data set's mean clean value, since Dice and a share of right answers have no common scale. Intervals resample
    patients (images, where patients are not known), the same for all attacks, and are moved by the resamples' bias;
    seeds, models and data sets are not resampled, being few.

    Args:
        quantities: from `image_quantities`.
        outcomes: rows as `medrobust.evaluation.trajectories.OUTCOME_SCHEMA`.
        parts: what each part is of.
        reference: the attack that the others' components are held against.
        resamples, confidence, seed: of the bootstrap.

    Raises:
        InputError: if `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    attacks = quantities["attack"].unique(maintain_order=True).to_list()
    groups: dict[str, list[str]] = {}
    for name, part in parts.items():
        groups.setdefault(part.data_sha256, []).append(name)
    rows: list[dict[str, object]] = []
    for quantity in DECOMPOSED:
        found_sets = [_data_set(quantities, outcomes, names, parts, attacks, quantity) for names in groups.values()]
        sets = [one for one in found_sets if one.values.shape[2]]  # models of one data set may have no image in common
        weights = [
            image_weights(one.clusters.codes, one.clusters.count, resamples, seed + place)
            for place, one in enumerate(sets)
        ]
        scopes = [([one], [weight], one.name) for one, weight in zip(sets, weights, strict=True)]
        if len(sets) > 1 and quantity == EFFECT and all(one.clean > 0 for one in sets):
            scopes.append((sets, weights, ALL_DATA_SETS))
        for members, drawn, scope in scopes:
            scaled = [one.values / (one.clean if len(members) > 1 else 1) for one in members]
            found = components(scaled, drawn)
            counts = {
                "images": sum(one.values.shape[2] for one in members),
                "seeds": members[0].values.shape[3],
                "models": sum(one.values.shape[1] for one in members),
                "clusters": min(one.clusters.count for one in members),
            }
            for row in _component_rows(found, attacks, reference, confidence):
                rows.append({"scope": scope, "quantity": quantity, **row, **counts})
    return pl.DataFrame(rows, schema=COMPONENT_SCHEMA)


@dataclass(frozen=True)
class _DataSet:
    """One quantity in one data set: `(attacks, models, images, seeds)`, and the clusters of the images."""

    name: str
    values: Values
    clusters: Clusters
    clean: float


def _data_set(
    quantities: pl.DataFrame,
    outcomes: pl.DataFrame,
    names: Sequence[str],
    parts: Mapping[str, PartInfo],
    attacks: Sequence[str],
    quantity: str,
) -> _DataSet:
    """The images that have a value under every model, attack and seed."""
    cells = quantities.filter(pl.col("part").is_in(names)).with_columns(pl.col(quantity).fill_nan(None))
    wanted = len(names) * len(attacks) * cells["seed"].n_unique()
    whole = cells.filter((pl.col(quantity).count() == wanted).over("index"))
    order = whole.sort(pl.col("attack").cast(pl.Enum(attacks)), pl.col("part").cast(pl.Enum(names)), "index", "seed")
    images = whole["index"].unique().sort()
    values = order[quantity].to_numpy().reshape(len(attacks), len(names), len(images), cells["seed"].n_unique())
    patients = whole.unique("index").sort("index")["patient"]
    clean = outcomes.filter(pl.col("part").is_in(names) & pl.col("index").is_in(images.to_list()))["value_before"]
    mean = clean.mean()
    return _DataSet(
        parts[names[0]].dataset.name, values, clusters_of(patients), float(mean) if isinstance(mean, float) else 0.0
    )


def _component_rows(
    found: Components, attacks: Sequence[str], reference: str, confidence: float
) -> Iterator[dict[str, object]]:
    of = {name: found.value(name) for name in Components.names()}
    known = np.stack([np.where(np.isfinite(values), values, 0).clip(0) for values in of.values()])
    total = known.sum(0)
    own = attacks.index(reference)
    for name, values in {**of, TOTAL: total}.items():
        for place, attack in enumerate(attacks):
            value = float(values[place, 0])
            row: dict[str, object] = {"attack": attack, "component": name}
            if np.isfinite(value):
                low, high = recentred_interval(values[place, 1:], value, confidence, 0.0) or (None, None)
                value = max(value, 0.0)
                whole = float(total[place, 0])
                row |= {"value": value, "low": low, "high": high, "share": value / whole if whole > 0 else None}
                if place != own:
                    apart = values[own] - values[place]
                    low, high = recentred_interval(apart[1:], float(apart[0]), confidence) or (None, None)
                    row |= {"difference": float(apart[0]), "difference_low": low, "difference_high": high}
            yield row
