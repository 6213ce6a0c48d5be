"""`medrobust reproduce` on tiny folders in the official layouts: a table, or one clear line."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from medrobust.cli import main
from medrobust.data.class_names import EAD_2019
from medrobust.errors import InputError
from medrobust.models.networks import UNet
from medrobust.reproduce.command import reproduce_command

NONE = {"aptos": None, "covid_ct": None, "ead": None}
QUICK = {"runs": 1, "epochs": 1, "size": 64, "limit": 2, "eps": ("4/255",)}


@pytest.fixture(scope="module")
def aptos(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("aptos"), np.random.default_rng(0)
    (folder / "train_images").mkdir()
    rows = ["id_code,diagnosis"]
    for place in range(10):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"train_images/{place:012x}.png")
        rows.append(f"{place:012x},{place % 5}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def covid_ct(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("covid"), np.random.default_rng(0)
    images, masks = folder / "COVID-19-CT-Seg_20cases", folder / "Lung_and_Infection_Mask"
    for made in (images, masks):
        made.mkdir()
    for case in range(1, 9):
        truth = np.zeros((32, 32, 3), np.uint8)
        truth[4:14, 6:26], truth[18:28, 6:26], truth[20:24, 8:12] = 1, 2, 3
        values = np.where(truth > 0, -800, 40) + rng.normal(0, 20, truth.shape)
        for into, content in ((images, values.astype(np.int16)), (masks, truth)):
            nib.save(nib.Nifti1Image(content, np.diag([2.0, 2, 5, 1])), into / f"coronacases_{case:03d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def ead(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("ead"), np.random.default_rng(0)
    (folder / "class_list.txt").write_text("\n".join(EAD_2019) + "\n")
    for place in range(10):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / f"{place:05d}.png")
        (folder / f"{place:05d}.txt").write_text(f"{place % 7} 0.5 0.5 0.4 0.4\n")
    return folder


def command(out: Path, data: dict[str, Path], **options: object):
    return reproduce_command(out, {**NONE, **data}, **{**QUICK, **options})


@pytest.mark.slow
def test_the_lung_alone_is_trained_once_and_read_again(covid_ct: Path, tmp_path: Path):
    command(tmp_path / "out", {"covid_ct": covid_ct})
    weights = tmp_path / "out" / "weights" / "lung-run0.safetensors"
    assert weights.is_file()
    text = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "too few to tell" in text
    said: list[str] = []
    command(tmp_path / "out", {"covid_ct": covid_ct}, say=said.append)
    assert any("is there already" in line for line in said)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "weights").symlink_to(weights.parent)
    with pytest.raises(InputError, match="holds a model that was trained in another way"):
        command(tmp_path / "more", {"covid_ct": covid_ct}, epochs=2)


@pytest.mark.slow
def test_given_weights_are_one_model_and_the_page_says_so(covid_ct: Path, tmp_path: Path):
    file = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(UNet(1, 4).state_dict(), file)
    command(tmp_path / "out", {"covid_ct": covid_ct}, weights=[f"lung={file}"], runs=2, survive=True)
    text = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "For lung the model is the same in all runs" in text
    assert "another seed |" not in text
    assert "JPEG 75" in text
    assert not (tmp_path / "out" / "weights").exists()


@pytest.mark.slow
def test_all_three_together(aptos: Path, covid_ct: Path, ead: Path, tmp_path: Path):
    command(tmp_path, {"aptos": aptos, "covid_ct": covid_ct, "ead": ead}, limit=1)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for word in ("Quadratic-weighted kappa", "Dice", "mAP", "## All tasks"):
        assert word in text
    assert {file.name for file in (tmp_path / "weights").iterdir()} == {
        f"{key}-run0.safetensors" for key in ("grading", "lung", "artefacts")
    }


def test_what_cannot_be_done_is_one_line(covid_ct: Path, tmp_path: Path):
    data = {"covid_ct": covid_ct}
    for given, options, told in (
        (data, {"small": True}, "give --small, or at least one"),
        ({}, {}, "give --small, or at least one"),
        (data, {"weights": ["lung"]}, "--weights 'lung': write grading=FILE"),
        (data, {"weights": ["grading=a.pt"]}, "weights for 'grading', which is no benchmark here; there are: lung"),
        (data, {"weights": [f"lung={tmp_path / 'no.pt'}"]}, "there is no such weights file"),
        ({}, {"small": True, "weights": ["lung=a.pt"]}, "the models of --small come along"),
        (data, {"runs": 0}, "runs must be a whole number of at least 1"),
        (data, {"epochs": 0}, "epochs must be a whole number of at least 1"),
        (data, {"eps": ("4/255", "4/255")}, "a budget is given twice"),
        (data, {"eps": ("much",)}, "eps 'much' is not a budget"),
        ({"aptos": tmp_path / "nowhere"}, {}, "--aptos .*nowhere: there is no such folder"),
        ({"ead": covid_ct}, {}, "--ead .*: these data are for segmentation, not detection"),
    ):
        with pytest.raises(InputError, match=told):
            command(tmp_path / "out", given, **options)
    assert not (tmp_path / "out").exists()


def test_the_shell_ends_with_2(tmp_path: Path, capsys, monkeypatch):
    arguments = ["medrobust", "reproduce", "--out", str(tmp_path / "out"), "--aptos", str(tmp_path / "nowhere")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
