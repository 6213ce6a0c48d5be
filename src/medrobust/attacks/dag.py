"""DAG: dense adversary generation, against every pixel of a mask or every object of a detector.

Xie, Wang, Zhang, Zhou, Xie, Yuille: Adversarial Examples for Semantic Segmentation and Object Detection, ICCV 2017,
arXiv 1703.08603.
"""

from __future__ import annotations

from dataclasses import dataclass

from medrobust.attacks.dag_loss import DAGLoss
from medrobust.attacks.objectives import OutputObjective
from medrobust.attacks.smia import StabilizedAttack
from medrobust.attacks.steps import Walk, largest_to_one


@dataclass(frozen=True, kw_only=True)
class DAG(StabilizedAttack):
    """x ← Π(x + γ · ∇/‖∇‖∞) on `DAGLoss` until no pixel (no object) is left, where the image stays. Algorithm 1.

    For segmentation and detection. γ is `step_size`. The original has no ball: it is this attack with
    `step_size=0.5/255`, `steps=150` and a threat whose eps is the width of the bounds, its size then to be read from
    the records. Fewer, larger steps in a ball are the default. In the L2 norm the step is the gradient at length γ.
    """

    def inner(self) -> OutputObjective:
        """DAG's difference of logits."""
        return DAGLoss()

    def default_step(self) -> Walk:
        """The gradient itself."""
        return Walk(largest_to_one)
