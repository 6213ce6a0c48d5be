"""The tables of docs/trust.md: the rules as they are, and what came of the classifiers broken on purpose.

    python docs/trust_table.py            # writes both; the second takes about three minutes

The broken classifiers are wrapped around the embedded classifier of brain slices; the tests have them, too.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "trust.md"
sys.path.insert(0, str(ROOT / "tests"))

from broken_models import BROKEN, USUAL, Broken, as_they_are  # noqa: E402  found by the line above

import medrobust as mr  # noqa: E402
from medrobust.data import InMemoryDataset  # noqa: E402
from medrobust.data.embedded import open_embedded  # noqa: E402
from medrobust.models import load_embedded_model  # noqa: E402
from medrobust.statistics import WORST_CASE  # noqa: E402
from medrobust.statistics.trust_rules import RULES  # noqa: E402


def rules() -> str:
    """A line for each check."""
    lines = ["| check | is as it should be when | what is measured | passes |", "| --- | --- | --- | --- |"]
    lines += [f"| `{key}` | {rule.title} | {rule.measure} | {rule.threshold} |" for key, rule in RULES.items()]
    return "\n".join(lines)


def broken() -> str:
    """A line for each broken classifier, after the honest one."""
    lines = ["| classifier | clean | worst case | fails | warns |", "| --- | --- | --- | --- | --- |"]
    honest = Broken(lambda network: network, {}, as_they_are, {"expect": 1.0})
    lines += [_line(name, case) for name, case in {"as it is": honest, **BROKEN}.items()]
    return "\n".join(lines)


def _line(name: str, case: Broken) -> str:
    options = {"levels": (2, 4, 8), "attacks": USUAL, **case.options}
    levels = options.pop("levels")
    whole = open_embedded("level")
    images = case.images(torch.stack([sample.image for sample in whole]))
    samples = [type(sample)(sample.id, image, sample.truth) for sample, image in zip(whole, images, strict=True)]
    torch.manual_seed(0)
    run = mr.evaluate(
        mr.Victim(case.model(load_embedded_model("level")).eval(), mr.Classification(5, ordinal=True)),
        InMemoryDataset(whole.info, samples),
        threats=[mr.Threat(eps=level / 255) for level in levels],
        probes=16,
        gallery=0,
        **options,
    )
    ((_, checks),) = run.trust.items()
    accuracy = run.summary.filter(metric="accuracy")
    clean = accuracy.filter(attack="clean")["value"][0]
    worst = accuracy.filter(attack=WORST_CASE).sort("eps")["value"][-1]
    found = {
        verdict: ", ".join(f"`{check.key}`" for check in checks if check.verdict == verdict)
        for verdict in ("fail", "warn")
    }
    return f"| {name} | {clean:.2f} | {worst:.2f} at {levels[-1]:g}/255 | {found['fail']} | {found['warn']} |"


def page(**tables: str) -> str:
    """The page with its tables exchanged for these."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: python docs/trust_table.py -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}{table}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(page(rules=rules(), broken=broken()), encoding="utf-8")
