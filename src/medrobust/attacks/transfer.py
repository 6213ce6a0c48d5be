"""Attacks made on another model, a surrogate, and shown to the attacked one (Papernot et al., arXiv 1605.07277)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from medrobust.attacks.applicable import sees_enough
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.attack import BatchAttack
from medrobust.attacks.protocols import Attack, Needs, to_prepare
from medrobust.attacks.result import AttackResult
from medrobust.attacks.towards import Towards
from medrobust.data import Dataset
from medrobust.errors import InputError
from medrobust.models import weights_fingerprint
from medrobust.threat import Threat
from medrobust.victim import Victim, check_finite


@dataclass(frozen=True)
class Transfer(BatchAttack):
    """Images that an attack makes on a surrogate, measured on the victim, which may be a black box.

    Loss, outputs and success are of the victim; steps are those on the surrogate. The victim is asked for nothing
    while the attack goes on, so `queries` is 0, and the smallest change that fools it is not known.

    Args:
        attack: the attack, with all its options.
        surrogate: a model of the same task and bounds.
        name: of the surrogate, for records and reports.

    Raises:
        InputError: the attack goes `Towards` an answer, which is reached on the victim or not: transfer what it wraps.
    """

    attack: Attack
    surrogate: Victim
    name: str

    needs: ClassVar[Needs] = "decisions"  # of the victim; the surrogate may have to give more

    def __post_init__(self) -> None:
        if isinstance(self.attack, Towards):
            raise InputError("a surrogate goes inside: Towards(Transfer(attack, surrogate, name), target)")

    @property
    def targeted(self) -> bool:
        """Whether the attack is."""
        return self.attack.targeted

    @property
    def independent(self) -> bool:
        """Whether the attack is."""
        return not isinstance(self.attack, BatchAttack) or self.attack.independent

    @property
    def shares_budgets(self) -> bool:
        """Whether the attack does."""
        return isinstance(self.attack, BatchAttack) and self.attack.shares_budgets

    @property
    def prepares(self) -> bool:
        """Whether the attack must be prepared."""
        return to_prepare(self.attack)

    def describe(self) -> dict[str, object]:
        """Those of the attack, with the surrogate; the name tells them apart from the attack on the victim itself.

        Besides the surrogate's weights, "surrogate_sha256", the defence before them is told, if it has one.
        """
        inner, surrogate = self.attack.describe(), self.surrogate.describe()
        return {
            **inner,
            "attack": f"{inner.get('attack')} via {self.name}",
            "surrogate": self.name,
            "surrogate_sha256": weights_fingerprint(self.surrogate.model)[:16],
            **{f"surrogate_{one}": surrogate[one] for one in ("defence", "defence_seed") if one in surrogate},
        }

    def prepared(self, victim: Victim, dataset: Dataset, threat: Threat, seed: int) -> Attack:
        """What must see the whole data set sees it with the surrogate."""
        if not to_prepare(self.attack):
            return self
        return replace(self, attack=self.attack.prepared(self.surrogate, dataset, threat, seed))

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """Make the images on the surrogate, show them to the victim.

        Raises:
            InputError: surrogate and victim have different bounds or classes.
        """
        self._check(victim)
        made = self.attack(self.surrogate, images, truth, threat, seed, ids)
        return self._shown(victim, truth, made, ids)

    def attack_budgets(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threats: Sequence[Threat],
        seed: int,
        ids: Sequence[object] | None,
    ) -> list[AttackResult]:
        """As `attack_batch`, at every budget."""
        if not self.shares_budgets:
            return super().attack_budgets(victim, images, truth, threats, seed, ids)
        self._check(victim)
        assert isinstance(self.attack, BatchAttack)
        made = self.attack(self.surrogate, images, truth, list(threats), seed, ids)
        return [self._shown(victim, truth, one, ids) for one in made]

    @torch.no_grad()
    def _shown(self, victim: Victim, truth: Tensor, made: AttackResult, ids: Sequence[object] | None) -> AttackResult:
        if not len(made.adversarial):
            return made
        outputs = AtOnce(len(made.adversarial)).over(victim, made.adversarial)
        check_finite(outputs, list(range(len(made.adversarial))) if ids is None else ids, "attacked")
        device = made.success.device
        truth = (truth if made.truth is None else made.truth).to(made.adversarial.device)
        fooled = victim.task.fooled(outputs, truth)
        return replace(
            made,
            outputs=outputs,
            loss=victim.task.loss(outputs, truth).to(device),
            success=(~fooled if self.targeted else fooled).to(device),
            queries=torch.zeros_like(made.queries),
            smallest=None,
        )

    def _check(self, victim: Victim) -> None:
        if self.surrogate.bounds != victim.bounds:
            raise InputError(
                f"the surrogate {self.name} has the bounds {self.surrogate.bounds}, the attacked model {victim.bounds}"
            )
        ours, theirs = self.surrogate.task, victim.task
        if (ours.name, ours.classes) != (theirs.name, theirs.classes):
            raise InputError(
                f"the surrogate {self.name} is for {ours.name} of {ours.classes} classes, the attacked model for "
                f"{theirs.name} of {theirs.classes}"
            )


def with_surrogates(
    attacks: Mapping[str, Attack], surrogates: Mapping[str, Victim], victim: Victim
) -> dict[str, Attack]:
    """The attacks, and each of them through each surrogate, labelled "pgd via resnet18".

    Of a victim without gradients the attacks that need them are left out, once there is a surrogate to make them on.

    Raises:
        InputError: a label is given twice.
    """
    direct = {label: attack for label, attack in attacks.items() if not surrogates or sees_enough(attack, victim)}
    through: dict[str, Attack] = {
        f"{label} via {name}": _through(attack, surrogate, name)
        for name, surrogate in surrogates.items()
        for label, attack in attacks.items()
    }
    for label in direct.keys() & through.keys():
        raise InputError(f"the label {label!r} is that of an attack through a surrogate: rename the attack")
    return direct | through


def _through(attack: Attack, surrogate: Victim, name: str) -> Attack:
    if isinstance(attack, Towards):
        return replace(attack, attack=_through(attack.attack, surrogate, name))
    return Transfer(attack, surrogate, name)
