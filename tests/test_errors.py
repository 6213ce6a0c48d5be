"""The nearest name that there is, where a name is not known."""

from __future__ import annotations

import pytest

from medrobust.errors import unknown


@pytest.mark.parametrize(
    ("written", "known", "meant"),
    [
        # one letter wrong is nearer than one letter left out
        ("stepz", ["step", "steps", "step_size"], "steps"),
        ("stp", ["step", "steps"], "step"),
        ("step_sise", ["step", "steps", "step_size"], "step_size"),
        ("threat.epsilon", ["threat.eps", "threat.options"], "threat.eps"),
        ("smai", ["smia", "sea", "mi", "smia-mi"], "smia"),
        ("PDG", ["pgd", "pi", "dag"], "pgd"),
    ],
)
def test_the_nearest_name_is_meant(written, known, meant):
    for order in (known, known[::-1]):
        assert str(unknown("word", written, order)) == f"unknown word {written!r}: did you mean {meant!r}?"


def test_where_none_is_near_all_are_told():
    assert str(unknown("word", "xyz", ["pgd", "fgsm"])) == "unknown word 'xyz': known: fgsm, pgd"
