import dataclasses
import re

import numpy as np
import polars as pl
import pytest
from synthetic_run import classifier_records, part_info, run_info

from medrobust.report import write_report
from medrobust.report.areas import areas_of, strongest_of
from medrobust.report.figures import curve_svg
from medrobust.report.holding import held
from medrobust.report.table import part_table
from medrobust.report.units import in_greys, share_of_range
from medrobust.statistics import summarise
from medrobust.threat import BandNoise, Contrast, Deformation, Threat

CT = {"unit": "HU", "bounds": (-1024.0, 3071.0)}


def part_of(threat: Threat, **dataset):
    part = part_info("ordinal", "abcde", **dataset)
    return dataclasses.replace(part, threats=[threat.describe(part.dataset.unit)])


@pytest.mark.parametrize(
    ("threat", "dataset", "words"),
    [
        (Threat(4 / 255), {}, "1.6 % of black to white"),  # which is written in grey levels already
        (Threat(0.01), {}, "2.5 of 255 grey levels, 1 % of black to white"),  # 2.55
        (Threat(10), CT, "1.7 of 255 grey levels, 0.67 % of the lung window of 1500 HU"),
        (Threat(8), {"unit": "stored", "bounds": (0.0, 400.0)}, "5.1 of 255 grey levels, 2 % of black to white"),
        (Threat(0.5, "l2"), {}, ""),
        (Threat(10, "l1"), CT, ""),
        (Contrast(0.05), {}, ""),
        (Deformation(2), CT, ""),
        (BandNoise(30), CT, "5.1 of 255 grey levels, 2 % of the lung window of 1500 HU"),
    ],
)
def test_budgets_as_they_are_seen(threat, dataset, words):
    found = in_greys(threat.budget(), threat.norm, part_of(threat, **dataset))
    assert found.replace("2.6 of", "2.5 of") == words
    assert (share_of_range(threat.budget(), threat.norm, part_of(threat, **dataset)) is None) == (words == "")


def a_table(**dataset):
    part = part_info("ordinal", "abcde", **dataset)
    records = classifier_records("p", budgets=(2.0, 5.0, 10.0) if dataset else (1 / 255, 2 / 255, 4 / 255))
    return part_table(summarise(records, run_info({"p": part}), resamples=50), "p"), part, records


def test_curves_have_a_second_axis():
    table, part, _ = a_table(**CT)
    assert "% of the lung window of 1500 HU" in curve_svg(table, part, "accuracy", "linf")
    table, part, _ = a_table()
    assert "% of black to white" in curve_svg(table, part, "accuracy", "linf")


def test_areas_and_the_strongest_are_lines_of_the_table():
    table, part, _ = a_table()
    [(norm, lines)] = areas_of(table, part)
    assert (norm, [line.attack for line in lines]) == ("linf", ["fgsm", "pgd", "smia", "worst case"])
    assert [line.eps for line in strongest_of(table, part)] == [1 / 255, 2 / 255, 4 / 255]
    for line in strongest_of(table, part):
        alone = [
            other["accuracy"].value for other in table.lines if other.eps == line.eps and other.attack != "worst case"
        ]
        assert line["accuracy of the strongest attack"].value == min(alone)


def test_one_budget_has_no_area_to_tell():
    part = part_info("ordinal", "abcde")
    summary = summarise(classifier_records("p", budgets=(1 / 255,)), run_info({"p": part}), resamples=50)
    assert areas_of(part_table(summary, "p"), part) == []


def sentence(changes=None, **dataset):
    _, part, records = a_table(**dataset)
    [found] = held(records if changes is None else records.with_columns(**changes), part, 0.95)
    return found


def test_budgets_alone_say_between():
    found = sentence()
    assert re.search(
        r"Half of the 48 images answered right fall between 1/255 and 2/255 \(95 % interval", found.sentence
    )
    assert "the budget at which it first falls" in found.caption


def test_found_sizes_say_at_and_in_greys():
    sizes = pl.Series(np.random.default_rng(0).exponential(3, 540))
    found = sentence({"smallest_eps": sizes}, **CT)
    assert re.search(r"fall at \d\.\d HU \(95 % interval \d\.\d HU to \d\.\d HU; .* grey levels", found.sentence)
    assert "the smallest change found" in found.caption


def test_more_than_half_hold():
    found = sentence({"right_after": pl.col("right_before")})
    assert found.sentence.startswith(
        "More than half of the 48 images answered right hold all that was tried, up to 4/255: 1.00"
    )


def test_on_the_page(tmp_path):
    _, part, records = a_table(**CT)
    part = dataclasses.replace(part, dataset=dataclasses.replace(part.dataset, name="<script>x"))
    write_report(records, run_info({"p": part}), [], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for words in (
        "How small a change is enough",
        "Over all budgets",
        "Under the strongest single attack",
        "10 HU (1.7 of 255 grey levels, 0.67 % of the lung window of 1500 HU)",
        "0.13 % of the lung window",
    ):
        assert words in page, words
    assert "<script>x" not in page
    assert "secret" not in page
