"""The report in Markdown, with its figures beside it, and a section for a model card."""

from __future__ import annotations

from typing import Literal

from medrobust.report.environment import templates
from medrobust.report.figures import curve_file
from medrobust.report.sections import Section
from medrobust.report.told import Told

_KINDS: tuple[Literal["png", "svg"], ...] = ("png", "svg")


def markdown_files(told: Told) -> dict[str, bytes]:
    """The text, under "", and each figure as PNG and SVG."""
    told = told.without_images
    text = (
        templates()
        .get_template("report.md.j2")
        .render(info=told.info, sections=told.sections, evidence=told.evidence, config=told.config, figure_name=_name)
    )
    files = {"": tidy(text)}
    for section in told.sections:
        for number, figure in enumerate(section.figures, 1):
            assert section.table is not None  # where there are figures there is a table
            for kind in _KINDS:
                content = curve_file(section.table, section.part, figure.metric, figure.norm, kind)
                files[f"{_name(section, number)}.{kind}"] = content
    return files


def model_card(told: Told) -> dict[str, bytes]:
    """A section "Adversarial robustness" to put into a model card."""
    told = told.without_images
    text = templates().get_template("model_card.md.j2").render(info=told.info, sections=told.sections)
    return {"": tidy(text)}


def _name(section: Section, number: int) -> str:
    """Where a figure's files are, less their suffix; a number, as no foreign name should become a path."""
    return f"figures/{section.anchor}-{number}"


def tidy(text: str) -> bytes:
    """Never two empty lines in a row, none at the ends."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() or (lines and lines[-1].strip()):
            lines.append(line.rstrip())
    return ("\n".join(lines).strip() + "\n").encode()
