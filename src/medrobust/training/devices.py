"""A training on one device or on several, whose processes share every batch (DDP, on Lightning Fabric)."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.nn.parallel import DistributedDataParallel

from medrobust.errors import InputError, MedrobustError
from medrobust.training.course import Course, Outcome, Seen
from medrobust.training.engine import Engine
from medrobust.training.stopping import stop_heard

Tell = Callable[[int, Seen], None]
# statistics of BatchNorm are each process's own, and those of the first are kept: exchanged before every forward, they
# would change between a batch's two answers and the gradient of both
_EXCHANGE = ("forward_sync_buffers", "broadcast_buffers")  # by its name in newer PyTorch, or in older
_KNOWN = signature(DistributedDataParallel).parameters
_BUFFERS_APART: dict[str, Any] = {next(name for name in _EXCHANGE if name in _KNOWN): False}
Watch = Callable[[int], AbstractContextManager[Tell]]
"""Given the number of steps, opens what hears of each of them."""


@contextmanager
def unwatched(_: int) -> Iterator[Tell]:
    """Nobody hears."""
    yield lambda *_: None


def train(
    course: Course,
    checkpoint: Path | None = None,
    made_of: str = "",
    watch: Watch = unwatched,
    save_every: float = 30.0,
) -> Outcome:
    """Train on as many devices as the course says; its victim's model has learned afterwards.

    On the CPU the processes are forked, and each computes with one thread. On GPUs they are started anew: course and
    `watch` must then be such as can be pickled, and a script needs `if __name__ == "__main__":`.

    Args:
        course, checkpoint, made_of, save_every: see `Engine`.
        watch: opened in the process that validates and writes.

    Raises:
        InputError: there are not as many devices; or as `Engine`.
        KeyboardInterrupt: on Ctrl-C, once the step under way is done and written down.
    """
    if course.how.devices == 1:
        return _run(Engine(course, checkpoint, made_of, save_every), watch)
    victim = course.victim
    model, device = victim.model, victim.device
    on_gpus = device.type == "cuda"
    start = _start_method(course.how.devices, on_gpus)
    fabric = Fabric(
        accelerator="cuda" if on_gpus else "cpu",
        devices=course.how.devices,
        strategy=DDPStrategy(start_method=start, **_BUFFERS_APART),
        precision=course.how.precision,
    )
    model.cpu()
    learned = {name: value.detach().clone().share_memory_() for name, value in model.state_dict().items()}
    wrong = multiprocessing.get_context(start).SimpleQueue()
    engine = partial(Engine, course, checkpoint, made_of, save_every)
    work = partial(_in_process, made=engine, model=model, watch=watch, learned=learned, wrong=wrong)
    try:
        with _quiet(), stop_heard():  # the processes hear Ctrl-C, too; this one waits for them
            outcome = cast("dict[str, Any] | None", fabric.launch(work))
    except (ProcessRaisedException, ProcessExitedException) as error:
        if wrong.empty():
            raise
        raise InputError(wrong.get()) from error
    if outcome is None:
        raise KeyboardInterrupt
    model.load_state_dict(learned)
    model.to(device).eval()
    return Outcome.of(outcome)


def _start_method(devices: int, on_gpus: bool) -> Any:
    if on_gpus:
        if torch.cuda.device_count() < devices:
            raise InputError(f"devices is {devices}, and there are {torch.cuda.device_count()} GPUs")
        return "spawn"
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError("this system cannot fork processes, as several devices on the CPU need: set devices to 1")
    return "fork"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Fabric's lines on how the processes found each other."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _in_process(
    fabric: Fabric,
    made: Callable[..., Engine],
    model: nn.Module,
    watch: Watch,
    learned: Mapping[str, Tensor],
    wrong: Any,
) -> dict[str, Any] | None:
    """What came of the share of one process; None when it was interrupted."""
    if fabric.device.type == "cpu":
        torch.set_num_threads(1)  # the threads of the process before the fork are not there, and would be waited for
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # of processes started anew they share the memory
    try:
        outcome = _run(made(fabric=fabric), watch if fabric.is_global_zero else unwatched)
    except KeyboardInterrupt:
        return None
    except MedrobustError as error:
        wrong.put(str(error))
        raise
    if fabric.is_global_zero:
        for name, value in model.state_dict().items():
            learned[name].copy_(value)
    return asdict(outcome)


def _run(engine: Engine, watch: Watch) -> Outcome:
    with watch(engine.steps) as engine.tell:
        return engine.run()
