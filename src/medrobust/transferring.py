"""How far images that fool one model fool others: every model attacked once, the images shown to all."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from medrobust.attacks import PGD, Attack
from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.evaluation import aftercheck_part, another_model
from medrobust.evaluation.records import CLEAN
from medrobust.run import evaluate
from medrobust.statistics import TASK_TRAITS
from medrobust.threat import Threat
from medrobust.victim import Victim

_LABEL = "attack"


def transfer_matrix(
    victims: Mapping[str, Victim],
    dataset: Dataset,
    attack: Attack | None = None,
    threat: Threat | None = None,
    *,
    seed: int = 0,
    batch_size: int = 16,
    skip_bad: bool = False,
    progress: bool = False,
) -> pl.DataFrame:
    """Make the attack's images on each model in turn, and measure every model on them.

    Args:
        victims: name → model, two or more, of the same task, classes and bounds.
        dataset: labelled images.
        attack: `PGD()` when not given.
        threat: L∞ ≤ 4/255 when not given.
        seed, batch_size, skip_bad, progress: as for `evaluate`.

    Returns:
        A row for each model that the images were made on ("source"), after one for the clean images. For each model
        that saw them, by its name: `<name>: <main metric>` on those images, `<name>: success`, the share fooled among
        the images that it answered right before (null for clean), and `<name>: n`, how many those are.

    Raises:
        InputError: there are fewer than two models, one is named "clean", or they do not fit each other or the data.
    """
    if len(victims) < 2 or CLEAN in victims:
        raise InputError(f"a matrix takes two or more models, none of them named {CLEAN!r}; got {list(victims)}")
    attack, threat = PGD() if attack is None else attack, Threat(4 / 255) if threat is None else threat
    main = TASK_TRAITS[dataset.info.task].main
    clean: dict[str, object] = {}
    rows = []
    for source, victim in victims.items():
        others = {name: another_model(other, victim, name) for name, other in victims.items() if name != source}
        run = evaluate(
            victim,
            dataset,
            {_LABEL: attack},
            [threat],
            seed=seed,
            batch_size=batch_size,
            gallery=0,
            skip_bad=skip_bad,
            name=source,
            progress=progress,
            afterchecks=list(others.values()),
        )
        row: dict[str, object] = {"source": source}
        for target in victims:
            part = source if target == source else aftercheck_part(source, others[target])
            figures = run.summary.filter(part=part)
            attacked = figures.filter(attack=_LABEL)
            row |= _cell(target, main, attacked)
            clean |= {f"{target}: {main}": _of(figures.filter(attack=CLEAN), main, "value")}
        rows.append(row)
    return pl.DataFrame([{"source": CLEAN, **clean}, *rows], schema=_schema(victims, main))


def _cell(target: str, main: str, figures: pl.DataFrame) -> dict[str, object]:
    return {
        f"{target}: {main}": _of(figures, main, "value"),
        f"{target}: success": _of(figures, "success", "value"),
        f"{target}: n": _of(figures, "success", "n"),
    }


def _of(figures: pl.DataFrame, metric: str, column: str) -> object:
    return figures.filter(metric=metric)[column].item()


def _schema(victims: Mapping[str, Victim], main: str) -> dict[str, type[pl.DataType]]:
    schema: dict[str, type[pl.DataType]] = {"source": pl.String}
    for name in victims:
        schema |= {f"{name}: {main}": pl.Float64, f"{name}: success": pl.Float64, f"{name}: n": pl.Int64}
    return schema
