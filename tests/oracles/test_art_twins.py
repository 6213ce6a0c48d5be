"""Our attacks against ART's on the same network, from the same start, with the same budget.

Its HopSkipJump and universal perturbation are compared in `test_query_oracles` and `test_norm_twins`.
"""

from __future__ import annotations

import pytest
import torch
from oracles.networks import HalfContrast
from oracles.peers import from_art
from oracles.peers.norms import sizes
from torch import Tensor, nn

from medrobust.attacks import APGD, PGD
from medrobust.attacks.carlini_wagner import CarliniWagner
from medrobust.attacks.deepfool import DeepFool
from medrobust.attacks.square import Square
from medrobust.threat import Threat
from medrobust.victim import Victim

UNLIMITED = 1e4  # beyond any change, so that whatever is found is handed in


class _Counting(nn.Module):
    """The network, with how many images went forward through it and how many came back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.model(images)
        self._count(outputs)
        if outputs.requires_grad:
            outputs.register_hook(self._count)
        return outputs

    def _count(self, batch: Tensor) -> None:
        self.passes += len(batch)


@pytest.mark.parametrize(("norm", "contrast"), [("linf", "full"), ("linf", "half"), ("l2", "half")])
def test_pgd_is_at_the_same_points(untouched, norm, contrast):
    """L2 at half contrast only, on purpose: where values are cut to the bounds ART does so before it projects."""
    (images, truth), model, eps = untouched.right(100), untouched.model, untouched.eps[norm]
    if contrast == "half":
        images, model, eps = 0.25 + images / 2, HalfContrast(model).eval(), eps / 2
    theirs = from_art.pgd(model, images, truth, eps=eps, step_size=eps / 4, steps=10, norm=norm)
    attack = PGD(steps=10, step_size=eps / 4, random_start=False)
    ours = attack(Victim(model, untouched.task), images, truth, Threat(eps, norm=norm)).adversarial
    assert float(sizes(images, theirs, norm).min()) > 0.9 * eps
    apart = (ours - theirs).abs()
    # in L2 every step is divided by a norm, and rounding grows from step to step
    assert float(apart.max()) <= (1e-5 if norm == "linf" else 0.01 * eps)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_leaves_no_more_right(untouched, norm):
    """By effect: ART hands in the last point, and counts a rise only above the best loss so far."""
    images, truth, eps = untouched.images, untouched.truth, untouched.eps[norm]
    theirs = from_art.auto_pgd(untouched.model, images, truth, eps=eps, steps=10, norm=norm)
    ours = APGD(steps=10)(untouched.victim, images, truth, Threat(eps, norm=norm)).adversarial
    assert 0.2 < untouched.accuracy(theirs) < 0.7
    assert untouched.accuracy(ours) <= untouched.accuracy(theirs) + 0.01


@pytest.mark.slow
def test_square_leaves_no_more_right(untouched):
    """By effect: ART goes on from the clean image where the stripes harm, and draws a square for the whole batch.

    It is given 20 images at a time, for one draw for all moves the share left by two points and more.
    """
    images, truth, eps, queries = untouched.images, untouched.truth, 3 * untouched.eps["linf"], 100
    theirs = torch.cat(
        [
            from_art.square(untouched.model, some, of_these, eps=eps, queries=queries, seed=seed)
            for seed, (some, of_these) in enumerate(zip(images.split(20), truth.split(20), strict=True))
        ]
    )
    attack = Square(queries=queries + 2)  # the clean image and the stripes are two of ours
    ours = [attack(untouched.victim, images, truth, Threat(eps), seed=seed).adversarial for seed in range(3)]
    left = untouched.accuracy(theirs)
    assert 0.2 < left < untouched.accuracy(images) - 0.1
    assert sum(untouched.accuracy(found) for found in ours) / len(ours) <= left + 0.01


def test_deepfool_is_no_farther_at_any_image(untouched):
    """The same way, but ART overshoots once, at its end: it walks over the border, and then 2 % farther."""
    images, truth = untouched.right(100)
    theirs = from_art.deepfool(untouched.model, images, truth, steps=50)
    attack = DeepFool(steps=50, candidates=None, refine=0)
    ours = attack(untouched.victim, images, truth, Threat(UNLIMITED, norm="l2"))
    assert bool(untouched.wrong(theirs, truth).all())
    assert bool(ours.success.all())
    ratio = ours.smallest / sizes(images, theirs, "l2")
    assert float(ratio.max()) <= 1
    assert float(ratio.min()) > 0.95


def test_carlini_wagner_is_nearer_with_half_the_passes(untouched):
    """On purpose Adam, as in the paper: ART searches along every gradient for the best step, with many passes."""
    (images, truth), options = untouched.right(24), {"searches": 3, "c": 1.0}
    their_model, our_model = (_Counting(untouched.model).eval() for _ in range(2))
    theirs = from_art.carlini_l2(their_model, images, truth, steps=10, **options)
    attack = CarliniWagner(steps=40, **options)
    ours = attack(Victim(our_model, untouched.task), images, truth, Threat(UNLIMITED, norm="l2"))
    assert our_model.passes <= their_model.passes / 2
    found = untouched.wrong(theirs, truth)  # one of 24 it may miss, as machines round
    assert int(found.sum()) >= len(found) - 1
    assert bool(ours.success.all())
    assert float(ours.smallest[found].mean()) <= float(sizes(images, theirs, "l2")[found].mean())
