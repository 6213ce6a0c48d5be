"""The attacks of the ablation: SMIA with one option changed at a time, and what it is compared with, at equal cost.

A forward pass counts 1 and a backward pass 2, as usual: every attack may spend `BUDGET` on an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import medrobust as mr
from medrobust.attacks import IterativeAttack

BUDGET = 60  # 20 steps of PGD
ALONE = 3  # a step that sees the image once, forward and back
BOTH = 6  # one that sees the image and its smoothed self, forward and back
CONSTANT = 4  # one that only looks forward at the smoothed image
KERNEL = 7  # of translation invariance, for images of 100 to 224 pixels


@dataclass(frozen=True)
class Variant:
    """An attack of the table.

    Attributes:
        attack: at the number of steps that `BUDGET` allows.
        differs: in words, from SMIA as it is by default.
    """

    attack: IterativeAttack
    differs: str


def variants(side: int) -> dict[str, Variant]:
    """Label → variant, for images of `side` pixels: kernels of translation invariance must fit them."""
    kernel = KERNEL if side > 2 * KERNEL else 3
    plain = mr.SMIA(steps=BUDGET // BOTH)
    clean_start = mr.PGD(steps=BUDGET // ALONE, random_start=False)
    smoothed = [mr.Expectation(mr.Smooth(), samples=1, plain=True)]
    invariance = [mr.TranslationInvariance(kernel)]

    def smia(**options: object) -> IterativeAttack:
        return replace(plain, **options)

    def constant(**options: object) -> IterativeAttack:
        return replace(plain, steps=BUDGET // CONSTANT, **options)

    return {
        "pgd": Variant(mr.PGD(steps=BUDGET // ALONE), "PGD"),
        "bim": Variant(clean_start, "PGD from the clean image"),
        "mi": Variant(mr.MIFGSM(steps=BUDGET // ALONE), "MI-FGSM"),
        "ti": Variant(replace(clean_start, gradients=invariance), "the same along a smoothed gradient (TI)"),
        "eot": Variant(replace(clean_start, steps=BUDGET // BOTH, inputs=smoothed), "the same on the image and S(x)"),
        "smia": Variant(plain, "as it is"),
        "a2=0.25": Variant(smia(a2=0.25), "a2 a quarter"),
        "a2=0.5": Variant(smia(a2=0.5), "a2 a half"),
        "a2=2": Variant(smia(a2=2.0), "a2 twice"),
        "a2=4": Variant(smia(a2=4.0), "a2 four times"),
        "kernel 5": Variant(smia(kernel_size=5), "kernel of 5 pixels"),
        "kernel 7, sigma 2": Variant(smia(kernel_size=7, sigma=2.0), "kernel of 7 pixels, sigma 2"),
        "sigma 0.5": Variant(smia(sigma=0.5), "sigma 0.5"),
        "ce": Variant(smia(divergence="ce"), "soft cross-entropy for KL"),
        "mse": Variant(smia(divergence="mse"), "squared difference of probabilities for KL"),
        "hard": Variant(constant(divergence="hard", a2=0.5), "hard label for KL, a2 a half"),
        "constant target": Variant(constant(through_target=False, a2=0.5), "no gradient through f(S(x')), a2 a half"),
        "released": Variant(constant(variant="released", a2=0.5), "as the published script, a2 a half"),
        "once fooled": Variant(smia(stabilize="once_fooled"), "the term only where the smoothed image is wrong"),
        "perturbation": Variant(smia(smooth="perturbation"), "S acts on the change alone"),
        "random start": Variant(smia(random_start=True), "from a random start"),
        "smia+mi": Variant(mr.MomentumSMIA(steps=BUDGET // BOTH), "with momentum"),
        "smia+ti": Variant(smia(gradients=invariance), "with translation invariance"),
        "smia+eot": Variant(
            replace(plain, steps=BUDGET // (2 * BOTH), inputs=smoothed), "on the image and its smoothed self"
        ),
    }
