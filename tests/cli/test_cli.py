"""The command line by its entry point: what a user types, what they see, exit codes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import medrobust as mr
from medrobust import cli
from medrobust.config import RunConfig, read_config
from medrobust.errors import InputError

MODEL = """
import torch
from torch import nn

def make(outputs, channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, outputs))

class Lazy(nn.Sequential):
    def forward(self, x):
        if x.requires_grad:
            raise RuntimeError("only when attacked")
        return super().forward(x)

def lazy(outputs, channels):
    return Lazy(*make(outputs, channels))

def constant(outputs, channels):
    model = make(outputs, channels)
    model[2].bias.data[0] = 100
    return model

def one_logit(outputs, channels):
    return make(1, channels)

def nan(outputs, channels):
    model = make(outputs, channels)
    model[2].bias.data[:] = float("nan")
    return nn.Sequential(model)
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small MedMNIST file, a user's model and its weights."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, size in (("train", 6), ("val", 4), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(size) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "toymnist.npz", **arrays)
    (tmp_path / "mymodel.py").write_text(MODEL)
    return tmp_path


DATA = ("--data", "toymnist.npz", "--model", "python:mymodel:make")


def test_the_main_job_on_ones_own_data(medrobust, folder):
    code, out, err = medrobust(
        "evaluate", *DATA, "--attacks", "fgsm,pgd,smia", "--eps", "1/255,4/255", "--out", "runs/toy"
    )
    assert code == 0
    assert "report: runs/toy/report.html" in err
    for word in ("clean", "fgsm", "pgd", "smia", "worst case", "4/255", "accuracy"):
        assert word in out
    records = pl.read_parquet("runs/toy/records.parquet")
    assert records.height == 10 * 3 * 2
    assert sorted(records["eps"].unique()) == [1 / 255, 4 / 255]

    Path("runs/toy/report.html").unlink()
    code, again, err = medrobust("report", "runs/toy")
    assert (code, again) == (0, out)
    assert Path("runs/toy/report.html").exists()


def test_everything_in_a_file_and_the_line_over_it(medrobust, folder):
    Path("run.yaml").write_text(
        "data: {path: toymnist.npz, limit: 4}\nmodel: python:mymodel:make\nattacks:\n  mine: {attack: pgd, steps: 2}\n"
        "  worst: {attack: ensemble, members: {fgsm: , more: {attack: bim, steps: 3, step_size: 1/255}}}\n"
        "threat: {norm: l2, eps: 0.5}\nseed: 3\nout: runs/file\n"
    )
    assert medrobust("evaluate", "run.yaml")[0] == 0
    run = mr.load_run("runs/file")
    (part,) = run.info.parts.values()
    assert run.info.seed == 3
    assert part.attacks["mine"]["steps"] == 2
    assert part.attacks["worst"]["members"]["more"]["steps"] == 3
    assert set(run.records.filter(attack="worst")["found_by"]) <= {"fgsm", "more", "clean"}
    assert "worst (of 2 attacks) is an ensemble" in Path("runs/file/report.html").read_text()
    assert run.records["norm"].unique().to_list() == ["l2"]
    assert run.records.height == 4 * 2
    assert medrobust("evaluate", "run.yaml", "--eps", "0.25", "--out", "runs/line", "--seed", 4)[0] == 0
    run = mr.load_run("runs/line")
    assert (run.info.seed, run.records["eps"].unique().to_list()) == (4, [0.25])


@pytest.mark.filterwarnings("always::medrobust.errors.MedrobustWarning")
def test_weights_of_a_timm_model(medrobust, folder):
    model = mr.load_model("timm:resnet10t", outputs=2, channels=1, task="classification")
    save_file(model.state_dict(), "w.safetensors")
    code, _, err = medrobust(
        "evaluate", "--data", "toymnist.npz", "--model", "timm:resnet10t", "--weights", "w.safetensors",
        "--attacks", "fgsm", "--eps", "1/255", "--limit", 2, "--out", "r",
    )  # fmt: skip
    assert (code, "untrained" in err) == (0, False)
    code, _, err = medrobust(
        "evaluate", "--data", "toymnist.npz", "--model", "timm:resnet10t", "--attacks", "fgsm", "--eps", "1/255",
        "--limit", 2, "--out", "r2",
    )  # fmt: skip
    assert code == 0
    assert "warning: timm:resnet10t without --weights is untrained" in err


