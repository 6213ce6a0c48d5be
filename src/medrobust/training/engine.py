"""The one training loop, on Lightning Fabric: a batch, its attacked images, a move of the weights; and what is kept."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from medrobust.data import stack
from medrobust.errors import InputError
from medrobust.model_state import lay_out
from medrobust.models.embedded_training import warm_up_and_cosine
from medrobust.models.randomness import seeded
from medrobust.threat import Threat, derived
from medrobust.training.balance import class_weights, drawing_chances
from medrobust.training.checkpoints import Checkpoint, fill_optimizer, optimizer_tensors
from medrobust.training.course import Course, Outcome, Seen, check_fit
from medrobust.training.method import Step
from medrobust.training.order import Order
from medrobust.training.stopping import reason_to_stop, stop_heard
from medrobust.training.trainee import Trainee
from medrobust.training.validating import Left
from medrobust.training.warm import LastChanges
from medrobust.training.weight_changes import at_worst_weights
from medrobust.victim import Victim


class Engine:
    """One training, from a model or from where it was left; the victim's model learns in place.

    Args:
        course: what is trained, on what and how.
        checkpoint: a file to go on from, if it is there, and to write to.
        made_of: fingerprint of the course, for that file.
        save_every: seconds between two writes.
        tell: hears of each step: how many there were, and the last validation.
        fabric: of the process, where several train together, see `medrobust.training.devices`.
    """

    def __init__(
        self,
        course: Course,
        checkpoint: Path | None = None,
        made_of: str = "",
        save_every: float = 30.0,
        tell: Callable[[int, Seen], None] = lambda *_: None,
        fabric: Fabric | None = None,
    ) -> None:
        how, self.course, self.tell = course.how, course, tell
        self.path, self.made_of, self.save_every = checkpoint, made_of, save_every
        self.fabric = fabric or Fabric(accelerator=_accelerator(course.victim), devices=1, precision=how.precision)
        check_fit(course.victim, course.method, course.threat, how)
        if course.victim.channels_last:
            lay_out(course.victim.model, torch.channels_last)
        self.raw = Trainee(course.victim, how.normalisation)
        optimizer = torch.optim.AdamW(self.raw.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        self.trainee, self.optimizer = self.fabric.setup(self.raw, optimizer)
        task, chances = course.victim.task, None
        if how.balance == "sampling":
            chances = drawing_chances(task, course.training)
        self.class_weights = class_weights(task, course.training) if how.balance == "loss" else None
        part, seed = how.batch_size // how.accumulate, derived(course.seed, "training")
        self.order = Order(len(course.training), part, seed, 0, 0, chances)
        self.steps = how.epochs * self.order.per_epoch
        self.average: AveragedModel | None = None
        if how.averaging:
            averaged = get_ema_multi_avg_fn(how.averaging)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(course.victim.model, multi_avg_fn=averaged, use_buffers=True)
        self.step = 0
        self.outcome = Outcome(steps=self.steps)
        self.best: dict[str, Tensor] = {}
        self.losses: list[float] = []
        self.changes = LastChanges()

    def run(self) -> Outcome:
        """Train to the end, keep the best weights, and say how it went.

        Raises:
            KeyboardInterrupt: on Ctrl-C, once the step under way is done and written down.
        """
        if self.path is not None and self.path.exists():
            self._go_on(Checkpoint.read(self.path, self.made_of))
        with stop_heard() as asked:
            if not self.outcome.history:
                self._validate()
            self._train(asked)
        self.course.victim.model.load_state_dict(self.best)
        if self.course.victim.channels_last:
            lay_out(self.course.victim.model, torch.contiguous_format)
        self.course.victim.model.eval()
        self.save()
        return self.outcome

    def save(self) -> None:
        """Write the checkpoint, if there is to be one, in the first process."""
        if self.path is None or not self.fabric.is_global_zero:
            return
        told = {"step": self.step, "losses": self.losses, "outcome": asdict(self.outcome)}
        tensors = {
            "weights": dict(self.course.victim.model.state_dict()),
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer.optimizer),
        }
        if self.average is not None:
            tensors["average"] = dict(self.average.state_dict())
        tensors["changes"] = self.changes.tensors()
        Checkpoint(self.made_of, told, tensors).write(self.path)

    def _go_on(self, from_: Checkpoint) -> None:
        self.step, self.losses = from_.told["step"], from_.told["losses"]
        self.outcome = Outcome.of(from_.told["outcome"])
        self.course.victim.model.load_state_dict(from_.tensors["weights"])
        fill_optimizer(self.optimizer.optimizer, from_.tensors.get("optimizer", {}))
        self.best = from_.tensors.get("best", {})
        if self.average is not None:
            self.average.load_state_dict(from_.tensors["average"])
        self.changes.fill(from_.tensors.get("changes", {}))

    def _train(self, asked_to_stop: Callable[[], bool]) -> None:
        order, rank = replace(self.order, first=self.step, steps=self.steps), self.fabric.global_rank
        loader: DataLoader[Any] = DataLoader(
            cast("torch.utils.data.Dataset[Any]", self.course.training),
            batch_sampler=replace(order, share=rank, shares=self.fabric.world_size),
            collate_fn=stack,
            num_workers=self.course.how.workers,
            generator=torch.Generator(),  # else it draws from the global one
        )
        saved = time.monotonic()
        loaded = self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)
        for batch, (images, truth, ids) in zip(order, loaded, strict=True):
            if self.outcome.stopped is not None:
                break
            with seeded(derived(self.course.seed, "step", self.step, *([rank] if rank else []))):
                self._learn(batch, images, truth, ids)
            self.step += 1
            if self._time_to_look():
                self._validate()
            self.tell(self.step, self.outcome.history[-1])
            if not self._moves():
                continue
            stopping = bool(self._over_all(torch.tensor(float(asked_to_stop()))))
            if stopping or time.monotonic() - saved > self.save_every:
                self.save()
                saved = time.monotonic()
            if stopping:
                raise KeyboardInterrupt

    def _learn(self, batch: list[int], images: Tensor, truth: Tensor, ids: Any) -> None:
        course, how = self.course, self.course.how
        epoch, place = divmod(self.step, self.order.per_epoch)
        seed = derived(course.seed, "attacks", epoch)
        victim, threat = course.victim, self._threat()
        step = Step(self.trainee, self.raw, victim, images, truth, ids, threat, seed, self.class_weights)
        if how.warm_start:
            space = threat.for_truth(truth, images, victim.task.classes).space(images, victim.bounds)
            step = replace(step, start=self.changes.starts(batch, images, space, seed, ids))
        begun = self.step - place % how.accumulate
        parts = range(begun, min(begun + how.accumulate, (epoch + 1) * self.order.per_epoch))
        part = self.order.size(self.step) / sum(map(self.order.size, parts))
        for group in self.optimizer.param_groups:
            group["lr"] = how.learning_rate * warm_up_and_cosine(self._move() / self._all_moves)
        attacked = course.method.images(step)
        for replay in range(course.method.replays):
            if replay:
                attacked = course.method.again(step, attacked)
            self._descend(step, attacked, self._weight(batch), part, last=self._moves(self.step + 1))
        if how.warm_start:
            self.changes.keep(batch, attacked - images)

    def _weight(self, batch: list[int]) -> float:
        """Of the mean over this process's share, so that the mean over processes is that over the batch."""
        own = len(batch[self.fabric.global_rank :: self.fabric.world_size])
        return own * self.fabric.world_size / len(batch)

    def _over_all(self, value: Tensor) -> Tensor:
        """The mean over all processes."""
        return cast("Tensor", self.fabric.all_reduce(value.to(self.fabric.device), reduce_op="mean"))

    def _descend(self, step: Step, attacked: Tensor, weight: float, part: float, last: bool) -> None:
        """Take the gradient of a part of a batch, as much of it as `part`; with the last one the weights move."""
        how, method = self.course.how, self.course.method
        with torch.enable_grad(), self.fabric.no_backward_sync(self.trainee, enabled=not last):
            self.raw.learning()
            loss = weight * method.loss(step, attacked)
            self.fabric.backward(part * loss)
            if how.awp:
                with at_worst_weights(self.raw, how.awp):
                    self.fabric.backward(weight * method.loss(step, attacked))
        self.losses.append(float(self._over_all(loss.detach())))
        if not math.isfinite(self.losses[-1]):
            raise InputError(
                f"the loss is not finite at step {self.step + 1} of {self.steps}: the training diverged; "
                "take a smaller learning_rate"
            )
        if last:
            self.fabric.clip_gradients(self.trainee, self.optimizer, max_norm=how.clip, error_if_nonfinite=False)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self._share_statistics()
            if self.average is not None:
                self.average.update_parameters(self.course.victim.model)

    def _share_statistics(self) -> None:
        """All processes go on with the statistics of the first, which are those of a checkpoint."""
        if self.fabric.world_size > 1 and self.course.how.normalisation != "frozen":
            for buffer in self.course.victim.model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _threat(self) -> Threat:
        """As large as the ramp lets it be by now."""
        ramp, move = self.course.how.ramp * self._all_moves, self._move()
        share = 1.0 if move >= ramp else (move + 1) / (ramp + 1)
        return self.course.threat if share == 1 else replace(self.course.threat, eps=share * self.course.threat.eps)

    def _move(self) -> int:
        """Which move of the weights this step is for; the parts of a batch go together."""
        epoch, place = divmod(self.step, self.order.per_epoch)
        return epoch * self._moves_an_epoch + place // self.course.how.accumulate

    @property
    def _moves_an_epoch(self) -> int:
        return -(-self.order.per_epoch // self.course.how.accumulate)

    @property
    def _all_moves(self) -> int:
        return self.course.how.epochs * self._moves_an_epoch

    def _moves(self, step: int | None = None) -> bool:
        """Whether the weights have been moved by all that was seen up to this step."""
        step = self.step if step is None else step
        place = step % self.order.per_epoch
        return place % self.course.how.accumulate == 0

    def _time_to_look(self) -> bool:
        epoch, looks = self.order.per_epoch, self.course.how.validations
        place = (self.step - 1) % epoch + 1
        return any(place == -(-look * epoch // looks) for look in range(1, looks + 1))

    def _validate(self) -> None:
        begun, course = time.monotonic(), self.course
        victim = course.victim
        if self.average is not None:
            victim = copy.copy(victim)
            victim.model = self.average.module
        left = Left(0.0, 0.0, 0.0)
        if self.fabric.is_global_zero:
            left = course.look(victim, course.validation, course.threat, course.seed)
        left = self.fabric.broadcast(left)  # all decide alike
        loss = sum(self.losses) / len(self.losses) if self.losses else None
        seen = Seen(self.step, *left, loss, time.monotonic() - begun)
        self.losses = []
        history = self.outcome.history
        history.append(seen)
        learned = [one for one in history if one.step]
        best = max(learned, key=lambda one: one.merit, default=seen)
        if seen is best and learned:
            self.best = {name: value.detach().cpu().clone() for name, value in victim.model.state_dict().items()}
            self.outcome.best = self.step
        if self.step < self.steps:
            self.outcome.stopped = reason_to_stop(course, seen, best, self.order.per_epoch)


def _accelerator(victim: Victim) -> str:
    return "cuda" if victim.device.type == "cuda" else "cpu"
