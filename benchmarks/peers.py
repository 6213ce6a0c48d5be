"""The time and the memory of each attack against its twin in another library, and that both do the same.

    python benchmarks/peers.py [--only vmi] [--rounds 5] [--threads 2] [--memory] [--cpu-time] [--device cuda]
                               [--images 8] [--side 128]

Time: ResNet-18 of random weights (they do not change the cost of a pass) on 8 × 3 × 128 × 128, the truth its own
answers, so that every attack has work to do; for masks a U-Net of three scales. Steps are timed as in `step_cost.py`,
by the difference of a long and a short run; attacks that images leave early, and those that search, by the whole call.
Every round times both in turn, in a changing order, and the ratio is the median over the rounds. A call ends with the
model's answers on the attacked images, whoever asks for them: a result without them is none.

Passes: images that go forward through the model, and gradients of its outputs that come back, for each image in one
whole call (the long one, or the only one), counted by hooks on the model. They have no noise: `10 + 9 and 10 + 9`.

Effect: the share of 64 brain slices that the embedded classifier answers right and that are turned within eps; for
masks, the share of the pixels turned (of what the embedded segmenter answers), or brought to what both move towards.

`--memory` adds the most memory that a call takes on top of what was there, each in a process of its own (on a GPU in
this one). `--cpu-time` counts the processor's seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from dense_peer_attacks import dense_twins
from peer_attacks import twins
from peer_libraries import Runner, Setting, Twins
from timm import create_model
from torch import Tensor, nn

from medrobust.data import stack
from medrobust.data.embedded import EmbeddedName, open_embedded
from medrobust.errors import InputError
from medrobust.models.embedded import load_embedded_model
from medrobust.models.networks import UNet

SIDES = ("ours", "theirs")


class Grey(nn.Module):
    """A network of grey images that takes three channels, as some of the libraries want."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `(B, 3, H, W)`."""
        logits: Tensor = self.model(images.mean(1, keepdim=True))
        return logits


def for_cost(device: str, count: int, side: int, *, dense: bool = False) -> Setting:
    """ResNet-18 on noise; for masks a U-Net."""
    torch.manual_seed(0)
    model = (UNet(3, 3) if dense else create_model("resnet18", num_classes=10)).eval().to(device)
    images = torch.rand(count, 3, side, side, device=device)
    with torch.no_grad():
        truth = model(images).argmax(1)
    if dense:
        return Setting(model, images, truth, 3, {"linf": 8 / 255})
    return Setting(model, images, truth, 10, {"linf": 4 / 255, "l2": 1.0, "l1": 20.0})


def for_effect(device: str, *, dense: bool = False) -> Setting:
    """The embedded classifier of brain slices; for masks the segmenter and 12 of its own answers."""
    name: EmbeddedName = "tissue" if dense else "level"
    model = Grey(load_embedded_model(name)).eval().to(device)
    dataset = open_embedded(name, split="test")
    images, truth, _ = stack([dataset[index] for index in range(len(dataset))])
    images, truth = images[:, :, 8:112].expand(-1, 3, -1, -1).contiguous().to(device), truth.to(device)
    with torch.no_grad():
        answers = model(images).argmax(1)
    if dense:
        return Setting(model, images[::3], answers[::3], 3, {"linf": 8 / 255})
    right = (answers == truth).nonzero().flatten()[:64]
    return Setting(model, images[right], truth[right], 5, {"linf": 2 / 255, "l2": 0.5, "l1": 10.0})


def widened(setting: Setting, pair: Twins) -> Setting:
    """With the budget of the pair."""
    return replace(setting, eps={norm: eps * pair.wider for norm, eps in setting.eps.items()})


@torch.no_grad()
def success(setting: Setting, attacked: Tensor, pair: Twins) -> float:
    """The share of the images turned within eps, or of their pixels."""
    order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[pair.norm]
    size = (attacked - setting.images).flatten(1).norm(order, 1)
    answers = setting.model(attacked).argmax(1)
    goal = None if pair.wanted is None else pair.wanted(setting)
    reached = answers != setting.truth if goal is None else answers == goal
    asked_for = torch.ones_like(reached) if goal is None else goal != setting.truth
    within = (size <= setting.eps[pair.norm] * 1.001).view(-1, *[1] * (reached.ndim - 1))
    return float((reached & asked_for & within).sum() / asked_for.sum().clamp_min(1))


