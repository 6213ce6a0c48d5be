"""Evaluation: from data set, attacks and budgets to records, and records on disk."""

from medrobust.evaluation.afterchecks import (
    SURVIVAL,
    Aftercheck,
    aftercheck_part,
    afterchecks_of,
    another_model,
    own_parts,
)
from medrobust.evaluation.columns import hash_patient
from medrobust.evaluation.export import export_adversarial
from medrobust.evaluation.measure import Campaign, Measured, measure
from medrobust.evaluation.records import (
    SCHEMA,
    SCHEMA_VERSION,
    GalleryAttack,
    GalleryImage,
    PartInfo,
    RunInfo,
    Skipped,
)
from medrobust.evaluation.storage import StoredRun, check_output_folder, read_run, save_run

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "SURVIVAL",
    "Aftercheck",
    "Campaign",
    "GalleryAttack",
    "GalleryImage",
    "Measured",
    "PartInfo",
    "RunInfo",
    "Skipped",
    "StoredRun",
    "aftercheck_part",
    "afterchecks_of",
    "another_model",
    "check_output_folder",
    "export_adversarial",
    "hash_patient",
    "measure",
    "own_parts",
    "read_run",
    "save_run",
]
