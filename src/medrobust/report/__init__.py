"""What a run looks like: a table for the terminal and one self-contained HTML page."""

from medrobust.report.formats import FORMATS, format_of, write_report
from medrobust.report.numbers import format_eps
from medrobust.report.terminal import terminal_table

__all__ = ["FORMATS", "format_eps", "format_of", "terminal_table", "write_report"]
