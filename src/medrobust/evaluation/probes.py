"""What a few images tell of whether an attack can be trusted: numbers, with no verdict yet.

They are kept in `run.json`, so that `medrobust.statistics.trust_checks` can judge them again with no model at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SEVERAL_STEPS, SINGLE_STEP, RESTARTS = "pgd", "single step", "restarts"
FORWARDS, GRADIENTS = "forwards", "gradients"
NO_PATH = "do not depend on its input by a differentiable path"
NOISE, UNLIMITED, ANSWERS_ALONE, SAVED = "noise", "unlimited", "answers alone", "saved"


@dataclass(frozen=True)
class Tried:
    """What one treatment left of each probed image.

    Attributes:
        left: what is left of the answer, in [0, 1]: 1 or 0 for a class (is it right?), the Dice, the F1.
        fooled: whether the answer counts as wrong.
        loss: the task's loss; None where it is not finite.
    """

    left: list[float] = field(default_factory=list)
    fooled: list[bool] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Outputs:
    """The range of the outputs on the clean images.

    Attributes:
        least, most: of all numbers.
        off_one: how far the sum over the classes is from 1 at most; None for answers of yes and no.
    """

    least: float
    most: float
    off_one: float | None


@dataclass(frozen=True)
class Probes:
    """What the probed images tell. All lists have an entry for each of them, in the same order.

    Attributes:
        images: their places in the data set.
        right: whether they were answered right; False: no image was, so nothing could be attacked.
        norm, eps: the budget of the attacks, the one of the run at which most is open.
        tried: treatment → what it left: "pgd" (10 steps), "single step" (FGSM), "restarts" (that PGD from 5 starts),
            "noise" (of the largest allowed size, mean of 3 draws), "unlimited" (30 steps of any size), "answers alone"
            (100 queries of Square, or NES), "saved" (PGD's images as a file would hold them).
        clean_loss: of the clean images, from which rises are measured; None where it is not finite. Empty in runs that
            did not keep it.
        loss_by_step: of PGD, at its random start and after every step; None where it is not finite.
        outputs: None for a detector, whose raw outputs are of many kinds.
        again: how far the outputs of the same batch, asked twice, are apart, as a share of their size.
        company: likewise, with other images in the batch.
        changed: whether either changed what is left of the answer by more than 0.01.
        gradients: the largest entry of the gradient at a random start, 0 where all are 0, None where one is not finite.
        slopes: how much the loss changes along the gradient, one step of eps uphill from a random start, as a share of
            what the gradient tells; None where that is too small to be told from rounding.
        variables: how many numbers of an image the attacker chooses.
        quantum: step of the grid that "saved" rounds to, in data units.
        missing: probe → why there is none.
        seconds: what all of it took.
    """

    images: list[int]
    right: bool
    norm: str
    eps: float
    tried: dict[str, Tried] = field(default_factory=dict)
    clean_loss: list[float | None] = field(default_factory=list)
    loss_by_step: list[list[float | None]] = field(default_factory=list)
    outputs: Outputs | None = None
    again: list[float] = field(default_factory=list)
    company: list[float] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    gradients: list[float | None] = field(default_factory=list)
    slopes: list[float | None] = field(default_factory=list)
    variables: int = 0
    quantum: float | None = None
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
