"""How a budget is written: `4/255`, `0.01`, `10HU`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from medrobust.errors import InputError

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_BUDGET = re.compile(rf"\s*(?P<number>[-+]?{_NUMBER}(?:\s*/\s*{_NUMBER})?)\s*(?P<unit>HU)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """A radius in data units, and the unit when it was written down ("HU")."""

    eps: float
    unit: str | None = None

    @classmethod
    def parse(cls, text: str | float) -> Budget:
        """Read `4/255`, `0.01`, `10HU` or a plain number.

        Raises:
            InputError: it is none of these, or negative.
        """
        match = _BUDGET.fullmatch(str(text))
        if match is None or isinstance(text, bool):
            raise InputError(f"eps {text!r} is not a budget: write 4/255, 0.01 or 10HU")
        top, _, bottom = match["number"].partition("/")
        try:
            # a fraction first: 1/255 must be the very float that 1/255 is in Python
            eps = float(Fraction(top.strip()) / Fraction(bottom.strip() or 1))
        except (ZeroDivisionError, OverflowError) as error:
            raise InputError(f"eps {text!r} is not a finite number") from error
        if not math.isfinite(eps) or eps < 0:
            raise InputError(f"eps {text!r} must be finite and not negative")
        return cls(eps, "HU" if match["unit"] else None)

    def in_unit(self, unit: str) -> float:
        """The radius for data of that unit.

        Raises:
            InputError: it was written in another one.
        """
        if self.unit is not None and self.unit != unit:
            raise InputError(f"eps {self.eps:g}{self.unit} does not fit the data, whose unit is {unit}")
        return self.eps
