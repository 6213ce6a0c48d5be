"""What the records say and how sure it is: metrics, worst cases, paired differences, bootstrap intervals."""

from medrobust.evaluation.records import CLEAN, WORST_CASE
from medrobust.statistics.comparison import LEAST_CLUSTERS, SIGNIFICANCE, compare_attacks
from medrobust.statistics.detection_metrics import Judgement, judgement
from medrobust.statistics.metric import class_name
from medrobust.statistics.metrics import known_labels
from medrobust.statistics.summary import SUMMARY_SCHEMA, summarise
from medrobust.statistics.task_traits import TASK_TRAITS, TaskTraits, answer_metrics, main_metric
from medrobust.statistics.trust import trust_checks, trust_line
from medrobust.statistics.trust_rules import Check

__all__ = [
    "CLEAN",
    "LEAST_CLUSTERS",
    "SIGNIFICANCE",
    "SUMMARY_SCHEMA",
    "TASK_TRAITS",
    "WORST_CASE",
    "Check",
    "Judgement",
    "TaskTraits",
    "answer_metrics",
    "class_name",
    "compare_attacks",
    "judgement",
    "known_labels",
    "main_metric",
    "summarise",
    "trust_checks",
    "trust_line",
]
