"""What a run.yaml says of threats, attacks and their parts, defences and surrogates, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import medrobust as mr
from medrobust.attacks.copies import Scales
from medrobust.attacks.gradients import TranslationInvariance
from medrobust.attacks.inputs import Diversity
from medrobust.attacks.losses import DLR
from medrobust.attacks.steps import Adam
from medrobust.config import read_config
from medrobust.errors import InputError
from medrobust.jobs import build_parts, run_config
from medrobust.region import Region
from medrobust.threat import THREATS
from medrobust.transforms import JPEG, BitDepth, Chain, defended

UNIT = mr.DatasetInfo("slices", "segmentation", ("background", "liver", "lesion"), channels=1)
HU = mr.DatasetInfo("ct", "segmentation", ("background", "organ"), 1, (-1024.0, 3071.0), "HU")
MODEL = """
import torch
from torch import nn

def make(outputs, channels, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, outputs))

def other(outputs, channels):
    return make(outputs, channels, 1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A small MedMNIST file and a user's models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(6) % 3)[:, None].astype(np.uint8)
    np.savez("toymnist.npz", **arrays)
    Path("confmodel.py").write_text(MODEL)
    return tmp_path


def own(**fields):
    base = {"data": "toymnist.npz", "model": "python:confmodel:make", "attacks": {"fgsm": {}}, "device": "cpu"}
    return read_config(None, {**base, "threat.eps": "4/255", **fields})


class TestThreats:
    @pytest.mark.parametrize("norm", list(THREATS))
    def test_every_threat_of_the_catalogue_by_name_with_its_example(self, norm):
        (threat,) = read_config(None, {"threat.norm": norm, "threat.eps": THREATS[norm].example}).threat.threats(UNIT)
        wanted = {"contrast": 0.05, "bias": 0.1, "deformation": 2.0, "l2": 0.5, "l1": 10.0}.get(norm, 4 / 255)
        assert threat.eps == wanted
        assert isinstance(threat, mr.Threat)

    def test_options_quantum_and_region(self):
        config = read_config(
            None,
            {"threat": {"norm": "bias", "options": {"grid": 6}, "eps": ["5%", 0.1], "quantum": "1/255", "inside": 1}},
        )
        low, high = config.threat.threats(UNIT)
        assert (low.eps, high.eps, low.grid) == (0.05, 0.1, 6)
        assert (low.quantum, low.region) == (1 / 255, Region((1,)))
        (noise,) = read_config(
            None, {"threat": {"norm": "band", "options": {"low": 0.1, "high": 0.5}, "eps": "10HU"}}
        ).threat.threats(HU)
        assert (noise.eps, noise.norm) == (10.0, "band noise 0.1-0.5")

    @pytest.mark.parametrize("norm", [norm for norm in THREATS if norm != "linf"])
    def test_only_linf_has_usual_budgets(self, norm):
        threat = read_config(None, {"threat.norm": norm}).threat
        example = THREATS[norm].example
        with pytest.raises(InputError, match=f"threat.norm {norm} has no usual budgets: give eps, e.g. {example}"):
            threat.threats(UNIT)
        with pytest.raises(InputError, match="no usual budgets"):
            threat.threats(UNIT, usual=["4/255"])
        assert len(read_config(None, {}).threat.threats(UNIT)) == 4

    def test_a_family_with_its_own_unit_is_told_so_also_for_data_in_hu(self):
        with pytest.raises(InputError, match=r"contrast has no usual budgets: give eps, e\.g\. 5%"):
            read_config(None, {"threat.norm": "contrast"}).threat.threats(HU)

    @pytest.mark.parametrize(
        ("threat", "words"),
        [
            ({"norm": "l3"}, "threat.norm: unknown threat 'l3'"),
            ({"norm": "deformatoin"}, "threat.norm: unknown threat 'deformatoin': did you mean 'deformation'"),
            ({"norm": "bias", "options": {"gird": 6}}, "unknown option of threat bias 'gird': did you mean 'grid'"),
            ({"norm": "bias", "options": {"quantum": 1}}, "quantum is no entry of options: write threat.quantum"),
            ({"norm": "bias", "options": {"mask": 1}}, "mask is no entry of options: write threat.inside"),
            ({"norm": "bias", "eps": "2px"}, "eps 2 pixels does not fit the threat bias, whose unit is %"),
            ({"norm": "deformation", "eps": "5%"}, "eps 5% does not fit the threat deformation, whose unit is pixels"),
            ({"norm": "l2", "eps": "5%"}, r"eps 5% does not fit the data, whose unit is \[0, 1\]"),
            ({"norm": "bias", "eps": "5%", "options": {"grid": 1}}, "threat bias: grid must be a whole number"),
            ({"norm": "bias", "eps": "5%", "options": {"grid": "six"}}, "threat bias: grid must be a whole number"),
            ({"norm": "deformation", "eps": "2px", "inside": 1}, "threat deformation: a deformation moves the whole"),
            ({"norm": "band", "eps": 0.1, "options": {"low": 0.5}}, "threat band: a band goes from low up to high"),
        ],
    )
    def test_mistakes(self, threat, words):
        with pytest.raises(InputError, match=words):
            read_config(None, {"threat": threat}).threat.threats(UNIT)

    def test_a_run_of_a_family(self, folder):
        run = run_config(own(**{"threat.norm": "contrast", "threat.eps": ["5%", "10%"]}))
        assert run.records["norm"].unique().to_list() == ["contrast"]
        assert sorted(run.records["eps"].unique()) == [0.05, 0.1]
        assert "contrast ≤ 5 %" in repr(run.table())


MINE = {
    "attack": "pgd",
    "loss": "dlr",
    "inputs": ["di", {"si": {"copies": 3}}],
    "gradients": ["ti"],
    "early_stop": True,
    "step_size": "1/255",
}


class TestParts:
    def test_of_every_kind_by_name(self):
        attack = read_config(None, {"attacks": {"mine": {**MINE, "step": {"adam": {"beta1": 0.5}}}}}).build_attack(
            "mine"
        )
        assert isinstance(attack, mr.PGD)
        assert isinstance(attack.loss, DLR)
        assert attack.inputs == (Diversity(), Scales(copies=3))
        assert attack.gradients == (TranslationInvariance(),)
        assert attack.step == Adam(beta1=0.5)
        assert (attack.early_stop, attack.step_size) == (True, 1 / 255)

    def test_from_the_file_to_the_records(self, folder):
        Path("run.yaml").write_text(
            "data: toymnist.npz\nmodel: python:confmodel:make\ndevice: cpu\nthreat: {eps: [2/255, 8/255]}\n"
            "attacks: {mine: {attack: pgd, loss: dlr, inputs: [di, {si: {copies: 3}}], gradients: [ti], "
            "early_stop: true}}\n"
        )
        run = run_config(read_config(Path("run.yaml"), {}))
        assert len(run.records) == 12
        (part,) = run.info.parts.values()
        told = part.attacks["mine"]
        assert told["loss"]["part"] == "DLR"
        assert [one["part"] for one in told["inputs"]] == ["Diversity", "Scales"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"attack": "pdg"}, r"attacks.mine: unknown attack 'pdg': did you mean 'pgd'\?"),
            ({"restart": 3}, r"attacks.mine: unknown option of attack pgd 'restart': did you mean 'restarts'\?"),
            ({"loss": "dlrr"}, r"attacks.mine: attack pgd: unknown loss 'dlrr': did you mean 'dlr'\?"),
            ({"loss": {"margin": {"confidense": 1}}}, "attack pgd: unknown option of loss margin 'confidense'"),
            ({"inputs": ["dii"]}, r"attack pgd: unknown input 'dii': did you mean 'di'\?"),
            ({"inputs": [{"si": {"copis": 3}}]}, r"attack pgd: unknown option of input si 'copis': did you mean"),
            ({"inputs": [{"si": {"copies": 0}}]}, "attack pgd: input si: copies must be a whole number"),
            ({"inputs": [{"si": 3}]}, r"attack pgd: input is a name or \{si: .*, got \{'si': 3\}"),
            ({"inputs": [7]}, r"attack pgd: input is a name or \{si: .*, got 7"),
            ({"inputs": [{"di": {}, "si": {}}]}, "attack pgd: input is a name or"),
            ({"gradients": "momentun"}, r"unknown gradient part 'momentun': did you mean 'momentum'\?"),
            ({"gradients": [{"ti": {"kernel_size": "big"}}]}, "attack pgd: gradient part ti: "),
            ({"step": "adm"}, r"attack pgd: unknown step 'adm': did you mean 'adam'\?"),
            ({"step": {"adam": {"beta3": 1}}}, "unknown option of step adam 'beta3'"),
            ({"early_stop": "no"}, "attacks.mine: attack pgd: early_stop must be true or false, got 'no'"),
            ({"step_size": "wide"}, "attacks.mine: attack pgd: step_size 'wide' is not a budget"),
        ],
    )
    def test_typos_at_every_level_name_attack_and_option(self, options, words):
        config = read_config(None, {"attacks": {"mine": {"attack": "pgd", **options}}})
        with pytest.raises(InputError, match=words):
            config.build_attacks()


