"""What a stability analysis shows, in sentences that are computed from its tests and components, and no stronger."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from medrobust.evaluation.stability_files import StabilityInfo
from medrobust.report.numbers import counted, listed, plain
from medrobust.statistics import SIGNIFICANCE
from medrobust.statistics.stability import EFFECT, QUANTITIES
from medrobust.statistics.stability_components import ALL_DATA_SETS
from medrobust.statistics.stability_tests import HIGHER, LOWER, TOO_FEW, least_clusters

_SETTLED = 0.1  # of the distance at the start
_OVER = {"image": "images", "seed": "seeds", "model": "models", "data_set": "data sets"}


def findings(tests: pl.DataFrame, components: pl.DataFrame, steps: pl.DataFrame, info: StabilityInfo) -> list[str]:
    """Is the reference steadier than each other attack, is it stronger, and does its effect vary less?

    Args:
        tests: from `medrobust.statistics.stability_tests.paired_tests`.
        components: from `medrobust.statistics.stability_components.variance_components`.
        steps: from `medrobust.statistics.stability.step_summary`.
        info: of the analysis.
    """
    others = tests["second"].unique(maintain_order=True).to_list()
    if not others:
        return [f"{plain(info.reference, 24)} ran alone: there is no other attack to hold it against."]
    return [
        *(_steadiness(tests.filter(second=other), len(tests)) for other in others),
        *(_strength(tests.filter(second=other), len(tests)) for other in others),
        *_variance(components, info),
        *_settling(steps),
    ]


def cautions(tests: pl.DataFrame, info: StabilityInfo) -> list[str]:
    """What the figures cannot tell, or what else could have made a difference."""
    return [*_few_images(tests), *_unlike_steps(info), *_few_of_a_kind(info)]


def _steadiness(rows: pl.DataFrame, family: int) -> str:
    """The headline: one attack against another over all that is a matter of steadiness."""
    asked = rows.filter(
        pl.col("quantity").is_in([name for name, one in QUANTITIES.items() if one.more_is != "stronger"])
    )
    return _verdict(asked, family, better=LOWER, words=("steadier", "less steady"), matter="steadiness")


def _strength(rows: pl.DataFrame, family: int) -> str:
    asked = rows.filter(
        pl.col("quantity").is_in([name for name, one in QUANTITIES.items() if one.more_is == "stronger"])
    )
    return _verdict(asked, family, better=HIGHER, words=("stronger", "weaker"), matter="strength")


def _verdict(rows: pl.DataFrame, family: int, *, better: str, words: tuple[str, str], matter: str) -> str:
    first, second = (plain(str(rows[name][0]), 24) for name in ("first", "second"))
    few = rows.filter(verdict=TOO_FEW)
    rows = rows.filter(pl.col("verdict") != TOO_FEW)
    needed = _needed(family)
    if rows.is_empty():
        return f"There are too few images to tell whether {first} or {second} is the {words[0]} one: {needed}."
    won = rows.filter(verdict=better)
    lost = rows.filter(pl.col("verdict").is_in({HIGHER, LOWER} - {better}))
    alike = len(rows) - len(won) - len(lost)
    if won.is_empty() and lost.is_empty():
        told = f"Between {first} and {second} no difference in {matter} is shown ({counted(alike, 'comparison')})"
    else:
        parts = [
            f"{word} than {second} in {listed(_named(found))}"
            for word, found in zip(words, (won, lost), strict=True)
            if len(found)
        ]
        told = f"{first} is {'; but it is '.join(parts)}"
        if alike:
            told += f"; in {counted(alike, 'other comparison')} no difference is shown"
    return f"{told}{f'; {len(few)} have too few images to tell: {needed}' if len(few) else ''}."


def _needed(family: int) -> str:
    return f"among {counted(family, 'test')} it takes {least_clusters(family)} patients or images"


def _named(rows: pl.DataFrame) -> list[str]:
    """Each quantity with its parts: "sign flips (tissue and level)"."""
    by_quantity = rows.group_by("quantity", maintain_order=True).agg("part")
    return [
        f"{_inside(QUANTITIES[quantity].title)} ({listed([plain(part, 30) for part in parts])})"
        for quantity, parts in by_quantity.iter_rows()
    ]


def _inside(title: str) -> str:
    return title[0].lower() + title[1:]


def _variance(components: pl.DataFrame, info: StabilityInfo) -> Iterator[str]:
    """Over images, seeds, models and data sets: is the effect's variance smaller under the reference?"""
    first = plain(info.reference, 24)
    family = int(components["p_value"].count())
    effect = components.filter(pl.col("quantity") == EFFECT, pl.col("p_value").is_not_null())
    for component, over in _OVER.items():
        rows = effect.filter(component=component)
        enough = rows.filter(pl.col("clusters") >= least_clusters(family))
        if rows.is_empty():
            continue
        if enough.is_empty():
            yield f"There are too few images to compare the effect’s variance over {over}: {_needed(family)}."
            continue
        shown = enough.filter(pl.col("p_holm") < SIGNIFICANCE)
        told = [
            f"{word} than that of {listed(_against(found))}"
            for word, found in (
                ("smaller", shown.filter(pl.col("difference") < 0)),
                ("larger", shown.filter(pl.col("difference") > 0)),
            )
            if len(found)
        ]
        start = f"The variance of {first}’s effect over {over} "
        if told:
            yield f"{start}is {' and '.join(told)} (p < {SIGNIFICANCE:g}, corrected for {counted(family, 'test')})."
        else:
            yield f"{start}shows no difference from the others’ ({counted(len(enough), 'comparison')})."


