"""The bases of attacks on a batch: at one budget or several, on images of one size or many, in the memory there is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import ClassVar, cast, overload

from torch import Tensor

from medrobust.attacks.case import Case, Found, check_threat, handed_in, nothing, opened
from medrobust.attacks.describing import described
from medrobust.attacks.in_memory import in_memory
from medrobust.attacks.protocols import Needs
from medrobust.attacks.result import AttackResult
from medrobust.attacks.sizes import ListResult, by_size
from medrobust.errors import InputError
from medrobust.threat import Threat
from medrobust.victim import Victim


class BatchAttack(ABC):
    """Attacks a batch or a list of images, at one budget or several; stateless between calls."""

    @property
    def shares_budgets(self) -> bool:
        """Whether several budgets in one call cost less than one after the other."""
        return False

    @abstractmethod
    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """Attack images `(B, C, *spatial)` of one size; arguments as for a call."""

    def attack_budgets(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threats: Sequence[Threat],
        seed: int,
        ids: Sequence[object] | None,
    ) -> list[AttackResult]:
        """Attack images of one size at several budgets; a result for each, in their order."""
        return [self.attack_batch(victim, images, truth, threat, seed, ids) for threat in threats]

    def describe(self) -> dict[str, object]:
        """Name and options, for records and reports."""
        options: dict[str, object] = (
            {f.name: described(getattr(self, f.name)) for f in fields(self)} if is_dataclass(self) else {}
        )
        return {"attack": type(self).__name__, **options}

    @overload
    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threat: Threat,
        seed: int = 0,
        ids: Sequence[object] | None = None,
    ) -> AttackResult: ...

    @overload
    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threat: Sequence[Threat],
        seed: int = 0,
        ids: Sequence[object] | None = None,
    ) -> list[AttackResult]: ...

    @overload
    def __call__(
        self,
        victim: Victim,
        images: Sequence[Tensor],
        truth: Sequence[Tensor] | Tensor,
        threat: Threat,
        seed: int = 0,
        ids: Sequence[object] | None = None,
    ) -> ListResult: ...

    def __call__(
        self,
        victim: Victim,
        images: Tensor | Sequence[Tensor],
        truth: Tensor | Sequence[Tensor],
        threat: Threat | Sequence[Threat],
        seed: int = 0,
        ids: Sequence[object] | None = None,
    ) -> AttackResult | list[AttackResult] | ListResult:
        """Attack a batch; stateless between calls.

        Args:
            victim: the model, in data units.
            images: `(B, C, *spatial)` float, within the victim's bounds; or a list of `(C, *spatial)` of different
                sizes, which gives a `ListResult`.
            truth: `(B, …)` int64, the true answers (the wanted ones, when targeted); for detection `(B, N, 5)`
                float, as `Detection` says. For a list of images also a list.
            threat: what may be changed; several of them give a list of results, and share what work they can.
            seed: with `ids`, all the randomness: an image's result depends on seed and its id alone, not on the
                batch, the order or anybody's global random state.
            ids: one per image; its place in the batch when not given.

        Raises:
            InputError: images, truth or threat do not fit the victim.

        Warns:
            MedrobustWarning: memory ran out, and the batch was halved. The result is the same.
        """
        check_victim(victim)
        several = isinstance(threat, list | tuple)
        threats = cast("Sequence[Threat]", threat if several else [threat])
        for one in threats:
            if not isinstance(one, Threat):
                raise InputError(f"threat must be a Threat, e.g. Threat(eps=4/255), got {type(one).__name__}")
        threats = [one.over(_axes(images)) for one in threats]

        def at_once(
            images: Tensor, truth: Tensor, threats: Sequence[Threat], ids: Sequence[object] | None
        ) -> list[AttackResult]:
            if len(threats) == 1:
                return [self.attack_batch(victim, images, truth, threats[0], seed, ids)]
            return self.attack_budgets(victim, images, truth, threats, seed, ids)

        if isinstance(images, list | tuple):
            if several:
                raise InputError("images of different sizes are attacked at one budget at a time")

            count, (one,) = len(images), threats

            def attack(images: Tensor, truth: Tensor, ids: Sequence[object], places: Tensor) -> AttackResult:
                return in_memory(at_once, images, truth, [one.rows(places, count)], ids)[0]

            return by_size(attack, images, truth, ids)
        results = in_memory(at_once, cast("Tensor", images), cast("Tensor", truth), threats, ids)
        return results if several else results[0]


class SearchAttack(BatchAttack):
    """An attack that searches for images of its own: the base of all but those that wrap others."""

    needs: ClassVar[Needs] = "gradients"
    norms: ClassVar[tuple[str, ...] | None] = None
    """Of the threats that it can attack within; None: of all."""
    pixels_only: ClassVar[bool] = False
    """Whether one of its parts is for changes of single pixels: then it is for no imaging family but band noise."""
    targeted: bool

    def sees(self) -> Needs:
        """What it must see of a model as it is configured."""
        return self.needs

    @abstractmethod
    def search(self, case: Case) -> Found:
        """Search for a case that is not empty."""

    def attack_batch(
        self, victim: Victim, images: Tensor, truth: Tensor, threat: Threat, seed: int, ids: Sequence[object] | None
    ) -> AttackResult:
        """Open the case, search, hand in.

        Raises:
            InputError: the victim gives no gradients, and the attack needs them.
        """
        return self.attack_budgets(victim, images, truth, [threat], seed, ids)[0]

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
        check_seen(self, victim)
        for threat in threats:
            check_norm(self, threat)
        for threat in threats[1:]:
            check_threat(threat, images, victim, targeted=self.targeted)
        with opened(victim, images, truth, threats[0], seed, ids, targeted=self.targeted) as case:
            if not len(case):
                return [nothing(images) for _ in threats]
            cases = [case, *(case.under(threat) for threat in threats[1:])]
            return [handed_in(case, found, images) for case, found in zip(cases, self.search_all(cases), strict=True)]

    def search_all(self, cases: Sequence[Case]) -> list[Found]:
        """Search at several budgets; the cases differ in nothing else. What is shared between them is told here."""
        return [self.search(case) for case in cases]


def check_seen(attack: SearchAttack, victim: Victim) -> None:
    """Raise `InputError` when the attack needs gradients and the victim gives none."""
    if attack.sees() == "gradients" and not victim.differentiable:
        raise InputError(
            f"{type(attack).__name__} needs gradients, and a black box gives none: use square, nes or hopskipjump, "
            "or attack another model (a surrogate) and show its images to this one"
        )


def check_victim(victim: object) -> None:
    """Raise `InputError` for a model that is not wrapped."""
    if not isinstance(victim, Victim):
        kind = type(victim).__name__
        raise InputError(f"victim must be a Victim, e.g. Victim(model, Classification(5)), got {kind}")


def check_norm(attack: SearchAttack, threat: Threat) -> None:
    """Raise `InputError` when the attack cannot keep to such a threat."""
    if attack.norms is not None and threat.norm not in attack.norms:
        allowed = " or ".join(attack.norms)
        raise InputError(f"{type(attack).__name__} is for changes within {allowed}, the threat is {threat.norm}")
    if attack.pixels_only and not threat.pixels:
        raise InputError(f"{type(attack).__name__} is for changes of single pixels, the threat is {threat.norm}")


def _axes(images: Tensor | Sequence[Tensor]) -> int:
    """Of a batch of such images; 0 where there are none, which is told later."""
    if isinstance(images, list | tuple):
        return images[0].ndim + 1 if images else 0
    return images.ndim if isinstance(images, Tensor) else 0