def test_a_family_and_surrogates_by_the_line(medrobust, folder):
    """Attacks on the model itself and through another one, within a budget written in the family's unit."""
    other = mr.load_model("python:mymodel:make", outputs=2, channels=1, task="classification")
    save_file({name: -value for name, value in other.state_dict().items()}, "minus.safetensors")
    code, out, _ = medrobust(
        "evaluate", *DATA, "--attacks", "pgd", "--norm", "contrast", "--eps", "5%,10%", "--out", "runs/family",
        "--surrogate", "python:mymodel:make", "--surrogate-weights", "minus.safetensors",
    )  # fmt: skip
    assert code == 0
    assert "contrast ≤ 10 %" in out
    run = mr.load_run("runs/family")
    assert run.records["attack"].unique(maintain_order=True).to_list() == ["pgd", "pgd via make"]
    assert sorted(run.records["eps"].unique()) == [0.05, 0.1]
    (part,) = run.info.parts.values()
    assert part.attacks["pgd via make"]["surrogate_sha256"] != part.weights_sha256[:16]
    report = Path("runs/family/report.html").read_text()
    assert "contrast ≤ 5 % or contrast ≤ 10 %, before any preprocessing" in report
    # it was made for a model that answers the other way round
    rows = run.records.filter(eps=0.1).sort("index")
    direct, through = (rows.filter(attack=name)["loss_after"].mean() for name in ("pgd", "pgd via make"))
    assert direct > rows["loss_before"].mean() > through


def test_two_surrogates_without_weights(medrobust, folder):
    options = ("--surrogate", "python:mymodel:make", "--surrogate", "python:mymodel:constant")
    assert medrobust("evaluate", *DATA, "--attacks", "fgsm", "--eps", "4/255", "--out", "r", *options)[0] == 0
    (part,) = mr.load_run("r").info.parts.values()
    assert list(part.attacks) == ["fgsm", "fgsm via make", "fgsm via constant"]


