"""What the attacker knew and was allowed, what stood in the way, and what was not tested."""

from __future__ import annotations

from medrobust.evaluation.records import PartInfo
from medrobust.report.attack_wording import (
    ensemble_sentence,
    is_transfer,
    knows_answers_alone,
    options_text,
    without_gradients,
)
from medrobust.report.budgets import budget_text, meanings, own_units
from medrobust.report.numbers import as_float, counted, format_norm, listed, plain
from medrobust.report.table import PartTable
from medrobust.report.wording import FEW_CLUSTERS, success_definition
from medrobust.statistics import TASK_TRAITS, class_name, main_metric


def threat_model(table: PartTable, part: PartInfo) -> list[str]:
    """What the attacker knows and may do, in words."""
    low, high = _bounds(part)
    unit = " HU" if part.dataset.unit == "HU" else ""
    budgets = [budget_text(budget[0].norm, budget[0].eps, part) for budget in table.budgets]
    of = "" if own_units(table.norms, part) else " in the units of the images"
    sentences = [
        _knowledge(part),
        f"The change is bounded by {listed(budgets, 'or')}{of}, before any "
        f"preprocessing; the changed image stays within {low:g} to {high:g}{unit}.",
    ]
    if told := meanings(table.norms, part):
        text = "; ".join(told)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    if any(is_transfer(label, part) for label in part.attacks):
        sentences.append("Attacks “via” another model were made on that one: they know nothing of the attacked model.")
    if defence := defence_text(part):
        sentences.append(f"The model sees its images behind a defence ({defence}), which the attacks know.")
    if any(threat.get("masked") for threat in part.threats):
        sentences.append("A mask kept the change to a part of the image.")
    sentences += dict.fromkeys(_region_sentence(region, part) for t in part.threats if (region := t.get("region")))
    if any(threat.get("quantum") for threat in part.threats):
        sentences.append("The changed images are rounded to values that a file can hold.")
    return sentences


def _knowledge(part: PartInfo) -> str:
    seen = "the model’s answers, not the model," if knows_answers_alone(part) else "the model, its weights"
    return (
        f"The attacker knows {seen} and the true answer of every image, and changes the image "
        "that the model reads (evasion); neither training data nor model are touched."
    )


def _region_sentence(region: object, part: PartInfo) -> str:
    """Which part of the image the truth left to the attacker: "Only pixels inside liver may change."."""
    told = region if isinstance(region, dict) else {}
    names = [plain(class_name(part.dataset, number), 40) for number in told.get("classes", ()) if type(number) is int]
    margin = told.get("margin")
    extended = f", extended by {counted(margin, 'pixel')} on all sides," if isinstance(margin, int) and margin else ""
    side = "outside" if told.get("outside") else "inside"
    return f"Only pixels {side} {listed(names, 'or')} of the image’s own truth{extended} may change."


def _bounds(part: PartInfo) -> tuple[float, float]:
    """What an attacked image stays within: the model's bounds, or the data's in a run that did not keep those."""
    kept = part.victim.get("bounds")
    low, high = map(as_float, kept) if isinstance(kept, list | tuple) and len(kept) == 2 else (None, None)
    return part.dataset.bounds if low is None or high is None else (low, high)


def preprocessing(part: PartInfo) -> str | None:
    """What the model's side does to an image: "(image − 0.5) / 0.25"; None in a run that did not keep it."""
    if not {"mean", "std"} <= part.victim.keys():
        return None
    mean, std = (_per_channel(part.victim[key]) for key in ("mean", "std"))
    defence = defence_text(part)
    if not mean and not std:
        return defence or "none: the model sees the images in data units"
    if not std:
        told = f"image − mean: mean {mean}"
    else:
        told = f"(image − mean) / std: mean {mean}; std {std}" if mean else f"image / std: std {std}"
    return f"{defence}, then {told}" if defence else told


def defence_text(part: PartInfo) -> str:
    """The transforms before the model, in their order: "JPEG (quality 75)"; "" where there are none."""
    defence = part.victim.get("defence")
    steps = [step for step in defence if isinstance(step, dict)] if isinstance(defence, list | tuple) else []
    told = []
    for step in steps:
        options = options_text({str(name): value for name, value in step.items() if name != "transform"})
        told.append(f"{plain(str(step.get('transform')), 40)}{f' ({options})' if options else ''}")
    return ", then ".join(told)


def _per_channel(value: object) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(f"{figure:.6g}" for figure in map(as_float, values) if figure is not None)


def limits(table: PartTable, part: PartInfo) -> list[str]:
    """What was not tested and how far the figures reach."""
    found = []
    blind, ensemble = without_gradients(part), ensemble_sentence(part)
    if blind:
        found.append(
            f"Attacks without gradients were run as well ({listed(blind)}): what these find does not depend on whether "
            "the model’s gradients are broken or hidden."
        )
    else:
        found.append(
            "No black-box attack (without gradients) was run. Where gradients are broken or hidden, a "
            "white-box attack can miss what a black-box attack finds: the figures may flatter the model."
        )
    others = [format_norm(norm) for norm in ("linf", "l2", "l1") if norm not in table.norms]
    moved = any(norm.startswith("deformation") for norm in table.norms)
    others += ["other spatial changes and physical ones" if moved else "spatial and physical changes", "poisoning"]
    if not any(is_transfer(label, part) for label in part.attacks):
        others.append("transfer from other models")
    untested = listed(others)
    if ensemble is not None:
        found.append(ensemble)
    found.append(
        f"Not tested: {untested}. The worst case is the worst of the attacks listed, not of all possible "
        "ones: true robustness is at most this."
    )
    if not any(options.get("targeted") for options in part.attacks.values()):
        found.append("All attacks were untargeted: any wrong answer counts, whatever its clinical weight.")
    found.append(success_definition(part))
    if TASK_TRAITS[part.task].answer == "boxes":
        found.append(
            "The worst case takes for each image the attack that leaves the lowest F1. mAP ranks the detections of all "
            "images together: under a single attack it can be lower than in the worst case."
        )
        found.append(
            "The mAP of few images is too high on average, which its intervals mostly make up for: in a simulation, "
            "95 % intervals held the true figure in 92 % of the cases with 20 images, 93 % with 40 and 94 % with 100."
        )
    found.append(
        "Intervals tell the uncertainty from the choice of the images, not from training the model again or "
        "from the attacks' random numbers; they hold for one figure at a time, uncorrected for the number of "
        "figures. They are BCa bootstrap intervals; a share of images that are taken as independent has Wilson’s, "
        "and a share that is 0 or 1 throughout has the exact binomial interval with "
        f"{'patients' if table.resampled == 'patients' else 'images'} as trials."
    )
    clusters = table.clean[main_metric(part.task)].clusters
    if clusters < FEW_CLUSTERS:
        noun = "patient" if table.resampled == "patients" else "image"
        found.append(f"With {counted(clusters, noun)} the intervals are rough and likely too narrow.")
    found.append("PSNR is averaged over the images that the attack changed; that of an unchanged image is infinite.")
    return found
