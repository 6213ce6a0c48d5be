"""`medrobust harden`: a model trained on one part of the data, and measured before and after on another."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import medrobust as mr

MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(6 * 49, outputs)
    )

def other(outputs, channels):
    torch.manual_seed(2)
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16 * channels, outputs))
"""


@pytest.fixture
def data(tmp_path) -> tuple[str, ...]:
    """Images of which one half is brighter; the class says which."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 64), ("val", 16), ("test", 16)):
        labels = np.arange(count) % 2
        images = rng.integers(90, 130, (count, 28, 28))
        images[labels == 1, :, 14:] += 12
        images[labels == 0, :, :14] += 12
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(tmp_path / "halvesmnist.npz", **arrays)
    (tmp_path / "net_to_harden.py").write_text(MODEL)
    return ("harden", "--data", "halvesmnist.npz", "--model", "python:net_to_harden:make", "--eps", "2/255")


def test_a_model_is_hardened_and_measured_before_and_after(medrobust, data):
    fast = ("--epochs", 8, "--learning-rate", 1e-2, "--set", "harden.batch_size=8", "--mean", 0.43, "--std", 0.05)
    measured = ("--validation-split", "val", "--set", "attacks=pgd", "--set", "trust=0", "--set", "threat.eps=2/255")
    code, out, err = medrobust(*data, "--method", "pgd-at", *fast, *measured, "--out", "hard")
    assert code == 0, err
    assert "hard/model.safetensors: step " in err
    assert "0.500  1.000 +0.500" in out
    before, after = (mr.load_run(Path("hard") / name) for name in ("before", "after"))
    assert before.info.parts["halvesmnist"].weights_sha256 != after.info.parts["halvesmnist"].weights_sha256
    told = json.loads(Path("hard/training.json").read_text())
    assert (told["method"], told["images"]) == ("AdversarialTraining", [64, 16])
    assert told["threat"]["eps"] == 2 / 255
    assert told["outcome"]["history"][-1]["attacked"] > told["outcome"]["history"][0]["attacked"]
    assert not list(Path().glob(".hard*"))  # nothing of the training under way is left
    assert "compared: hard/comparison/compare.html; model card: hard/model-card.md" in err.splitlines()[-1]
    assert "on the same test images" in Path("hard/model-card.md").read_text().lower()
    assert before.info.parts["halvesmnist"].threats == [{**told["threat"], "eps": 2 / 255}]  # as --set said
    export_of_the_hardened_model(medrobust, data)
    code, _, err = medrobust(*data, "--out", "hard")
    assert code == 2
    assert "hard is not an empty folder" in err or "holds another run" in err


def export_of_the_hardened_model(medrobust, data) -> None:
    """The card of the hardening goes along with the files of its weights, and with no others."""
    where = ("export", *data[1:5], "--mean", 0.43, "--std", 0.05, "--to", "torchscript")
    code, _, err = medrobust(*where, "--weights", "hard/model.safetensors", "--out", "files")
    assert code == 0, err
    assert "files/model.pt: differs from the model by" in err
    card, hardened = (Path(folder, "model-card.md").read_text() for folder in ("files", "hard"))
    assert card.startswith(hardened.strip())
    assert json.loads(Path("files/export.json").read_text())["hardened"] is True
    told = json.loads(Path("hard/training.json").read_text())
    Path("hard/training.json").write_text(json.dumps({**told, "weights_sha256": "0" * 64}))
    code, _, err = medrobust(*where, "--weights", "hard/model.safetensors", "--out", "others")
    assert (code, err.count("\n")) == (2, 1)
    assert "hard is of a model with other weights than the one to export" in err
    assert not Path("others").exists()


def test_ensemble_training_attacks_the_models_that_are_named(medrobust, data):
    """By the options of `evaluate`, or in the file."""
    short = ("--epochs", 1, "--set", "harden.validation_images=4", "--no-measure")
    named = ("--method", "ensemble", "--surrogate", "python:net_to_harden:other")
    code, _, err = medrobust(*data, *named, *short, "--out", "by-option")
    assert code == 0, err
    Path("run.yaml").write_text("harden: {method: ensemble, surrogates: 'python:net_to_harden:other'}\n")
    code, _, err = medrobust("harden", "run.yaml", *data[1:], *short, "--out", "by-file")
    assert code == 0, err
    told = [json.loads(Path(name, "training.json").read_text()) for name in ("by-option", "by-file")]
    assert told[0] == {**told[1], "outcome": told[0]["outcome"]}
    assert len(told[0]["others"]) == 1
    assert told[0]["others"][0] != told[0]["model_sha256"][:16]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="several devices on the CPU are forked processes")
def test_two_devices_learn_what_one_does(medrobust, data):
    short = ("--method", "pgd-at", "--epochs", 1, "--set", "harden.validation_images=4", "--no-measure")
    made = {}
    for devices in (1, 2):
        code, out, err = medrobust(*data, *short, "--devices", devices, "--device", "cpu", "--out", f"by-{devices}")
        assert (code, out) == (0, "")
        assert err.startswith(f"by-{devices}/model.safetensors: step ")
        made[devices] = load_file(f"by-{devices}/model.safetensors")
    for name, value in made[1].items():
        torch.testing.assert_close(made[2][name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--devices", 0), "devices must be a whole number of at least 1"),
        (("--devices", 2, "--set", "harden.warm_start=true"), "warm_start keeps its changes in one process"),
        (("--method", "ensemble"), "method ensemble attacks other models, too: give harden.surrogates, or --surrogate"),
        (
            ("--surrogate", "python:net_to_harden:other"),
            "harden.surrogates are for the method ensemble, not for smia-at: leave them out",
        ),
        (
            ("--method", "ensemble", "--surrogate-weights", "x.safetensors"),
            "1 --surrogate-weights for 0 --surrogate: give one for each",
        ),
        (("--method", "ensemble", "--surrogate", "python:net_to_harden:third"), "third"),
        (("--set", "harden.balance=classes"), "balance must be one of none, sampling, loss"),
        (("--method", "control", "--set", "harden.warm_start=true"), "warm_start is for attacks that walk"),
        (("--method", "smia"), "unknown method 'smia'"),
        (("--split", "train"), "the training images are the test images: give harden.split, or data.split"),
        (("--train-split", "nothing"), "nothing"),
        (("--method", "control,pgd-at", "--train-split", "nothing"), "nothing"),
        (("--epochs", 0), "epochs must be a whole number of at least 1"),
        (("--set", "harden.epoch=3"), "unknown option of harden 'epoch': did you mean 'epochs'?"),
        (("--set", "harden.options.beta=-1"), "method smia-at: beta must be a finite number, at least 0"),
        (("--method", "control,control"), "harden.method: 'control' is given twice"),
        (("--method", "control,trades", "--set", "harden.options.beta=2"), "control"),
        (("--eps", "2/255,big"), "big"),
        (("--set", "harden.options={trades: 3}"), "harden.options.trades is of a method that is not trained"),
        (
            ("--method", "trades", "--set", "harden.options={trades: 3}"),
            "harden.options.trades are the options of that",
        ),
        (("--method", "fgsm-rs,control", "--set", "harden.warm_start=true"), "warm_start is for attacks that walk"),
        (("--eps", "10HU"), "eps 10HU does not fit the data, whose unit is [0, 1]"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(medrobust, data, options, told):
    code, _, err = medrobust(*data, *options, "--out", "wrong")
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("wrong").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".wrong")]


def test_the_embedded_default_has_two_parts(medrobust):
    code, _, err = medrobust("harden", "--out", "x")
    assert code == 2
    assert "give the data to learn from with --data, e.g. embedded:level" in err


@pytest.mark.slow
def test_several_methods_are_set_side_by_side(medrobust, data):
    fast = ("--epochs", 4, "--learning-rate", 1e-2, "--set", "harden.batch_size=8", "--mean", 0.43, "--std", 0.05)
    measured = ("--validation-split", "val", "--set", "attacks=pgd", "--set", "trust=0", "--set", "threat.eps=2/255")
    several = (*data, "--method", "control, pgd-at", "--eps", "1/255,2/255", *fast, *measured, "--out", "hard")
    code, out, err = medrobust(*several)
    assert code == 0, err
    names = [f"{method} {eps}/255" for method in ("control", "pgd-at") for eps in (1, 2)]
    table = pl.read_csv("hard/tradeoff/tradeoff.csv")
    assert table["model"].to_list() == ["before", *names]
    assert all(name in out for name in names)
    left = dict(table.select("model", "attacked").rows())
    assert left["pgd-at 2/255"] > left["before"]
    for name in names:
        told = json.loads(Path("hard", name.replace("/", "_"), "training.json").read_text())
        assert told["threat"]["eps"] == int(name[-5]) / 255
    # what is lost is made again, what is there is not
    weights = Path("hard/pgd-at 1_255/model.safetensors")
    there, lost = weights.read_bytes(), Path("hard/pgd-at 2_255")
    shutil.rmtree(lost)
    code, _, err = medrobust(*several)
    assert code == 0, err
    assert "pgd-at 1_255/model.safetensors: trained already" in err
    assert weights.read_bytes() == there
    assert (lost / "after" / "run.json").exists()
    code, _, err = medrobust(*several[:-2], "--seed", 1, "--out", "hard")
    assert code == 2
    assert "hard was begun by another configuration" in err


@pytest.mark.slow
def test_a_model_of_brain_slices_gains_on_slices_that_it_has_not_seen(medrobust):
    """And is measured by attacks it was not trained on."""
    attacks = "attacks={apgd: {steps: 20}, square: {queries: 100}}"
    measured = ("--set", attacks, "--set", "trust=4", "--set", "threat.eps=8/255")
    how = ("--method", "pgd-at", "--eps", "8/255", "--learning-rate", 3e-3, "--out", "hard")
    code, _, err = medrobust("harden", "--data", "embedded:level", *how, *measured)
    assert code == 0, err
    compared = mr.compare("hard/before", "hard/after").table.filter(metric="accuracy")
    worst = compared.filter(attack="worst case").row(0, named=True)
    assert worst["verdict"] == "second is better"
    assert worst["low"] > 0.1
    assert compared.filter(attack="clean")["difference"].item() > -0.2
    (checks,) = mr.load_run("hard/after").trust.values()
    assert not [check.title for check in checks if check.verdict == "fail"]
