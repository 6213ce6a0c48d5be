"""Several attacks as one: never better for the model than each of them, cheapest first, on what still stands."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

import medrobust as mr
from medrobust.attacks import make_attack
from medrobust.attacks.about import about
from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.per_image import either
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError

MEMBERS = [("bim", mr.BIM(steps=2)), ("pgd", mr.PGD(steps=4)), ("smia", mr.SMIA(steps=4, momentum=1.0))]
THREATS = (mr.Threat(6 / 255), mr.Threat(2 / 255), mr.Threat(4 / 255))


@dataclass
class Watched(BatchAttack):
    """Notes which images it is given."""

    inner: BatchAttack
    targeted: bool = False
    ids: list = field(default_factory=list)

    def attack_batch(self, victim, images, truth, threat, seed, ids):
        self.ids.append(list(ids))
        return self.inner.attack_batch(victim, images, truth, threat, seed, ids)


def segmenter():
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 3, padding=1)
    images = torch.rand(4, 1, 10, 10)
    victim = mr.Victim(model, mr.Segmentation(2, success_dice=0.3))
    return victim, images, victim(images).argmax(1)


def test_it_is_at_least_as_strong_as_each_per_image(trained):
    victim, images, truth = trained
    worst = mr.Ensemble(members=MEMBERS)(victim, images, truth, THREATS[0])
    for _, attack in MEMBERS:
        alone = attack(victim, images, truth, THREATS[0])
        assert bool((worst.success >= alone.success).all())
        stands = ~worst.success
        assert bool((worst.loss[stands] >= alone.loss[stands] - 1e-5).all())
    assert torch.equal(worst.success, victim.task.fooled(victim(worst.adversarial), truth))


def test_the_next_one_gets_what_still_stands(trained):
    victim, images, truth = trained
    first, second = Watched(mr.BIM(steps=2)), Watched(mr.PGD(steps=4))
    ids = [f"image {place}" for place in range(16)]
    result = mr.Ensemble(members=[("first", first), ("second", second)])(victim, images, truth, THREATS[0], ids=ids)
    assert first.ids == [ids]
    fallen = mr.BIM(steps=2)(victim, images, truth, THREATS[0], ids=ids).success
    assert second.ids == [[name for name, gone in zip(ids, fallen.tolist(), strict=True) if not gone]]
    assert [by == "first" for by in result.found_by] == [
        gone or by == "first" for gone, by in zip(fallen.tolist(), result.found_by, strict=True)
    ]
    assert result.steps_used.tolist() == [2 if gone else 6 for gone in fallen.tolist()]


def test_an_image_that_is_wrong_already_is_nobodys_find(trained):
    victim, images, truth = trained
    wrong = truth.clone()
    wrong[3] = (truth[3] + 2) % 5
    result = mr.Ensemble(members=MEMBERS)(victim, images, wrong, THREATS[0])
    assert result.found_by[3] == "clean"
    assert torch.equal(result.adversarial[3], images[3])


def test_masks_are_taken_by_their_dice():
    """Every member attacks every mask, and the lowest Dice counts, not whether it fell below the bar."""
    victim, images, truth = segmenter()
    members = [("weak", mr.FGSM()), ("strong", mr.SMIA(steps=6))]
    threat = mr.Threat(0.2)
    worst = mr.Ensemble(members=members)(victim, images, truth, threat)
    dice = victim.task.image_metrics(victim(worst.adversarial), truth)["dice"]
    for _, attack in members:
        alone = victim.task.image_metrics(victim(attack(victim, images, truth, threat).adversarial), truth)["dice"]
        assert bool((dice <= alone + 1e-9).all())


def test_several_budgets_go_on_from_what_was_found(trained):
    victim, images, truth = trained
    watched = Watched(mr.PGD(steps=4))
    large, small, middle = mr.Ensemble(members=[("pgd", watched)])(victim, images, truth, list(THREATS))
    assert [len(ids) for ids in watched.ids] == [16, int((~small.success).sum()), int((~middle.success).sum())]
    assert bool((small.success <= middle.success).all())
    assert bool((middle.success <= large.success).all())
    for threat, result in zip(THREATS, (large, small, middle), strict=True):
        assert float(result.delta.abs().max()) <= threat.eps + 1e-6
    assert int(large.steps_used[middle.success].sum()) == 0


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "an ensemble needs attacks"),
        ([("towards", mr.PGD(targeted=True))], "none of its attacks can be targeted"),
    ],
)
def test_what_is_no_ensemble_is_told(members, message):
    with pytest.raises(InputError, match=message):
        mr.Ensemble(members=members)


def test_members_may_be_a_mapping_or_bare_attacks():
    labels = [[one.label for one in mr.Ensemble(members=given).members] for given in (dict(MEMBERS), [mr.PGD()])]
    assert labels == [["bim", "pgd", "smia"], ["PGD"]]


def test_it_tells_its_members():
    described = mr.Ensemble(members=MEMBERS).describe()
    assert described["attack"] == "Ensemble"
    assert list(described["members"]) == ["bim", "pgd", "smia"]


def test_sea_shrinks_its_ball():
    """Each phase stays in its own ball, and the last one in the threat's."""
    from medrobust.attacks.sea import ShrinkingAPGD

    victim, images, truth = segmenter()
    seen: list[float] = []

    def watch(module, inputs):
        seen.append(float((inputs[0].detach() - images).abs().max()))

    hook = victim.model.register_forward_pre_hook(watch)
    images = images * 0.4 + 0.3  # no bound is near
    result = ShrinkingAPGD(steps=20)(victim, images, truth, mr.Threat(0.05))
    hook.remove()
    seen = [reach for reach in seen if reach > 0]
    assert max(seen[:6]) > 0.075
    assert max(seen) <= 0.1 + 1e-6
    assert max(seen[-8:]) <= 0.05 + 1e-6
    assert float(result.delta.abs().max()) <= 0.05 + 1e-6
    assert result.steps_used.tolist() == [6 + 6 + 8] * 4


