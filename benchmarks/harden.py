"""The time of an epoch of `medrobust harden`'s methods against plain training, and against themselves written by hand.

    python benchmarks/harden.py [--rounds 7] [--threads 2] [--cpu-time] [--device cuda] [--only U-Net]

ResNet-18 on 64 × 3 × 64 × 64 in batches of 16, and a U-Net on 32 × 1 × 64 × 64 in batches of 8, of random weights
(they do not change the cost of a pass). Plain is what anybody would write: a loop over a DataLoader, forward, loss,
backward, clipping, AdamW. By hand is the same loop on images that torchattacks makes: `PGD` of 5 steps, for TRADES
`TPGD` of 5 with its loss as its authors publish it; SMIA-AT, which no library has, on a loop of bare passes on x' and
S(x') in one batch. Ours is one epoch of the engine as it is, without the look at validation images, which nothing by
hand has, and without what is made once a training. Steps, batch, optimizer, network and frozen normalisation are the
same. `channels_last` is the victim's option, as the command line sets it for models from libraries.

Every round times all in turn, in a changing order; the ratios are medians over the rounds. `--cpu-time` counts the
processor's seconds instead of the clock's, for a machine that others use too (with one thread they are the same on a
quiet one).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torchattacks
from timm import create_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader, TensorDataset

import medrobust as mr
from medrobust.data import Dataset, DatasetInfo, InMemoryDataset, Sample
from medrobust.models.networks import UNet
from medrobust.tasks import Task
from medrobust.training import Course, Engine, Left, Training, Validation, make_method
from medrobust.transforms import GaussianSmoothing

EPS, STEPS, BETA = 2 / 255, 5, 6.0
STEP = 2.5 * EPS / STEPS  # what ours takes unless told otherwise
HOW = Training(epochs=1, patience=0)
GOAL = 1.0
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`(network, images, truth)` → what the weights descend."""
Runner = Callable[[], Callable[[], object]]
"""Makes an epoch ready to be timed."""


@dataclass(frozen=True)
class Setting:
    """A network with images to learn from."""

    make: Callable[[], nn.Module]
    task: Task
    images: Tensor
    truth: Tensor
    batch_size: int

    def by_hand(self, loss: Loss) -> Runner:
        """The first epoch of a plain loop, as of a new engine."""
        data = TensorDataset(self.images.cpu(), self.truth.cpu())

        def prepared() -> Callable[[], None]:
            model = self.make()
            optimizer = torch.optim.AdamW(model.parameters(), lr=HOW.learning_rate, weight_decay=HOW.weight_decay)

            def epoch() -> None:
                for images, truth in DataLoader(data, self.batch_size, shuffle=True):
                    learning(model)
                    optimizer.zero_grad()
                    torch.autograd.backward(loss(model, images.to(self.images.device), truth.to(self.images.device)))
                    nn.utils.clip_grad_norm_(model.parameters(), HOW.clip)
                    optimizer.step()

            return epoch

        return prepared

    def ours(self, method: str, *, channels_last: bool = False) -> Runner:
        """An epoch of a new engine."""
        victim = mr.Victim(self.make(), self.task, channels_last=channels_last)
        samples = zip(self.images.cpu(), self.truth.cpu(), strict=True)
        name = "segmentation" if self.task.dense else "classification"
        info = DatasetInfo("noise", name, tuple(map(str, range(self.task.classes))), self.images.shape[1])
        data = InMemoryDataset(info, [Sample(str(place), *pair) for place, pair in enumerate(samples)])
        how = replace(HOW, batch_size=self.batch_size)
        course = Course(victim, data, data, make_method(method), mr.Threat(EPS), how, Unseen(), 0)
        return lambda: Engine(course).run


class Unseen(Validation):
    """No look at all."""

    def __call__(self, victim: mr.Victim, data: Dataset, threat: mr.Threat, seed: int) -> Left:
        """Nothing."""
        return Left(0.0, 0.0, 0.0)


