"""Draws of other libraries can be given, and leave everybody's generators alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from oracles.peers.draws import given, given_in_place, seeded


def test_replaced_draws_are_given_in_order():
    with given_in_place("uniform_", [torch.tensor([3.0])]):
        assert float(torch.empty(1).uniform_(-1, 1)) == 3.0
    assert 0 <= float(torch.empty(1).uniform_()) <= 1


def test_given_draws_must_all_be_used():
    draws = [torch.ones(1)] * 3
    with pytest.raises(AssertionError, match="left 2 of the given draws of rand unused"), given("rand", draws):
        torch.rand(1)


def test_seeded_repeats_and_leaves_the_generators_as_they_were():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with seeded(4):
        first = float(torch.rand(1)), np.random.rand(), random.random()
    with seeded(4):
        assert (float(torch.rand(1)), np.random.rand(), random.random()) == first
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