def passes(runner: Runner, setting: Setting, steps: int) -> tuple[float, float]:
    """Forwards and backwards for each image in one call; a gradient of the outputs is a backward of their images."""
    seen = {"forward": 0, "backward": 0}

    def back(gradient: Tensor) -> None:
        seen["backward"] += len(gradient)

    def forth(_: nn.Module, given: tuple[Tensor, ...], outputs: Tensor) -> None:
        seen["forward"] += len(given[0])
        if outputs.requires_grad:
            outputs.register_hook(back)

    handle = setting.model.register_forward_hook(forth)
    try:
        runner(setting, steps)
    finally:
        handle.remove()
    return seen["forward"] / len(setting.images), seen["backward"] / len(setting.images)


@dataclass(frozen=True)
class Watch:
    """How seconds are counted."""

    device: str
    clock: Callable[[], float]

    def seconds(self, runner: Runner, setting: Setting, pair: Twins) -> float:
        """Of the long run, less the short one where there is one."""
        taken = []
        for steps in (pair.long, pair.short)[: 1 + bool(pair.short)]:
            self._wait()
            started = self.clock()
            runner(setting, steps)
            self._wait()
            taken.append(self.clock() - started)
        return taken[0] - sum(taken[1:])

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def times(pair: Twins, setting: Setting, watch: Watch, rounds: int) -> dict[str, list[float]]:
    """Seconds of both, one figure a round; both have run before, when their passes were counted."""
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES if number % 2 else reversed(SIDES):
            found[side].append(watch.seconds(getattr(pair, side), setting, pair))
    return found


def peak(pair: Twins, side: str, setting: Setting) -> float:
    """MiB that a call takes at most, on top of what was there; on the CPU to be asked once in a process."""
    runner: Runner = getattr(pair, side)
    if setting.images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        runner(setting, pair.long)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    # what is imported and kept at a first call is no memory of the attack
    corner = (slice(1), *[slice(64)] * (setting.truth.ndim - 1))
    runner(replace(setting, images=setting.images[:1, :, :64, :64], truth=setting.truth[corner]), 2)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    runner(setting, pair.long)
    return (_status("VmHWM") - before) / 2**10


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def peak_elsewhere(place: int, side: str, options: argparse.Namespace) -> float:
    """The same of the pair at a place, in a process of its own."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("threads", "images", "side")]
    command = [sys.executable, __file__, *sizes, "--peak", str(place), side]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.split()[-1])


def main() -> None:
    """Measure, and print the ratios with what they are to reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="pairs whose name begins so")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, default=8, help="in a batch")
    parser.add_argument("--side", type=int, default=128, help="of an image, in pixels")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    size = (options.device, options.images, options.side)
    pairs = twins() + dense_twins()
    if options.peak:
        pair = pairs[int(options.peak[0])]
        print(peak(pair, options.peak[1], widened(for_cost(*size, dense=pair.dense), pair)))
        return
    chosen = [place for place, pair in enumerate(pairs) if pair.name.startswith(options.only)]
    settings = {
        dense: (for_cost(*size, dense=dense), for_effect(options.device, dense=dense))
        for dense in sorted({pairs[place].dense for place in chosen})
    }
    watch = Watch(options.device, time.process_time if options.cpu_time else time.perf_counter)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads, {options.rounds} rounds")
    for place in chosen:
        pair = pairs[place]
        label = f"{pair.name} / {pair.library}"
        cost, effect = (widened(setting, pair) for setting in settings[pair.dense])
        try:
            told = compared(pair, cost, effect, watch, options.rounds)
        except (InputError, ImportError) as error:
            print(f"{label:26} left out: {error}")
            continue
        if options.memory:
            elsewhere = options.device == "cpu"
            peaks = [peak_elsewhere(place, side, options) if elsewhere else peak(pair, side, cost) for side in SIDES]
            told.append(f"memory {peaks[0]:.0f} and {peaks[1]:.0f} MiB")
        print(f"{label:26} {'; '.join(told)}", flush=True)


def compared(pair: Twins, cost: Setting, effect: Setting, watch: Watch, rounds: int) -> list[str]:
    """Time, goal, passes and success, in words."""
    effects = [success(effect, getattr(pair, side)(effect, pair.long), pair) for side in SIDES]
    counts = [passes(getattr(pair, side), cost, pair.long) for side in SIDES]
    taken = times(pair, cost, watch, rounds)
    ratios = sorted(a / b for a, b in zip(taken["ours"], taken["theirs"], strict=True))
    middle = statistics.median(ratios)
    return [
        f"time {middle:.3f} (rounds {ratios[0]:.3f} to {ratios[-1]:.3f})",
        f"goal {pair.goal:.2f} {'reached' if middle <= pair.goal else 'missed'}",
        "passes " + " and ".join(f"{forward:.4g} + {backward:.4g}" for forward, backward in counts),
        f"success {effects[0]:.3f} and {effects[1]:.3f}",
    ]


if __name__ == "__main__":
    main()