def test_attack_writes_images_that_stay_adversarial(medrobust, folder):
    code, _, err = medrobust("attack", *DATA, "--attack", "smia", "--eps", "4/255", "--out", "adversarial")
    assert code == 0
    with Path("adversarial/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    images = np.load("toymnist.npz")["test_images"]
    for row in rows:
        saved = np.asarray(Image.open(Path("adversarial") / row["file"]))
        change = np.abs(saved.astype(int) - images[int(row["index"])].astype(int))
        assert 0 < change.max() <= 4
        assert float(row["linf"]) == pytest.approx(change.max() / 255, abs=1e-6)
        clean = np.asarray(Image.open(Path("adversarial") / row["clean_file"]))
        assert np.array_equal(clean, images[int(row["index"])])
        assert int(row["truth"]) == int(row["index"]) % 2
        assert (row["right_after"] == "True") == (row["truth"] == row["prediction_after"])
    # the manifest tells of the files as a fresh model reads them
    model = mr.load_model("python:mymodel:make", outputs=2, channels=1, task="classification")
    first = torch.from_numpy(np.asarray(Image.open(Path("adversarial") / rows[0]["file"])) / 255).float()
    answer = int(mr.Victim(model, mr.Classification(2))(first[None, None]).argmax())
    assert (rows[0]["right_after"] == "True") == (answer == 0)
    assert f"{sum(r['right_before'] == 'True' for r in rows)} answered right before" in err


def test_attack_writes_what_was_made_on_a_surrogate(medrobust, folder):
    """Beside the images made on the model itself: those of a model that answers the other way round help it."""
    other = mr.load_model("python:mymodel:make", outputs=2, channels=1, task="classification")
    save_file({name: -value for name, value in other.state_dict().items()}, "minus.safetensors")
    Path("run.yaml").write_text(
        "data: toymnist.npz\nmodel: python:mymodel:make\nattacks: {slow: {attack: bim, steps: 3}}\n"
        "surrogates: {source: 'python:mymodel:make', name: 'own/minus', weights: minus.safetensors}\n"
    )
    assert medrobust("attack", "run.yaml", "--attack", "slow", "--eps", "8/255", "--out", "a")[0] == 0
    by_folder = {}
    for place in ("slow", "slow_via_own_minus"):
        with (Path("a") / place / "manifest.csv").open(newline="") as file:
            by_folder[place] = [float(row["loss_after"]) - float(row["loss_before"]) for row in csv.DictReader(file)]
    assert len(by_folder["slow"]) == len(by_folder["slow_via_own_minus"]) == 10
    assert min(by_folder["slow"]) > 0 > max(by_folder["slow_via_own_minus"])
    options = ("--surrogate", "python:mymodel:make", "--surrogate-weights", "minus.safetensors")
    assert medrobust("attack", *DATA, "--attack", "fgsm", "--limit", 2, "--out", "b", *options)[0] == 0
    assert sorted(path.name for path in Path("b").iterdir()) == ["fgsm", "fgsm_via_make"]


def test_attack_of_a_black_box_writes_what_was_made_on_the_surrogate_alone(medrobust, folder):
    Path("blackmodel.py").write_text(
        MODEL + "\ndef black(outputs, channels):\n    return make(outputs, channels).forward\n"
    )
    options = ("--data", "toymnist.npz", "--model", "python:blackmodel:black", "--attack", "fgsm", "--limit", 2)
    code, _, err = medrobust("attack", *options, "--out", "a")
    assert (code, "needs gradients, and a black box gives none" in err) == (2, True)
    code, _, err = medrobust("attack", *options, "--out", "a", "--surrogate", "python:blackmodel:make")
    assert (code, "a: 2 images" in err, Path("a/manifest.csv").exists()) == (0, True, True)


def test_attack_takes_one_budget(medrobust, folder):
    code, _, err = medrobust("attack", *DATA, "--eps", "1/255,2/255", "--out", "a")
    assert (code, "one budget, got 2" in err, Path("a").exists()) == (2, True, False)


def test_a_model_without_data(medrobust, folder):
    code, _, err = medrobust("evaluate", *DATA[2:])
    assert (code, "give the data of this model with --data" in err) == (2, True)


def test_attack_refuses_a_target_and_a_budget_below_the_grid(medrobust, folder):
    Path("run.yaml").write_text("data: toymnist.npz\nmodel: python:mymodel:make\nattacks: {pgd: {targeted: true}}\n")
    code, _, err = medrobust("attack", "run.yaml", "--attack", "pgd", "--out", "a")
    assert (code, "targeted" in err, Path("a").exists()) == (2, True, False)
    code, _, err = medrobust("attack", *DATA, "--eps", "0.5/255", "--out", "a")
    assert (code, "smaller than one step" in err, Path("a").exists()) == (2, True, False)


def test_a_model_with_one_logit(medrobust, folder):
    Path("run.yaml").write_text(
        "data: toymnist.npz\nmodel: {source: 'timm:resnet10t', weights: w.safetensors, outputs: 1}\n"
        "attacks: {pgd: {steps: 2, step_size: 1/255}}\nthreat: {eps: 2/255}\nout: r\n"
    )
    save_file(
        mr.load_model("timm:resnet10t", outputs=1, channels=1, task="classification").state_dict(), "w.safetensors"
    )
    code, _, _ = medrobust("evaluate", "run.yaml", "--limit", 2)
    assert code == 0
    assert len(mr.load_run("r").records["scores_before"][0]) == 2
    assert medrobust("evaluate", *DATA[:2], "--model", "python:mymodel:one_logit", "--limit", 2, "--out", "r2")[0] == 0


def test_attack_writes_volumes_as_npy(medrobust, folder):
    volumes = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 28), dtype=np.uint8)
    arrays = {f"{s}_images": volumes for s in ("train", "val", "test")}
    np.savez(
        "toymnist3d.npz",
        **arrays,
        **{f"{s}_labels": np.array([[0], [1], [0]]) for s in ("train", "val", "test")},
    )
    Path("volume_model.py").write_text(MODEL.replace("AdaptiveAvgPool2d(4)", "AdaptiveAvgPool3d((1, 4, 4))"))
    code, _, _ = medrobust(
        "attack",
        "--data",
        "toymnist3d.npz",
        "--model",
        "python:volume_model:make",
        "--attack",
        "bim",
        "--out",
        "a",
    )
    assert code == 0
    saved = np.load(next(Path("a").glob("*.npy")), allow_pickle=False)
    assert (saved.shape, saved.dtype) == ((1, 28, 28, 28), np.float32)


