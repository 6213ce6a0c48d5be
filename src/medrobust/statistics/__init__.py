"""What the records say and how sure it is: metrics, worst cases, paired differences, bootstrap intervals."""

from medrobust.evaluation.records import CLEAN, WORST_CASE
from medrobust.statistics.calibration import CALIBRATION_SCHEMA, RELIABILITY_SCHEMA, calibration, reliability
from medrobust.statistics.comparison import LEAST_CLUSTERS, SIGNIFICANCE, compare_attacks
from medrobust.statistics.confusion import CONFUSION_SCHEMA, confusion
from medrobust.statistics.detection_metrics import Judgement, judgement
from medrobust.statistics.harm import HARM_SCHEMA, harm
from medrobust.statistics.metric import class_name
from medrobust.statistics.metrics import known_labels
from medrobust.statistics.sample_size import SAMPLE_SIZE_SCHEMA, sample_size
from medrobust.statistics.subgroups import SUBGROUP_SCHEMA, subgroups
from medrobust.statistics.summary import SUMMARY_SCHEMA, summarise
from medrobust.statistics.tables import Tables
from medrobust.statistics.task_traits import TASK_TRAITS, TaskTraits, answer_metrics, main_metric
from medrobust.statistics.trust import trust_checks, trust_line
from medrobust.statistics.trust_rules import Check

__all__ = [
    "CALIBRATION_SCHEMA",
    "CLEAN",
    "CONFUSION_SCHEMA",
    "HARM_SCHEMA",
    "LEAST_CLUSTERS",
    "RELIABILITY_SCHEMA",
    "SAMPLE_SIZE_SCHEMA",
    "SIGNIFICANCE",
    "SUBGROUP_SCHEMA",
    "SUMMARY_SCHEMA",
    "TASK_TRAITS",
    "WORST_CASE",
    "Check",
    "Judgement",
    "Tables",
    "TaskTraits",
    "answer_metrics",
    "calibration",
    "class_name",
    "compare_attacks",
    "confusion",
    "harm",
    "judgement",
    "known_labels",
    "main_metric",
    "reliability",
    "sample_size",
    "subgroups",
    "summarise",
    "trust_checks",
    "trust_line",
]
