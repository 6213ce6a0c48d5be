"""The model card of a hardened model: how it was made, what it is worth, and that it may hide its gradients."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from synthetic_run import classifier_records, part_info, run_info

import medrobust as mr
from medrobust.errors import InputError
from medrobust.hardening_card import card_of

HOSTILE = "<script>alert(1)</script>|`x`"
TOLD = {
    "model_sha256": "b" * 64,
    "weights_sha256": "a" * 64,
    "victim": {"mean": [0.5]},
    "training_sha256": "1" * 64,
    "validation_sha256": "2" * 64,
    "images": [120, 30],
    "method": "SMIATraining",
    "beta": 2.0,
    "threat": {"norm": "linf", "eps": 2 / 255, "unit": "[0, 1]"},
    "training": {"epochs": 8, "learning_rate": 0.001, "normalisation": "adversarial"},
    "validation_attack": {"attack": "PGD", "steps": 10},
    "seed": 3,
    "outcome": {
        "history": [
            {"step": 0, "clean": 0.91, "attacked": 0.12, "attacked_loss": 2.0},
            {"step": 40, "clean": 0.84, "attacked": 0.55, "attacked_loss": 0.8},
            {"step": 80, "clean": 0.83, "attacked": 0.41, "attacked_loss": 1.1},
        ],
        "best": 40,
        "stopped": f"no better figure {HOSTILE}",
        "steps": 160,
    },
}


def runs(stuck: int = 0) -> tuple[mr.Run, mr.Run]:
    """Before, and after as if no attack did anything; in `stuck` steps of each of its attacks there was no gradient."""
    records = classifier_records(attacks=("fgsm", "pgd"), budgets=(1 / 255, 4 / 255))
    part = part_info("ordinal", "abcde", model=HOSTILE)
    part = replace(part, attacks={label: part.attacks[label] for label in ("fgsm", "pgd")}, threats=part.threats[::2])
    after = records.with_columns(
        right_after="right_before", prediction_after="prediction_before", scores_after="scores_before"
    ).with_columns(zero_gradients=pl.lit(stuck, pl.Int64))
    before, after = (mr.Run(frame, run_info({"grades": part})) for frame in (records, after))
    return before, after


@pytest.fixture(scope="module")
def compared() -> mr.RunComparison:
    return mr.compare(*runs(), names=("before", "after"), resamples=50)


@pytest.fixture
def hardened(tmp_path):
    """A folder as `medrobust harden` leaves it, less weights and runs."""

    def make(told: dict = TOLD):
        (tmp_path / "training.json").write_text(json.dumps(told))
        return tmp_path

    return make


def plain(markdown: str) -> str:
    return markdown.replace("\\", "")


def test_how_it_was_made_and_what_it_is_worth(hardened, compared):
    card = plain(card_of(hardened(), compared))
    for told in (
        "smia-at",
        "arXiv:2103.05232",
        "beta 2.0",
        "**Made to stand:** L∞ ≤ 2/255",
        f"120 images, SHA-256 {'1' * 64}",
        f"30 images of other patients (as far as patients are known), SHA-256 {'2' * 64}, attacked by PGD (steps 10)",
        "epochs 8, learning_rate 0.001; seed 3",
        "**Normalisation by batch statistics:** adversarial",
        "step 40 of 160; of the validation images, clean 0.91 → 0.84, attacked 0.12 → 0.55",
        f"Began with weights of SHA-256:** {'b' * 64}",
    ):
        assert told in card, told
    assert "Warning" not in card
    # the synthetic classifier: 48 of 60 right when clean, 0 at 4/255 before and as when clean after
    assert "Accuracy in the worst case at L∞ ≤ 4/255: 0.00 in before, 0.80 in after; after is better" in card
    (line,) = (line for line in card.splitlines() if line.startswith("| worst case, L∞ ≤ 4/255 | 0.00"))
    assert [cell.strip()[:4] for cell in line.split("|")[2:5]] == ["0.00", "0.80", "0.80"]
    assert "## Adversarial robustness" in card


def test_plain_fine_tuning_is_no_hardening(hardened):
    """And of 30 validation images 12 were attacked."""
    card = plain(card_of(hardened({**TOLD, "method": "Control", "validation_images": 12})))
    assert "fine-tuned, without attacks on the images that it learned from." in card
    assert "Made to stand" not in card
    assert "**Weights chosen under attack within:** L∞ ≤ 2/255" in card
    assert "**Weights chosen by:** 12 images out of 30 of other patients" in card
    assert "validation_images" not in card


def test_what_it_was_not_tested_against(hardened, compared):
    card = card_of(hardened(), compared).partition("## What it was not tested against")[2].partition("## Adv")[0]
    assert "Changes larger than L∞ ≤ 4/255." in card
    assert "L2, L1, contrast, bias field, deformation and band noise" in card
    assert "without gradients" in card
    assert "Attacks other than fgsm and pgd." in card


def test_a_model_that_hides_its_gradients_is_reported_as_such(hardened):
    """It looks as robust as the honest one; its attacks had no gradient in any of their ten steps."""
    card = plain(card_of(hardened(), mr.compare(*runs(stuck=10), names=("before", "after"), resamples=50)))
    warning = card.partition("## How it was made")[0]
    assert "**Warning: The hardened model fails 1 check of trust (gradients): it may hide its gradients" in warning
    assert "2,400 of 2,400 steps" in warning  # 60 images, two attacks of ten steps, two budgets


def test_a_model_that_was_not_measured(hardened):
    card = card_of(hardened())
    assert "Not measured. Validation images chose the weights" in card
    assert "## Adversarial robustness" not in card


def test_foreign_text_is_inert_and_no_patient_is_named(hardened, compared):
    card = card_of(hardened(), compared)
    assert "<script>" not in card
    assert "secret" not in card


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": "c" * 64}, "after is not a run of the model that .*training.json tells of"),
        ({"images": 3}, "training.json is damaged"),
        ({"outcome": {"history": []}}, "training.json is damaged: outcome.history is empty"),
    ],
)
def test_files_that_do_not_do(hardened, compared, changes, words):
    with pytest.raises(InputError, match=words):
        card_of(hardened(TOLD | changes), compared)


def test_a_folder_of_no_hardening(tmp_path):
    with pytest.raises(InputError, match=r"holds no hardened model: it has no training.json"):
        card_of(tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(InputError, match=r"training.json is damaged"):
        card_of(tmp_path)
