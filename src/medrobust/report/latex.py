"""The table of results in LaTeX, with intervals, for the packages booktabs and graphicx."""

from __future__ import annotations

import re

from medrobust.report.budgets import budget_text
from medrobust.report.numbers import format_change, format_value, metric_heading, metric_name, plain
from medrobust.report.sections import Section
from medrobust.report.table import Cell, Line, PartTable
from medrobust.report.told import Told
from medrobust.report.wording import interval_sentence
from medrobust.statistics import TASK_TRAITS, WORST_CASE

# at most as wide as the line, and never enlarged
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
    "κ": r"$\kappa$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ANY = re.compile("|".join(map(re.escape, _SPECIAL)))


def latex_text(text: str) -> str:
    """Foreign text with everything that LaTeX would read as a command made plain."""
    return _ANY.sub(lambda found: _SPECIAL[found.group()], text)


def latex_tables(told: Told) -> str:
    """A `table` environment for each part."""
    tables = [_table(section, section.table) for section in told.sections if section.table is not None]
    return "% needs \\usepackage{booktabs,graphicx}; made by medrobust\n" + "\n".join(tables)


def _table(section: Section, table: PartTable) -> str:
    part, traits = section.part, TASK_TRAITS[section.part.task]
    columns = [*traits.metrics, f"drop of {traits.main}", "success"]
    heads = ["Attack", *(metric_heading(metric) for metric in traits.metrics)]
    heads += [f"Drop of {metric_name(traits.main)}", "Success", "L∞", "PSNR"]
    lines = [_row(table.clean, columns, part.dataset.unit)]
    for budget in table.budgets:
        at = latex_text(budget_text(budget[0].norm, budget[0].eps, part))
        lines += ["\\midrule", f"\\multicolumn{{{len(heads)}}}{{l}}{{{at}}} \\\\"]
        lines += [_row(line, columns, part.dataset.unit) for line in budget]
    caption = f"{plain(section.name)}: {_caption(table)}"
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering\\small",
            f"\\caption{{{latex_text(caption)}}}",
            _FIT,
            f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            "\\toprule",
            f"{' & '.join(map(latex_text, heads))} \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}}",
            "\\end{table}",
            "",
        ]
    )


def _caption(table: PartTable) -> str:
    """What the figures are."""
    return f"{interval_sentence(table)} Worst case: for each image the attack that does most harm."


def _row(line: Line, columns: list[str], unit: str) -> str:
    cells = [latex_text(plain(line.attack, 40)), *(_cell(line[metric]) for metric in columns)]
    cells += [latex_text(format_change(line["linf"].value, unit)), latex_text(format_value(line["psnr"].value, 1))]
    if line.attack == WORST_CASE:
        cells[0] = f"\\textbf{{{cells[0]}}}"
    return f"{{}}{' & '.join(cells)} \\\\"  # a label that begins with [ would be read as an option of the line before


def _cell(cell: Cell) -> str:
    interval = f" {{\\footnotesize {latex_text(cell.interval)}}}" if cell.interval else ""
    return latex_text(cell.text) + interval
