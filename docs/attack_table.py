"""Write the table of attacks in docs/attacks.md anew, from the catalogue and from what a step is seen to cost.

python docs/attack_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.attacks import ATTACKS
from medrobust.attacks.about import About, about

PAGE = Path(__file__).parent / "attacks.md"
BEGIN, END = "<!-- table: python docs/attack_table.py -->", "<!-- end of table -->"
SHOWN = {"linf": "L∞", "l2": "L2", "l1": "L1"}
# the attacks that are not counted here, and why
TOLD = {
    "tog": "1 + 1",
    "fab": "2 + 1 for each other class",
    "deepfool": "1 + 1 for each other class, at most 9",
    "universal": "1 + 1 an epoch",
    "sea": "1 + 1, for each of 3 losses",
    "apgd-t": "1 + 1, for each target",
    "fab-t": "2 + 1, for each target",
    "cw": "1 + 1, for each search",
    "square": "1 query",
    "nes": "52 queries",
    "spsa": "130 queries",
    "hopskipjump": "about 100 · √step queries",
    "standard": "see its members",
    "medrobust": "see its members",
}


class Counting(nn.Module):
    """A small network that counts the images it is shown, and those that a gradient comes back for."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        head: list[nn.Module] = [] if dense else [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4)]
        self.inner = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), *head)
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """The answers of images `(B, 1, H, W)`."""
        outputs: Tensor = self.inner(x)
        self.forwards += len(outputs)
        if outputs.requires_grad:
            outputs.register_hook(self._came_back)
        return outputs

    def _came_back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def cost(name: str) -> str:
    """Forwards + backwards that a step of one image takes: the difference of a run of 8 steps and one of 6."""
    if name in TOLD:
        return TOLD[name]
    if name == "fgsm":
        return "1 + 1"
    seen = [_passes(name, steps) for steps in (6, 8)]
    forwards, backwards = ((after - before) / 2 for before, after in zip(*seen, strict=True))
    return f"{forwards:g} + {backwards:g}"


def _passes(name: str, steps: int) -> tuple[int, int]:
    torch.manual_seed(0)
    dense = ATTACKS[name].tasks in (("segmentation",), ("segmentation", "detection"))
    model = Counting(dense)
    victim = mr.Victim(model, mr.Segmentation(4, success_dice=1e-9) if dense else mr.Classification(4))
    images = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        truth = victim(images).argmax(1)
    attack: Any = mr.make_attack(name, {"steps": steps})
    if attack.targeted:
        truth = (truth + 1) % 4
    allowed = about(name).norms or ("linf",)
    norm = "linf" if "linf" in allowed else allowed[0]
    model.forwards = model.backwards = 0
    # so small a budget that nobody leaves before the end
    attack(victim, images, truth, mr.Threat(1e-6, norm=norm))
    return model.forwards, model.backwards


def norms(told: About) -> str:
    """Those that it can keep to."""
    if told.name in ("standard", "medrobust"):
        return "all; Square in L∞, L2, FAB in L1 too"
    return ", ".join(SHOWN.get(norm, norm) for norm in told.norms) or "all"


def table() -> str:
    """The table, in Markdown."""
    lines = [
        "| name | what it does | needs | tasks | norms | a step costs | reference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in ATTACKS:
        told = about(name)
        link = told.reference.replace("arXiv:", "https://arxiv.org/abs/")
        cells = (
            f"`{name}`",
            told.summary,
            told.needs.replace(", ", " and "),
            ", ".join(told.tasks) or "all",
            norms(told),
            cost(name),
            f"[{told.reference.removeprefix('arXiv:')}]({link})",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
