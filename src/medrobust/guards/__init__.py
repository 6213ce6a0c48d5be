"""Defences that act when a model is used: a vote under noise with its certificate, screens that look for attacks."""

from medrobust.guards.certified import Certified, CertifiedInfo
from medrobust.guards.certifying import certify

__all__ = ["Certified", "CertifiedInfo", "certify"]
