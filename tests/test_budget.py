"""How a budget is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrobust.budget import Budget
from medrobust.errors import InputError


@pytest.mark.parametrize(
    ("text", "eps", "unit"),
    [
        ("4/255", 4 / 255, None),
        (" 4 / 255 ", 4 / 255, None),
        ("0.01", 0.01, None),
        (".5", 0.5, None),
        ("1e-3", 1e-3, None),
        ("0", 0.0, None),
        ("10HU", 10.0, "HU"),
        ("2.5 hu", 2.5, "HU"),
        ("5%", 0.05, "%"),
        ("0.5 %", 0.005, "%"),
        ("1/3%", 1 / 300, "%"),
        ("2px", 2.0, "pixels"),
        ("1 pixel", 1.0, "pixels"),
        ("2.5 Pixels", 2.5, "pixels"),
        ("2 voxels", 2.0, "pixels"),
        (0.25, 0.25, None),
        (3, 3.0, None),
    ],
)
def test_read(text, eps, unit):
    assert Budget.parse(text) == Budget(eps, unit)


@given(st.integers(0, 255))
def test_a_fraction_is_the_float_that_python_makes_of_it(k):
    assert Budget.parse(f"{k}/255").eps == k / 255


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "%",
        "5%%",
        "2 pix",
        "5 % HU",
        "4//255",
        "4/255/2",
        "4/",
        "1,5",
        "nan",
        "inf",
        "1e999",
        "1e-9999999",
        "1/0",
        "-1",
        True,
    ],
)
def test_refused(text):
    with pytest.raises(InputError, match="eps"):
        Budget.parse(text)


def test_unit_must_be_the_datas():
    assert Budget.parse("10HU").in_unit("HU") == 10
    assert Budget.parse("10").in_unit("HU") == 10
    with pytest.raises(InputError, match=r"does not fit the data, whose unit is \[0, 1\]"):
        Budget.parse("10HU").in_unit("[0, 1]")


def test_a_threat_may_have_a_unit_of_its_own():
    assert Budget.parse("5%").in_unit("%", "the threat contrast") == 0.05
    assert Budget.parse("0.05").in_unit("%", "the threat contrast") == 0.05
    with pytest.raises(InputError, match="eps 2 pixels does not fit the threat contrast, whose unit is %"):
        Budget.parse("2px").in_unit("%", "the threat contrast")
    with pytest.raises(InputError, match=r"eps 5% does not fit the data, whose unit is \[0, 1\]"):
        Budget.parse("5%").in_unit("[0, 1]")
    with pytest.raises(InputError, match="step_size 'wide' is not a budget"):
        Budget.parse("wide", "step_size")
