"""How a budget is written: `4/255`, `0.01`, `10HU`, `5%`, `2px`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from medrobust.errors import InputError

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]{1,3})?"
_UNIT = "(?P<unit>HU|%|px|pixels?|voxels?)"
_BUDGET = re.compile(rf"\s*(?P<number>[-+]?{_NUMBER}(?:\s*/\s*{_NUMBER})?)\s*{_UNIT}?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """A radius, and the unit when it was written down: "HU", "%" (eps is the share, 0.05) or "pixels"."""

    eps: float
    unit: str | None = None

    @classmethod
    def parse(cls, text: str | float, name: str = "eps") -> Budget:
        """Read `4/255`, `0.01`, `10HU`, `5%`, `2px` or a plain number; `name` is what errors call it.

        Raises:
            InputError: it is none of these, or negative.
        """
        match = _BUDGET.fullmatch(str(text))
        if match is None or isinstance(text, bool):
            raise InputError(f"{name} {text!r} is not a budget: write 4/255, 0.01 or 10HU; of some threats 5% or 2px")
        top, _, bottom = match["number"].partition("/")
        unit = _unit(match["unit"])
        try:
            # a fraction first: 1/255 must be the very float that 1/255 is in Python
            eps = float(Fraction(top.strip()) / Fraction(bottom.strip() or 1) / (100 if unit == "%" else 1))
        except (ZeroDivisionError, OverflowError) as error:
            raise InputError(f"{name} {text!r} is not a finite number") from error
        if not math.isfinite(eps) or eps < 0:
            raise InputError(f"{name} {text!r} must be finite and not negative")
        return cls(eps, unit)

    def in_unit(self, unit: str, of: str = "the data", name: str = "eps") -> float:
        """The radius for data of that unit, or for a threat (`of`) that has a unit of its own; `name` as of `parse`.

        Raises:
            InputError: it was written in another one.
        """
        if self.unit is not None and self.unit != unit:
            raise InputError(f"{name} {self} does not fit {of}, whose unit is {unit}")
        return self.eps

    def __str__(self) -> str:
        if self.unit == "pixels":
            return f"{self.eps:g} pixels"
        return f"{100 * self.eps:g}%" if self.unit == "%" else f"{self.eps:g}{self.unit or ''}"


def grey_levels(eps: float) -> str | None:
    """A radius that is a whole number of grey levels (to 1e-9) as people write it, "4/255"; None for any other."""
    levels = round(eps * 255)
    return f"{levels}/255" if 0 < levels < 255 and abs(eps - levels / 255) <= 1e-9 else None


def format_eps(eps: float, unit: str) -> str:
    """A budget as people write it: "4/255" when it is that (to 1e-9), "10 HU", "5 %", else up to four digits."""
    if unit == "HU":
        return f"{eps:.4g} HU"
    if unit == "%":
        return f"{100 * eps:.4g} %"
    if unit == "pixels":
        return "1 pixel" if eps == 1 else f"{eps:.4g} pixels"
    return grey_levels(eps) or f"{eps:.4g}"


def _unit(written: str | None) -> str | None:
    if written is None or written == "%":
        return written
    return "HU" if written.upper() == "HU" else "pixels"
