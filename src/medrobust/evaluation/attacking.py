"""One attack at all budgets: how it is called, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from medrobust.attacks import Attack, AttackResult
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.protocols import Preparable, to_prepare
from medrobust.attacks.result import joined_results
from medrobust.data import Dataset
from medrobust.errors import InputError, MedrobustError
from medrobust.evaluation.batches import Batch
from medrobust.memory import out_of_memory
from medrobust.threat import Threat
from medrobust.victim import Victim


@dataclass(frozen=True)
class Call:
    """One call of an attack for each batch, at one budget or at several that share work.

    Attributes:
        attack: ready for batches.
        threats: the budgets.
        seconds: of one budget and image, what preparing the attack took.
    """

    attack: Attack
    threats: Sequence[Threat]
    seconds: float = 0.0

    def on(self, victim: Victim, batch: Batch, seed: int, at_once: AtOnce) -> list[AttackResult]:
        """The results for a batch, one a budget; in pieces, if memory runs out.

        Raises:
            InputError: the model fails, or the attack cannot be used.
        """

        def attacked(index: Tensor) -> list[AttackResult]:
            piece, count = batch.rows(index), len(batch.ids)
            whole = [threat.over(batch.images.ndim) for threat in self.threats]
            threats = [threat.rows(index, count) for threat in whole] if len(index) < count else whole
            with model_errors_told(on_images(batch)):
                if len(threats) == 1:
                    return [self.attack(victim, piece.images, piece.truth, threats[0], seed, piece.ids)]
                assert isinstance(self.attack, BatchAttack)
                return self.attack(victim, piece.images, piece.truth, list(threats), seed, piece.ids)

        places, pieces = at_once.pieces(attacked, len(batch.ids))
        return [joined_results(results, places) for results in zip(*pieces, strict=True)]


@torch.no_grad()
def answered(victim: Victim, batch: Batch, images: Tensor, at_once: AtOnce) -> Any:
    """A model's outputs for the images of a batch, or for what was made of them; in pieces, if memory runs out.

    Raises:
        InputError: the model fails.
    """

    def forward(piece: Tensor) -> Any:
        with model_errors_told(on_images(batch)):
            return victim(piece)

    return at_once.over(forward, images)


def calls_of(
    attack: Attack,
    threats: Sequence[Threat],
    victim: Victim,
    dataset: Dataset,
    seed: int,
    tell: Callable[[Threat], None] = lambda _: None,
) -> Iterator[Call]:
    """The calls that attack each batch; what must see the whole data set first sees it here, once a budget.

    Args:
        attack: from a campaign.
        threats: the budgets, kept in order.
        victim, dataset, seed: for what is to be prepared.
        tell: hears of a budget before the attack is prepared for it.
    """
    if not to_prepare(attack):
        yield from _shared(attack, threats)
        return
    ready: list[tuple[Attack, Threat, float]] = []
    for threat in threats:
        tell(threat)
        started = time.perf_counter()
        made = _prepared(attack, threat, victim, dataset, seed)
        ready.append((made, threat, 0.0 if made is attack else (time.perf_counter() - started) / len(dataset)))
    for _, group in groupby(ready, key=lambda one: id(one[0])):
        members = list(group)
        seconds = sum(member[2] for member in members) / len(members)
        for call in _shared(members[0][0], [member[1] for member in members]):
            yield Call(call.attack, call.threats, seconds)


def _prepared(attack: Preparable, threat: Threat, victim: Victim, dataset: Dataset, seed: int) -> Attack:
    try:
        with model_errors_told("while an attack is prepared"):
            return attack.prepared(victim, dataset, threat, seed)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise InputError(
                f"out of memory while {type(attack).__name__} is prepared: lower its batch_size"
            ) from error
        raise


def _shared(attack: Attack, threats: Sequence[Threat]) -> list[Call]:
    if isinstance(attack, BatchAttack) and attack.shares_budgets:
        return [Call(attack, threats)]
    return [Call(attack, [threat]) for threat in threats]


def check_untargeted(label: str, attack: Attack) -> None:
    """Raise `InputError` for a targeted attack: a data set holds the truth, and no target."""
    if attack.targeted:
        example = "{attack: asma, target: empty}"
        raise InputError(f"attack {label!r} is targeted, and a data set knows no target: give it one, e.g. {example}")


@contextmanager
def model_errors_told(where: str) -> Iterator[None]:
    """Tell in one line what a user's model raises; running out of memory is left as it is."""
    try:
        yield
    except (MedrobustError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a user's code may raise
        if out_of_memory(error):
            raise
        raise InputError(f"the model fails {where}: {type(error).__name__}: {error}") from error


def on_images(batch: Batch) -> str:
    """Where a model fails, by the images of a batch."""
    return f"on images {tuple(batch.images.shape[1:])}"
