"""Borders, missed volume and lesions by size, from the records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic_run import frame, part_info, row, run_info

from medrobust.statistics import summarise
from medrobust.statistics.conditions import conditions_of
from medrobust.statistics.masks import size_cuts
from medrobust.statistics.metrics import metrics_of

PART = part_info("segmentation", ["background", "organ", "lesion"])
# per image: lesion volumes, covered before, covered after
LESIONS = [
    ([1.0, 4.0, 9.0], [0.5, 1.0, 1.0], [0.0, 0.6, 0.9]),
    ([], [], []),
    ([2.0, 5.0, 8.0], [0.49, 1.0, 1.0], [0.5, 0.2, 0.4]),
]


def mask_row(index: int, **values) -> dict[str, object]:
    volumes, before, after = LESIONS[index]
    given = {
        "dice_before": 0.9,
        "dice_after": 0.4,
        "iou_before": 0.8,
        "iou_after": 0.3,
        "right_before": True,
        "right_after": False,
        "success": True,
        "hd95_before": 2.0 + index,
        "hd95_after": 10.0 * (index + 1),
        "hd95_by_class_before": [1.0, math.nan],
        "hd95_by_class_after": [3.0, 10.0 * index],
        "surface_dice_before": 0.9,
        "surface_dice_after": 0.1 * index,
        "surface_dice_by_class_before": [0.8, math.nan],
        "surface_dice_by_class_after": [0.2, 0.1 * index],
        "volume_unit": "ml",
        "missed_volume_before": 1.0 * index,
        "missed_volume_after": 4.0 + index,
        "lesion_volumes_before": volumes,
        "lesion_volumes_after": volumes,
        "lesion_covered_before": before,
        "lesion_covered_after": after,
    }
    return row(index=index, **given | values)


def figures(records, part=PART) -> dict[tuple[str, str], tuple[float, int]]:
    table = summarise(records, run_info({"p": part}), resamples=50)
    return {(r["attack"], r["metric"]): (r["value"], r["n"]) for r in table.iter_rows(named=True)}


def test_by_hand():
    """Cuts of 1, 2, 4, 5, 8, 9 into thirds: up to 3.33 small, up to 6 medium."""
    found = figures(frame([mask_row(index) for index in range(3)]))
    for key, value, n in (
        (("clean", "hd95"), 3.0, 3),
        (("pgd", "hd95"), 20.0, 3),
        (("pgd", "hd95: organ"), 3.0, 3),
        (("pgd", "hd95: lesion"), 10.0, 3),
        (("clean", "surface dice: organ"), 0.8, 3),
        (("pgd", "surface dice"), 0.1, 3),
        (("clean", "missed volume (ml)"), 1.0, 3),
        (("pgd", "missed volume (ml)"), 5.0, 3),
        (("clean", "lesions found: small"), 1 / 2, 2),  # a half covered is found, 0.49 is not
        (("clean", "lesions found: medium"), 1.0, 2),
        (("clean", "lesions found: large"), 1.0, 2),
        (("pgd", "lesions found: small"), 1 / 2, 2),
        (("pgd", "lesions found: medium"), 1 / 2, 2),
        (("pgd", "lesions found: large"), 1 / 2, 2),
    ):
        assert found[key] == (pytest.approx(value), n), key
    assert ("clean", "hd95: lesion") in found
    assert found[("clean", "hd95: lesion")] == (None, 0)
    assert not [metric for _, metric in found if metric.startswith("drop of hd95")]


def test_an_image_with_many_lesions_counts_as_many():
    """The share of lesions, not the mean over images."""
    few = mask_row(
        0,
        lesion_volumes_before=[1.0],
        lesion_volumes_after=[1.0],
        lesion_covered_before=[1.0],
        lesion_covered_after=[1.0],
    )
    many = mask_row(
        1,
        lesion_volumes_before=[1.0] * 4,
        lesion_volumes_after=[1.0] * 4,
        lesion_covered_before=[0.0] * 4,
        lesion_covered_after=[0.0] * 4,
    )
    assert figures(frame([few, many]))[("clean", "lesions found: small")][0] == pytest.approx(1 / 5)


def test_where_the_spacing_is_unknown_nothing_is_told_in_millimetres():
    unknown = {f"{name}_{when}": math.nan for name in ("hd95", "surface_dice") for when in ("before", "after")}
    by_class = {
        f"{name}_by_class_{w}": [math.nan] * 2 for name in ("hd95", "surface_dice") for w in ("before", "after")
    }
    rows = [mask_row(k, volume_unit="pixels", **unknown, **by_class) for k in range(3)]
    metrics = {metric for _, metric in figures(frame(rows))}
    assert not [metric for metric in metrics if metric.startswith(("hd95", "surface"))]
    assert "missed volume (pixels)" in metrics


def test_units_are_not_mixed():
    rows = [mask_row(0), mask_row(1), mask_row(2, volume_unit="voxels", hd95_after=math.nan)]
    found = figures(frame(rows))
    assert found[("pgd", "missed volume (ml)")] == (pytest.approx(4.5), 2)
    assert found[("pgd", "missed volume (voxels)")] == (pytest.approx(6.0), 1)
    assert found[("pgd", "hd95")] == (pytest.approx(15.0), 2)
    assert not [metric for _, metric in found if metric.startswith("lesions")]


def test_sizes_are_cut_in_thirds():
    assert size_cuts(frame([mask_row(0), mask_row(2)])) == (pytest.approx(10 / 3), pytest.approx(6.0), "ml")
    assert size_cuts(frame([mask_row(1)])) is None


def test_estimate_and_statistic_are_the_same_figure():
    records = frame([mask_row(index) for index in range(3)])
    for condition in conditions_of(records, PART):
        for metric in metrics_of(condition, PART, np.arange(3), 3):
            if metric.value is not None:
                drawn = metric.statistic.draws(np.ones((3, 1), np.float32))
                assert drawn == pytest.approx([metric.value], abs=1e-5), metric.name


def test_the_report_shows_them(tmp_path):
    from medrobust.report import write_report

    part = part_info(
        "segmentation",
        ["background", "organ", "lesion"],
        victim={"bounds": [0, 1], "task_options": {"surface_tolerance": 1.5}},
        threats=[
            {
                "norm": "linf",
                "eps": 1 / 255,
                "unit": "[0, 1]",
                "region": {"classes": [2, 1], "outside": True, "margin": 2},
            }
        ],
    )
    records = frame([mask_row(index) for index in range(3)])
    write_report(records, run_info({"p": part}), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in (
        "Borders, volumes and lesions",
        "HD95 (mm)",
        "within a tolerance of 1.5 mm of the other",
        "Missed volume (ml)",
        "small: up to 3.33 ml; medium: up to 6 ml",
        "Lesions found: small",
        "Only pixels outside lesion or organ of the image’s own truth, extended by 2 pixels on all sides, may change.",
    ):
        assert words in page, words
    bare = frame([row(index=k, dice_before=0.9, dice_after=0.5, iou_before=0.8, iou_after=0.4) for k in range(3)])
    bare = bare.with_columns(right_before=True, right_after=True, success=False)
    write_report(bare, run_info({"p": part}), [], tmp_path / "bare.html")
    assert "Borders, volumes" not in (tmp_path / "bare.html").read_text()
