"""The page of two runs: what it shows, and that a model which hides its gradients is told there and in the terminal."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import broken_models as broken
import polars as pl
import pytest
from broken_models import USUAL
from synthetic_run import classifier_records, part_info, run_info

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.report.run_trust import trust_comparison
from medrobust.statistics import Check

HOSTILE = "<script>alert(1)</script>"
PART = part_info("ordinal", "abcde")


def a_run(records: pl.DataFrame, name: str = "grades", **changes) -> mr.Run:
    part = part_info("ordinal", "abcde", **changes)
    return mr.Run(records.with_columns(part=pl.lit(name)), run_info({name: part}))


def held(records: pl.DataFrame) -> pl.DataFrame:
    """As if no attack did anything."""
    return records.with_columns(
        right_after="right_before", prediction_after="prediction_before", scores_after="scores_before"
    )


class Text(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page() -> str:
    records = classifier_records(attacks=("fgsm", "pgd"))
    return mr.compare(a_run(records), a_run(held(records)), names=("before", HOSTILE), resamples=100).html()


def test_it_shows_sentences_curves_tables_and_checks(page):
    text = str(Text(page))
    assert "Accuracy in the worst case at L∞ ≤ 4/255: 0.00 in before, 0.80 in" in text
    figures = re.findall(r"<figcaption>(.*?)\.", page)
    assert figures == [
        f"{metric} in the worst case against eps (L∞)" for metric in ("Accuracy", "AUROC", "Quadratic-weighted kappa")
    ]
    assert page.count('class="interval"') > 0
    assert "The answer depends on the image" in text
    assert "Paired on 60 images of 20 patients." in text


def test_it_needs_nothing_and_foreign_names_are_inert(page):
    found = Text(page)
    assert not [tag for tag, _ in found.tags if tag in ("script", "iframe", "object", "img")]
    links = [str(attrs.get(key)) for _, attrs in found.tags for key in ("src", "href")]
    assert not [link for link in links if link.startswith("http")]
    assert "default-src 'none'" in page
    assert HOSTILE in str(found)  # as text
    assert "secret" not in page
    assert re.search(r"url\((?!#)", page) is None


def test_a_single_budget_has_no_curve():
    records = classifier_records(budgets=(1 / 255,))
    assert "<figure" not in mr.compare(a_run(records), a_run(held(records)), resamples=50).html()


def check(key: str, verdict: str) -> Check:
    return Check(key, f"title of {key}", verdict, 0.5, "at least 1", f"Found at {key}.")


def test_what_fails_in_one_run_and_not_in_the_other_stands_first():
    first = {"both": "fail", "neither": "pass", "second": "pass", "warns": "warn", "none": "not applicable"}
    first["first"] = "fail"
    second = {**first, "second": "fail", "warns": "pass", "first": "pass"}
    checks = tuple([check(key, verdict) for key, verdict in one.items()] for one in (first, second))
    titles = [row.title.removeprefix("title of ") for row in trust_comparison(checks, ("A", "B")).rows]
    assert titles == ["second", "first", "both", "warns", "neither", "none"]


def test_what_a_failing_check_means():
    """Hidden gradients are named where they are, and not where the wrong model was loaded."""
    told = trust_comparison(([check("stated", "fail")], [check("noise", "fail"), check("steps", "pass")]), ("A", "B"))
    assert told.failed == [
        "A fails 1 check of trust (stated): its figures should not be trusted as they are. Found at stated.",
        "B fails 1 check of trust (noise): it may hide its gradients instead of holding, and its figures under attack "
        "are then too good. Found at noise.",
    ]
    assert not trust_comparison(([check("stated", "pass")],) * 2, ("A", "B")).failed


def test_a_model_that_hides_its_gradients_is_told_everywhere(trained):
    """Logits a thousand times too large around an honest network: accuracy under attack rises, and nothing holds."""
    victim, images, truth = trained
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), 1)
    data = InMemoryDataset(info, [Sample(f"s{k}", *pair) for k, pair in enumerate(zip(images, truth, strict=True))])
    runs = [
        mr.evaluate(mr.Victim(model, victim.task), data, USUAL, [mr.Threat(eps=8 / 255)], probes=8, gallery=0)
        for model in (victim.model, broken.Saturated(victim.model))
    ]
    compared = mr.compare(*runs, names=("before", "after"), resamples=100)
    worst = compared.table.filter(attack="worst case", metric="accuracy").row(0, named=True)
    assert worst["difference"] > 0.2  # it looks hardened
    for told in (" ".join(repr(compared).split()), str(Text(compared.html())), compared.markdown()):
        assert "it may hide its gradients instead of holding" in told
        assert re.search(r"after fails \d checks of trust \(gradients", told)
        assert "before fails" not in told
    table = compared.html().partition("Can the figures be trusted?")[2]
    first = Text(table.partition("<tbody>")[2].partition("</tr>")[0])
    assert "✓ pass" in str(first)
    assert "✗ fail" in str(first)