def test_one_bad_image_among_many(medrobust, tmp_path):
    Path("mymodel.py").write_text(MODEL)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((16, 16), 40 * k, np.uint8)).save(tmp_path / "pets" / name / f"{k}.png")
    bad = tmp_path / "pets" / "dog" / "1.png"
    bad.write_bytes(bad.read_bytes()[:50])
    options = ("--data", "pets", "--model", "python:mymodel:make", "--attacks", "fgsm", "--eps", "1/255")
    code, _, err = medrobust("evaluate", *options, "--out", "runs/a")
    assert code == 2
    assert "dog/1.png" in err
    assert "--skip-bad" in err
    assert not Path("runs").exists()
    code, out, _ = medrobust("evaluate", *options, "--out", "runs/b", "--skip-bad")
    assert code == 0
    (part,) = mr.load_run("runs/b").info.parts.values()
    assert (part.evaluated, [s.index for s in part.skipped]) == (5, [4])
    assert "1 sample left out" in out
    assert "dog/1.png" in Path("runs/b/run.json").read_text()


@pytest.mark.slow
def test_the_embedded_default(medrobust, tmp_path):
    """The main job without a word: both tasks on real slices, trained on first use, a report that tells its limits."""
    code, out, err = medrobust(
        "evaluate", "--limit", 6, "--attacks", "fgsm,smia", "--eps", "8/255", "--out", "run", "--name", "mine"
    )
    assert code == 0
    assert err.endswith("report: run/report.html\n")
    run = mr.load_run("run")
    assert {part.task for part in run.info.parts.values()} == {"segmentation", "ordinal"}
    assert run.records.height == 2 * 6 * 2
    lost = run.records.group_by("part").agg(
        pl.col("right_before").mean(), (pl.col("dice_before") - pl.col("dice_after")).mean().alias("dice"),
        (pl.col("loss_after") - pl.col("loss_before")).mean().alias("loss"),
    )  # fmt: skip
    assert lost["loss"].min() > 0.02
    assert lost["dice"].drop_nulls().item() > 0.05
    report = Path("run/report.html").read_text()
    for word in ("one averaged brain", "nothing about other people", "mine: mni152-tissue", "mine: mni152-level"):
        assert word in report
    assert "one averaged brain" in out


def test_attack_with_a_resize_keeps_to_the_clean_files(medrobust, folder, tmp_path):
    """A resized image lies off the 8-bit grid: it is rounded first, and the clean file is what was attacked."""
    for name in ("x", "y"):
        (tmp_path / "set" / name).mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 33), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / name / "0.png")
    options = ("--data", "set", "--model", "python:mymodel:make", "--resize", 24, "--eps", "4/255", "--out", "a")
    assert medrobust("attack", *options)[0] == 0
    for file in Path("a").glob("*.png"):
        change = np.asarray(Image.open(file)).astype(int) - np.asarray(Image.open(Path("a/clean") / file.name))
        assert np.abs(change).max() == 4


@pytest.mark.filterwarnings("always::medrobust.errors.MedrobustWarning")
def test_what_is_hardly_meant_is_told_with_the_figures(medrobust, folder):
    """An answer that never changes looks robust: terminal and report say so."""
    code, out, err = medrobust(
        "evaluate", *DATA[:2], "--model", "python:mymodel:constant", "--attacks", "fgsm", "--eps", "4", "--out", "r"
    )
    assert code == 0
    assert err.splitlines()[0] == "warning: The budget eps 4 lets every pixel take any value: was 4/255 meant?"
    report = " ".join(Path("r/report.html").read_text().split())
    for words in ("to every clean image", "was 4/255 meant?"):
        assert words in " ".join(out.split())
        assert words in report


