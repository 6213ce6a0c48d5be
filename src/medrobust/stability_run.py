"""How steady attacks are on a model: their ways traced from common starts, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from medrobust.attacks import MIFGSM, PGD, SMIA, Attack
from medrobust.attacks.iterative import IterativeAttack
from medrobust.checks import at_least
from medrobust.data import Dataset
from medrobust.evaluation.cautions import warn_of_budgets
from medrobust.evaluation.describing import described_part
from medrobust.evaluation.landscapes import LossSurface, StepMaps
from medrobust.evaluation.stability_files import (
    STABILITY_PAGE,
    StabilityInfo,
    StoredStability,
    read_stability,
    write_stability,
)
from medrobust.evaluation.stability_joining import joined_info
from medrobust.evaluation.storage import new_folder
from medrobust.evaluation.trajectories import Tracing, trace
from medrobust.progress import progress_bar
from medrobust.report.stability_page import Analysis, write_figures, write_stability_page
from medrobust.report.stability_wording import cautions, findings
from medrobust.run import installed_versions
from medrobust.statistics.stability import image_quantities, step_summary
from medrobust.statistics.stability_components import variance_components
from medrobust.statistics.stability_tests import paired_tests
from medrobust.threat import Threat, usual_threat
from medrobust.victim import Victim


class Stability:
    """What came of a stability analysis. Everything it tells is computed from its rows; it holds no model.

    Attributes:
        trajectories: one row per part × image × attack × seed × step; see `docs/stability.md`.
        outcomes: one row per part × image × attack × seed: values and losses before and after, size of the change.
        info: what was traced, with versions, seeds and fingerprints.
        maps, surfaces: of a few images, to be drawn.
    """

    def __init__(
        self,
        trajectories: pl.DataFrame,
        outcomes: pl.DataFrame,
        info: StabilityInfo,
        maps: Sequence[StepMaps] = (),
        surfaces: Sequence[LossSurface] = (),
    ) -> None:
        self.trajectories = trajectories
        self.outcomes = outcomes
        self.info = info
        self.maps = list(maps)
        self.surfaces = list(surfaces)

    @cached_property
    def quantities(self) -> pl.DataFrame:
        """What is told of every image under every attack from every seed: effect, movement, sign flips and others."""
        return image_quantities(self.trajectories, self.outcomes, self.info.parts)

    @cached_property
    def steps(self) -> pl.DataFrame:
        """Median and quartiles over the images of every measure at every step."""
        return step_summary(self.trajectories)

    @cached_property
    def components(self) -> pl.DataFrame:
        """Where the variance of the effect comes from (image, seed, model, data set), with 95 % intervals."""
        return variance_components(self.quantities, self.outcomes, self.info.parts, self.info.reference)

    @cached_property
    def tests(self) -> pl.DataFrame:
        """SMIA against each other attack, paired by image, corrected for the number of tests, with effect sizes."""
        return paired_tests(self.quantities, self.info.reference)

    def sentences(self) -> list[str]:
        """What the figures show, and what they cannot; computed from them."""
        return [*findings(self.tests, self.components, self.steps, self.info), *cautions(self.tests, self.info)]

    def report(self, path: str | Path) -> None:
        """Write the page as one HTML file.

        Raises:
            InputError: it cannot be written.
        """
        write_stability_page(self._analysis, Path(path))

    def save(self, folder: str | Path) -> None:
        """Write rows, info, page and figures (SVG and PNG) to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        stored = StoredStability(self.trajectories, self.outcomes, self.info, self.maps, self.surfaces)
        with new_folder(Path(folder)) as unfinished:
            write_stability(stored, unfinished)
            self.report(unfinished / STABILITY_PAGE)
            write_figures(self._analysis, unfinished / "figures")

    def joined(self, other: Stability) -> Stability:
        """This analysis with the parts of another of the same attacks, budget and seeds; their time is added up.

        Between data in different units, the size of the budget may differ.

        Raises:
            InputError: both have a part of the same name, or attacks, their options, budgets or seeds differ.
        """
        return Stability(
            pl.concat([self.trajectories, other.trajectories]),
            pl.concat([self.outcomes, other.outcomes]),
            joined_info(self.info, other.info),
            self.maps + other.maps,
            self.surfaces + other.surfaces,
        )

    @cached_property
    def _analysis(self) -> Analysis:
        return Analysis(
            trajectories=self.trajectories,
            quantities=self.quantities,
            tests=self.tests,
            components=self.components,
            steps=self.steps,
            info=self.info,
            maps=self.maps,
            surfaces=self.surfaces,
        )


