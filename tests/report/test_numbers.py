import pytest

from medrobust.budget import format_eps
from medrobust.report.numbers import counted, format_change, format_interval, format_value, listed, plain


@pytest.mark.parametrize(
    ("eps", "unit", "text"),
    [
        (4 / 255, "[0, 1]", "4/255"),
        (4 / 255 + 5e-10, "[0, 1]", "4/255"),
        (4 / 255 + 5e-9, "[0, 1]", "0.01569"),
        (0.01, "[0, 1]", "0.01"),
        (1.0, "[0, 1]", "1"),
        (0.0, "[0, 1]", "0"),
        (10.0, "HU", "10 HU"),
        (4 / 255, "HU", "0.01569 HU"),
    ],
)
def test_eps(eps, unit, text):
    assert format_eps(eps, unit) == text


@pytest.mark.parametrize(
    ("size", "unit", "text"),
    [
        (4 / 255, "[0, 1]", "4/255"),
        (3.94 / 255, "[0, 1]", "3.9/255"),
        (9.96, "HU", "10.0 HU"),
        (None, "HU", "–"),
    ],
)
def test_change(size, unit, text):
    assert format_change(size, unit) == text


def test_values():
    assert [format_value(v) for v in (0.625, -0.2, -0.001, None)] == ["0.62", "−0.20", "0.00", "–"]
    assert format_interval(0.1, 0.25) == "[0.10, 0.25]"
    assert format_interval(None, None) == ""


def test_words():
    assert [listed(list(items)) for items in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [counted(n, "image") for n in (0, 1, 1000)] == ["0 images", "1 image", "1,000 images"]


def test_foreign_text_is_made_fit_to_show():
    assert plain("a\u202egnp.exe\u2066\x00\n b") == "agnp.exe  b"
    assert plain("x" * 300) == "x" * 59 + "…"
    assert plain("שלום") == "שלום"