class TestDefence:
    def test_the_model_is_attacked_behind_it(self, folder):
        written = [{"jpeg": {"quality": 60}}, "bit_depth"]
        config = own(**{"model.defence": written, "model.mean": [0.4], "model.std": [0.2], "seed": 3})
        (part,) = build_parts(config)
        plain = mr.Victim(part.victim.model.model, part.victim.task, mean=0.4, std=0.2)
        twin = defended(plain, Chain([JPEG(60), BitDepth()]))
        images = torch.rand(2, 1, 28, 28)
        torch.testing.assert_close(part.victim(images), twin(images))
        assert not torch.equal(part.victim(images), plain(images))
        told = part.victim.describe()
        assert told["mean"] == pytest.approx([0.4])
        assert told["std"] == pytest.approx([0.2])
        assert [step["transform"] for step in told["defence"]] == ["JPEG", "BitDepth"]
        assert told["defence"][0]["quality"] == 60
        assert told["defence_seed"] == 3

    def test_it_is_kept_with_the_run_and_told(self, folder):
        run = run_config(own(**{"model.defence": {"jpeg": {"quality": 60}}, "model.mean": [0.4], "model.std": [0.2]}))
        run.save("runs/defended")
        (part,) = mr.load_run("runs/defended").info.parts.values()
        assert part.victim["defence"] == [{"transform": "JPEG", "quality": 60}]
        page = Path("runs/defended/report.html").read_text()
        assert "The model sees its images behind a defence (JPEG (quality 60)), which the attacks know." in page
        assert "JPEG (quality 60), then (image − mean) / std: mean 0.4; std 0.2" in page

    @pytest.mark.parametrize(
        ("written", "words"),
        [
            ("jpgg", r"model.defence: unknown transform 'jpgg': did you mean 'jpeg'\?"),
            ([{"jpeg": {"qualty": 75}}], "model.defence: unknown option of transform jpeg 'qualty'"),
            ([{"jpeg": {"quality": 0}}], "model.defence: transform jpeg: quality"),
            (7, "model.defence: a transform is a name"),
        ],
    )
    def test_mistakes(self, written, words):
        with pytest.raises(InputError, match=words):
            read_config(None, {"model": {"source": "timm:resnet18", "defence": written}})

    def test_how_the_model_is_run_is_passed_on(self, folder):
        (part,) = build_parts(own(**{"model.channels_last": True}))
        assert part.victim.channels_last
        given = own(**{"model.compile": True, "model.autocast": "bfloat16"}).model.victim_options()
        assert given == {"compile": True, "autocast": "bfloat16"}
        assert own().model.victim_options() == {}


