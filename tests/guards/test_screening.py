"""What is measured of screens: thresholds, figures from the scores, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from watched import Rim, brightness, flat_data

import medrobust as mr
from medrobust.errors import InputError
from medrobust.guards.screening import _threshold

CLEAN = np.linspace(0.3, 0.44, 29).round(4).tolist()
LEVELS = [0.45, 0.43, 0.4, 0.36, 0.2, 0.33, 0.47, 0.38, 0.62, 0.8]


@pytest.fixture(scope="module")
def found() -> mr.Screened:
    return mr.screen(
        brightness(),
        flat_data(LEVELS),
        {"rim": Rim()},
        {"pgd": mr.PGD(steps=5), "fgsm": mr.FGSM()},
        [mr.Threat(0.1), mr.Threat(0.12)],
        calibration=flat_data(CLEAN, first=100),
        adaptive={"pgd": mr.PGD(steps=20)},
        batch_size=3,
    )


def test_the_threshold_is_a_rank_of_the_clean_scores():
    """Of 29 scores, rank ⌈0.95·30⌉ = 29; of 39 with a tenth, ⌈0.9·40⌉ = 36."""
    scores = np.random.default_rng(0).permutation(39).astype(float)
    assert _threshold(scores[:29], 0.05)[0] == scores[:29].max()
    assert _threshold(scores, 0.1)[0] == 35
    assert _threshold(scores[:19], 0.05)[0] == scores[:19].max()
    with pytest.raises(InputError, match=r"18 clean images cannot set a threshold of 0.05 .*: at least 19"):
        _threshold(scores[:18], 0.05)
    with pytest.raises(InputError, match="NaN"):
        _threshold(np.array([1.0, np.nan] * 20), 0.05)


def test_a_further_clean_image_is_above_the_threshold_as_seldom_as_was_asked():
    rng, above = np.random.default_rng(1), 0
    for _ in range(4000):
        scores = rng.standard_t(3, 41)
        above += scores[-1] > _threshold(scores[:-1], 0.1)[0]
    assert stats.binomtest(above, 4000, 0.1, alternative="greater").pvalue > 0.01
    assert above > 0.05 * 4000


def test_the_worst_case_is_what_those_do_who_know(found):
    """Within 0.1 four of four rows would do; three of four without alarm move the mean of 0.43 on to 0.505."""
    value = dict(
        found.figures.filter(eps=0.1)
        .select("attack", "metric", "value")
        .filter(metric="unnoticed")
        .rows_by_key("attack", unique=True)
    )
    assert {name: row[1] for name, row in value.items()} == pytest.approx(
        {"pgd": 0.0, "fgsm": 0.0, "pgd that knows rim": 0.3, "worst case": 0.3}
    )


def test_every_figure_is_that_of_the_scores(found):
    assert len(found.scores) == len(LEVELS) * 2 * 3
    assert found.info.thresholds == {"rim": pytest.approx(0.44)}
    for key, rows in found.scores.group_by("attack", "eps"):
        of = dict(found.figures.filter(attack=key[0], eps=key[1]).select("metric", "value").iter_rows())
        fooled = rows.filter("fooled")
        assert of["fooled"] == pytest.approx(len(fooled) / len(rows))
        assert of["detected"] == pytest.approx((fooled["attacked"] > found.info.thresholds["rim"]).mean())
        assert of["unnoticed"] == pytest.approx(len(fooled.filter(~pl.col("alarm"))) / len(rows))
        scores = np.concatenate([rows["clean"], fooled["attacked"]])
        assert of["AUROC"] == pytest.approx(roc_auc_score(np.repeat([0, 1], [len(rows), len(fooled)]), scores))
    alarms = found.figures.filter(metric="false alarms")
    assert alarms["value"].to_list() == [np.mean(np.array(LEVELS) > 0.44)]
    assert set(found.figures["resampled"]) == {"patients"}
    assert found.scores["patient"].n_unique() == 5
    assert not found.scores["patient"].is_in(["p0", "p1"]).any()


def test_the_summary_says_what_a_figure_that_does_not_know_is_worth(found):
    lines = found.summary().splitlines()
    assert "set on 29 others" in lines[0]
    assert any("pgd that knows rim, linf ≤ 0.1: fooled" in line and "unnoticed 0.30" in line for line in lines)
    assert "worth nothing on its own: whoever attacks will know it" in lines[-1]


def test_the_result_does_not_depend_on_the_batch_and_is_written_whole(found, tmp_path):
    again = mr.screen(
        brightness(),
        flat_data(LEVELS),
        {"rim": Rim()},
        {"pgd": mr.PGD(steps=5), "fgsm": mr.FGSM()},
        [mr.Threat(0.1), mr.Threat(0.12)],
        calibration=flat_data(CLEAN, first=100),
        adaptive={"pgd": mr.PGD(steps=20)},
        batch_size=10,
    )
    order = ["index", "attack", "eps"]
    assert again.scores.sort(order).equals(found.scores.sort(order))
    found.save(tmp_path / "screened")
    assert pl.read_parquet(tmp_path / "screened/scores.parquet").equals(found.scores)
    told = json.loads((tmp_path / "screened/screened.json").read_text())
    assert told["screens"] == {"rim": {"screen": "rim"}}
    assert told["described"]["attacks"]["pgd that knows rim"]["attack"] == "PGD that knows the screen"
    assert len(pl.read_csv(tmp_path / "screened/figures.csv")) == len(found.figures)


def test_thresholds_are_set_on_half_of_the_patients_where_no_clean_images_are_given():
    data = flat_data(np.linspace(0.2, 0.45, 80).tolist())
    found = mr.screen(brightness(), data, {"rim": Rim()}, {"pgd": mr.PGD(steps=2)}, [mr.Threat(0.1)])
    assert found.info.calibration_images + found.scores["index"].n_unique() == 80
    assert 25 < found.info.calibration_images < 55


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threats": []}, "give at least one attack and one budget"),
        ({"screens": {}}, "at least one screen, and an attack that is told of it"),
        ({"adaptive": {}}, "at least one screen, and an attack that is told of it"),
        ({"adaptive": {"square": mr.Square()}}, "only untargeted attacks in the loop"),
        ({"false_positives": 1.0}, "false_positives must be between 0 and 1"),
        ({"calibration": flat_data(CLEAN)}, "5 patients are in both the calibration and the attacked images"),
        ({"calibration": flat_data(CLEAN[:9], first=100)}, "9 clean images cannot set a threshold"),
    ],
)
def test_what_cannot_be_measured_is_told(options, told):
    usual = {"screens": {"rim": Rim()}, "threats": [mr.Threat(0.1)], "calibration": flat_data(CLEAN, first=100)}
    with pytest.raises(InputError, match=told):
        mr.screen(brightness(), flat_data(LEVELS), **{**usual, **options})
