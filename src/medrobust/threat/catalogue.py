"""Threats, by the name that users type. A new one is a file here and a line in `THREATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import NamedTuple

from torch import Tensor

from medrobust.data import DatasetInfo
from medrobust.errors import InputError, unknown
from medrobust.threat.bands import BandNoise
from medrobust.threat.deformation import Deformation
from medrobust.threat.imaging import BiasField, Contrast
from medrobust.threat.pixels import Threat


class ThreatEntry(NamedTuple):
    """A threat, what may change in a line, the unit of eps (None: that of the data), and an eps as it is written."""

    threat: Callable[..., Threat]
    summary: str
    unit: str | None
    example: str


THREATS: dict[str, ThreatEntry] = {
    "linf": ThreatEntry(partial(Threat, norm="linf"), "every value by at most eps", Threat.unit, "4/255"),
    "l2": ThreatEntry(
        partial(Threat, norm="l2"), "the Euclidean length of an image's whole change", Threat.unit, "0.5"
    ),
    "l1": ThreatEntry(
        partial(Threat, norm="l1"), "the summed sizes of all changes: few values, far", Threat.unit, "10"
    ),
    "contrast": ThreatEntry(Contrast, "contrast and brightness of the whole image", Contrast.unit, "5%"),
    "bias": ThreatEntry(BiasField, "a smooth field on the signal, as of an MR coil", BiasField.unit, "10%"),
    "deformation": ThreatEntry(Deformation, "a smooth displacement along each axis", Deformation.unit, "2px"),
    "band": ThreatEntry(
        BandNoise, "noise of a band of spatial frequencies, every value by at most eps", BandNoise.unit, "4/255"
    ),
}


def make_threat(kind: str, eps: float | Tensor, **options: object) -> Threat:
    """A threat from its catalogue name, as a configuration file gives it.

    Args:
        kind: a name of `THREATS`.
        eps: in the threat's unit.
        options: the threat's own, such as quantum, region or grid.

    Raises:
        InputError: no such threat, no such option of it, or an option has no such value.
    """
    if kind not in THREATS:
        raise unknown("threat", kind, THREATS)
    known = threat_options(kind)
    for option in options:
        if option not in known:
            raise unknown(f"option of threat {kind}", option, known)
    make: Callable[..., Threat] = THREATS[kind].threat
    try:
        return make(eps, **options)
    except InputError as error:
        raise InputError(f"threat {kind}: {error}") from error


def threat_options(kind: str) -> list[str]:
    """The options of a threat of the catalogue, but eps."""
    names: Mapping[str, object] = signature(THREATS[kind].threat).parameters
    return [name for name in names if name not in ("eps", "norm")]


def usual_threat(eps: float, info: DatasetInfo) -> Threat:
    """L∞ within `eps`, where the user gives no threat for images in [0, 1].

    Raises:
        InputError: the images are in another unit, in which no budget is usual.
    """
    if info.unit != "[0, 1]":
        raise InputError(f"{info.name!r} is not in [0, 1] but in {info.unit}: give a threat")
    return Threat(eps)
