"""The main job in Python: evaluate a model, and hold what came of it."""

from __future__ import annotations

import io
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import polars as pl
from rich.console import Console, Group, RenderableType

from medrobust._version import __version__
from medrobust.attacks import PGD, SMIA, Attack
from medrobust.attacks.transfer import with_surrogates
from medrobust.checks import at_least
from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.evaluation import (
    SCHEMA,
    Aftercheck,
    Campaign,
    GalleryImage,
    Measured,
    PartInfo,
    RunInfo,
    StoredRun,
    aftercheck_part,
    measure,
    own_parts,
    read_run,
    save_run,
)
from medrobust.evaluation.cautions import cautions, of_defences, of_ensembles, warn_of_budgets
from medrobust.evaluation.describing import described_part, model_fields
from medrobust.evaluation.probing import probe
from medrobust.evaluation.storage import write_whole
from medrobust.progress import Listen, progress_bar
from medrobust.report import more_of, terminal_table, trust_json, trust_summary, write_report
from medrobust.statistics import Check, Tables, summarise, trust_checks
from medrobust.threat import Threat
from medrobust.transforms import NON_ADAPTIVE
from medrobust.victim import Victim

REPORT, TRUST = "report.html", "trust.json"


class Table:
    """A table that shows itself: in a terminal, in `print`, at the Python prompt."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich__(self) -> RenderableType:
        return self._content

    def __repr__(self) -> str:
        console = Console(file=io.StringIO(), width=120, color_system=None)
        console.print(self._content)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text.rstrip()


class Run:
    """What came of an evaluation. Everything it tells is computed from its records; it holds no model.

    Attributes:
        records: one row per image × attack × budget; the columns are described in `docs/records.md`.
        info: what was evaluated, with versions, seed and fingerprints.
        gallery: images kept for looking at.
    """

    def __init__(self, records: pl.DataFrame, info: RunInfo, gallery: Sequence[GalleryImage] = ()) -> None:
        self.records = records
        self.info = info
        self.gallery = list(gallery)

    @cached_property
    def summary(self) -> pl.DataFrame:
        """Every metric of every attack and budget with its 95 % interval, as a long table."""
        return summarise(self.records, self.info)

    @cached_property
    def tables(self) -> Tables:
        """The tables beside the summary; each is computed when it is first asked for."""
        return Tables(self.records, self.info)

    @property
    def subgroups(self) -> pl.DataFrame:
        """The main metric in each group of the columns that the run names, and the gaps; see `statistics.subgroups`."""
        return self.tables.subgroups

    @property
    def confusion(self) -> pl.DataFrame:
        """Which class turns into which, as `medrobust.statistics.confusion` tells it."""
        return self.tables.confusion

    @property
    def harm(self) -> pl.DataFrame:
        """What the answers cost, of tasks with costs, as `medrobust.statistics.harm` tells it."""
        return self.tables.harm

    @property
    def calibration(self) -> pl.DataFrame:
        """How sure the model is of its answers, and how far it should be; see `medrobust.statistics.calibration`."""
        return self.tables.calibration

    @property
    def sample_size(self) -> pl.DataFrame:
        """How many images an interval of ± 2 points needs, as `medrobust.statistics.sample_size` tells it."""
        return self.tables.sample_size

    @cached_property
    def trust(self) -> dict[str, list[Check]]:
        """Can the figures be trusted? For each part (afterchecks are none) its checks, see `docs/trust.md`."""
        parts = own_parts(self.info.parts)
        return {name: trust_checks(self.records, self.summary, name, part) for name, part in parts.items()}

    def table(self) -> Table:
        """The summary as a person reads it, and what the checks of trust say."""
        more = more_of(self.subgroups, self.harm, self.sample_size, self.info)
        return Table(Group(terminal_table(self.summary, self.info, more), trust_summary(self.trust)))

    def report(self, path: str | Path, format: str | None = None) -> None:  # noqa: A002
        """Write the report: as HTML, or as the suffix (.md, .tex, .json, .csv) or `format` says ("model-card", too).

        Raises:
            InputError: there is no such format, or the file cannot be written.
        """
        whole = (self.records, self.info, self.gallery, Path(path))
        write_report(*whole, summary=self.summary, tables=self.tables, format=format)

    def save(self, folder: str | Path) -> None:
        """Write records, info, gallery, report and `trust.json` to a new folder, whole or not at all.

        Raises:
            InputError: the folder is not empty, or cannot be written.
        """
        stored = StoredRun(self.records, self.info, self.gallery)

        def write_more(unfinished: Path) -> None:
            self.report(unfinished / REPORT)
            write_whole(unfinished / TRUST, trust_json(self.trust).encode())

        save_run(stored, Path(folder), write_more)

    def joined(self, other: Run) -> Run:
        """This run with the parts of another of the same seed; their time is added up.

        Raises:
            InputError: both have a part of the same name, or the seeds differ.
        """
        for name in self.info.parts.keys() & other.info.parts.keys():
            raise InputError(f"both runs have a part {name!r}: give one of them another name")
        if self.info.seed != other.info.seed:
            raise InputError(f"the runs have different seeds, {self.info.seed} and {other.info.seed}")
        info = replace(
            self.info,
            parts=self.info.parts | other.info.parts,
            seconds=self.info.seconds + other.info.seconds,
        )
        return Run(pl.concat([self.records, other.records]), info, self.gallery + other.gallery)


def load_run(folder: str | Path) -> Run:
    """Read a run that was saved.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    stored = read_run(Path(folder))
    return Run(stored.records, stored.info, stored.gallery)


