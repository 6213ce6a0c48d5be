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
    "text", ["", "x", "4//255", "4/255/2", "4/", "1,5", "nan", "inf", "1e999", "1e-9999999", "1/0", "-1", True]
)
def test_refused(text):
    with pytest.raises(InputError, match="eps"):
        Budget.parse(text)


def test_unit_must_be_the_datas():
    assert Budget.parse("10HU").in_unit("HU") == 10
    assert Budget.parse("10").in_unit("HU") == 10
    with pytest.raises(InputError, match=r"does not fit the data, whose unit is \[0, 1\]"):
        Budget.parse("10HU").in_unit("[0, 1]")
