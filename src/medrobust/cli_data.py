"""The commands of `medrobust data`: what a data set holds, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from medrobust.console import bar, console, plain_table, say
from medrobust.errors import InputError

if TYPE_CHECKING:
    from medrobust.data.inspection import Findings, SplitFindings

app = typer.Typer(help="Look at data sets, and download some.", no_args_is_help=True, rich_markup_mode=None)

MAX_SIZES, MAX_LISTED = 4, 20


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="A file or folder; see `medrobust formats`.", show_default=False)],
    data_format: Annotated[str, typer.Option("--format", help="Format; recognised when left out.")] = "auto",
    split: Annotated[str | None, typer.Option(help="Look at this part alone.")] = None,
    task: Annotated[str | None, typer.Option(help="What the truth is, where the format leaves it open.")] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Regular expression whose one group finds the patient in an id.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images of each split.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other option of the data, e.g. ignore_index=255; may be repeated."),
    ] = None,
    show_patients: Annotated[bool, typer.Option(help="Name patients that are in several splits.")] = False,
) -> None:
    """Read a data set and tell what it holds and what is wrong: exit code 1 if an image cannot be read."""
    from medrobust.config import DataConfig, read_settings
    from medrobust.data.inspection import inspect

    choices: dict[str, Any] = {"task": task, "patient_pattern": patient_pattern, "limit": limit}
    further = {name.removeprefix("data."): value for name, value in read_settings(settings or ()).items()}
    fields = {"path": path, "format": data_format, **choices, **further}
    options = DataConfig.model_validate(fields).options(skip_bad=False)
    with bar() as advance:
        findings = inspect(path, options, split=split, on_progress=advance)
    _show(findings, show_patients)
    if findings.unreadable:
        raise typer.Exit(1)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A MedMNIST set (retinamnist), or a URL.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the file.")] = Path(),
    size: Annotated[int, typer.Option(help="Side of the images of a MedMNIST set: 28, 64, 128 or 224.")] = 28,
    sha256: Annotated[str | None, typer.Option(help="What the file of a URL must come to.")] = None,
) -> None:
    """Download a data set: goes on where it was cut off, and keeps nothing that is not what it should be."""
    from medrobust.data.download import Source, download, medmnist_source

    if "://" in name:
        if sha256 is None:
            raise InputError("give --sha256 with a URL: without it nobody can tell whether the right file came")
        source = Source(name, sha256)
    elif sha256 is not None:
        raise InputError(f"--sha256 is for a URL, and {name!r} is the name of a set; leave it out")
    else:
        source = medmnist_source(name, size)
    with bar() as advance:
        path = download(source, out, lambda done, total: advance(source.name, done, total))
    say(f"{path}: {source.algorithm.upper()} {source.digest} is right")


def _show(findings: Findings, show_patients: bool) -> None:
    output = console(markup=False)
    facts = plain_table("", "")
    for label, text in _facts(findings):
        facts.add_row(label, text)
    output.print(facts)
    for split in findings.splits:
        output.print(f"\n{split.name}: {_counted(split.images, 'image')}{_patients(split)}")
        if split.images:
            output.print(f"sizes {_sizes(split)}; values {split.low:.6g} to {split.high:.6g}, {_named(split.depths)}")
            output.print(_class_table(findings, split))
    for note in findings.notes:
        say(f"note: {note}")
    shared = list(findings.shared_patients.items())
    for patient, splits in _first(shared) if show_patients else ():
        say(f"warning: patient {patient!r} is in several splits: {', '.join(splits)}")
    if shared and not show_patients:
        say(f"warning: {_counted(len(shared), 'patient')} in several splits; --show-patients names them")
    for places in _first(findings.duplicates):
        say(f"warning: the same image several times: {', '.join(places)}")
    for fault in findings.unreadable:
        say(f"unreadable: {fault}")


def _facts(findings: Findings) -> list[tuple[str, str]]:
    shared, twice = len(findings.shared_patients), len(findings.duplicates)
    return [
        ("source", findings.source),
        ("format", findings.format),
        ("task", f"{findings.task}, {len(findings.classes)} classes"),
        ("images", f"{findings.images} read, {len(findings.unreadable)} unreadable"),
        ("channels", f"{findings.channels}, {findings.spatial_dims}-D"),
        ("unit", findings.unit),
        ("leaks", f"patients in several splits: {shared}; images there more than once: {twice}"),
    ]


def _class_table(findings: Findings, split: SplitFindings) -> Table:
    columns = {"detection": ("images", "objects"), "segmentation": ("images", "share of pixels")}
    table = plain_table("class", *columns.get(findings.task, ("images",)))
    absent = [name for name, count in split.classes.items() if not count.images]
    for name, count in split.classes.items():
        if not count.images and len(absent) > MAX_SIZES:
            continue
        cells = [str(count.images)]
        if count.objects is not None:
            cells.append(str(count.objects))
        if count.pixels is not None:
            cells.append(f"{count.pixels:.3%}")
        table.add_row(name, *cells)
    if len(absent) > MAX_SIZES:
        table.add_row(f"{len(absent)} others", "0")
    return table


def _sizes(split: SplitFindings) -> str:
    from medrobust.data.inspection import middle_size

    if len(split.sizes) <= MAX_SIZES:
        return _named({_size(size): count for size, count in split.sizes.items()})
    smallest, median, largest = middle_size(split.sizes)
    return f"{_size(smallest)} to {_size(largest)}, median {_size(median)} ({len(split.sizes)} different)"


def _size(size: tuple[int, ...]) -> str:
    return " × ".join(map(str, size))


def _named(counts: Any) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _patients(split: SplitFindings) -> str:
    if not split.patients:
        return ", patients unknown"
    unknown = f", {split.without_patient} images without" if split.without_patient else ""
    return f", {_counted(split.patients, 'patient')}{unknown}"


def _first(items: Any) -> list[Any]:
    return list(items)[:MAX_LISTED]


def _counted(number: int, noun: str) -> str:
    from medrobust.report.numbers import counted  # here: the report's room is slow to import

    return counted(number, noun)