def evaluate(
    victim: Victim,
    dataset: Dataset,
    attacks: Mapping[str, Attack] | None = None,
    threats: Sequence[Threat] = (),
    *,
    seed: int = 0,
    batch_size: int = 16,
    gallery: int = 6,
    skip_bad: bool = False,
    name: str | None = None,
    model_name: str | None = None,
    config: Mapping[str, object] | None = None,
    progress: bool = False,
    listen: Listen | None = None,
    afterchecks: Sequence[Aftercheck] = (),
    surrogates: Mapping[str, Victim] | None = None,
    probes: int = 0,
    expect: float | None = None,
) -> Run:
    """Attack every image of a data set by every attack at every budget, and measure what is left.

    Args:
        victim: the model, in data units; its bounds must hold the data.
        dataset: labelled images; `InMemoryDataset` makes one of a user's own tensors.
        attacks: label → attack; PGD and SMIA when not given.
        threats: the budgets, at least one.
        seed: of all randomness; an image's result depends on it and the image's id alone.
        batch_size: images attacked together; the results do not depend on it.
        gallery: how many images to keep for the report.
        skip_bad: leave out images that cannot be read, and list them, instead of stopping.
        name: of this part of a run; the data set's when not given.
        model_name: for the report; the class of the model when not given.
        config: for `run.json`, e.g. the file that the run was started from.
        progress: show a progress bar on standard error.
        listen: hears what is being done, and how many records of how many are.
        afterchecks: how the attacked images are measured once more, each as a part of its own, `<name>, <check>`:
            `medrobust.evaluation.SURVIVAL` (saved, compressed, smoothed, resampled), `another_model` (transfer).
        surrogates: name → another model; every attack is also made on each of them and shown to the victim, `pgd via
            <name>`. A victim without gradients is then attacked by those and by the attacks that need none.
        probes: how many images are probed afterwards for `Run.trust`: can the figures be trusted? 16 tell enough.
        expect: what the main metric on clean images is known to be; `Run.trust` says whether it is.

    Raises:
        InputError: data, victim, attacks and budgets do not fit each other.

    Warns:
        MedrobustWarning: a budget lets every pixel take any value; told before anything is attacked, and in the report.
    """
    if attacks is None:
        attacks = {"pgd": PGD(), "smia": SMIA()}
    if surrogates:
        attacks = with_surrogates(attacks, surrogates, victim)
    campaign = Campaign(attacks, threats, seed, batch_size, gallery, skip_bad, afterchecks)
    at_least("probes", probes, 0)
    warn_of_budgets(threats, victim.bounds)
    part = name or dataset.info.name
    started, created = time.perf_counter(), datetime.now(UTC)
    with progress_bar(part, len(dataset) * campaign.cells, progress, listen) as advance:
        measured = measure(victim, dataset, campaign, part, advance, advance.stage)
        advance.stage(f"probing {part}")
        of_part = [row for row in measured.rows if row["part"] == part]
        probed = probe(victim, dataset, campaign, of_part, probes) if probes else None
    described = _describe(victim, dataset, campaign, measured, part, model_name)
    checked = {aftercheck_part(part, check): _describe_check(described, check) for check in afterchecks}
    described = replace(described, probes=probed, expected=expect)
    info = RunInfo(
        parts={part: described, **checked},
        seed=seed,
        created=created.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started,
        device=str(victim.device),
        versions=installed_versions(),
        config=None if config is None else dict(config),
    )
    records = pl.DataFrame(measured.rows, schema=SCHEMA, strict=False)
    return Run(records, info, measured.gallery)


def _describe(
    victim: Victim, dataset: Dataset, campaign: Campaign, measured: Measured, part: str, model_name: str | None
) -> PartInfo:
    rows = [row for row in measured.rows if row["part"] == part]
    told = [*cautions(rows, dataset.info.classes, campaign.threats, victim.bounds, measured.probabilities)]
    told += of_ensembles(campaign.attacks, victim, campaign.threats)
    told += of_defences(campaign.attacks, victim)
    if measured.halved_to is not None:
        told.append(
            f"The batch was halved to {measured.halved_to} when memory ran out; the results do not depend on it."
        )
    return described_part(
        victim,
        dataset,
        campaign.attacks,
        campaign.threats,
        evaluated=measured.evaluated,
        skipped=measured.skipped,
        model_name=model_name,
        notes=told,
    )


def _describe_check(part: PartInfo, check: Aftercheck) -> PartInfo:
    """The part of an aftercheck: the same images and attacks, looked at in another way."""
    if check.victim is None:
        note = f"Clean and attacked images went through this before the model saw them: {check.name}. "
        return replace(part, dataset=replace(part.dataset, notes=(note + "The attacks did not know.", NON_ADAPTIVE)))
    note = f"The images were made to fool {part.model}, and are shown here to {check.name}."
    dataset = replace(part.dataset, notes=(note,))
    return replace(part, dataset=dataset, **model_fields(check.victim, check.name))


def installed_versions(*more: str) -> dict[str, str]:
    """Versions of this package, Python, the packages that figures may depend on, and `more`."""
    packages = ("torch", "torchvision", "timm", "torchmetrics", "numpy", "polars", *more)
    found = {"medrobust": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
