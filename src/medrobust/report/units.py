"""Budgets in what a person looking at the images knows: grey levels of the screen, and percent of what is shown.

Images are shown from black to white over their bounds; CT through the lung window. A change of every pixel is told
against that range: 10 HU are 0.67 % of a window of 1500 HU, or 1.7 of its 255 grey levels. The other norms bound the
pixels together, so that they say nothing of a single grey level; families of their own have units that read by
themselves.
"""

from __future__ import annotations

from medrobust.budget import grey_levels
from medrobust.data.dataset import DatasetInfo
from medrobust.evaluation.records import PartInfo

# name, level and width in HU of the windows that CT can be looked at in; it is shown in the first
CT_WINDOWS = (("lung", -600, 1500), ("soft tissue", 40, 400), ("bone", 400, 1800), ("brain", 40, 80))
_LEVELS = 255


def shown_range(dataset: DatasetInfo) -> tuple[float, float]:
    """The values shown as black and white."""
    if dataset.unit != "HU":
        return dataset.bounds
    _, level, width = CT_WINDOWS[0]
    return level - width / 2, level + width / 2


def share_of_range(eps: float, norm: str, part: PartInfo) -> float | None:
    """What part of the range from black to white a pixel may change by; None where that cannot be told."""
    low, high = shown_range(part.dataset)
    per_pixel = norm == "linf" or norm.startswith("band noise")
    if not per_pixel or high <= low or part.unit_of(norm) != part.dataset.unit:
        return None
    return eps / (high - low)


def range_name(dataset: DatasetInfo) -> str:
    """What the range is called: "black to white", "the lung window of 1500 HU"."""
    name, _, width = CT_WINDOWS[0]
    return f"the {name} window of {width:g} HU" if dataset.unit == "HU" else "black to white"


def in_greys(eps: float, norm: str, part: PartInfo) -> str:
    """A budget as seen on the screen: "1.7 of 255 grey levels, 0.67 % of the lung window of 1500 HU"; "" where untold.

    Grey levels are left out where the budget is written in them, as 4/255 is.
    """
    share = share_of_range(eps, norm, part)
    if share is None:
        return ""
    percent = f"{100 * share:.2g} % of {range_name(part.dataset)}"
    if part.unit_of(norm) == "[0, 1]" and part.dataset.bounds == (0.0, 1.0) and grey_levels(eps):
        return percent
    return f"{share * _LEVELS:.2g} of {_LEVELS} grey levels, {percent}"
