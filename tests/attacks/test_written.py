"""Attacks as they are written: options in a mapping or a call, ensembles with their members, places of mistakes."""

from __future__ import annotations

import pytest
import torch

import medrobust as mr
from medrobust.attacks import make_attack
from medrobust.config import read_config
from medrobust.data import DatasetInfo
from medrobust.errors import InputError


def configured(attacks: object) -> dict[str, mr.Ensemble]:
    return read_config(None, {"attacks": attacks}).build_attacks()


def test_options_in_the_call_are_those_of_a_mapping():
    wanted = mr.PGD(steps=20, restarts=3, loss=mr.Margin()).describe()
    for made in (
        make_attack("pgd", {"steps": 20, "restarts": 3, "loss": "margin"}),
        make_attack("pgd", steps=20, restarts=3, loss="margin"),
        make_attack("pgd", {"steps": 20}, restarts=3, loss=mr.Margin()),
    ):
        assert type(made) is mr.PGD
        assert made.describe() == wanted


def test_an_option_given_both_ways():
    with pytest.raises(InputError, match="attack pgd: steps is given twice, in the mapping and by its keyword"):
        make_attack("pgd", {"steps": 20}, steps=20)


def test_a_step_size_as_a_budget_is_written():
    assert make_attack("pgd", step_size="1/255").step_size == 1 / 255
    with pytest.raises(InputError, match="attack pgd: step_size 'wide' is not a budget"):
        make_attack("pgd", step_size="wide")


@pytest.mark.parametrize("name", ["fab", "fab-t", "deepfool", "tog"])
def test_an_attack_that_takes_no_target(name):
    with pytest.raises(InputError, match=f"unknown option of attack {name} 'target'"):
        make_attack(name, target="empty")


def test_an_ensemble_of_ones_own_finds_what_the_same_in_python_finds(trained):
    victim, images, truth = trained
    (written,) = configured(
        {"worst": {"attack": "ensemble", "members": {"pgd": {"steps": 6}, "apgd": {"attack": "apgd-dlr", "steps": 4}}}}
    ).values()
    own = mr.Ensemble(members=[("pgd", mr.PGD(steps=6)), ("apgd", mr.APGDDLR(steps=4))])
    assert written.describe() == own.describe()
    ours, theirs = (attack(victim, images, truth, mr.Threat(4 / 255)) for attack in (written, own))
    assert torch.equal(ours.adversarial, theirs.adversarial)
    assert ours.found_by == theirs.found_by
    assert {"pgd", "apgd"} & set(ours.found_by)


@pytest.mark.parametrize(
    "members",
    [
        ["pgd", {"mi": {"steps": 4}}],
        {"pgd": None, "mi": {"steps": 4}},
        [("pgd", mr.PGD()), ("mi", mr.MIFGSM(steps=4))],
        {"pgd": mr.PGD(), "mi": {"steps": 4}},
    ],
)
def test_members_in_every_form(members):
    own = mr.Ensemble(members={"pgd": mr.PGD(), "mi": mr.MIFGSM(steps=4)})
    assert make_attack("ensemble", members=members).describe() == own.describe()


def test_an_ensemble_within_an_ensemble():
    inner = {"attack": "ensemble", "members": ["fgsm"]}
    made = make_attack("ensemble", members={"first": inner, "standard": {"steps": 3}})
    (first, standard) = made.members
    assert (first.label, first.attack.members[0].attack) == ("first", mr.FGSM())
    assert (standard.label, standard.attack) == ("standard", mr.Standard(steps=3))
    with pytest.raises(InputError, match=r"^members\.first\.members\.fgsm: unknown option of attack fgsm 'steps'"):
        make_attack("ensemble", members={"first": {**inner, "members": {"fgsm": {"steps": 2}}}})


WORST = {"attack": "ensemble"}


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ({"pgd": {"stepz": 3}}, "attacks.pgd: unknown option of attack pgd 'stepz': did you mean 'steps'?"),
        (
            {"mine": {"attack": "pgd", "stepz": 3}},
            "attacks.mine: unknown option of attack pgd 'stepz': did you mean 's",
        ),
        ({"pgd": {"steps": 0}}, "attacks.pgd: attack pgd: steps must be a whole number of at least 1, got 0"),
        (["smai"], "attacks.smai: unknown attack 'smai': did you mean 'smia'?"),
        ({"e": {"attack": "ensembel"}}, "attacks.e: unknown attack 'ensembel': did you mean 'ensemble'?"),
        (
            {"worst": {**WORST, "members": {"pgd": {"stepz": 20}}}},
            "attacks.worst.members.pgd: unknown option of attack pgd 'stepz': did you mean 'steps'?",
        ),
        (
            {"worst": {**WORST, "members": ["pgd", "apdg"]}},
            "attacks.worst.members.apdg: unknown attack 'apdg': did you mean 'apgd'?",
        ),
        ({"worst": {**WORST, "members": {"pgd": {"steps": 0}}}}, "attacks.worst.members.pgd: attack pgd: steps must"),
        (
            {"worst": {**WORST, "members": {"pgd": 20}}},
            "attacks.worst.members.pgd: options are a mapping, e.g. {steps:",
        ),
        ({"worst": {**WORST, "members": "pgd"}}, "attacks.worst.members: members are names or label: options, e.g."),
        ({"worst": {**WORST, "members": [3]}}, "attacks.worst.members: members are names or label: options, e.g."),
        ({"worst": {**WORST, "members": ["pgd", "pgd"]}}, "attacks.worst.members: 'pgd' is given twice; give each its"),
        ({"worst": WORST}, "attacks.worst: attack ensemble: an ensemble needs attacks"),
        ({"worst": {**WORST, "steps": 3}}, "attacks.worst: unknown option of attack ensemble 'steps'"),
        (
            {"worst": {**WORST, "members": {"erase": {"attack": "pgd", "target": "empty"}}}},
            "attacks.worst: attack ensemble: an ensemble looks for any wrong answer: none of its attacks can be "
            "targeted, 'erase' is",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(attacks, message):
    with pytest.raises(InputError) as caught:
        configured(attacks)
    assert str(caught.value).startswith(message)


def test_a_member_for_another_task_is_told_before_any_work():
    config = read_config(None, {"attacks": {"worst": {**WORST, "members": ["pgd", "segpgd"]}}})
    words = r"^attacks\.worst\.members\.segpgd: attack 'segpgd' is for segmentation; 'slices' is for ordinal"
    with pytest.raises(InputError, match=words):
        config.check_attacks(DatasetInfo("slices", "ordinal", tuple("abc"), channels=1))
    config.check_attacks(DatasetInfo("slices", "segmentation", tuple("abc"), channels=1))
