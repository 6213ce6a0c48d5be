"""APGD-T: towards one class after the other, of answers while they stand, of masks to the end."""

from __future__ import annotations

import pytest
import torch
from attacks.test_apgd import tiny
from torch import Tensor, nn

from medrobust.attacks import APGDT
from medrobust.tasks import Segmentation
from medrobust.threat import Threat
from medrobust.victim import Victim


def test_towards_every_other_class_but_only_while_it_stands():
    victim = tiny(5)
    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    truth = victim(images).argmax(1)
    result = APGDT(steps=5)(victim, images, truth, Threat(0.1))
    # four other classes: five steps for each that had to be tried
    assert set(result.steps_used.tolist()) <= {5, 10, 15, 20}
    assert bool((result.steps_used[~result.success] == 20).all())
    assert bool(result.success.any())
    assert bool((result.success <= (victim(result.adversarial).argmax(1) != truth)).all())
    fewer = APGDT(steps=5, targets=1)(victim, images, truth, Threat(0.1))
    assert set(fewer.steps_used.tolist()) == {5}
    assert bool((fewer.success <= result.success).all())


class TwoWays(nn.Module):
    """Four pixels of 0.5 answered 1, the true class. Within 0.1 two of them can be made 0 (brighter), three 2 (darker).

    Class 0 is 0.05 away, class 2 by `far`.
    """

    def __init__(self, far: float) -> None:
        super().__init__()
        self.far = far

    def forward(self, x: Tensor) -> Tensor:
        brighter, darker = torch.tensor([1, 1, 0.2, 0.2]), torch.tensor([1, 1, 1, 0.05])
        return torch.cat([brighter * (x - 0.5) - 0.05, 0 * x, darker * (0.5 - x) - self.far], 1)


@pytest.mark.parametrize(("far", "of_the_nearest"), [(0.08, 2 / 3), (0.01, 0.2)])
def test_of_masks_every_class_is_tried_and_the_worst_kept(far, of_the_nearest):
    """By Dice, be the class that takes more of the mask the first or the second; the bar is passed by either.

    Class 1 is left at two of the four pixels, 2·2/(2 + 4), with 0 as background; or at one, of a Dice of 2·1/(1 + 4),
    which counts half, for class 2 is answered where there is none.
    """
    images, truth = torch.full((1, 1, 1, 4), 0.5), torch.ones(1, 1, 4, dtype=torch.int64)
    victim = Victim(TwoWays(far), Segmentation(3, success_dice=0.9))

    def left(attack: APGDT) -> tuple[float, int]:
        result = attack(victim, images, truth, Threat(0.1))
        assert result.success.tolist() == [True]
        return float(victim.task.worth(result.outputs, truth)), int(result.steps_used)

    assert left(APGDT(steps=5, targets=1)) == (pytest.approx(of_the_nearest), 5)
    assert left(APGDT(steps=5)) == (pytest.approx(0.2), 10)
    dice, steps = left(APGDT(steps=5, early_stop=True))
    assert dice >= of_the_nearest - 1e-6
    assert steps < 5
