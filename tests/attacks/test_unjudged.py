"""Attacked images without a last look at them: the same as a call's, for a forward less, and from a given start."""

from __future__ import annotations

import pytest
import torch
from learning import Bars, network, victim_of

import medrobust as mr
from medrobust.attacks.unjudged import attacked_images, walks
from medrobust.errors import InputError
from medrobust.training import Departure, RandomStep

THREAT = mr.Threat(eps=16 / 255)
WALKING = {
    "pgd": mr.PGD(steps=3),
    "smia": mr.SMIA(steps=3, random_start=True),
    "momentum": mr.MIFGSM(steps=3),
    "one step": RandomStep(),
    "departure": mr.PGD(steps=2, loss=Departure()),
}
OTHERS = {
    "best": mr.PGD(steps=3, keep="best"),
    "restarts": mr.PGD(steps=2, restarts=2),
    "leaves early": mr.PGD(steps=2, early_stop=True),
    "own search": mr.APGDT(steps=3, keep="last", targets=1),
}


def batch(masks: bool = False):
    images, truth, ids = mr.stack([Bars(masks=masks)[place] for place in range(6)])
    return victim_of(network(masks=masks), masks=masks), images, truth, ids


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", [*WALKING, *OTHERS])
@pytest.mark.parametrize("threat", [THREAT, mr.Threat(eps=0.3, norm="l2"), mr.Threat(eps=16 / 255, quantum=1e-4)])
def test_they_are_those_of_a_call(name, masks, threat):
    victim, images, truth, ids = batch(masks)
    images = (images * 1e4).round() / 1e4
    attack = (WALKING | OTHERS)[name]
    assert walks(attack) == (name in WALKING)
    called = attack(victim, images, truth, threat, seed=3, ids=ids).adversarial
    assert torch.equal(attacked_images(attack, victim, images, truth, threat, 3, ids), called)


def test_nobody_looks_at_them_in_the_end():
    victim, images, truth, ids = batch()
    seen = []
    victim.model.register_forward_hook(lambda *_: seen.append(1))
    mr.PGD(steps=3)(victim, images, truth, THREAT, ids=ids)
    assert len(seen) == 4
    attacked_images(mr.PGD(steps=3), victim, images, truth, THREAT, 0, ids)
    assert len(seen) == 4 + 3


def test_a_walk_goes_on_from_a_given_start():
    """Two steps, then three from there, are five; a start outside is first put into the ball and the bounds."""
    victim, images, truth, ids = batch()

    def walked(steps, start=None):
        attack = mr.BIM(steps=steps, step_size=2 / 255)
        return attacked_images(attack, victim, images, truth, THREAT, 0, ids, start)

    assert torch.equal(walked(3, walked(2)), walked(5))
    far = images + 0.5
    near = (images + THREAT.eps).clamp(0, 1)
    assert torch.equal(walked(2, far), walked(2, near))
    assert (walked(1, far) - images).abs().max() <= THREAT.eps + 1e-6
    assert torch.equal(far, images + 0.5)


def test_a_start_that_cannot_be_taken_is_told():
    victim, images, truth, ids = batch()
    with pytest.raises(InputError, match="APGD cannot be told where to start"):
        attacked_images(mr.APGD(steps=2), victim, images, truth, THREAT, 0, ids, images)
    with pytest.raises(InputError, match="a start is an image, and a threat contrast does not change pixels"):
        attacked_images(mr.PGD(steps=2), victim, images, truth, mr.Contrast(0.1), 0, ids, images)
