"""The commands that show what there is: short where there is much, whole where one is asked for."""

from __future__ import annotations

import re

import pytest

import medrobust as mr
from medrobust.attacks import ATTACKS


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("formats", ["medmnist", "csv_table", "image_folder", "image_masks"]),
        ("models", ["timm", "torchvision", "smp", "python"]),
        ("doctor", ["torch", "device", "SMIA with a2=0 equals BIM", "bit for bit"]),
        ("--version", [mr.__version__]),
    ],
)
def test_what_there_is(medrobust, command, words):
    code, out, _ = medrobust(command)
    assert code == 0
    for word in words:
        assert word in out


def test_attacks_are_a_line_each_and_fit_into_80_columns(medrobust):
    code, out, err = medrobust("attacks")
    assert code == 0
    heading, *lines = out.splitlines()
    assert heading.split() == ["attack", "needs", "norms", "reference"]
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert [name for name, *_ in cells] == list(ATTACKS)
    assert max(map(len, out.splitlines())) <= 80
    told = {name: rest for name, *rest in cells}
    assert told["smia"] == ["gradients", "all", "arXiv:2103.05232"]
    assert told["cw"] == ["gradients", "l2", "arXiv:1608.04644"]
    assert told["square"] == ["scores", "linf, l2", "arXiv:1912.00049"]
    assert told["hopskipjump"][0] == "decisions"
    assert told["ti"][1] == "linf, l2, l1, band"  # a smoothed gradient is of pixels
    assert told["standard"][0] == "gradients, scores"
    assert "medrobust attacks NAME" in err


def shown(out: str) -> dict[str, str]:
    rows = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_one_attack_whole(medrobust):
    code, out, _ = medrobust("attacks", "cospgd")
    assert code == 0
    assert mr.CosPGD.__doc__.splitlines()[0] in out
    told = shown(out)
    assert (told["reference"], told["needs"]) == ("arXiv:2302.02213", "gradients")
    assert (told["tasks"], told["norms"]) == ("segmentation", "all")
    for option, default in (("steps", mr.CosPGD().steps), ("restarts", 1), ("keep", "last")):
        assert told[option] == str(default)
    assert (told["random_start"], told["step_size"], told["target"]) == ("true", "null", "null")


def test_an_ensemble_shows_the_options_that_have_a_use(medrobust):
    named = shown(medrobust("attacks", "standard")[1])
    assert (named["queries"], named["steps"]) == ("5000", "100")
    assert not {"members", "target", "targeted"} & set(named)
    own = shown(medrobust("attacks", "ensemble")[1])
    assert own["members"] == "[]"
    assert "target" not in own


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_can_be_shown(medrobust, name):
    code, out, _ = medrobust("attacks", name)
    assert code == 0
    assert ATTACKS[name].reference in out
    assert "object at" not in out


def test_an_unknown_attack_is_one_line_with_the_nearest_name(medrobust):
    assert medrobust("attacks", "smai") == (2, "", "error: unknown attack 'smai': did you mean 'smia'?\n")
