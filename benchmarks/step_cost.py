"""The cost of one step: SMIA against the bare passes it must do, PGD against torchattacks and foolbox.

    python benchmarks/step_cost.py [--rounds 11] [--threads 2]

ResNet-18 (random weights: they do not change the cost) on 8 × 3 × 128 × 128. The cost of a step is the difference
between a long and a short run of the same attack, divided by the difference of their steps, so that what an attack
does once is not counted. Every round times all contenders in turn, and the ratios are of medians over the rounds, so
that a machine whose speed drifts does not favour one of them. `channels_last` is the victim's option, as the command
line sets it for models from libraries; the peers get the same model and have no such option.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import foolbox
import torch
import torchattacks
from timm import create_model
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks import GaussianSmoothing

EPS, STEP = 4 / 255, 1 / 255
SHORT, LONG = 1, 9
Runner = Callable[[int], object]


def bare(model: nn.Module, images: Tensor, truth: Tensor, through_target: bool) -> Runner:
    """The passes a step cannot do without: f(x') and f(S(x')) forward, and backward where a gradient is due."""
    smoothing = GaussianSmoothing()

    def run(steps: int) -> None:
        x = images.clone()
        for _ in range(steps):
            x = x.detach().requires_grad_()
            if through_target:
                outputs = model(torch.cat([x, smoothing(x)]))
                loss = nn.functional.cross_entropy(outputs, truth.repeat(2), reduction="sum")
            else:
                with torch.no_grad():
                    model(smoothing(x))
                loss = nn.functional.cross_entropy(model(x), truth, reduction="sum")
            torch.autograd.grad(loss, x)

    return run


def contenders(model: nn.Module, images: Tensor, truth: Tensor) -> dict[str, Runner]:
    """Every attack as a function of its number of steps."""
    victim = mr.Victim(model, mr.Classification(10))
    fast = mr.Victim(model, mr.Classification(10), channels_last=True)
    threat = mr.Threat(eps=EPS)
    foolbox_model = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")

    def ours(attack: type[mr.PGD] | type[mr.SMIA], victim: mr.Victim = victim, **options: object) -> Runner:
        return lambda steps: attack(steps=steps, step_size=STEP, **options)(victim, images, truth, threat)

    def theirs_foolbox(steps: int) -> object:
        attack = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=steps, random_start=False)
        return attack(foolbox_model, images, truth, epsilons=EPS)

    return {
        "bare, through the target": bare(model, images, truth, through_target=True),
        "SMIA": ours(mr.SMIA),
        "bare, constant target": bare(model, images, truth, through_target=False),
        "SMIA constant target": ours(mr.SMIA, a2=0.5, through_target=False),
        "PGD": ours(mr.PGD, random_start=False),
        "PGD channels_last": ours(mr.PGD, fast, random_start=False),
        "torchattacks PGD": lambda steps: torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=steps, random_start=False)(
            images, truth
        ),
        "foolbox PGD": theirs_foolbox,
    }


def step_seconds(
    runners: dict[str, Runner], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds a step of each, one figure a round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for round_number in range(rounds + 1):
        # turned round every time, so that no one always follows the same neighbour
        order = list(runners) if round_number % 2 else list(reversed(runners))
        for name in order:
            times = []
            for steps in (SHORT, LONG):
                started = clock()
                runners[name](steps)
                times.append(clock() - started)
            if round_number:
                seconds[name].append((times[1] - times[0]) / (LONG - SHORT))
    return seconds


def main() -> None:
    """Time, and print the ratios with what they are to reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    model = create_model("resnet18", num_classes=10).eval()
    images, truth = torch.rand(8, 3, 128, 128), torch.randint(0, 10, (8,))
    seconds = step_seconds(contenders(model, images, truth), options.rounds)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    for name, times in seconds.items():
        print(f"{name:26} {1e3 * median[name]:8.1f} ms a step  ({1e3 * min(times):.1f} to {1e3 * max(times):.1f})")
    for ours, other, goal in (
        ("SMIA", "bare, through the target", 1.03),
        ("SMIA constant target", "bare, constant target", 1.03),
        ("PGD", "torchattacks PGD", 1.00),
        ("PGD channels_last", "torchattacks PGD", 1.00),
        ("PGD", "foolbox PGD", 0.67),
        ("PGD channels_last", "foolbox PGD", 0.67),
    ):
        ratios = sorted(a / b for a, b in zip(seconds[ours], seconds[other], strict=True))
        middle = statistics.median(ratios)
        verdict = "reached" if middle <= goal else "missed"
        print(
            f"{ours} / {other}: {middle:.3f} (rounds {ratios[0]:.3f} to {ratios[-1]:.3f}), goal {goal:.2f}: {verdict}"
        )


if __name__ == "__main__":
    main()
