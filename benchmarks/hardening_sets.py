"""What hardening gains and costs: control, PGD-AT, SMIA-AT and TRADES on four real sets.

    python benchmarks/hardening_sets.py --data DATA --out hardening/ [--only x-ray,fundus] [--into docs/harden.md]

Networks learn as in the ablation (`ablation_sets.py`), are then hardened on the same training images, and measured on
others by attacks of which none but SMIA was trained on: APGD on cross-entropy and on a margin, SMIA of more steps, and
Square, which needs no gradients. What is there already in `--out` is not made again. Some minutes of a core a model.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ablation import MEAN, STD
from ablation_sets import BENCHMARKS, chosen, network
from ablation_table import put_into

import medrobust as mr
from medrobust.jobs import task_for
from medrobust.reproduce.fitting import fit
from medrobust.reproduce.keeping import trained_once
from medrobust.training import Left

METHODS = ("control", "pgd-at", "smia-at", "trades")
ASKED = 2.0  # 255ths
BEGIN, END = "<!-- sets -->", "<!-- end of sets -->"


@dataclass(frozen=True)
class Plan:
    """How a set is hardened.

    Attributes:
        network: of `ablation_sets`.
        eps: what the model is to stand, in 255ths.
        how: as a user would give it.
        limit: at most so many training images and test images.
    """

    network: str
    eps: float
    how: mr.Training
    limit: int


PLANS = {
    "x-ray": Plan(
        "timm:mobilenetv3_small_100", 2.0, mr.Training(epochs=5, batch_size=32, normalisation="batch", patience=0), 200
    ),
    "lung": Plan("U-Net", 8.0, mr.Training(epochs=30, batch_size=4, normalisation="batch", patience=0), 8),
    "tissue": Plan(
        "U-Net", 12.0, mr.Training(epochs=10, batch_size=4, learning_rate=3e-3, normalisation="batch", patience=0), 12
    ),
    "organs": Plan("U-Net", 8.0, mr.Training(epochs=15, batch_size=4, normalisation="batch", patience=0), 12),
}


class Timed(mr.Validation):
    """A validation that knows how long it took, so that training can be timed alone."""

    seconds = 0.0

    def __call__(self, *given: Any) -> Left:
        """As its parent."""
        begun = time.process_time()
        found = super().__call__(*given)
        type(self).seconds += time.process_time() - begun
        return found


def main() -> None:
    """Harden and measure what is not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of models and runs")
    parser.add_argument("--only", default=",".join(PLANS), help="sets, comma-separated")
    parser.add_argument("--into", type=Path, help="a page, to put the tables between its marks")
    parser.add_argument("--made", action="store_true", help="make nothing, only write the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = given.only.split(",")
    if not given.made:
        for name in names:
            _make(given, name)
    text = "\n\n".join(
        _told(given.out / name, name) for name in names if (given.out / name / METHODS[-1] / "run").exists()
    )
    if given.into is None:
        print(text)
    else:
        put_into(given.into, text, BEGIN, END)


def _make(given: argparse.Namespace, name: str) -> None:
    plan, folder = PLANS[name], given.out / name
    training, test = BENCHMARKS[name].open(given.data)
    test = chosen(test, plan.limit)
    before = _trained(folder, name, training)
    _measure(before, test, plan, folder / "before" / "run")
    for method in METHODS:
        if (folder / method / "run").exists():
            continue
        begun, Timed.seconds = time.process_time(), 0.0
        look = Timed(images=16)
        found = mr.harden(before, training, None, method, mr.Threat(eps=plan.eps / 255), plan.how, look=look)
        seconds = time.process_time() - begun - Timed.seconds
        (folder / method).mkdir(parents=True, exist_ok=True)
        (folder / method / "seconds.json").write_text(json.dumps(seconds))
        _measure(found.victim, test, plan, folder / method / "run")
        print(name, method, found.summary(), f"{seconds:.0f} s of a core", flush=True)


def _trained(folder: Path, name: str, training: mr.Dataset) -> mr.Victim:
    """The network before it is hardened, learned once."""
    how, source, task = BENCHMARKS[name].fitting, PLANS[name].network, task_for(training.info)
    model = network(source, training, 0)
    trained_once(
        model,
        lambda: fit(model, task, training, how, 0, lambda images: (images - MEAN) / STD),
        folder / "before" / "model.safetensors",
        {"data": training.fingerprint(), "how": repr(how), "network": source},
    )
    return mr.Victim(model.eval(), task, training.info.bounds, MEAN, STD)


def _measure(victim: mr.Victim, test: mr.Dataset, plan: Plan, folder: Path) -> None:
    if folder.exists():
        return
    dense = test.info.task == "segmentation"
    second = mr.CosPGD(steps=30) if dense else mr.APGDDLR(steps=30)
    attacks = {
        "apgd": mr.APGD(steps=30),
        "cospgd" if dense else "apgd-dlr": second,
        "smia": mr.SMIA(steps=30),
        "square": mr.Square(queries=100),
    }
    threats = [mr.Threat(eps=eps / 255) for eps in sorted({ASKED, plan.eps})]
    mr.evaluate(victim, test, attacks, threats, gallery=0, probes=8, model_name=plan.network).save(folder)


def _told(folder: Path, name: str) -> str:
    """The table of a set, how SMIA-AT compares with PGD-AT, and the checks of trust that failed."""
    runs = {method: mr.load_run(folder / method / "run") for method in ("before", *METHODS)}
    rows = mr.tradeoff(runs)
    part = next(iter(rows.parts))
    seconds = {method: json.loads((folder / method / "seconds.json").read_text()) for method in METHODS}
    table = rows.markdown().split("\n\n")[2].splitlines()
    times = ["training", "---", "", *(f"{seconds[method] / seconds['control']:.1f}" for method in METHODS)]
    lines = [f"{row} {time} |" for row, time in zip(table, times, strict=True)]
    plan, images = PLANS[name], rows.parts[part].evaluated
    title = f"**{BENCHMARKS[name].title}**, {plan.network}, {images} test images, hardened at {plan.eps:g}/255:"
    told = [title, "\n".join(lines)]
    compared = mr.compare(runs["pgd-at"], runs["smia-at"], names=("PGD-AT", "SMIA-AT"))
    told.append(
        " ".join(
            line for line in compared.markdown().split("\n\n")[2:] if line.startswith(("Accuracy", "Dice", "On clean"))
        )
    )
    failed = {
        method: [check.title for check in run.trust[part] if check.verdict == "fail"] for method, run in runs.items()
    }
    worded = "; ".join(f"{method}: {', '.join(names)}" for method, names in failed.items() if names)
    told.append(f"Checks of trust that failed: {worded or 'none'}.")
    return "\n\n".join(told)


if __name__ == "__main__":
    main()
