"""What a victim's options do to the time of a PGD step, and to its effect.

    python benchmarks/options.py [--rounds 5] [--threads 2] [--device cuda] [--half] [--only U-Net]

Each network as it is, in channels_last, compiled, both, and with `--half` in half precision: seconds a step as in
`step_cost.py` (what is compiled at the first call is not counted), as a ratio to the network as it is. Effect: on a
trained network, after 10 steps at 2/255: the share of 64 slices turned (level), or the Dice left of 18 (tissue), asked
of the network as it is.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from peers import for_effect, success
from step_cost import Runner, step_seconds
from timm import create_model
from torch import Tensor, nn

import medrobust as mr
from medrobust.data import stack
from medrobust.data.embedded import open_embedded
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
    """A network to time, and a trained one to attack."""

    task: Task
    model: nn.Module
    images: Tensor
    truth: Tensor
    effect: Callable[[dict[str, object]], float]


def attacked(model: nn.Module, task: Task, images: Tensor, truth: Tensor, options: dict[str, object]) -> Tensor:
    """By PGD on the network with options."""
    victim = mr.Victim(model, task, **options)
    adversarial: Tensor = mr.PGD(steps=10)(victim, images, truth, mr.Threat(EPS)).adversarial
    return adversarial


def networks(device: str) -> dict[str, Network]:
    """ResNet-18, ConvNeXt and the embedded U-Net's architecture."""
    torch.manual_seed(0)
    setting = for_effect(device)
    classes = mr.Classification(5)
    segmentation = mr.Segmentation(3)
    data = open_embedded("tissue", split="test")
    slices, masks, _ = (
        one.to(device) if isinstance(one, Tensor) else one for one in stack([data[k] for k in range(18)])
    )
    segmenter = load_embedded_model("tissue").to(device)

    def turned(options: dict[str, object]) -> float:
        found = attacked(setting.model, classes, setting.images, setting.truth, options)
        return success(setting, found, "linf")

    def dice(options: dict[str, object]) -> float:
        found = attacked(segmenter, segmentation, slices, masks, options)
        with torch.no_grad():
            answers = segmenter(found).argmax(1)
        shares = [
            2 * ((answers == k) & (masks == k)).sum() / ((answers == k).sum() + (masks == k).sum()) for k in (1, 2)
        ]
        return float(torch.stack(shares).mean())

    wide, labels = torch.rand(8, 3, 128, 128, device=device), torch.randint(0, 5, (8,), device=device)
    grey, tissue = torch.rand(8, 1, 120, 104, device=device), torch.randint(0, 3, (8, 120, 104), device=device)

    def classifier(name: str) -> Network:
        return Network(classes, create_model(name, num_classes=5).eval().to(device), wide, labels, turned)

    return {
        "ResNet-18, 8 × 3 × 128 × 128": classifier("resnet18"),
        "ConvNeXt atto, 8 × 3 × 128 × 128": classifier("convnext_atto"),
        "U-Net, 8 × 1 × 120 × 104": Network(segmentation, UNet(1, 3).eval().to(device), grey, tissue, dice),
    }


def runner(network: Network, options: dict[str, object]) -> Runner:
    """PGD of so many steps."""
    victim, threat = mr.Victim(network.model, network.task, **options), mr.Threat(EPS)
    return lambda steps: mr.PGD(steps=steps)(victim, network.images, network.truth, threat).loss.sum().item()


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
    for name, network in networks(given.device).items():
        if not name.startswith(given.only):
            continue
        seconds = step_seconds({words: runner(network, options) for words, options in chosen.items()}, given.rounds)
        for words, times in seconds.items():
            ratios = sorted(a / b for a, b in zip(times, seconds["as it is"], strict=True))
            told = [
                f"{1e3 * statistics.median(times):.1f} ms a step",
                f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                f"effect {network.effect(chosen[words]):.3f}",
            ]
            print(f"{name}: {words:24} {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