BAD = [
    (("--eps", "-1/255"), "eps '-1/255' must be finite and not negative"),
    (("--eps", "4/0"), "eps '4/0' is not a finite number"),
    (("--eps", "wide"), "eps 'wide' is not a budget: write 4/255, 0.01 or 10HU; of some threats 5% or 2px"),
    (("--eps", "5%"), "eps 5% does not fit the data, whose unit is [0, 1]"),
    (("--norm", "contrast", "--eps", "2px"), "eps 2 pixels does not fit the threat contrast, whose unit is %"),
    (("--norm", "contrats"), "threat.norm: unknown threat 'contrats': did you mean 'contrast'?"),
    (("l2.yaml",), "threat.norm l2 has no usual budgets: give eps, e.g. 0.5"),
    (("--surrogate", "python:mymodel:mak"), "mak"),
    (("--surrogate-weights", "other.safetensors"), "1 --surrogate-weights for 0 --surrogate: give one for each"),
    (("part.yaml",), "attacks.mine: attack pgd: unknown option of input si 'copis': did you mean 'copies'?"),
    (("loss.yaml",), "attack smia: unknown loss 'dlrr': did you mean 'dlr'?"),
    (("defence.yaml",), "defence.yaml: model.defence: unknown transform 'jpg': did you mean 'jpeg'?"),
    (("--eps", "10HU"), "does not fit the data, whose unit is [0, 1]"),
    (("--attacks", "smai"), "unknown attack 'smai': did you mean 'smia'?"),
    (("--attacks", "pgd,pgd"), "'pgd' is given twice"),
    (("--norm", "l7"), "threat.norm"),
    (("--data", "nowhere.npz"), "nowhere.npz"),
    (("--model", "tim:resnet18"), "tim"),
    (("--model", "timm:resnet1888"), "resnet1888"),
    (("--model", "python:nomodule:make"), "nomodule"),
    (("--model", "python:mymodel:mak"), "mak"),
    (("--weights", "none.safetensors"), "none.safetensors"),
    (("--weights", "toymnist.npz"), "toymnist.npz"),
    (("--weights", "other.safetensors"), "other.safetensors"),
    (("--model", "python:mymodel:nan"), "NaN or infinite outputs for the clean image"),
    (("--mean", "0.1,0.2,0.3"), "mean has 3 values, the images have 1 channel"),
    (("--mean", "grey"), "--mean 'grey': expected numbers"),
    (("--split", "tset"), "tset"),
    (("--batch-size", "0"), "batch_size"),
    (("--device", "quantum"), "device 'quantum' cannot be used"),
    (("--seed", "x"), "seed"),
    (("missing.yaml",), "missing.yaml cannot be read"),
    (("tagged.yaml",), "tagged.yaml, line 1: not YAML"),
    (("typo.yaml",), "typo.yaml: unknown field 'atacks': did you mean 'attacks'?"),
    (("nested.yaml",), "nested.yaml: unknown field 'threat.epsilon': did you mean 'threat.eps'?"),
    (("option.yaml",), "unknown option of attack smia 'a3': did you mean 'a"),
    (("targeted.yaml",), "attack 'pgd' is targeted"),
    (("--model", "python:mymodel:lazy"), "the model fails on images (1, 28, 28): RuntimeError: only when attacked"),
    (("value.yaml",), "attack pgd: steps must be a whole number of at least 1, got 0"),
    (("list.yaml",), "list.yaml: expected fields (name: value), found a list"),
    (("data.yaml",), "unknown option of data 'reszie': did you mean 'resize'?"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_exit_2(medrobust, folder, arguments, message):
    Path("tagged.yaml").write_text("data: !!python/object/apply:os.system ['touch pwned']\n")
    Path("typo.yaml").write_text("atacks: [pgd]\n")
    Path("l2.yaml").write_text("data: toymnist.npz\nmodel: python:mymodel:make\nthreat: {norm: l2}\n")
    Path("part.yaml").write_text("attacks: {mine: {attack: pgd, inputs: [di, {si: {copis: 3}}]}}\n")
    Path("loss.yaml").write_text("attacks: {smia: {loss: dlrr}}\n")
    Path("defence.yaml").write_text("model: {source: 'timm:resnet18', defence: [jpg]}\n")
    Path("nested.yaml").write_text("threat: {epsilon: 0.1}\n")
    Path("option.yaml").write_text("attacks: {smia: {a3: 1}}\n")
    Path("value.yaml").write_text("attacks: {pgd: {steps: 0}}\n")
    Path("targeted.yaml").write_text(
        "data: toymnist.npz\nmodel: python:mymodel:make\nattacks: {pgd: {targeted: true}}\n"
    )
    Path("list.yaml").write_text("- a\n")
    Path("data.yaml").write_text("data: {path: toymnist.npz, reszie: 3}\nmodel: python:mymodel:make\n")
    save_file({"weight": torch.zeros(3)}, "other.safetensors")
    before = sorted(folder.rglob("*"))
    defaults = {
        "--data": "toymnist.npz", "--model": "python:mymodel:make", "--attacks": "fgsm", "--eps": "1/255",
        "--out": "out",
    }  # fmt: skip
    line = [*arguments]
    for option, value in defaults.items():
        if option not in arguments and not (arguments[0].endswith(".yaml") and option != "--out"):
            line += [option, value]
    code, out, err = medrobust("evaluate", *line)
    assert code == 2
    assert out == ""
    assert message in err
    if arguments[0] != "--seed":  # typer's own message of a wrong kind has its usage line above
        assert len(err.strip().splitlines()) == 1
    assert [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts] == before


def test_an_output_folder_with_another_run_is_refused_before_any_work(medrobust, folder):
    options = ("evaluate", *DATA, "--attacks", "fgsm", "--eps", "1/255", "--limit", 2, "--out", "out")
    assert medrobust(*options)[0] == 0
    before = Path("out/run.json").read_bytes()
    code, _, err = medrobust(*options)
    assert code == 2
    assert "out holds another run" in err
    assert Path("out/run.json").read_bytes() == before


def test_an_unknown_command_and_no_run(medrobust, tmp_path):
    code, _, err = medrobust("evaluat")
    assert code == 2
    assert "Did you mean 'evaluate'?" in err
    code, _, err = medrobust("report", "nowhere")
    assert (code, err) == (2, "error: nowhere is no run: it has no run.json\n")


def test_debug_shows_where_it_happened(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["medrobust", "report", "nowhere", "--debug"])
    with pytest.raises(InputError, match="no run"):
        cli.main()


def test_init_writes_the_defaults(medrobust, tmp_path):
    assert medrobust("init")[0] == 0
    written = read_config(Path("run.yaml"), {})
    assert written == RunConfig()
    code, _, err = medrobust("init")
    assert code == 2
    assert "run.yaml is there already" in err


def test_every_commented_line_of_the_template_is_a_field(medrobust, tmp_path):
    """Uncommented, the examples are a configuration that can be read."""
    medrobust("init")
    lines = []
    for line in Path("run.yaml").read_text().splitlines():
        head, _, rest = line.partition("# ")
        lines.append(head + rest if head.strip() == "" and ": " in rest and not rest[0].isupper() else line)
    Path("full.yaml").write_text("\n".join(lines).replace("out: runs/my-run", "out: x"))
    full = read_config(Path("full.yaml"), {})
    assert full.name == "my-run"
    assert full.model.std == [0.229, 0.224, 0.225]
    assert full.data.options(skip_bad=False).resize == 224
    attacks = full.build_attacks()
    assert attacks["smia-strong"].restarts == 3
    assert [type(part).__name__ for part in attacks["mine"].inputs] == ["Diversity", "Scales"]
    assert [label for label, _ in attacks["worst"].members] == ["strong", "standard"]
    assert full.model.defence == [{"jpeg": {"quality": 75}}]
    assert full.harden.build_method().describe()["method"] == "SMIATraining"
    assert [one.source for one in full.surrogates] == ["timm:resnet18"]


def test_the_installed_program():
    """By the installed script, as a user starts it, with no terminal and no home."""
    program = Path(sys.executable).with_name("medrobust")
    done = subprocess.run(
        [program, "report", "nowhere"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is no run: it has no run.json\n"
    assert done.stdout == ""


def test_the_first_word_comes_fast():
    """Help must not wait for PyTorch."""
    code = "import sys; sys.argv = ['medrobust', '--help']\nfrom medrobust.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.parametrize("command", [("evaluate",), ("attack", "--out", "images")])
def test_any_field_of_a_run_can_be_set(medrobust, command):
    code, _, err = medrobust(*command, "--set", "threat.nrom=l2")
    assert code == 2
    assert "threat.nrom" in err
    assert "threat.norm" in err
    code, _, err = medrobust(*command, "--set", "model.overlap=much")
    assert code == 2
    assert "model.overlap" in err