def test_of_budgets_of_other_kinds_each_begins_with_its_own_truth():
    """A deformation moves the masks along, also where another kind of threat comes first."""
    victim, images, truth = segmenter()
    attack = mr.Ensemble(members=[("bim", mr.BIM(steps=4))])
    still, moved = attack(victim, images, truth, [mr.Threat(1e-3), mr.Deformation(1.0)])
    alone = attack(victim, images, truth, mr.Deformation(1.0))
    assert still.truth is None
    assert torch.equal(moved.truth, alone.truth)
    assert not torch.equal(moved.truth, truth)
    assert torch.equal(moved.loss, alone.loss)


def test_results_that_have_not_the_same_fields_cannot_be_one():
    victim, images, truth = segmenter()
    still, moved = mr.BIM(steps=1)(victim, images, truth, [mr.Threat(1e-3), mr.Deformation(1.0)])
    for pair in ((still, moved), (moved, still)):
        with pytest.raises(AssertionError, match="some parts have what others lack"):
            either(torch.tensor([True, False, True, False]), *pair)


def test_a_mask_of_channels_holds_for_as_many_images():
    """Of two volumes of two channels one stands; a mask (C, D, H, W) is still of the channels, not of the images."""
    torch.manual_seed(0)
    victim = mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(2 * 27, 3)), mr.Classification(3))
    images, mask = torch.rand(2, 2, 3, 3, 3), torch.zeros(2, 3, 3, 3)
    mask[0] = 1
    truth = victim(images).argmax(1)
    truth[0] = (truth[0] + 1) % 3
    threat = mr.Threat(0.1, mask=mask)
    for threats in (threat, [threat, mr.Threat(0.05, mask=mask)]):
        found = mr.Ensemble(members=[("bim", mr.BIM(steps=2))])(victim, images, truth, threats)
        for one in [found] if threats is threat else found:
            changed = one.delta.abs().flatten(2).amax(2) > 0
            assert changed.tolist() == [[False, False], [True, False]]


def test_what_must_see_the_whole_set_sees_it_within_an_ensemble(trained):
    victim, images, truth = trained
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(16)])
    universal = mr.Universal(epochs=1)
    attack, plain = mr.Ensemble(members=[("u", universal)]), mr.Ensemble(members=MEMBERS)
    ready = attack.prepared(victim, data, THREATS[0], 0)
    change = universal.prepared(victim, data, THREATS[0], 0)
    assert torch.equal(ready.members[0].attack.change, change.change)
    assert plain.prepared(victim, data, THREATS[0], 0) is plain
    frames = [mr.evaluate(victim, data, {"u": attack}, [THREATS[0]], batch_size=size).records for size in (4, 16)]
    ours, theirs = (frame.sort("index")["loss_after"].to_list() for frame in frames)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_of_a_list_of_sizes_it_tells_all_that_is_told_of_each():
    victim, images, _ = segmenter()
    ragged = [images[0], images[1, :, :6], images[2], images[3, :, :6]]
    truth = [victim(image[None]).argmax(1)[0] for image in ragged]
    attack = mr.Ensemble(members=[("bim", mr.BIM(steps=2)), ("square", mr.Square(queries=6))])
    together = attack(victim, ragged, truth, mr.Threat(0.2))
    each = [attack(victim, ragged[k][None], truth[k][None], mr.Threat(0.2), ids=[k]) for k in range(4)]
    assert together.queries.tolist() == [int(one.queries) for one in each]
    assert int(together.queries.min()) > 0
    assert together.found_by == [one.found_by[0] for one in each]
    assert together.smallest is None
    assert together.truth is None
    moved = mr.BIM(steps=2)(victim, ragged, truth, mr.Deformation(1.0))
    each = [mr.BIM(steps=2)(victim, ragged[k][None], truth[k][None], mr.Deformation(1.0)) for k in range(4)]
    for ours, alone in zip(moved.truth, each, strict=True):
        assert torch.equal(ours, alone.truth[0])


@pytest.mark.parametrize(
    "threat",
    [mr.Contrast(eps=0.2), mr.Deformation(1.0), mr.BandNoise(eps=0.05)],
    ids=["contrast", "deformation", "band"],
)
def test_of_masks_sea_is_left_out_where_it_cannot_be(threat):
    victim, images, truth = segmenter()
    attack = make_attack("medrobust", steps=3, queries=5)
    result = attack(victim, images, truth, threat)
    assert bool((victim.task.worth(result.outputs, truth if result.truth is None else result.truth) < 1).any())
    (told,) = attack.omissions("medrobust", victim, threat)
    assert "sea" in told.partition("what is left")[0]
    assert f"not for changes within {threat.norm}" in told


@pytest.mark.parametrize("threat", [mr.Contrast(eps=0.2), mr.BandNoise(eps=0.05)], ids=["contrast", "band"])
def test_sea_alone_tells_what_it_is_not_for(trained, threat):
    victim, images, truth = segmenter()
    with pytest.raises(InputError, match=f"SEA is for changes within linf or l2 or l1, the threat is {threat.norm}"):
        mr.SEA(steps=3)(victim, images, truth, threat)
    with pytest.raises(InputError, match=r"SEA needs an answer at every pixel \(a segmentation task\), got ordinal"):
        mr.SEA(steps=3)(*trained, THREATS[0])
    assert about("sea").norms == ("linf", "l2", "l1")
