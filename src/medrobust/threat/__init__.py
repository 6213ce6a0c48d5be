"""What the attacker may change: `Threat` for the image's values, and families a physician would name."""

from __future__ import annotations

from medrobust.threat.bands import BandNoise
from medrobust.threat.catalogue import THREATS, make_threat, usual_threat
from medrobust.threat.deformation import Deformation
from medrobust.threat.drawing import derived, sample_generators
from medrobust.threat.imaging import BiasField, Contrast
from medrobust.threat.nesting import differ_in_eps_alone, nested
from medrobust.threat.pixels import Norm, Threat
from medrobust.threat.quantisation import Origin, towards
from medrobust.threat.space import TINY, Bounds, Space, per_image

__all__ = [
    "THREATS",
    "TINY",
    "BandNoise",
    "BiasField",
    "Bounds",
    "Contrast",
    "Deformation",
    "Norm",
    "Origin",
    "Space",
    "Threat",
    "derived",
    "differ_in_eps_alone",
    "make_threat",
    "nested",
    "per_image",
    "sample_generators",
    "towards",
    "usual_threat",
]
