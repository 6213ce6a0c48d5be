"""In what order images are seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from learning import Bars, course, victim_of
from torch import nn

from medrobust.errors import InputError
from medrobust.training import Control, Engine
from medrobust.training.order import Order


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),  # the single one that is left over joins the batch before it
        (5, 4, [5]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
        (3, 4, [3]),
    ],
)
def test_every_image_once_an_epoch_and_none_alone(count, batch, sizes):
    order = Order(count, batch, seed=0, first=0, steps=2 * len(sizes))
    assert order.per_epoch == len(sizes)
    batches = list(order)
    assert [len(one) for one in batches] == 2 * sizes
    for epoch in (batches[: len(sizes)], batches[len(sizes) :]):
        assert sorted(chain(*epoch)) == list(range(count))
    assert count == 1 or batches[: len(sizes)] != batches[len(sizes) :]


@pytest.mark.parametrize("chances", [None, torch.tensor([0.5, 0.1, 0.1, 0.1, 0.2])])
def test_it_goes_on_from_any_step(chances):
    whole = list(Order(5, 2, 7, 0, 9, chances))
    for first in range(9):
        assert list(Order(5, 2, 7, first, 9, chances)) == whole[first:]


def test_images_are_drawn_by_their_chances():
    """Of 4000 draws, three standard deviations of a binomial around what is expected."""
    drawn = list(chain(*Order(4, 4, 0, 0, 1000, torch.tensor([0.1, 0.2, 0.7, 0.0]))))
    assert drawn.count(3) == 0
    for place, chance in enumerate((0.1, 0.2, 0.7)):
        assert abs(drawn.count(place) - 4000 * chance) < 3 * (4000 * chance * (1 - chance)) ** 0.5


def test_shares_make_up_the_batch():
    order = Order(9, 4, 1, 0, 4)
    shares = [list(replace(order, share=share, shares=3)) for share in range(3)]
    for batch, parts in zip(order, zip(*shares, strict=True), strict=True):
        assert sorted(chain(*parts)) == sorted(batch)
        assert [len(part) for part in parts] == {4: [2, 1, 1], 5: [2, 2, 1]}[len(batch)]


def pooled() -> nn.Module:
    """BatchNorm of one value a channel and image."""
    torch.manual_seed(1)
    pool = nn.Sequential(nn.Conv2d(1, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(pool, nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


@pytest.mark.parametrize("how", ["batch", "adversarial"])
def test_an_image_that_would_be_left_alone_is_learned_from(how):
    one = course(Control(), victim_of(pooled()), normalisation=how, epochs=2, batch_size=8)
    object.__setattr__(one, "training", Bars(17))
    assert Engine(one).run().steps == 2 * 2


def test_a_batch_of_one_image_with_nothing_to_normalise_by_is_told():
    one = course(Control(), victim_of(pooled()), batch_size=1)
    with pytest.raises(InputError, match="one image alone leaves it one value a channel: see two images or more"):
        Engine(one).run()
    Engine(course(Control(), victim_of(pooled()), batch_size=1, normalisation="frozen", epochs=1)).run()
