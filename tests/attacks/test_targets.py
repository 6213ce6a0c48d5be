"""Targets made of the truth: an empty mask, a moved one, one from a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

import medrobust as mr
from medrobust.attacks import make_attack
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError

TASK = mr.Segmentation(3)
TRUTH = torch.zeros(2, 8, 9, dtype=torch.int64)
TRUTH[0, 2:5, 1:4] = 1
TRUTH[0, 5:7, 6:8] = 2
TRUTH[1, 1:4, 2:8] = 1


class Brightness(nn.Module):
    """Class k where the pixel is nearest to k/2."""

    def forward(self, x):
        return torch.cat([-((x - level) ** 2) * 20 for level in (0.0, 0.5, 1.0)], 1)


VICTIM = mr.Victim(Brightness(), TASK)
IMAGES = (TRUTH.unsqueeze(1) / 2).clamp(0.05, 0.95)


def outputs_of(labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(labels, 3).movedim(-1, 1).float()


def test_empty_masks():
    assert torch.equal(mr.EmptyMask().of(TASK, TRUTH, None), torch.zeros_like(TRUTH))
    assert torch.equal(mr.EmptyMask((2,)).of(TASK, TRUTH, None), TRUTH.masked_fill(TRUTH == 2, 0))
    ignoring, truth = mr.Segmentation(3, ignore_index=255), TRUTH.clone()
    truth[0, 0] = 255
    assert torch.equal(mr.EmptyMask().of(ignoring, truth, None), truth.masked_fill(truth < 255, 0))
    labels = torch.stack([TRUTH == 1, TRUTH == 2], 1).long()
    erased = mr.EmptyMask((1,)).of(mr.Segmentation(2, multilabel=True), labels, None)
    assert torch.equal(erased, torch.stack([TRUTH == 1, torch.zeros_like(TRUTH)], 1).long())


@pytest.mark.parametrize("ignored", [0, 2])
def test_what_is_ignored_is_not_erased(ignored):
    with pytest.raises(InputError, match=f"the task ignores class {ignored}"):
        mr.EmptyMask((2,)).of(mr.Segmentation(3, ignore_index=ignored), TRUTH, None)


def test_a_list_of_sizes_is_as_if_each_were_alone():
    images, truth = [IMAGES[0], IMAGES[1, :, :, :6], IMAGES[1]], [TRUTH[0], TRUTH[1, :, :6], TRUTH[1]]
    attack = mr.Towards(mr.PGD(steps=20, step_size=0.05, random_start=True), mr.EmptyMask())
    threat = mr.Threat(0.6, region=mr.Region((1, 2), margin=1))
    together = attack(VICTIM, images, truth, threat, ids=["a", "b", "c"])
    for place, name in enumerate("abc"):
        alone = attack(VICTIM, images[place][None], truth[place][None], threat, ids=[name])
        torch.testing.assert_close(together.adversarial[place], alone.adversarial[0])
        assert together.success[place] == alone.success[0]
    # the first has class 2 at 0.95: less 0.6 that is class 1 at best
    assert together.success.tolist() == [False, True, True]


def test_erased_is_when_no_pixel_of_it_is_answered():
    """One pixel anywhere is a lesion still found; an image that has none has nothing to erase."""
    target, answer = mr.EmptyMask((2,)), TRUTH.clone()
    reached = lambda labels, task=TASK, truth=TRUTH: target.reached(task, outputs_of(labels), truth, truth).tolist()  # noqa: E731
    assert reached(answer) == [False, False]
    answer[0][answer[0] == 2] = 1
    assert reached(answer) == [True, False]
    answer[0, 0, 0] = 2
    assert reached(answer) == [False, False]
    truth = TRUTH.clone()
    truth[0, 0, 0] = 255
    assert reached(answer, mr.Segmentation(3, ignore_index=255), truth) == [True, False]


@pytest.mark.parametrize("by", [(2, 0), (-1, 3), (0, -4), (50, 0)])
def test_a_shift_is_scipys(by):
    found = mr.ShiftedMask(by).of(TASK, TRUTH, None)
    expected = [ndimage.shift(mask, by, order=0, cval=0) for mask in TRUTH.numpy()]
    assert np.array_equal(found.numpy(), np.stack(expected))


def test_a_shift_in_three_dimensions_of_labels_with_unknown_ones():
    truth = torch.randint(0, 2, (1, 2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    task = mr.Segmentation(2, multilabel=True, ignore_index=-1)
    expected = torch.from_numpy(ndimage.shift(truth[0, 1].numpy(), (1, 0, -2), order=0, cval=0))
    assert torch.equal(mr.ShiftedMask((1, 0, -2)).of(task, truth, None)[0, 1], expected)
    truth[0, 1, 2, 3] = -1
    moved = mr.ShiftedMask((0, 1, 0)).of(task, truth, None)
    assert bool((moved[0, 1, 2, 3] == -1).all())
    assert int((moved == -1).sum()) == 5


def test_moved_is_when_the_answer_is_nearer_to_the_target_than_to_the_truth():
    target = mr.ShiftedMask((1, 0))
    wanted = target.of(TASK, TRUTH, None)
    assert float(TASK.image_metrics(outputs_of(TRUTH), wanted)["dice"].min()) > 0.5
    assert target.reached(TASK, outputs_of(TRUTH), TRUTH, wanted).tolist() == [False, False]
    assert target.reached(TASK, outputs_of(wanted), TRUTH, wanted).tolist() == [True, True]
    assert mr.ShiftedMask((0, 0)).reached(TASK, outputs_of(TRUTH), TRUTH, TRUTH).tolist() == [False, False]


def test_an_attack_erases_and_its_result_tells_of_the_target():
    attack = mr.Towards(mr.BIM(steps=20), mr.EmptyMask())
    assert not attack.targeted
    assert attack.attack.targeted
    result = attack(VICTIM, IMAGES, TRUTH, mr.Threat(0.3))
    empty = torch.zeros_like(TRUTH)
    # class 1 is at 0.5, nearer to the background than to 1; class 2 at 0.95 can fall to class 1 at most
    assert result.success.tolist() == [False, True]
    assert torch.allclose(result.loss, TASK.loss(VICTIM(result.adversarial), empty), atol=1e-5)
    inner = mr.BIM(steps=20, targeted=True)(VICTIM, IMAGES, empty, mr.Threat(0.3))
    assert torch.equal(result.adversarial, inner.adversarial)
    assert mr.Towards(mr.ASMA(), mr.EmptyMask()).attack == mr.ASMA()


def masks(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, labels in files.items():
        Image.fromarray(labels.numpy().astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_masks_from_files_by_the_samples_names(tmp_path):
    drawn = TRUTH.flip(2)
    folder = masks(tmp_path / "masks", slice_7=drawn[0], other=drawn[1], more=drawn[1])
    wanted = mr.MaskFile(folder).of(TASK, TRUTH, ["series/slice_7.dcm", "other"])
    assert torch.equal(wanted, drawn)
    assert mr.MaskFile(str(folder)).describe() == {"kind": "files", "folder": "masks"}


def test_mask_files_that_cannot_be_used(tmp_path):
    folder = masks(tmp_path / "masks", small=TRUTH[0, :4], strange=TRUTH[0] + 7, twin=TRUTH[0])
    Image.fromarray(TRUTH[0].numpy().astype(np.uint8)).save(folder / "twin.tif")
    of = mr.MaskFile(folder).of
    for sample, message in (
        ("gone.png", r"masks has no mask for image 'gone.png': it needs a file gone.png"),
        ("small.png", r"small.png: the mask is \(4, 9\), the image \(8, 9\)"),
        ("strange.png", r"strange.png: truth holds label [789]"),
        ("twin.png", r"two masks for image 'twin.png': twin.png and twin.tif"),
    ):
        with pytest.raises(InputError, match=message):
            of(TASK, TRUTH[:1], [sample])
    with pytest.raises(InputError, match="give ids to the attack"):
        of(TASK, TRUTH[:1], None)
    with pytest.raises(InputError, match="nowhere: the masks cannot be listed"):
        mr.MaskFile(tmp_path / "nowhere").of(TASK, TRUTH[:1], ["a"])
    with pytest.raises(InputError, match="no target for a multi-label task"):
        of(mr.Segmentation(2, multilabel=True), TRUTH[:1], ["a"])


def test_as_a_configuration_writes_them(tmp_path):
    for written, target in (
        ("empty", mr.EmptyMask()),
        ({"empty": [2]}, mr.EmptyMask((2,))),
        ({"shift": [5, 0]}, mr.ShiftedMask((5, 0))),
        ({"files": "masks/"}, mr.MaskFile("masks")),
    ):
        attack = make_attack("smia", {"steps": 3, "target": written})
        assert attack == mr.Towards(mr.SMIA(steps=3, targeted=True), target)
    for written in ("nothing", {"shift": 5}, {"shift": [1, 2], "empty": []}, 3):
        with pytest.raises(InputError, match=r"attack smia: target must be empty, \{empty: \[2\]\}"):
            make_attack("smia", {"target": written})
    with pytest.raises(InputError, match="attack pgd: a shift is of whole pixels"):
        make_attack("pgd", {"target": {"shift": [0.5, 1]}})


def test_a_data_set_can_be_evaluated_with_it():
    info = DatasetInfo("bright", "segmentation", ("background", "organ", "lesion"), 1)
    data = InMemoryDataset(info, [Sample(f"s{k}", IMAGES[k], TRUTH[k]) for k in range(2)])
    attacks = {"erase": make_attack("bim", {"steps": 20, "target": {"empty": [1]}})}
    run = mr.evaluate(VICTIM, data, attacks, [mr.Threat(0.3, region=mr.Region((1,), margin=1))])
    assert run.records["success"].to_list() == [True, True]
    (part,) = run.info.parts.values()
    told = part.attacks["erase"]
    assert (told["attack"], told["target"]) == ("BIM towards a mask", {"kind": "empty", "classes": [1]})
    assert told["targeted"] is True
    assert part.threats[0]["region"] == {"classes": [1], "outside": False, "margin": 1}


@dataclass(frozen=True)
class Untargetable:
    steps: int = 1

    def describe(self):
        return {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mr.Towards(Untargetable(), mr.EmptyMask()), "Untargetable cannot be targeted"),
        (lambda: mr.ShiftedMask((1,)), r"a shift is \(dy, dx\)"),
        (lambda: mr.ShiftedMask((1.5, 2)), "a shift is of whole pixels"),
        (lambda: mr.ShiftedMask((1, 2, 3)).of(TASK, TRUTH, None), r"does not fit masks \(8, 9\)"),
        (lambda: mr.EmptyMask((0,)).of(TASK, TRUTH, None), r"classes to erase are 1 to 2, got \[0\]"),
        (lambda: mr.EmptyMask(("lesion",)), "a class to erase must be a whole number"),
        (
            lambda: mr.Towards(mr.PGD(), mr.EmptyMask())(
                mr.Victim(nn.Flatten(), mr.Classification(4)), IMAGES, torch.tensor([0, 1]), mr.Threat(0.1)
            ),
            "a target of masks is for segmentation",
        ),
        (
            lambda: mr.Towards(mr.PGD(), mr.EmptyMask())(VICTIM, IMAGES, TRUTH, mr.Deformation(1.0)),
            "a deformation moves the truth along: it cannot be attacked towards a chosen mask",
        ),
        (lambda: mr.Towards(mr.Universal(), mr.EmptyMask()), "Universal sees the whole data set first"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
