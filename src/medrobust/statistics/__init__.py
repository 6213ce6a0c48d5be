"""What the records say and how sure it is: metrics, worst cases, paired differences, bootstrap intervals."""

from medrobust.evaluation.records import CLEAN, WORST_CASE
from medrobust.statistics.comparison import LEAST_CLUSTERS, SIGNIFICANCE, compare_attacks
from medrobust.statistics.metrics import answer_metrics, class_name, known_labels, main_metric
from medrobust.statistics.summary import SUMMARY_SCHEMA, summarise

__all__ = [
    "CLEAN",
    "LEAST_CLUSTERS",
    "SIGNIFICANCE",
    "SUMMARY_SCHEMA",
    "WORST_CASE",
    "answer_metrics",
    "class_name",
    "compare_attacks",
    "known_labels",
    "main_metric",
    "summarise",
]