class TestSurrogates:
    def test_by_source_with_the_models_normalisation_unless_they_have_their_own(self, folder):
        state = mr.load_model("python:confmodel:make", outputs=3, channels=1, task="classification").state_dict()
        save_file({name: value + 1 for name, value in state.items()}, "w.safetensors")
        written = [
            "python:confmodel:other",
            {"source": "python:confmodel:make", "weights": "w.safetensors", "mean": 0.1, "name": "shifted"},
            {"source": "python:confmodel:other", "std": [0.3]},
        ]
        (part,) = build_parts(own(surrogates=written, **{"model.mean": [0.4], "model.std": [0.2]}))
        assert list(part.surrogates) == ["other", "shifted", "other 2"]
        first, shifted, second = part.surrogates.values()
        assert (first.mean.item(), first.std.item()) == (0.4, 0.2)
        assert (shifted.mean.item(), shifted.std.item()) == (0.1, 0.2)
        assert (second.mean.item(), pytest.approx(second.std.item())) == (0.4, 0.3)
        loaded = shifted.model.state_dict()
        assert all(torch.allclose(loaded[name], value + 1) for name, value in state.items())

    def test_a_run_has_both_kinds(self, folder):
        run = run_config(own(surrogates="python:confmodel:other", attacks={"fgsm": {}, "bim": {"steps": 2}}))
        (part,) = run.info.parts.values()
        assert list(part.attacks) == ["fgsm", "bim", "fgsm via other", "bim via other"]
        assert part.attacks["bim via other"]["surrogate"] == "other"

    @pytest.mark.parametrize(
        ("written", "words"),
        [
            ([{"source": "timm:resnet18", "wieghts": "w"}], "unknown field 'surrogates.0.wieghts': did you mean"),
            ([{"weights": "w"}], "surrogates.0.source"),
            ([{"source": "timm:resnet18", "name": ""}], "surrogates.0.name"),
        ],
    )
    def test_mistakes(self, written, words):
        with pytest.raises(InputError, match=words):
            read_config(None, {"surrogates": written})
