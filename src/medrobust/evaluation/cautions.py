"""Signs that a run does not measure what its user means, told beside its figures."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from medrobust.attacks import Attack, Ensemble, Expectation, Transfer
from medrobust.errors import MedrobustWarning
from medrobust.tasks import Task
from medrobust.threat import Threat
from medrobust.transforms import NON_ADAPTIVE
from medrobust.victim import Victim


def look_like_probabilities(task: Task, outputs: object) -> bool:
    """Whether the outputs `(B, K, …)`, meant as logits, are all in [0, 1].

    Those of several classes must besides sum to 1 over them; those of one answer of yes or no are not judged.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or not len(outputs):
        return False
    inside = bool((outputs >= 0).all() & (outputs <= 1).all())
    if task.multilabel or outputs.shape[1] < 2:
        return inside and task.multilabel
    total = outputs.sum(1)
    return inside and torch.allclose(total, torch.ones_like(total), atol=1e-3)


def cautions(
    rows: Sequence[Mapping[str, object]],
    classes: Sequence[str],
    threats: Sequence[Threat],
    bounds: tuple[float, float],
    probabilities: bool,
) -> Iterator[str]:
    """Sentences to be told with the figures.

    Args:
        rows: the records of a part.
        classes: names of the classes.
        threats: the budgets.
        bounds: of the victim.
        probabilities: whether the clean outputs looked like probabilities.
    """
    if probabilities:
        yield (
            "The model's outputs look like probabilities, not logits: a softmax or sigmoid inside the model weakens "
            "every gradient and makes it look more robust than it is. Leave it out."
        )
    yield from of_budgets(threats, bounds)
    answers = {
        row["index"]: (row["truth"], row["prediction_before"])
        for row in rows
        if row.get("truth") is not None and "truth_boxes" not in row
    }
    if answers:
        yield from _of_answers(list(answers.values()), classes)


def of_budgets(threats: Sequence[Threat], bounds: tuple[float, float]) -> Iterator[str]:
    """Those that need no figures: of budgets so large that they are hardly meant."""
    for threat in threats:
        if threat.norm == "linf" and (eps := threat.budget()) >= bounds[1] - bounds[0]:
            yield f"The budget eps {eps:g} lets every pixel take any value: was {eps:g}/255 meant?"
        if threat.unit == "%" and (eps := threat.budget()) >= 1:
            yield f"The budget eps {eps:g} of {threat.norm} is {100 * eps:g} %: was {eps:g}% meant?"


def warn_of_budgets(threats: Sequence[Threat], bounds: tuple[float, float]) -> None:
    """Warn of them before hours are spent; `bounds` are the victim's."""
    for caution in of_budgets(threats, bounds):
        warnings.warn(caution, MedrobustWarning, stacklevel=3)


def of_ensembles(attacks: Mapping[str, Attack], victim: Victim, threats: Sequence[Threat]) -> list[str]:
    """Of the members that ensembles go without."""
    ensembles = {label: attack for label, attack in attacks.items() if isinstance(attack, Ensemble)}
    told = (attack.omissions(label, victim, threat) for label, attack in ensembles.items() for threat in threats)
    return list(dict.fromkeys(sentence for sentences in told for sentence in sentences))


def of_defences(attacks: Mapping[str, Attack], victim: Victim) -> list[str]:
    """Of attacks that were made on a model without the defence, and did not average over it either."""
    defence = victim.describe().get("defence")
    unaware = [label for label, one in attacks.items() if isinstance(one, Transfer) and not _knows(one, defence)]
    if not defence or not unaware:
        return []
    return [f"The model has a defence that {', '.join(unaware)} did not know. {NON_ADAPTIVE}"]


def _knows(attack: Transfer, defence: object) -> bool:
    parts = getattr(attack.attack, "inputs", ())
    averaged = [part.transform for part in parts if isinstance(part, Expectation) and part.transform is not None]
    return attack.surrogate.describe().get("defence") == defence or defence in [one.describe() for one in averaged]


def _of_answers(answers: Sequence[tuple[object, object]], classes: Sequence[str]) -> Iterator[str]:
    truths = Counter(tuple(truth) for truth, _ in answers)  # type: ignore[arg-type, var-annotated]
    predictions = Counter(tuple(prediction) for _, prediction in answers)  # type: ignore[arg-type, var-annotated]
    one_each = all(len(truth) == 1 for truth in truths)
    if one_each and len(truths) > 1 and len(predictions) == 1:
        (only,) = predictions
        yield (
            f"The model answers {classes[only[0]]!r} to every clean image: an answer that never changes cannot be "
            "attacked, and looks robust. Are weights, mean and std those it was trained with?"
        )
    elif one_each and len(answers) >= 20:
        right = sum(truth == prediction for truth, prediction in answers) / len(answers)
        commonest = truths.most_common(1)[0][1] / len(answers)
        if right <= commonest < 1:
            yield (
                f"On clean images the model is right on {right:.0%}, no better than always answering the commonest "
                f"class ({commonest:.0%}): its robustness says little. Are weights, mean and std those it was trained "
                "with?"
            )
    if one_each and len(classes) > 2 and (0,) not in truths and (len(classes) - 1,) in truths:
        yield f"No image is of class {classes[0]!r}, the first: do the labels start at 1?"
