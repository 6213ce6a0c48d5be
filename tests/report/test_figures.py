import xml.etree.ElementTree as ET

import pytest
from synthetic_run import classifier_records, part_info, run_info

from medrobust.report.figures import curve_description, curve_svg
from medrobust.report.table import part_table
from medrobust.statistics import summarise

HOSTILE = "<script>alert('$x^2$')</script> $\\frac{a}{b"


def table_of(records, part):
    return part_table(summarise(records, run_info({"p": part}), resamples=50), "p")


@pytest.fixture(scope="module")
def drawn():
    part = part_info("ordinal", "abcde")
    return table_of(classifier_records("p"), part), part


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_figure_has_the_same_bytes(drawn):
    assert curve_svg(*drawn, "accuracy", "linf") == curve_svg(*drawn, "accuracy", "linf")


def test_lines_are_labelled_and_budgets_ticked(drawn):
    found = texts(curve_svg(*drawn, "accuracy", "linf"))
    for text in ("fgsm", "pgd", "smia", "worst case", "clean", "1/255", "4/255", "eps (L∞)"):
        assert text in found


def test_colours_come_from_the_page_and_nothing_from_outside(drawn):
    svg = curve_svg(*drawn, "AUROC", "linf")
    assert "currentColor" in svg
    assert "var(--series-0" in svg
    assert "#ffffff" not in svg
    assert "metadata" not in svg
    assert 'href="http' not in svg.replace('xlink:href="#', "")
    assert "<g id" not in svg


def test_two_figures_share_no_id(drawn):
    def ids(metric):
        return {node.get("id") for node in ET.fromstring(curve_svg(*drawn, metric, "linf")).iter()} - {None}

    assert not ids("accuracy") & ids("AUROC")


def test_hostile_labels_are_text():
    part = part_info("ordinal", "abcde", name=HOSTILE)
    table = table_of(classifier_records("p", attacks=(HOSTILE, "$x$")), part)
    svg = curve_svg(table, part, "accuracy", "linf")
    assert "<script" not in svg
    found = texts(svg)
    assert "$x$" in found
    assert any(text.startswith("<script>alert('$x") for text in found)


def test_many_attacks_and_budgets_are_drawn():
    part = part_info("ordinal", "abcde")
    budgets = [k / 255 for k in (1, 2, 3, 4, 8, 16)]
    table = table_of(classifier_records("p", attacks=[f"a{k}" for k in range(20)], budgets=budgets), part)
    found = texts(curve_svg(table, part, "quadratic-weighted kappa", "linf"))
    assert {f"a{k}" for k in range(20)} <= set(found)
    assert "1/255" not in found  # it would run into its neighbours
    assert "16/255" in found


def test_the_description_holds_the_numbers(drawn):
    text = curve_description(*drawn, "accuracy", "linf")
    assert "Clean 0.80 [" in text
    assert "at eps 4/255: fgsm 0.15 [" in text
