"""Attacks through a surrogate: made on one model, measured on another, which may give no gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.attacks.protocols import needs_of
from medrobust.attacks.transfer import Transfer, with_surrogates
from medrobust.black_box import BlackBox
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.models import weights_fingerprint
from medrobust.threat import Deformation
from medrobust.transforms import JPEG, defended

THREAT = mr.Threat(8 / 255)
IDS = ["a", "b", "c", "d"]


def other_network(seed: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 5)
        )


@pytest.fixture
def surrogate(trained) -> mr.Victim:
    return mr.Victim(other_network(), trained[0].task)


def dataset(images, truth) -> InMemoryDataset:
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    return InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(len(images))])


@pytest.mark.parametrize("black", [False, True])
def test_the_images_are_the_surrogates_the_figures_the_victims(trained, surrogate, black):
    victim, images, truth = trained[0], trained[1][:4], trained[2][:4]
    if black:
        victim = BlackBox(victim.model, victim.task)
    attack = mr.PGD(steps=3)
    made = attack(surrogate, images, truth, THREAT, 3, IDS)
    found = Transfer(attack, surrogate, "other")(victim, images, truth, THREAT, 3, IDS)
    assert torch.equal(found.adversarial, made.adversarial)
    with torch.no_grad():
        outputs = victim(made.adversarial)
    torch.testing.assert_close(found.outputs, outputs)
    torch.testing.assert_close(found.loss, victim.task.loss(outputs, truth))
    assert found.success.tolist() == victim.task.fooled(outputs, truth).tolist()
    assert found.steps_used.tolist() == [3] * 4
    assert found.queries.tolist() == [0] * 4
    assert not torch.allclose(found.loss, made.loss)


def test_targeted_is_the_attacks_and_reached_on_the_victim(trained, surrogate):
    victim, images = trained[0], trained[1][:4]
    attack = Transfer(mr.PGD(steps=2, targeted=True), surrogate, "other")
    assert attack.targeted
    wanted = victim(images).argmax(1)
    found = attack(victim, images, wanted, mr.Threat(0.0), 0, IDS)
    assert found.success.tolist() == [True] * 4
    assert attack(victim, images, (wanted + 1) % 5, mr.Threat(0.0), 0, IDS).success.tolist() == [False] * 4


def test_budgets_of_an_attack_that_shares_them_are_shared(trained, surrogate):
    victim, images, truth = trained[0], trained[1][:4], trained[2][:4]
    attack = Transfer(mr.PGD(steps=3, early_stop=True), surrogate, "other")
    assert attack.shares_budgets
    assert not Transfer(mr.PGD(), surrogate, "other").shares_budgets
    threats = [mr.Threat(8 / 255), mr.Threat(1 / 255)]
    inner = mr.PGD(steps=3, early_stop=True)(surrogate, images, truth, threats, 0, IDS)
    for found, made in zip(attack(victim, images, truth, threats, 0, IDS), inner, strict=True):
        assert torch.equal(found.adversarial, made.adversarial)
        torch.testing.assert_close(found.outputs.detach(), victim(made.adversarial).detach())


def test_the_smallest_change_of_the_surrogate_is_not_the_victims(trained, surrogate):
    class Searching(mr.PGD):
        def search(self, case):
            return replace(super().search(case), smallest=torch.ones(len(case)))

    victim, images, truth = trained[0], trained[1][:4], trained[2][:4]
    assert Searching(steps=1)(surrogate, images, truth, THREAT).smallest is not None
    assert Transfer(Searching(steps=1), surrogate, "o")(victim, images, truth, THREAT).smallest is None


def test_a_moved_truth_goes_along():
    """A dense victim is judged by the masks where the surrogate's deformation moved them."""
    generator = torch.Generator().manual_seed(0)
    images, truth = torch.rand(2, 1, 16, 16, generator=generator), torch.randint(0, 2, (2, 16, 16), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (mr.Victim(nn.Conv2d(1, 2, 3, padding=1), mr.Segmentation(2)) for _ in range(2))
    found = Transfer(mr.PGD(steps=3), first, "o")(second, images, truth, Deformation(3.0))
    assert not torch.equal(found.truth, truth)
    torch.testing.assert_close(found.loss, second.task.loss(found.outputs, found.truth))
    assert found.success.tolist() == second.task.fooled(found.outputs, found.truth).tolist()


def test_it_tells_its_surrogate(surrogate):
    told = Transfer(mr.PGD(steps=7), surrogate, "resnet18").describe()
    assert (told["attack"], told["surrogate"], told["steps"]) == ("PGD via resnet18", "resnet18", 7)
    assert told["surrogate_sha256"] == weights_fingerprint(surrogate.model)[:16]
    behind = Transfer(mr.PGD(steps=7), defended(surrogate, JPEG(40), 5), "resnet18").describe()
    assert behind == told | {"surrogate_defence": JPEG(40).describe(), "surrogate_defence_seed": 5}
    assert needs_of(Transfer(mr.PGD(), surrogate, "o")) == "decisions"
    assert needs_of(mr.PGD()) == "gradients"


def test_an_empty_batch(trained, surrogate):
    victim, images, truth = trained
    assert len(Transfer(mr.PGD(), surrogate, "o")(victim, images[:0], truth[:0], THREAT).success) == 0


def test_bounds_and_classes_must_agree(trained, surrogate):
    victim, images, truth = trained[0], trained[1][:4], trained[2][:4]
    wide = mr.Victim(surrogate.model, surrogate.task, bounds=(0, 2))
    with pytest.raises(InputError, match=r"surrogate o has the bounds \(0.0, 2.0\), the attacked model \(0.0, 1.0\)"):
        Transfer(mr.PGD(), wide, "o")(victim, images, truth, THREAT)
    few = mr.Victim(surrogate.model, mr.Classification(3))
    with pytest.raises(InputError, match=r"surrogate o is for .* of 3 classes, the attacked model for .* of 5"):
        Transfer(mr.PGD(), few, "o")(victim, images, truth, THREAT)


def test_a_run_with_surrogates(trained, surrogate, tmp_path):
    victim, images, truth = trained
    data, attacks = dataset(images, truth), {"fgsm": mr.FGSM(), "pgd": mr.PGD(steps=2)}
    run = mr.evaluate(victim, data, attacks, [THREAT], surrogates={"small": surrogate})
    labels = ["fgsm", "pgd", "fgsm via small", "pgd via small"]
    assert list(run.info.parts["slices"].attacks) == labels
    rows = run.records.filter(attack="pgd via small").sort("index")
    ids = [f"s{k}" for k in range(16)]
    made = attacks["pgd"](surrogate, images, truth, THREAT, 0, ids).adversarial
    assert rows["success"].to_list() == victim.task.fooled(victim(made), truth).tolist()
    run.save(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Attacks “via” another model were made on that one" in page
    assert "transfer from other models" not in page


def test_a_black_box_is_attacked_through_its_surrogates_alone(trained, surrogate):
    victim, images, truth = trained
    box, data = BlackBox(victim.model, victim.task), dataset(images[:4], truth[:4])
    with pytest.raises(InputError, match=r"PGD needs gradients, and a black box gives none: .*surrogate"):
        mr.evaluate(box, data, {"pgd": mr.PGD()}, [THREAT])
    run = mr.evaluate(box, data, {"pgd": mr.PGD(steps=2)}, [THREAT], surrogates={"small": surrogate})
    assert run.records["attack"].unique().to_list() == ["pgd via small"]

    class Asking(mr.PGD):
        needs = "scores"

    both = with_surrogates({"pgd": mr.PGD(), "ask": Asking()}, {"small": surrogate}, box)
    assert list(both) == ["ask", "pgd via small", "ask via small"]


def test_what_is_estimated_from_scores_needs_no_gradients(trained, surrogate):
    box = BlackBox(trained[0].model, trained[0].task)
    estimated = mr.PGD(estimate="nes")
    assert needs_of(estimated) == "scores"
    assert mr.Ensemble(members=[("nes", estimated)]).needs == "scores"
    assert list(with_surrogates({"nes": estimated}, {"small": surrogate}, box)) == ["nes", "nes via small"]


def test_a_label_that_is_taken(trained, surrogate):
    attacks = {"pgd": mr.PGD(), "pgd via x": mr.PGD()}
    with pytest.raises(InputError, match="the label 'pgd via x' is that of an attack through a surrogate"):
        with_surrogates(attacks, {"x": surrogate}, trained[0])


def test_a_universal_change_is_made_on_the_surrogates_whole_set(trained, surrogate):
    victim, images, truth = trained
    data, attack = dataset(images, truth), mr.make_attack("universal", {"epochs": 1})
    run = mr.evaluate(victim, data, {"u": attack}, [THREAT], surrogates={"s": surrogate}, batch_size=4)
    change = attack.prepared(surrogate, data, THREAT, 0)
    made = change(surrogate, images, truth, THREAT).adversarial
    rows = run.records.filter(attack="u via s").sort("index")
    assert rows["loss_after"].to_list() == pytest.approx(victim.task.loss(victim(made), truth).tolist(), abs=1e-4)


def test_towards_a_mask_it_is_judged_by_the_mask(trained):
    """Through a twin of the victim, figures are those of the attack itself: what counts is the wanted mask."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.rand(3, 1, 8, 8)
        victim = mr.Victim(nn.Conv2d(1, 2, 3, padding=1), mr.Segmentation(2))
    truth = victim(images).argmax(1)
    attack = mr.Towards(mr.PGD(steps=1), mr.EmptyMask())
    with pytest.raises(InputError, match=r"a surrogate goes inside: Towards\(Transfer\("):
        Transfer(attack, victim, "twin")
    through = with_surrogates({"erase": attack}, {"twin": victim}, victim)["erase via twin"]
    itself, found = (one(victim, images, truth, mr.Threat(0.02)) for one in (attack, through))
    assert found.success.tolist() == itself.success.tolist()
    torch.testing.assert_close(found.loss, itself.loss)
    assert through.describe()["attack"] == "PGD via twin towards a mask"
    assert needs_of(through) == "decisions"
    with pytest.raises(InputError, match="none of its attacks can be targeted"):
        mr.Ensemble(members=[("erase", through)])
