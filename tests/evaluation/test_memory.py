"""Memory that runs out halves the batch once, for the rest of a run, and changes no result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import medrobust as mr
from medrobust.attacks.at_once import AtOnce
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError, MedrobustWarning
from medrobust.evaluation import Aftercheck, export_adversarial
from medrobust.memory import halved, halvings

THREATS = [mr.Threat(4 / 255)]


class Small(nn.Module):
    """A network on a machine that holds `fits` images, with a gradient `fits_gradient`; it notes what it is given."""

    def __init__(self, model: nn.Module, fits: int, fits_gradient: int | None = None) -> None:
        super().__init__()
        self.model, self.fits, self.given = model, fits, []
        self.fits_gradient = fits if fits_gradient is None else fits_gradient

    def forward(self, x):
        self.given.append(len(x))
        if len(x) > (self.fits_gradient if x.requires_grad else self.fits):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return self.model(x)


@pytest.fixture
def data(trained):
    _, images, truth = trained
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    return InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(16)])


def victim_with(trained, *fits) -> mr.Victim:
    return mr.Victim(Small(trained[0].model, *fits), trained[0].task)


def same(ours: mr.Run, theirs: mr.Run) -> bool:
    """All but the last bits, which depend on the size of a batch, and the time."""
    for one, other in zip(*(run.records.sort("part", "attack", "index") for run in (ours, theirs)), strict=True):
        if one.name == "seconds":
            continue
        if one.dtype.is_float():
            assert one.to_list() == pytest.approx(other.to_list(), abs=1e-3), one.name
        elif not one.dtype.is_nested():
            assert one.to_list() == other.to_list(), one.name
    return True


@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
@pytest.mark.parametrize("fits", [(4,), (16, 4), (4, 16), (3, 2)])
def test_a_run_goes_on_with_what_fits_and_comes_to_the_same(trained, data, fits):
    checks = [Aftercheck("as it is", lambda images, bounds, generators: images)]
    attacks = {"fgsm": mr.FGSM(), "smia": mr.SMIA(steps=2)}
    victim = victim_with(trained, *fits)
    run = mr.evaluate(victim, data, attacks, THREATS, batch_size=16, afterchecks=checks)
    assert same(run, mr.evaluate(trained[0], data, attacks, THREATS, batch_size=16, afterchecks=checks))
    told = run.info.parts["slices"].dataset.notes
    assert len(told) == 1
    assert told[0].startswith("The batch was halved to ")


def test_the_large_batch_is_not_tried_again(trained, data):
    victim = victim_with(trained, 4)
    with pytest.warns(MedrobustWarning, match="out of memory") as warned:
        run = mr.evaluate(victim, data, {"fgsm": mr.FGSM(), "bim": mr.BIM(steps=2)}, THREATS, batch_size=8)
    assert len(warned) == 1, "8 → 4, once"
    assert victim.model.given.count(8) == 1
    assert max(victim.model.given[1:]) == 4
    assert "The batch was halved to 4 when memory ran out; the results do not depend on it." in (
        run.info.parts["slices"].dataset.notes
    )
    assert "halved to 4" in repr(run.table())


def test_what_an_attack_halves_by_itself_is_heard_too(trained, data):
    """Clean images fit, gradients do not: the attack halves its batch, and the next one is given no more."""
    victim = victim_with(trained, 8, 2)
    with pytest.warns(MedrobustWarning):
        run = mr.evaluate(victim, data, {"fgsm": mr.FGSM()}, THREATS, batch_size=8)
    assert "halved to 2" in run.info.parts["slices"].dataset.notes[0]
    # the second batch of 8 is asked in pieces of 2 alone: clean, gradient and measured
    assert set(victim.model.given[-12:]) == {2}


@dataclass(frozen=True)
class Theirs:
    """A user's attack, which knows nothing of memory."""

    targeted: bool = False

    def describe(self):
        return {"attack": "Theirs"}

    def __call__(self, victim, images, truth, threat, seed=0, ids=None):
        images.clone().requires_grad_()
        return mr.FGSM().attack_batch(victim, images, truth, threat, seed, ids)


@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
def test_a_users_attack_is_halved_for_it(trained, data):
    run = mr.evaluate(victim_with(trained, 8, 2), data, {"theirs": Theirs()}, THREATS, batch_size=8)
    assert same(run, mr.evaluate(trained[0], data, {"theirs": Theirs()}, THREATS, batch_size=8))


def test_one_image_that_does_not_fit_is_told_in_a_line(trained, data):
    with (
        pytest.warns(MedrobustWarning),
        pytest.raises(InputError, match="out of memory with a single image; resize the images"),
    ):
        mr.evaluate(victim_with(trained, 0), data, {"fgsm": mr.FGSM()}, THREATS, batch_size=2)


def test_nothing_is_said_where_memory_suffices(trained, data):
    run = mr.evaluate(trained[0], data, {"fgsm": mr.FGSM()}, THREATS)
    assert run.info.parts["slices"].dataset.notes == ()


# the second: an attack that needs less than what comes after it
@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
@pytest.mark.parametrize("fits", [(4, 2), (3, 8)])
@pytest.mark.parametrize("attack", [mr.BIM(steps=2), mr.Universal(epochs=1, batch_size=2)], ids=["bim", "universal"])
def test_the_same_images_are_written_in_less_memory(trained, data, tmp_path, attack, fits):
    victim = mr.Victim(Small(trained[0].model, *fits), trained[0].task)
    rows = export_adversarial(victim, data, attack, mr.Threat(4 / 255), tmp_path / "few", batch_size=8)
    expected = export_adversarial(trained[0], data, attack, mr.Threat(4 / 255), tmp_path / "all", batch_size=8)
    assert len(rows) == 16
    for row in expected:
        few, whole = (np.asarray(Image.open(tmp_path / name / str(row["file"]))) for name in ("few", "all"))
        assert (few != whole).mean() < 0.01, "but for the last bits of gradients near 0"
    assert [row["loss_after"] for row in rows] == pytest.approx([row["loss_after"] for row in expected], abs=1e-3)


def test_one_image_that_does_not_fit_is_told_before_any_is_written(trained, data, tmp_path):
    victim = mr.Victim(Small(trained[0].model, 0, 0), trained[0].task)
    with (
        pytest.warns(MedrobustWarning, match="out of memory with . images"),
        pytest.raises(InputError, match="out of memory with a single image; resize the images"),
    ):
        export_adversarial(victim, data, mr.FGSM(), mr.Threat(4 / 255), tmp_path / "none", batch_size=8)
    assert not (tmp_path / "none").exists()


def test_pieces_are_the_whole_in_order():
    at_once, asked = AtOnce(8), []

    def work(index):
        asked.append(len(index))
        if len(index) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return index * 10

    with pytest.warns(MedrobustWarning):
        assert at_once.run(work, 8).tolist() == [10 * k for k in range(8)]
    assert asked == [8, 4, 2, 2, 2, 2]
    assert (at_once.images, at_once.halved) == (2, True)


def test_other_errors_are_left_alone():
    def work(index):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        AtOnce(8).run(work, 8)


@pytest.mark.filterwarnings("ignore::medrobust.errors.MedrobustWarning")
def test_halvings_are_heard_by_all_who_listen_and_nobody_else():
    with halvings() as outer:
        with halvings() as inner:
            assert halved(9) == 4
        halved(4)
    halved(2)
    assert (outer, inner) == ([4, 2], [4])
