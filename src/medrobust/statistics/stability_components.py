"""Where the variance of effect and loss comes from, under every attack, with intervals and against SMIA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from medrobust.evaluation.records import PartInfo
from medrobust.statistics.component_tests import Pair, swap_tests, swaps_for
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.resampling import Clusters, clusters_of
from medrobust.statistics.reweighting import image_weights, recentred_interval
from medrobust.statistics.stability import EFFECT, LOSS, Frame
from medrobust.statistics.summary import check_resampling
from medrobust.statistics.variance_components import Components, Values, components

ALL_DATA_SETS = "all data sets"
DECOMPOSED = (EFFECT, LOSS)
TOTAL = "total"

COMPONENT_SCHEMA: Frame = {
    "scope": pl.String,  # a data set, or all, where the effect is a share of the data set's clean value
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
    "p_value": pl.Float64,  # two-sided, of no difference from the reference; null for the reference, and for the total
    "p_holm": pl.Float64,  # corrected by Holm over all rows
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

    Parts of the same data are one data set by several models; where two data sets have one name, the scope of each
    is named after its parts. Over all data sets the effect is taken as a share of the data set's mean clean value,
    since Dice and a share of right answers have no common scale. Intervals resample patients (images, where
    patients are not known), the same for all attacks, and are moved by the resamples' bias; seeds, models and data
    sets are not resampled, being few. The p-values are of tests that swap the labels of the reference and the other
    attack patient by patient.

    Args:
        quantities: from `image_quantities`.
        outcomes: rows as `medrobust.evaluation.trajectories.OUTCOME_SCHEMA`.
        parts: what each part is of.
        reference: the attack that the others' components are held against.
        resamples, confidence: of the bootstrap.
        seed: of the bootstrap and of the swaps.

    Raises:
        InputError: if `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    attacks = quantities["attack"].unique(maintain_order=True).to_list()
    groups: dict[str, list[str]] = {}
    for name, part in parts.items():
        groups.setdefault(part.data_sha256, []).append(name)
    titles = [parts[names[0]].dataset.name for names in groups.values()]
    titles = [
        title if titles.count(title) == 1 else " and ".join(names)
        for title, names in zip(titles, groups.values(), strict=True)
    ]
    scopes = []
    for quantity in DECOMPOSED:
        found_sets = [
            _data_set(quantities, outcomes, names, title, attacks, quantity)
            for title, names in zip(titles, groups.values(), strict=True)
        ]
        sets = [one for one in found_sets if one.values.shape[2]]  # models of one data set may have no image in common
        scopes += list(_scopes(sets, quantity, resamples, seed))
    family = len(scopes) * (len(attacks) - 1) * len(Components.names())  # at most
    rows = [row for scope in scopes for row in _scope_rows(scope, attacks, reference, confidence, family, seed)]
    tested = [row for row in rows if isinstance(row.get("p_value"), float)]
    for row, corrected in zip(tested, holm([float(str(row["p_value"])) for row in tested]), strict=True):
        row["p_holm"] = corrected
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
    title: str,
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
    return _DataSet(title, values, clusters_of(patients), float(mean) if isinstance(mean, float) else 0.0)


@dataclass(frozen=True)
class _Scope:
    """One quantity in one data set, or in all of them; with the weights of the images, `(1 + resamples, images)`."""

    name: str
    quantity: str
    members: list[_DataSet]
    weights: list[Values]

    @property
    def values(self) -> list[Values]:
        """Of each data set, comparable between several."""
        return [one.values / (one.clean if len(self.members) > 1 else 1) for one in self.members]


def _scopes(sets: Sequence[_DataSet], quantity: str, resamples: int, seed: int) -> Iterator[_Scope]:
    weights = [
        image_weights(one.clusters.codes, one.clusters.count, resamples, seed + place) for place, one in enumerate(sets)
    ]
    for one, weight in zip(sets, weights, strict=True):
        yield _Scope(one.name, quantity, [one], [weight])
    if len(sets) > 1 and quantity == EFFECT and all(one.clean > 0 for one in sets):
        yield _Scope(ALL_DATA_SETS, quantity, list(sets), weights)


def _scope_rows(
    scope: _Scope, attacks: Sequence[str], reference: str, confidence: float, family: int, seed: int
) -> Iterator[dict[str, object]]:
    members, values, own = scope.members, scope.values, attacks.index(reference)
    p_values = {}
    for place, attack in enumerate(attacks):
        if place != own:
            pairs = [Pair(of[[own, place]], one.clusters) for of, one in zip(values, members, strict=True)]
            p_values[attack] = swap_tests(pairs, swaps_for(family, pairs), seed)
    counts = {
        "images": sum(one.values.shape[2] for one in members),
        "seeds": members[0].values.shape[3],
        "models": sum(one.values.shape[1] for one in members),
        "clusters": min(one.clusters.count for one in members),
    }
    for row in _component_rows(components(values, scope.weights), attacks, reference, confidence):
        p_value = p_values.get(str(row["attack"]), {}).get(str(row["component"]))
        yield {"scope": scope.name, "quantity": scope.quantity, **row, "p_value": p_value, **counts}


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
