"""Defences that act when a model is used: a vote under noise with its certificate, screens that look for attacks."""

from medrobust.guards.certified import Certified, CertifiedInfo
from medrobust.guards.certifying import certify
from medrobust.guards.evasive import Evasive
from medrobust.guards.learned import LearnedScreen, load_screen, train_screen
from medrobust.guards.screened import Screened, ScreenedInfo
from medrobust.guards.screening import screen
from medrobust.guards.screens import Screen, Squeezing
from medrobust.guards.watched import Alarm

__all__ = [
    "Alarm",
    "Certified",
    "CertifiedInfo",
    "Evasive",
    "LearnedScreen",
    "Screen",
    "Screened",
    "ScreenedInfo",
    "Squeezing",
    "certify",
    "load_screen",
    "screen",
    "train_screen",
]
