"""What a run looks like: a table for the terminal and one self-contained HTML page."""

from medrobust.report.html import write_report
from medrobust.report.numbers import format_eps
from medrobust.report.terminal import terminal_table
from medrobust.report.trust import trust_json, trust_summary

__all__ = ["format_eps", "terminal_table", "trust_json", "trust_summary", "write_report"]
