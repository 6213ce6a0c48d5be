"""The ways of several attacks, step by step: data set × attack × seed → rows that the stability analysis reads.

Every attack begins at the same random point of the ball, one for each image and seed, so that what differs between two
attacks is the attack alone, and what differs between two seeds of one attack is the start (and what else it draws).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from medrobust.attacks import PGD, SMIA, Attack, AttackResult
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.iterative import IterativeAttack
from medrobust.attacks.trajectory import Trajectory
from medrobust.checks import at_least
from medrobust.data import Dataset
from medrobust.data.options import evenly
from medrobust.data.subset import Subset
from medrobust.errors import InputError
from medrobust.evaluation.attacking import Call, answered, check_untargeted
from medrobust.evaluation.batches import Batch, batches
from medrobust.evaluation.columns import Row, as_rows, identities
from medrobust.evaluation.distances import ImageDistances, mean_distances, sketched
from medrobust.evaluation.landscapes import Landscape, LossSurface, StepMaps, landscapes, step_maps
from medrobust.evaluation.records import Skipped
from medrobust.threat import Threat
from medrobust.transforms import GaussianSmoothing
from medrobust.victim import Victim, check_finite

MEASURES = tuple(f.name for f in fields(Trajectory) if not f.name.endswith("_map"))
"""The columns of a step that a trajectory fills."""

_KEY: dict[str, pl.DataType | type[pl.DataType]] = {
    "part": pl.String,  # which data set × model, a key of the info's parts
    "index": pl.Int64,  # place of the image in the data set
    "patient": pl.String,  # hash of the patient's identity; null when unknown
    "attack": pl.String,
    "seed": pl.Int64,
}
STEP_SCHEMA = _KEY | {"step": pl.Int64} | dict.fromkeys(MEASURES, pl.Float32)
OUTCOME_SCHEMA = _KEY | {
    "value_before": pl.Float64,  # what judges the image: right (1 or 0), Dice or F1
    "value_after": pl.Float64,
    "loss_before": pl.Float64,
    "loss_after": pl.Float64,
    "success": pl.Boolean,
    "linf": pl.Float64,  # of the final perturbation, in data units
    "l2": pl.Float64,
    "zero_gradients": pl.Int64,
    "seed_distance": pl.Float64,  # to the final perturbations of the other seeds; null for one seed
    "image_distance": pl.Float64,  # to those of other images of this size; of the first seed alone
    "sketch": pl.List(pl.Float32),  # of the direction of the final perturbation, see `distances.sketched`
}


@dataclass(frozen=True)
class Tracing:
    """What is traced.

    Args:
        attacks: label → attack, each one that takes steps. It is run from a random start, once a seed, and watched
            under the smoothing of the reference.
        threat: the budget.
        seeds: each gives every image another start.
        images: at most so many, spread evenly over the data set; None is all.
        batch_size: images attacked together; the results do not depend on it.
        pictures: of how many images maps and a loss surface are kept.
        surfaces: of how many of these the loss around the image.
        skip_bad: leave out samples that cannot be read, and list them, instead of stopping.

    Raises:
        InputError: there is nothing to trace, an attack takes no steps, or an option has no such value.
    """

    attacks: Mapping[str, Attack]
    threat: Threat
    seeds: Sequence[int] = (0, 1, 2)
    images: int | None = 16
    batch_size: int = 16
    pictures: int = 2
    surfaces: int = 1
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.images is not None:
            at_least("images", self.images, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("pictures", self.pictures, 0)
        at_least("surfaces", self.surfaces, 0)
        if not self.attacks or not self.seeds:
            raise InputError("nothing to trace: give at least one attack and one seed")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError("a seed is given twice")
        self.traced()

    def chosen(self, dataset: Dataset) -> tuple[int, ...]:
        """The places of the images in the data set."""
        return evenly(range(len(dataset)), self.images)

    @property
    def reference(self) -> str:
        """The attack that the others are held against: the first SMIA, or where there is none the first attack."""
        stabilized = [label for label, attack in self.attacks.items() if isinstance(attack, SMIA)]
        return (stabilized or list(self.attacks))[0]

    @property
    def beside(self) -> str | None:
        """The attack whose direction the loss is drawn along, too: the first PGD, or else the first other attack."""
        others = {label: attack for label, attack in self.attacks.items() if label != self.reference}
        return next((label for label, attack in others.items() if isinstance(attack, PGD)), next(iter(others), None))

    def traced(self) -> dict[str, IterativeAttack]:
        """The attacks as they are run."""
        smoothing = traced_attack(self.reference, self.attacks[self.reference]).smoothing()
        return {label: traced_attack(label, attack, smoothing) for label, attack in self.attacks.items()}


@dataclass
class Traced:
    """What came of it; `steps` and `outcomes` are shaped as `STEP_SCHEMA` and `OUTCOME_SCHEMA`."""

    steps: pl.DataFrame
    outcomes: pl.DataFrame
    maps: list[StepMaps]
    surfaces: list[LossSurface]
    evaluated: int
    skipped: list[Skipped] = field(default_factory=list)
    halved_to: int | None = None


def trace(
    victim: Victim, dataset: Dataset, tracing: Tracing, part: str, on_progress: Callable[[int], None] = lambda _: None
) -> Traced:
    """Attack every image by every attack from every seed's start, and note the way.

    `on_progress` hears how many image × attack × seed are newly done.

    Raises:
        InputError: data and victim do not fit, the model gives NaN, or no sample could be read.
        BadSampleError: a sample cannot be read and `skip_bad` is off.
    """
    chosen = tracing.chosen(dataset)
    skipped: list[Skipped] = []
    work = _Work(victim, tracing, part, evenly(chosen, tracing.pictures))
    bad = skipped.append if tracing.skip_bad else None
    with victim.evaluating():
        for batch in batches(Subset(dataset, chosen), victim, tracing.batch_size, bad):
            work.take(replace(batch, indices=[chosen[place] for place in batch.indices]), on_progress)
    skipped = [replace(one, index=chosen[one.index]) for one in skipped]
    if not work.outcomes:
        why = f"; the first: {skipped[0].reason}" if skipped else ": the data set is empty"
        raise InputError(f"no sample of {dataset.info.name!r} could be read{why}")
    outcomes = pl.DataFrame(work.outcomes, schema=OUTCOME_SCHEMA, strict=False)
    apart = pl.DataFrame(work.distances.rows(), schema=_DISTANCE_SCHEMA, orient="row").with_columns(
        pl.lit(tracing.seeds[0], pl.Int64).alias("seed")
    )
    outcomes = outcomes.drop("image_distance").join(apart, ["index", "attack", "seed"], "left")
    return Traced(
        pl.concat(work.steps),
        outcomes.select(list(OUTCOME_SCHEMA)),
        work.maps,
        work.surfaces,
        outcomes["index"].n_unique(),
        skipped,
        work.at_once.images if work.at_once.halved else None,
    )


_DISTANCE_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "index": pl.Int64,
    "attack": pl.String,
    "image_distance": pl.Float64,
}


def traced_attack(label: str, attack: Attack, smoothing: GaussianSmoothing | None = None) -> IterativeAttack:
    """An attack as it is run here: from a random start, once, with its way noted under a smoothing (or its own).

    Raises:
        InputError: it takes no steps, or is targeted.
    """
    if not isinstance(attack, IterativeAttack):
        raise InputError(f"attack {label!r} takes no steps whose way could be noted: leave it out, e.g. pgd,mi,smia")
    check_untargeted(label, attack)
    return replace(attack, trace=smoothing or True, random_start=True, restarts=1, early_stop=False)


class _Work:
    """What is gathered, batch by batch."""

    def __init__(self, victim: Victim, tracing: Tracing, part: str, pictured: Sequence[int]) -> None:
        self.victim, self.tracing, self.part = victim, tracing, part
        self.pictured, self.surfaced = set(pictured), set(pictured[: tracing.surfaces])
        self.at_once = AtOnce(tracing.batch_size)
        self.distances = ImageDistances()
        self.steps: list[pl.DataFrame] = []
        self.outcomes: list[Row] = []
        self.maps: list[StepMaps] = []
        self.surfaces: list[LossSurface] = []

    @torch.no_grad()
    def take(self, batch: Batch, on_progress: Callable[[int], None]) -> None:
        """Attack a batch, and note all."""
        task = self.victim.task
        task.check_truth(batch.truth)
        outputs = answered(self.victim, batch, batch.images, self.at_once)
        task.check_outputs(outputs, batch.truth)
        check_finite(outputs, batch.ids, "clean")
        known = identities(batch, task)
        key: dict[str, list[object]] = {name: known[name] for name in ("index", "patient")}
        before: dict[str, list[object]] = {
            "value_before": task.worth(outputs, batch.truth).tolist(),
            "loss_before": task.loss(outputs, batch.truth).tolist(),
        }
        first: dict[str, Tensor] = {}
        for label, attack in self.tracing.traced().items():
            call = Call(attack, [self.tracing.threat])
            results = [call.on(self.victim, batch, seed, self.at_once)[0] for seed in self.tracing.seeds]
            apart = mean_distances([result.delta for result in results])
            for seed, result, distance in zip(self.tracing.seeds, results, apart, strict=True):
                self._note(label, seed, batch, result, key)
                rows = as_rows({**key, **before, **self._after(batch, result), "seed_distance": distance})
                self.outcomes += [{"part": self.part, "attack": label, "seed": seed, **row} for row in rows]
                on_progress(len(batch.indices))
            self.distances.add(label, batch.indices, results[0].delta)
            self._picture(label, batch, results[0])
            first[label] = results[0].delta
        self._around(batch, first)

    def _note(self, label: str, seed: int, batch: Batch, result: AttackResult, key: dict[str, list[object]]) -> None:
        way = result.trajectory
        if way is None:
            raise InputError(f"attack {label!r} notes no way: leave it out, e.g. pgd,mi,smia")
        columns = {name: getattr(way, name).cpu().numpy() for name in MEASURES}  # (T + 1, B)
        steps, count = columns[MEASURES[0]].shape
        constant = {name: pl.Series(name, values, STEP_SCHEMA[name]) for name, values in key.items()}
        places = np.tile(np.arange(count), steps)
        frame = pl.DataFrame(
            {
                **{name: series.gather(places) for name, series in constant.items()},
                "step": np.repeat(np.arange(steps), count),
                **{name: values.ravel() for name, values in columns.items()},
            }
        ).with_columns(part=pl.lit(self.part), attack=pl.lit(label), seed=pl.lit(seed, pl.Int64))
        self.steps.append(frame.select(list(STEP_SCHEMA)).cast(STEP_SCHEMA))  # type: ignore[arg-type]

    def _after(self, batch: Batch, result: AttackResult) -> dict[str, list[object]]:
        truth, flat = batch.moved(result.truth).truth, result.delta.float().flatten(1)
        return {
            "value_after": self.victim.task.worth(result.outputs, truth).tolist(),
            "loss_after": result.loss.tolist(),
            "success": result.success.tolist(),
            "linf": flat.abs().amax(1).tolist(),
            "l2": flat.norm(dim=1).tolist(),
            "zero_gradients": result.zero_gradients.tolist(),
            "sketch": sketched(result.delta).tolist(),
        }

    def _picture(self, label: str, batch: Batch, result: AttackResult) -> None:
        for place, index in enumerate(batch.indices):
            if index in self.pictured and result.trajectory is not None:
                self.maps += step_maps(self.part, index, label, batch, place, result.trajectory)

    def _around(self, batch: Batch, deltas: Mapping[str, Tensor]) -> None:
        for place, index in enumerate(batch.indices):
            if index not in self.surfaced or not self.tracing.threat.pixels:
                continue
            at = Landscape(
                part=self.part,
                index=index,
                image=batch.images[place : place + 1],
                truth=batch.truth[place : place + 1],
                threat=self.tracing.threat.rows(torch.tensor([place]), len(batch.ids)),
                seed=self.tracing.seeds[0],
                sample_id=batch.ids[place],
            )
            shown = (self.tracing.reference, self.tracing.beside)
            ways = {label: delta[place : place + 1] for label, delta in deltas.items() if label in shown}
            self.surfaces += landscapes(at, self.victim, ways, self.tracing.reference, self.at_once)
