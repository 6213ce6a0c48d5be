"""Regions: the part of an image that its own truth leaves to the attacker."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from torch import nn

import medrobust as mr
from medrobust.errors import InputError

TRUTH = torch.tensor([[[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 2, 2], [0, 0, 0, 2, 2]]])
IMAGES = torch.full((1, 1, 4, 5), 0.5)


def region(truth=TRUTH, images=IMAGES, **options) -> list:
    return mr.Region(**options).mask(truth, images)[0, 0].long().tolist()


def test_inside_and_outside_by_hand():
    assert region(classes=(1,)) == [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert region(classes=(1, 2)) == (TRUTH[0] > 0).long().tolist()
    assert region(classes=(2,), outside=True) == (TRUTH[0] != 2).long().tolist()


def test_the_margin_extends_the_classes():
    assert region(classes=(1,), margin=1) == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert region(classes=(2,), margin=1, outside=True) == [
        [1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
    ]


@pytest.mark.parametrize("margin", [1, 2])
def test_the_margin_is_a_dilation_in_three_dimensions(margin):
    truth = (torch.rand(1, 6, 7, 8, generator=torch.Generator().manual_seed(0)) > 0.97).long()
    found = mr.Region((1,), margin=margin).mask(truth, truth.unsqueeze(1).float())[0, 0]
    expected = ndimage.binary_dilation(truth[0].numpy(), ndimage.generate_binary_structure(3, 3), iterations=margin)
    assert torch.equal(found, torch.from_numpy(expected))


def test_labels_of_their_own():
    truth = torch.stack([TRUTH == 1, TRUTH == 2], 1).long()
    assert region(truth, classes=(0,)) == (TRUTH[0] == 1).long().tolist()
    truth[0, 1, 0, 0] = -1  # unknown
    assert region(truth, classes=(0, 1)) == (TRUTH[0] > 0).long().tolist()


def test_boxes():
    """A pixel is in a box when its centre is; rows of class −1 only fill up."""
    boxes = torch.tensor([[[1.0, 0.6, 3.0, 2.5, 4.0], [0.0, 0.0, 5.0, 4.0, -1.0], [0.0, 3.0, 1.0, 4.0, 2.0]]])
    assert region(boxes, classes=(4,)) == [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert region(boxes, classes=(2,)) == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    none = torch.zeros(1, 0, 5)
    assert sum(map(sum, region(none, classes=(2,)))) == 0
    assert sum(map(sum, region(none, classes=(2,), outside=True))) == 20


class Brightness(nn.Module):
    """Class k where the pixel is nearest to k/2."""

    def forward(self, x):
        return torch.cat([-((x - level) ** 2) * 20 for level in (0.0, 0.5, 1.0)], 1)


def attacked(threat, truth=TRUTH, attack=None):
    victim = mr.Victim(Brightness(), mr.Segmentation(3))
    images = (truth.unsqueeze(1) / 2).clamp(0.1, 0.9)
    return (attack or mr.PGD(steps=3))(victim, images, truth, threat).delta[0, 0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_stays_in_it(norm):
    inside = attacked(mr.Threat(0.2, norm, region=mr.Region((2,)))) != 0
    assert torch.equal(inside, TRUTH[0] == 2)
    outside = attacked(mr.Threat(0.2, norm, region=mr.Region((2,), outside=True, margin=1))) != 0
    assert not outside[1:, 2:].any()
    assert outside[:, :2].all()


def test_with_a_mask_both_must_allow():
    mask = torch.zeros(4, 5)
    mask[2] = 1
    changed = attacked(mr.Threat(0.2, mask=mask, region=mr.Region((2,)))) != 0
    assert torch.equal(changed, (TRUTH[0] == 2) & (mask != 0))


def test_every_image_has_its_own():
    truth = torch.cat([TRUTH, TRUTH.flip(2)])
    victim = mr.Victim(Brightness(), mr.Segmentation(3))
    images = truth.unsqueeze(1) / 2
    threat = mr.Threat(0.2, region=mr.Region((1,)))
    changed = mr.FGSM()(victim, images, truth, threat).delta.squeeze(1) != 0
    assert torch.equal(changed, truth == 1)


def test_an_image_without_the_class_stays_as_it_is():
    assert not attacked(mr.Threat(0.2, region=mr.Region((1,))), truth=TRUTH.clamp_min(2)).any()


def test_a_target_alone_does_not_tell_where_it_is():
    threat = mr.Threat(0.2, region=mr.Region((2,)))
    with pytest.raises(InputError, match="a targeted attack is given"):
        attacked(threat, attack=mr.PGD(steps=2, targeted=True))
    for several in ([threat, mr.Threat(0.1)], [mr.Threat(0.1), threat]):
        with pytest.raises(InputError, match="a targeted attack is given"):
            attacked(several, attack=mr.PGD(steps=2, targeted=True))
    known = threat.for_truth(TRUTH, TRUTH.unsqueeze(1) / 2)
    changed = attacked(known, attack=mr.PGD(steps=2, targeted=True)) != 0
    assert torch.equal(changed, TRUTH[0] == 2)


def test_for_a_target_it_is_that_of_the_truth():
    """Towards an empty mask, the target has no lesion; the region is where the lesion truly is."""
    delta = attacked(mr.Threat(0.2, region=mr.Region((2,))), attack=mr.Towards(mr.PGD(steps=3), mr.EmptyMask()))
    assert torch.equal(delta != 0, TRUTH[0] == 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mr.Region(()), "needs the indices of its classes"),
        (lambda: mr.Region("liver"), "needs the indices of its classes"),
        (lambda: mr.Region(("liver",)), "a class of the region must be a whole number"),
        (lambda: mr.Region((1,), margin=-1), "margin must be a whole number"),
        (lambda: mr.Region((1,), outside="yes"), "outside must be true or false"),
        (lambda: attacked(mr.Threat(0.1, region=mr.Region((3,)))), "names class 3: there are 3, from 0 to 2"),
        (
            lambda: mr.FGSM()(
                mr.Victim(nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), mr.Classification(2)),
                IMAGES,
                torch.tensor([0]),
                mr.Threat(0.1, region=mr.Region((1,))),
            ),
            "needs masks or boxes",
        ),
        (lambda: mr.Threat(0.1, region=mr.Region((1,))).space(IMAGES, (0, 1)), "call threat.for_truth first"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
