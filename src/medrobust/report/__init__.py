"""What a run looks like: a table for the terminal and one self-contained HTML page."""

from medrobust.report.formats import FORMATS, format_of, write_report
from medrobust.report.terminal import terminal_table
from medrobust.report.terminal_more import more_of
from medrobust.report.trust import trust_json, trust_summary

__all__ = [
    "FORMATS",
    "format_of",
    "more_of",
    "terminal_table",
    "trust_json",
    "trust_summary",
    "write_report",
]
