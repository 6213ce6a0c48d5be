"""`mr.harden`: a copy of a model is trained, validated on other patients, kept and told of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from learning import Bars, network, victim_of

import medrobust as mr
from medrobust.data.dataset import Sample
from medrobust.errors import InputError
from medrobust.models import load_weights
from medrobust.training import Control, Left, Training, Validation

HOW = Training(epochs=12, learning_rate=3e-3, patience=0, normalisation="batch")
THREAT = mr.Threat(eps=16 / 255)


class OfPatients(Bars):
    """Two images of each patient."""

    def __init__(self, count: int, seed: int, first: int = 0) -> None:
        super().__init__(count, seed)
        self.first = first

    def __getitem__(self, index: int) -> Sample:
        return replace(super().__getitem__(index), patient=f"p{self.first + index // 2}")


def test_a_model_is_made_to_hold_and_the_one_it_was_made_from_is_left_alone(tmp_path):
    victim = victim_of(network())
    before = {name: value.clone() for name, value in victim.model.state_dict().items()}
    found = mr.harden(victim, OfPatients(48, 0), OfPatients(16, 1, first=100), "pgd-at", THREAT, HOW)
    assert all(torch.equal(before[name], value) for name, value in victim.model.state_dict().items())
    assert found.victim.task is victim.task
    plain = mr.harden(victim, OfPatients(48, 0), OfPatients(16, 1, first=100), Control(), THREAT, HOW)
    images, truth, ids = mr.stack([Bars(32, seed=2)[place] for place in range(32)])
    left = {}
    for name, one in (("hardened", found.victim), ("plain", plain.victim)):
        made = mr.PGD(steps=40)(one, images, truth, mr.Threat(eps=24 / 255), ids=ids).adversarial
        left[name] = float(one.task.worth(one(made), truth).mean())
    assert left["hardened"] >= left["plain"] + 0.2
    found.save(tmp_path / "hardened")
    told = json.loads((tmp_path / "hardened" / "training.json").read_text())
    assert told["method"] == "AdversarialTraining"
    assert told["outcome"]["history"][0]["step"] == 0
    again = network()
    load_weights(again, tmp_path / "hardened" / "model.safetensors")
    assert torch.equal(again.eval()((images - 0.5) / 0.25), found.victim(images))
    with pytest.raises(InputError, match="is not an empty folder"):
        found.save(tmp_path / "hardened")


def test_about_a_fifth_of_the_patients_are_held_back():
    seen: list[int] = []

    class Watched(Validation):
        def __call__(self, victim, data, threat, seed):
            seen.append(len(data))
            return Left(1.0, 0.5, 0.0)

    data, how = OfPatients(200, 0), replace(HOW, epochs=1)
    found = mr.harden(victim_of(network()), data, None, "control", THREAT, how, look=Watched())
    train, validation = found.told["images"]
    assert train + validation == 200
    assert 20 <= validation <= 60
    assert validation % 2 == 0
    assert set(seen) == {validation}


def test_a_patient_on_both_sides_is_refused():
    told = "4 patients are in both training and validation images: split them by patient"
    with pytest.raises(InputError, match=told):
        mr.harden(victim_of(network()), OfPatients(16, 0), OfPatients(8, 1), "control", THREAT)


def test_a_training_goes_on_from_its_file_and_from_no_other(tmp_path):
    path, how = tmp_path / "checkpoint.safetensors", replace(HOW, epochs=2)
    victim = victim_of(network())
    first = mr.harden(victim, Bars(), Bars(16, seed=1), "fgsm-rs", THREAT, how, checkpoint=path)
    again = mr.harden(victim, Bars(), Bars(16, seed=1), "fgsm-rs", THREAT, how, checkpoint=path)
    for name, value in first.victim.model.state_dict().items():
        assert torch.equal(value, again.victim.model.state_dict()[name])
    assert again.outcome == first.outcome
    for changed in ({"method": "control"}, {"seed": 1}, {"how": replace(how, learning_rate=1e-3)}):
        given = {"method": "fgsm-rs", "how": how, **changed}
        with pytest.raises(InputError, match="of a training with another model, data, method or options"):
            mr.harden(victim, Bars(), Bars(16, seed=1), threat=THREAT, checkpoint=path, **given)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": Bars(0)}, "there is no image for training"),
        ({"method": "smia"}, "unknown method 'smia'"),
        (
            {"victim": victim_of(network(masks=True), masks=True), "threat": mr.Deformation(1.0)},
            "a deformation moves true masks and boxes along, which no method of training follows",
        ),
    ],
)
def test_what_cannot_be_trained_is_told(changes, told):
    given = {"victim": victim_of(network()), "training": Bars(), "validation": Bars(8, seed=1), "method": "trades"}
    with pytest.raises(InputError, match=told):
        mr.harden(**{**given, "threat": THREAT, **changes})
