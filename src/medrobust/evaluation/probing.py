"""A few images of a run probed, so that it can be told whether its figures can be trusted.

The run's own records say what became of the images; these say whether the model and its gradients are such that the
attacks could work: Carlini et al., arXiv 1902.06705, section 5; Athalye et al., arXiv 1802.00420, section 3.1; the
checks of AutoAttack (Croce & Hein, arXiv 2003.01690); Pintor et al., arXiv 2106.09947.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from medrobust.attacks import Attack, AttackResult
from medrobust.data import Dataset
from medrobust.data.subset import Subset
from medrobust.errors import InputError
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.measure import Campaign
from medrobust.evaluation.probe_attacks import FLOATS, Setting, answers_alone, by_gradient, unlimited
from medrobust.evaluation.probe_choice import Rows, choose
from medrobust.evaluation.probe_forwards import Slopes, apart, changed, in_company, largest_entries, output_range
from medrobust.evaluation.probes import (
    ANSWERS_ALONE,
    FORWARDS,
    GRADIENTS,
    NO_PATH,
    NOISE,
    SAVED,
    SEVERAL_STEPS,
    UNLIMITED,
    Outputs,
    Probes,
    Tried,
)
from medrobust.tasks import Detection
from medrobust.threat import Threat, sample_generators
from medrobust.victim import Victim

_REASONS = {
    NO_PATH: f"the model's outputs {NO_PATH}",
    FLOATS: FLOATS,
    "NaN or infinite outputs": "the model gives NaN or infinite outputs there",
    "out of memory": "memory ran out",
}
OTHER_REASON = "the model or the attack fails there"
UNTOUCHED = "no image was answered right: there is nothing to attack"
NOISE_DRAWS = 3
BLIND = "a black box gives no gradients"
Value = TypeVar("Value")


def probe(victim: Victim, dataset: Dataset, campaign: Campaign, rows: Rows, count: int) -> Probes:
    """Probe at most `count` images of a campaign that is done; half as many of masks and boxes, which tell more each.

    Nothing that fails here stops the run: what could not be measured is told in `Probes.missing`.

    Args:
        victim, dataset, campaign: as of `measure`.
        rows: the records of the part.
        count: at least 1.
    """
    started = time.perf_counter()
    graded = victim.task.dense or isinstance(victim.task, Detection)
    chosen = choose(rows, campaign.threats, (count + 1) // 2 if graded else count)
    work = _Probing(
        Setting(victim, dataset.info, chosen.threat, campaign.seed, campaign.batch_size, graded), chosen.right
    )
    with victim.evaluating():
        for batch in batches(Subset(dataset, chosen.images), victim, campaign.batch_size, None):
            work.look_at(batch)
    found = work.found()
    return Probes(
        chosen.images,
        chosen.right,
        chosen.threat.norm,
        chosen.threat.budget(),
        **found,
        seconds=time.perf_counter() - started,
    )


class _Probing:
    """All probes, batch by batch; one that fails on a batch is missing as a whole."""

    def __init__(self, setting: Setting, right: bool) -> None:
        self.setting, self.right = setting, right
        self.tried: dict[str, Tried] = {}
        self.lists: dict[str, dict[str, list[Any]]] = {FORWARDS: {}, GRADIENTS: {}, SEVERAL_STEPS: {}, NOISE: {}}
        self.outputs: Outputs | None = None
        self.variables = 0
        self.quantum: float | None = None
        self.missing: dict[str, str] = {}

    def found(self) -> dict[str, Any]:
        """The fields of `Probes` that were filled."""
        lists = [columns for name, columns in self.lists.items() if name not in self.missing]
        return {
            "tried": {name: one for name, one in self.tried.items() if name not in self.missing},
            "outputs": None if FORWARDS in self.missing else self.outputs,
            "variables": self.variables,
            "quantum": self.quantum,
            "missing": self.missing,
            **{name: values for columns in lists for name, values in columns.items()},
        }

    def look_at(self, batch: Batch) -> None:
        """All probes of a batch, as far as they have a meaning here."""
        self._try(FORWARDS, lambda: self._forwards(batch))
        gradient, far, asking = by_gradient(), unlimited(self.setting), answers_alone(self.setting)
        if not self.right:
            self._miss(UNTOUCHED, GRADIENTS, *gradient, UNLIMITED, ANSWERS_ALONE, NOISE, SAVED)
            return
        self._try(NOISE, lambda: self._noise(batch))
        if isinstance(asking, str):
            self._miss(asking, ANSWERS_ALONE)
        else:
            self._attack(ANSWERS_ALONE, asking, self.setting.threat, batch)
        if not self.setting.victim.differentiable:
            self._miss(BLIND, GRADIENTS, *gradient, UNLIMITED, SAVED)
            return
        self._try(GRADIENTS, lambda: self._gradients(batch))
        results = {name: self._attack(name, attack, self.setting.threat, batch) for name, attack in gradient.items()}
        self._attack(UNLIMITED, *far, batch)
        if (result := results[SEVERAL_STEPS]) is None:
            self._miss(f"PGD could not be measured: {self.missing[SEVERAL_STEPS]}", SAVED)
            return
        assert result.trajectory is not None
        self._extend(SEVERAL_STEPS, "loss_by_step", [_finite(image) for image in result.trajectory.deviation.T])
        self._try(SAVED, lambda: self._saved(batch, result))

    def _forwards(self, batch: Batch) -> None:
        setting, task, truth = self.setting, self.setting.victim.task, batch.truth
        clean, again = (setting.answered(batch, batch.images) for _ in range(2))
        beside = in_company(setting.victim, batch, setting.at_once)
        self._extend(FORWARDS, "again", apart(task, clean, again))
        self._extend(FORWARDS, "company", apart(task, clean, beside))
        self._extend(FORWARDS, "changed", changed(*(task.worth(one, truth) for one in (clean, again, beside))))
        self.outputs = output_range(task, clean, self.outputs)

    def _gradients(self, batch: Batch) -> None:
        setting, space = self.setting, self.setting.space(batch)
        slopes, eps = Slopes(setting.victim, batch, space), setting.threat.budget()
        start = space.random_start(sample_generators(setting.seed, batch.ids, "probe"))
        gradient = slopes.gradient(start)
        self._extend(GRADIENTS, "gradients", largest_entries(gradient))
        # uphill the loss is large, and its changes can be told from rounding
        up = start + eps * space.steepest(space.allowed(gradient.nan_to_num()))
        space.project_(up)
        self._extend(GRADIENTS, "slopes", slopes.kept(up, eps))

    def _noise(self, batch: Batch) -> None:
        space = self.setting.space(batch)
        self.variables = space.start()[0].numel()
        drawn = [self.setting.seen(*self.setting.noisy(batch, space, draw)) for draw in range(NOISE_DRAWS)]
        left, loss, fooled = (
            torch.stack([one.double() for one in values]).mean(0) for values in zip(*drawn, strict=True)
        )
        self._keep(NOISE, left, loss, fooled > 0.5)
        self._extend(NOISE, "clean_loss", _finite(self.setting.seen(batch, batch.images)[1]))

    def _saved(self, batch: Batch, result: AttackResult) -> None:
        self.quantum, saved = self.setting.saved(batch, result.adversarial)
        self._keep(SAVED, *self.setting.seen(batch.moved(result.truth), saved))

    def _attack(self, name: str, attack: Attack, threat: Threat, batch: Batch) -> AttackResult | None:
        def attacked() -> AttackResult:
            result = self.setting.attacked(attack, threat, batch)
            left = self.setting.victim.task.worth(result.outputs, batch.moved(result.truth).truth)
            self._keep(name, left, result.loss, result.success)
            return result

        return self._try(name, attacked)

    def _keep(self, name: str, left: Tensor, loss: Tensor, fooled: Tensor) -> None:
        tried = self.tried.setdefault(name, Tried())
        tried.left.extend(left.tolist())
        tried.fooled.extend(fooled.tolist())
        tried.loss.extend(_finite(loss))

    def _extend(self, probe: str, name: str, values: Sequence[Any]) -> None:
        self.lists[probe].setdefault(name, []).extend(values)

    def _miss(self, why: str, *probes: str) -> None:
        for name in probes:
            self.missing.setdefault(name, why)

    def _try(self, name: str, work: Callable[[], Value]) -> Value | None:
        """What comes of a probe; None when it cannot be measured."""
        if name in self.missing:
            return None
        try:
            return work()
        except InputError as error:
            self._miss(_reason(str(error)), name)
            return None


def _reason(text: str) -> str:
    """Why a probe failed, in words of ours: an error may name an image, and an image a patient."""
    return next((told for sign, told in _REASONS.items() if sign in text), OTHER_REASON)


def _finite(values: Tensor) -> list[float | None]:
    return [float(value) if bool(value.isfinite()) else None for value in values]