def _against(rows: pl.DataFrame) -> list[str]:
    by_attack = rows.group_by("attack", maintain_order=True).agg("scope")
    return [
        f"{plain(attack, 24)} ({listed([scope if scope == ALL_DATA_SETS else plain(scope, 30) for scope in scopes])})"
        for attack, scopes in by_attack.iter_rows()
    ]


def _settling(steps: pl.DataFrame) -> Iterator[str]:
    """After how many steps the prediction is near where it ends: the fixed spot of the paper."""
    final = steps.filter(measure="kl_final").sort("step")
    for part in final["part"].unique(maintain_order=True).to_list():
        told = []
        for attack in final["attack"].unique(maintain_order=True).to_list():
            way = final.filter(part=part, attack=attack)
            start = way["median"][0]
            if start is not None and start > 0:
                near = way.filter(pl.col("median") <= _SETTLED * start)["step"].to_list()
                told.append(f"{min(near)} under {plain(attack, 24)}")
        if told:
            last = final.filter(part=part)["step"].max()
            yield (
                f"On {plain(part, 30)} the median distance of the prediction to where it ends falls below a tenth of "
                f"that at the start after {listed(told)}, of {counted(int(str(last)), 'step')}."
            )


def _few_images(tests: pl.DataFrame) -> Iterator[str]:
    if tests.is_empty():
        return
    least, counts = least_clusters(len(tests)), tests["clusters"]
    fewest = int(str(counts.min()))
    if fewest < 2 * least:
        yield (
            f"{fewest} patients or images in the smallest part: only large differences can be shown among "
            f"{counted(len(tests), 'test')}."
        )
    if "images of one patient" in tests["resampled"].to_list():
        yield "All images are of one patient: tests and intervals say nothing about other patients."
    elif "images" in tests["resampled"].to_list():
        yield "Patients are unknown: images are taken as independent, which slices of one volume are not."


def _unlike_steps(info: StabilityInfo) -> Iterator[str]:
    """Attacks of the same budget may still take other steps, which alone makes them move more or less."""
    lengths = next(iter(info.step_lengths.values()))
    own = lengths[info.reference]
    unlike = [
        f"{plain(label, 24)}’s are {length / own:.2g} times as long"
        for label, length in lengths.items()
        if own > 0 and abs(length / own - 1) > 0.01
    ]
    if unlike:
        yield (
            f"A full step is not as long under all attacks: against {plain(info.reference, 24)}’s, {listed(unlike)}. "
            "How much a perturbation moves at the end hangs on that too."
        )
    attacks = next(iter(info.parts.values())).attacks
    counts = {label: options.get("steps") for label, options in attacks.items()}
    if len(set(counts.values())) > 1:
        yield f"The attacks do not take as many steps: {listed([f'{plain(k, 24)} {v}' for k, v in counts.items()])}."


def _few_of_a_kind(info: StabilityInfo) -> Iterator[str]:
    sets = {part.data_sha256 for part in info.parts.values()}
    if len(info.seeds) == 1:
        yield "With one seed, nothing is said about other starts."
    if 1 < len(sets) == len(info.parts):
        yield (
            "There is one model for each data set: what a model does to the variance, and what the data do, cannot be "
            "told apart."
        )
    if len(sets) == 1:
        yield "There is one data set: nothing is said about other modalities."
    tasks = {part.task for part in info.parts.values()} - {"segmentation", "detection"}
    if tasks:
        yield (
            "Where the effect is a drop of being right (0 or 1), its variance hangs on its mean alone and is largest "
            "where half of the images fall: there a steadier attack is merely a stronger or a weaker one."
        )
