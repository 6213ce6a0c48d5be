"""Do two runs speak of the same images? If so their records are made to match, row by row; if not, a refusal says why.

Runs agree on a part when it is the same task on the same images with the same truth, and shares attacks and budgets,
under which the same may change.
Images are the same when the data have the same fingerprint; else they are known by their ids, and then the records must
hold the truth, so that it can be seen to be the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrobust.budget import grey_levels
from medrobust.errors import InputError
from medrobust.evaluation import afterchecks_of
from medrobust.evaluation.records import PartInfo, RunInfo
from medrobust.statistics.conditions import images_of, in_order
from medrobust.statistics.resampling import Clusters, clusters_of

_TRUTH = ("truth", "truth_boxes")
_SAME = 1e-9  # relative: two writings of one budget
_SAME_SIZE = 0.05  # relative: more than rounding does to what small changes tell of the size of an image
_OF_A_BUDGET = ("norm", "eps", "unit", "quantum")


@dataclass(frozen=True)
class PairedPart:
    """One part as both runs have it: the same images, attacks and budgets, and nothing else.

    Attributes:
        names: of the part in either run.
        parts: what either run tells of it.
        records: of either run; "index" is the place of the image in `images`.
        images: `(n,)` 0 to n − 1.
        clusters: theirs.
        notes: what is left out and what differs, in words; {0} and {1} stand for the runs.
    """

    names: tuple[str, str]
    parts: tuple[PartInfo, PartInfo]
    records: tuple[pl.DataFrame, pl.DataFrame]
    images: NDArray[np.int64]
    clusters: Clusters
    notes: list[str] = field(default_factory=list)


def pair_runs(runs: Sequence[tuple[pl.DataFrame, RunInfo]]) -> list[PairedPart]:
    """The parts that both of two runs have, each matched.

    Raises:
        InputError: no part is in both, or a part that is does not agree; in one line.
    """
    (_, first), (_, second) = runs
    names = _pairs(first, second)
    if not names:
        both = "; ".join(f"{name} has {_listed(info.parts)}" for name, info in zip("AB", (first, second), strict=True))
        raise InputError(f"the runs have no part in common: {both}")
    return [_paired(pair, runs) for pair in names]


def _pairs(first: RunInfo, second: RunInfo) -> list[tuple[str, str]]:
    """By name; where no name is shared, by the data's fingerprint.

    Raises:
        InputError: a part has the data of several.
    """
    shared = [(name, name) for name in first.parts if name in second.parts]
    if shared:
        return shared
    plain = [{n: p for n, p in info.parts.items() if not _is_check(n, info)} for info in (first, second)]
    found = [
        (one, other)
        for one, part in plain[0].items()
        for other, its in plain[1].items()
        if part.data_sha256 == its.data_sha256
    ]
    for one, other in found:
        ours, theirs = (
            [pair[side] for pair in found if pair[1 - side] == name] for side, name in ((0, other), (1, one))
        )
        if max(len(ours), len(theirs)) > 1:
            raise InputError(
                f"{_listed(ours)} of A and {_listed(theirs)} of B are on the same data, and no name tells which belong "
                "together: give the parts to compare the same name in both runs"
            )
    return found


def _is_check(name: str, info: RunInfo) -> bool:
    return any(name in afterchecks_of(other, info.parts) for other in info.parts)


def _paired(names: tuple[str, str], runs: Sequence[tuple[pl.DataFrame, RunInfo]]) -> PairedPart:
    parts = tuple(info.parts[name] for name, (_, info) in zip(names, runs, strict=True))
    _check_kind(names[0], parts[0], parts[1])
    records = [frame.filter(pl.col("part") == name) for name, (frame, _) in zip(names, runs, strict=True)]
    notes: list[str] = []
    records = _same_budgets(names[0], records, parts, notes)
    records = _same_attacks(names[0], records, parts, notes)
    records = _same_images(names[0], records, parts, notes)
    notes += _of_sizes(records, parts)
    patients = images_of(records[0])["patient"]
    clusters = clusters_of(patients)
    return PairedPart(names, (parts[0], parts[1]), (records[0], records[1]), np.arange(len(patients)), clusters, notes)


def _check_kind(name: str, one: PartInfo, other: PartInfo) -> None:
    for what, values in {
        "task": (one.task, other.task),
        "classes": (_listed(one.dataset.classes), _listed(other.dataset.classes)),
        "unit of the images": (one.dataset.unit, other.dataset.unit),
        "task options": (one.victim.get("task_options"), other.victim.get("task_options")),
        "Dice of an image that counts as right": (one.success_dice, other.success_dice),
    }.items():
        if values[0] != values[1]:
            raise InputError(f"{name}: the runs cannot be compared, their {what} differ: {values[0]} and {values[1]}")


def _same_budgets(
    name: str, records: list[pl.DataFrame], parts: Sequence[PartInfo], notes: list[str]
) -> list[pl.DataFrame]:
    """Those that both ran; the second run's eps are written as the first's."""
    budgets = [sorted(set(frame.select("norm", "eps").iter_rows())) for frame in records]
    units = [_units(part) for part in parts]
    for norm in {norm for norm, _ in budgets[0]} & {norm for norm, _ in budgets[1]}:
        if units[0].get(norm) != units[1].get(norm):
            told = f"{units[0].get(norm)} and {units[1].get(norm)}"
            raise InputError(f"{name}: the budgets of {norm} are in different units, {told}: they cannot be compared")
        limits, grids = ([of(part, norm) for part in parts] for of in (_limits, _grids))
        if limits[0] != limits[1]:
            told = " and ".join(map(_listed, limits))
            raise InputError(f"{name}: the runs cannot be compared, what {norm} may change differs: {told}")
        if grids[0] != grids[1]:
            notes.append(f"The grid that {norm} keeps to is not the same: {' and '.join(map(_listed, grids))}.")
    same = {
        theirs: ours
        for ours in budgets[0]
        for theirs in budgets[1]
        if ours[0] == theirs[0] and math.isclose(ours[1], theirs[1], rel_tol=_SAME)
    }
    if not same:
        told = "; ".join(f"{run} has {_listed(map(_budget, of))}" for run, of in zip("AB", budgets, strict=True))
        raise InputError(f"{name}: the runs have no budget in common: {told}")
    kept = (set(same.values()), set(same))
    for place, of in enumerate(budgets):
        if alone := [budget for budget in of if budget not in kept[place]]:
            notes.append(f"Only {{{place}}} has {_listed(map(_budget, alone))}: left out.")
    table = pl.DataFrame(
        [(norm, eps, same[norm, eps][1]) for norm, eps in same],
        schema={"norm": pl.String, "eps": pl.Float64, "common": pl.Float64},
        orient="row",
    )
    first = records[0].join(table.select("norm", eps="common"), ["norm", "eps"], "semi")
    second = records[1].join(table, ["norm", "eps"]).with_columns(eps="common").drop("common")
    return [first, second]


def _units(part: PartInfo) -> dict[str, str]:
    return {str(threat.get("norm")): str(threat.get("unit", part.dataset.unit)) for threat in part.threats}


def _limits(part: PartInfo, norm: str) -> list[str]:
    """What besides eps limits the changes of a norm: a region, a mask, the options of a family."""
    told = []
    for threat in (threat for threat in part.threats if threat.get("norm") == norm):
        limits = {key: value for key, value in threat.items() if key not in _OF_A_BUDGET and value}
        told.append(", ".join(f"{key} {value}" for key, value in sorted(limits.items())) or "anything")
    return sorted(set(told))


def _grids(part: PartInfo, norm: str) -> list[str]:
    steps = {threat.get("quantum") for threat in part.threats if threat.get("norm") == norm}
    return sorted(f"steps of {step:.4g}" if isinstance(step, float | int) else "none" for step in steps)


def _of_sizes(records: Sequence[pl.DataFrame], parts: Sequence[PartInfo]) -> Iterator[str]:
    """A note where the images of the runs are not of one size."""
    one, other = (_values_of_an_image(frame, part) for frame, part in zip(records, parts, strict=True))
    if one is None or other is None or math.isclose(one, other, rel_tol=_SAME_SIZE):
        return
    sums = sorted({"l1", "l2"} & set(records[0]["norm"]))
    told = f"The images are not of one size ({one:.3g} values each in {{0}}, {other:.3g} in {{1}})"
    yield told + (f": an eps of {_listed(sums)} is not the same attack on both." if sums else ".")


def _values_of_an_image(records: pl.DataFrame, part: PartInfo) -> float | None:
    """How many numbers an image has, as its L2 change and PSNR tell: 10·log₁₀(range² · n / L2²)."""
    bounds = part.victim.get("bounds")
    changed = records.filter((pl.col("l2") > 0) & pl.col("psnr").is_finite())
    if changed.is_empty() or not isinstance(bounds, list | tuple):
        return None
    found = (changed["l2"] / (float(bounds[1]) - float(bounds[0]))) ** 2 * 10 ** (changed["psnr"] / 10)
    return float(np.median(found.to_numpy()))


def _same_attacks(
    name: str, records: list[pl.DataFrame], parts: Sequence[PartInfo], notes: list[str]
) -> list[pl.DataFrame]:
    """Those that both ran, by label; the worst case is then over the same attacks."""
    labels = [in_order(frame["attack"].unique().to_list(), part) for frame, part in zip(records, parts, strict=True)]
    common = [label for label in labels[0] if label in labels[1]]
    if not common:
        told = "; ".join(f"{run} has {_listed(of)}" for run, of in zip("AB", labels, strict=True))
        raise InputError(f"{name}: the runs have no attack in common: {told}")
    for place, of in enumerate(labels):
        if alone := [label for label in of if label not in common]:
            notes.append(f"Only {{{place}}} has the attacks {_listed(alone)}: left out, also of the worst case.")
    for label in common:
        options = [part.attacks.get(label, {}) for part in parts]
        changed = [
            key for key in dict.fromkeys([*options[0], *options[1]]) if options[0].get(key) != options[1].get(key)
        ]
        if changed:
            told = "; ".join(_change(key, options[0].get(key), options[1].get(key)) for key in changed)
            notes.append(f"The attack {label} is not the same in both runs: {told}.")
    return [frame.filter(pl.col("attack").is_in(common)) for frame in records]


def _same_images(
    name: str, records: list[pl.DataFrame], parts: Sequence[PartInfo], notes: list[str]
) -> list[pl.DataFrame]:
    """Those that both attacked, numbered alike."""
    same_data = parts[0].data_sha256 == parts[1].data_sha256
    key = "index" if same_data else "id"
    images = [images_of(frame) for frame in records]
    for run, frame in zip("AB", images, strict=True):
        if key == "id" and frame["id"].is_duplicated().any():
            raise InputError(f"{name}: the data differ, and the ids of {run} do not tell its images apart")
    common = images[0].select(key).join(images[1].select(key), key, maintain_order="left")
    if common.is_empty():
        raise InputError(f"{name}: the runs have no image in common (their data differ, and so do all ids)")
    matched = [common.join(frame, key, maintain_order="left") for frame in images]
    if not same_data:
        _check_truth(name, matched)
    for place, frame in enumerate(images):
        if more := len(frame) - len(common):
            notes.append(f"{more} images that only {{{place}}} has are left out.")
    if not same_data:
        notes.append("The data files differ; images were matched by id, and their truth is the same.")
    number = common.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    found = [frame.join(number, key).with_columns(index="place").drop("place") for frame in records]
    _check_rows(name, found)
    return found


def _check_truth(name: str, images: list[pl.DataFrame]) -> None:
    one, other = images
    if one["truth"].null_count():
        raise InputError(f"{name}: the data differ, and the records hold no masks to see whether the truth is the same")
    for column in _TRUTH:
        differs = ~one[column].eq_missing(other[column])
        if differs.any():
            row = int(differs.arg_max() or 0)
            raise InputError(
                f"{name}: {differs.sum()} of {len(one)} images have another {column} in B, "
                f"the first has the index {one['index'][row]} in A: the runs cannot be compared"
            )


def _check_rows(name: str, records: list[pl.DataFrame]) -> None:
    """Every image under every attack and budget, in both."""
    keys = [frame.select("index", "attack", "norm", "eps") for frame in records]
    if len(keys[0]) != len(keys[1]) or len(keys[0].join(keys[1], keys[0].columns)) != len(keys[0]):
        raise InputError(f"{name}: an image was attacked in one run but not in the other: compare whole runs")


def _change(option: str, one: object, other: object) -> str:
    """Numbers are told; what else an option holds may be a path."""
    numbers = all(value is None or isinstance(value, bool | int | float) for value in (one, other))
    return f"{option} {one} and {other}" if numbers else f"{option}"


def _budget(budget: tuple[str, float]) -> str:
    return f"{budget[0]} {grey_levels(budget[1]) or f'{budget[1]:.6g}'}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
