"""What the records say and how sure it is: metrics, worst cases, paired differences, bootstrap intervals."""

from medrobust.statistics.comparison import compare_attacks
from medrobust.statistics.conditions import CLEAN, WORST_CASE
from medrobust.statistics.metrics import answer_metrics, class_name, main_metric
from medrobust.statistics.summary import SUMMARY_SCHEMA, summarise

__all__ = [
    "CLEAN",
    "SUMMARY_SCHEMA",
    "WORST_CASE",
    "answer_metrics",
    "class_name",
    "compare_attacks",
    "main_metric",
    "summarise",
]