def load_stability(folder: str | Path) -> Stability:
    """Read an analysis that was saved.

    Raises:
        InputError: the folder holds none, or a damaged one.
    """
    stored = read_stability(Path(folder))
    return Stability(stored.steps, stored.outcomes, stored.info, stored.maps, stored.surfaces)


def stability(
    victim: Victim,
    dataset: Dataset,
    attacks: Mapping[str, Attack] | None = None,
    threat: Threat | None = None,
    *,
    seeds: int = 3,
    seed: int = 0,
    images: int | None = 16,
    pictures: int = 2,
    batch_size: int = 16,
    skip_bad: bool = False,
    name: str | None = None,
    model_name: str | None = None,
    config: Mapping[str, object] | None = None,
    progress: bool = False,
) -> Stability:
    """Trace attacks step by step on some images of a data set, each from several random starts.

    All attacks begin at the same random point of the ball, and take as many steps as they are configured to. Analyses
    of other data sets or models are put together by `Stability.joined`.

    Args:
        victim: the model, in data units.
        dataset: labelled images.
        attacks: label → attack, each one that takes steps; PGD, MI-FGSM and SMIA when not given. The first SMIA (or
            where there is none the first attack) is the one that the others are held against.
        threat: the budget; L∞ ≤ 4/255 when not given, for images in [0, 1].
        seeds: of how many seeds; each gives every image another start.
        seed: the first of them.
        images: at most so many, spread evenly over the data set; None is all.
        pictures: of how many images maps are kept (dense tasks), and of the first the loss around it.
        batch_size: images attacked together; the results do not depend on it.
        skip_bad: leave out images that cannot be read, and list them, instead of stopping.
        name: of this part; the data set's when not given.
        model_name: for the page; the class of the model when not given.
        config: for `stability.json`, e.g. the file that the analysis was started from.
        progress: show a progress bar on standard error.

    Raises:
        InputError: data, victim, attacks and budget do not fit each other.
    """
    at_least("seeds", seeds, 1)
    threat = threat or usual_threat(4 / 255, dataset.info)
    if attacks is None:
        attacks = {"pgd": PGD(), "mi": MIFGSM(), "smia": SMIA()}
    tracing = Tracing(
        attacks=attacks,
        threat=threat,
        seeds=range(seed, seed + seeds),
        images=images,
        batch_size=batch_size,
        pictures=pictures,
        surfaces=min(pictures, 1),
        skip_bad=skip_bad,
    )
    warn_of_budgets([threat], victim.bounds)
    part = name or dataset.info.name
    started, created = time.perf_counter(), datetime.now(UTC)
    total = len(tracing.chosen(dataset)) * len(attacks) * seeds
    with progress_bar(part, total, progress) as advance:
        traced = trace(victim, dataset, tracing, part, advance)
    described = described_part(
        victim,
        dataset,
        tracing.traced(),
        [threat],
        evaluated=traced.evaluated,
        skipped=traced.skipped,
        model_name=model_name,
    )
    info = StabilityInfo(
        parts={part: described},
        reference=tracing.reference,
        seeds=list(tracing.seeds),
        step_lengths={part: {label: _length(attack, threat) for label, attack in tracing.traced().items()}},
        created=created.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        device=str(victim.device),
        versions=installed_versions(),
        config=None if config is None else dict(config),
        pictures=pictures,
    )
    return Stability(traced.steps, traced.outcomes, info, traced.maps, traced.surfaces)


def _length(attack: IterativeAttack, threat: Threat) -> float:
    """Of a full step, in the unit of eps."""
    return attack.default_step_size(threat.budget()) if attack.step_size is None else attack.step_size