def learning(model: nn.Module) -> None:
    """Train mode, with the statistics of BatchNorm as they are."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def plain(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """Of clean images."""
    return cross_entropy(model(images), truth)


def pgd(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """On torchattacks' PGD."""
    return plain(model, torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS)(images, truth), truth)


def trades(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """On torchattacks' TPGD, as its authors publish the loss."""
    attacked = torchattacks.TPGD(model, eps=EPS, alpha=STEP, steps=STEPS)(images, truth)
    clean, outputs = model(images), model(attacked)
    apart = kl_div(outputs.log_softmax(1), clean.softmax(1), reduction="none").sum(1).mean()
    return cross_entropy(clean, truth) + BETA * apart


def smia(model: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
    """Bare passes on x' and S(x') for the attack, and again for the weights."""
    smoothing = GaussianSmoothing()

    def terms(current: Tensor, sign: int) -> Tensor:
        outputs, smoothed = model(torch.cat([current, smoothing(current)])).chunk(2)
        apart = kl_div(outputs.log_softmax(1), smoothed.softmax(1), reduction="none").sum(1).mean()
        return cross_entropy(outputs, truth) + sign * apart

    model.eval()
    current = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        current = current.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(terms(current, -1), current)
        moved = current.detach() + STEP * gradient.sign()
        current = (images + (moved - images).clamp(-EPS, EPS)).clamp(0, 1)
    learning(model)
    return terms(current.detach(), 1)


BY_HAND: dict[str, Loss] = {"control": plain, "pgd-at": pgd, "smia-at": smia, "trades": trades}


def settings(device: str) -> dict[str, Setting]:
    """A classifier and a segmenter."""
    torch.manual_seed(0)

    def made(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        return lambda: make().to(device)

    wide, labels = torch.rand(64, 3, 64, 64, device=device), torch.randint(0, 5, (64,), device=device)
    grey, tissue = torch.rand(32, 1, 64, 64, device=device), torch.randint(0, 3, (32, 64, 64), device=device)
    classifier = made(lambda: create_model("resnet18", num_classes=5))
    return {
        "ResNet-18": Setting(classifier, mr.Classification(5), wide, labels, 16),
        "U-Net": Setting(made(lambda: UNet(1, 3)), mr.Segmentation(3), grey, tissue, 8),
    }


def seconds(runners: dict[str, Runner], rounds: int, device: str, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Of one epoch of each, a figure a round; a first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in runners}
    for round_number in range(rounds + 1):
        for name in runners if round_number % 2 else reversed(runners):
            epoch = runners[name]()
            started = clock()
            epoch()
            if device == "cuda":
                torch.cuda.synchronize()
            if round_number:
                found[name].append(clock() - started)
    return found


def main() -> None:
    """Time, and print the ratios with what they are to reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="", help="networks whose name begins so")
    given = parser.parse_args()
    clock = time.process_time if given.cpu_time else time.perf_counter
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {given.device}, {given.threads} threads, {given.rounds} rounds")
    for name, setting in settings(given.device).items():
        if not name.startswith(given.only):
            continue
        runners = {f"{method} by hand": setting.by_hand(loss) for method, loss in BY_HAND.items()}
        runners |= {method: setting.ours(method) for method in BY_HAND}
        runners |= {f"{method}, channels_last": setting.ours(method, channels_last=True) for method in BY_HAND}
        found = seconds(runners, given.rounds, given.device, clock)
        for one in [runner for runner in runners if not runner.endswith("by hand")]:
            method = one.partition(",")[0]
            told = [f"{name}: {one:24} {statistics.median(found[one]):6.2f} s an epoch"]
            for other, words in (("control by hand", "plain"), (f"{method} by hand", "by hand")):
                ratios = sorted(a / b for a, b in zip(found[one], found[other], strict=True))
                told.append(f"/ {words} {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            verdict = "reached" if statistics.median(ratios) <= GOAL else "missed"
            print(f"{', '.join(told)}, goal {GOAL:.2f}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
