"""What a victim's options do to the time of a PGD step, and to its effect.

    python benchmarks/options.py [--rounds 5] [--threads 2] [--device cuda] [--half] [--only U-Net]

Each network as it is, in channels_last, compiled, both, and with `--half` in half precision: seconds a step as in
`step_cost.py` (what is compiled at the first call is not counted), as a ratio to the network as it is. Effect: what
10 steps at 2/255 leave of the right answers on 18 slices (level) and of their Dice (tissue), made on the trained
networks with the options and asked of them as they are.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from step_cost import step_seconds
from timm import create_model
from torch import Tensor, nn

import medrobust as mr
from medrobust.data import stack
from medrobust.data.embedded import EmbeddedName, open_embedded
from medrobust.models.embedded import load_embedded_model
from medrobust.models.networks import UNet
from medrobust.tasks import Task

EPS = 2 / 255
OPTIONS: dict[str, dict[str, object]] = {
    "as it is": {},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "compile, channels_last": {"compile": True, "channels_last": True},
}
HALF: dict[str, dict[str, object]] = {
    "bfloat16, channels_last": {"autocast": "bfloat16", "channels_last": True},
    "float16, channels_last": {"autocast": "float16", "channels_last": True},
}


@dataclass(frozen=True)
class Network:
    """A network to time, or a trained one to attack, with images and truth for it."""

    task: Task
    model: nn.Module
    images: Tensor
    truth: Tensor

    def attack(self, options: dict[str, object]) -> Callable[[int], mr.AttackResult]:
        """PGD of so many steps, on the network with options; the device is waited for."""
        victim, threat = mr.Victim(self.model, self.task, **options), mr.Threat(EPS)

        def run(steps: int) -> mr.AttackResult:
            result = mr.PGD(steps=steps)(victim, self.images, self.truth, threat)
            result.loss.sum().item()
            return result

        return run

    def left(self, options: dict[str, object]) -> float:
        """Of the answers of the network as it is, after 10 steps on the one with options; see `Task.worth`."""
        attacked = self.attack(options)(10).adversarial
        with torch.no_grad():
            return float(self.task.worth(self.model(attacked), self.truth).mean())


def timed(device: str) -> dict[str, Network]:
    """ResNet-18, ConvNeXt and the embedded U-Net's architecture, of random weights."""
    torch.manual_seed(0)
    wide, labels = torch.rand(8, 3, 128, 128, device=device), torch.randint(0, 5, (8,), device=device)
    grey, tissue = torch.rand(8, 1, 120, 104, device=device), torch.randint(0, 3, (8, 120, 104), device=device)

    def classifier(name: str) -> Network:
        return Network(mr.Classification(5), create_model(name, num_classes=5).eval().to(device), wide, labels)

    return {
        "ResNet-18, 8 × 3 × 128 × 128": classifier("resnet18"),
        "ConvNeXt atto, 8 × 3 × 128 × 128": classifier("convnext_atto"),
        "U-Net, 8 × 1 × 120 × 104": Network(mr.Segmentation(3), UNet(1, 3).eval().to(device), grey, tissue),
    }


def trained(name: EmbeddedName, task: Task, device: str) -> Network:
    """An embedded network with 18 slices that it has not seen."""
    data = open_embedded(name, split="test")
    images, truth, _ = stack([data[index] for index in range(18)])
    return Network(task, load_embedded_model(name).to(device), images.to(device), truth.to(device))


def main() -> None:
    """Time, and print ratios and effects."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--half", action="store_true", help="of use where the device computes in it")
    parser.add_argument("--only", default="", help="networks whose name begins so")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore", UserWarning)
    print(f"torch {torch.__version__}, {given.device}, {given.threads} threads, {given.rounds} rounds")
    chosen = {**OPTIONS, **(HALF if given.half else {})}
    attacked = [
        trained("level", mr.Classification(5), given.device),
        trained("tissue", mr.Segmentation(3), given.device),
    ]
    left = {words: [f"{network.left(options):.3f}" for network in attacked] for words, options in chosen.items()}
    for name, network in timed(given.device).items():
        if not name.startswith(given.only):
            continue
        seconds = step_seconds({words: network.attack(options) for words, options in chosen.items()}, given.rounds)
        for words, times in seconds.items():
            ratios = sorted(a / b for a, b in zip(times, seconds["as it is"], strict=True))
            told = [
                f"{1e3 * statistics.median(times):.1f} ms a step",
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                f"left of level and tissue {' and '.join(left[words])}",
            ]
            print(f"{name}: {words:24} {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
