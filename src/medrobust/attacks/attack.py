"""The bases of attacks on a batch: at one budget or several, on images of one size or many, in the memory there is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import ClassVar, Literal, cast, overload

from torch import Tensor

from medrobust.attacks.applicable import check_kinds, check_seen, check_victim
from medrobust.attacks.at_once import AtOnce
from medrobust.attacks.case import Case, Found, check_threat, handed_in, nothing, opened
from medrobust.attacks.describing import described
from medrobust.attacks.protocols import Needs
from medrobust.attacks.result import AttackResult, joined_results
from medrobust.attacks.sizes import ListResult, by_size
from medrobust.errors import InputError
from medrobust.threat import Threat
from medrobust.victim import Victim


class BatchAttack(ABC):
    """Attacks a batch or a list of images, at one budget or several; stateless between calls."""

    norms: ClassVar[tuple[str, ...] | None] = None
    """Of the threats that it can attack within; None: of all."""
    pixels_only: ClassVar[bool] = False
    """Whether one of its parts is for changes of single pixels: then it is for no imaging family but band noise."""
    answers: ClassVar[Literal["image", "pixel"] | None] = None
    """What the task must give one answer about; None: anything."""

    @property
    def independent(self) -> bool:
        """Whether what becomes of an image is the same, whatever images are attacked with it."""
        return True

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
        if not threats:
            raise InputError("no budget to attack at: give a Threat, or a list of at least one")
        for one in threats:
            if not isinstance(one, Threat):
                raise InputError(f"threat must be a Threat, e.g. Threat(eps=4/255), got {type(one).__name__}")
        threats = [one.over(_axes(images)) for one in threats]

        if isinstance(images, list | tuple):
            if several:
                raise InputError("images of different sizes are attacked at one budget at a time")
            count, (one,) = len(images), threats

            def attack(images: Tensor, truth: Tensor, ids: Sequence[object], places: Tensor) -> AttackResult:
                return self._in_memory(victim, images, truth, [one.rows(places, count)], seed, ids)[0]

            return by_size(attack, images, truth, ids)
        results = self._in_memory(victim, cast("Tensor", images), cast("Tensor", truth), threats, seed, ids)
        return results if several else results[0]

    def _in_memory(
        self,
        victim: Victim,
        images: Tensor,
        truth: Tensor,
        threats: Sequence[Threat],
        seed: int,
        ids: Sequence[object] | None,
    ) -> list[AttackResult]:
        """The results for a batch; where it does not fit into memory, of smaller and smaller parts of it."""
        count = len(images) if isinstance(images, Tensor) else 0
        known = list(range(count)) if ids is None else list(ids)
        in_order = bool(count) and isinstance(truth, Tensor) and len(truth) == len(known) == count
        if not self.independent or not in_order:  # what is out of order is told there
            return self.attack_budgets(victim, images, truth, threats, seed, ids)

        def attacked(rows: Tensor) -> list[AttackResult]:
            if len(rows) == count:
                return self.attack_budgets(victim, images, truth, threats, seed, known)
            some, names = [threat.rows(rows, count) for threat in threats], [known[row] for row in rows.tolist()]
            return self.attack_budgets(victim, images[rows], truth[rows], some, seed, names)

        places, parts = AtOnce(count).pieces(attacked, count)
        return [joined_results(of_one, places) for of_one in zip(*parts, strict=True)]


class SearchAttack(BatchAttack):
    """An attack that searches for images of its own: the base of all but those that wrap others."""

    needs: ClassVar[Needs] = "gradients"
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
        check_kinds(self, victim, threats)
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


def _axes(images: Tensor | Sequence[Tensor]) -> int:
    """Of a batch of such images; 0 where there are none, which is told later."""
    if isinstance(images, list | tuple):
        return images[0].ndim + 1 if images else 0
    return images.ndim if isinstance(images, Tensor) else 0
