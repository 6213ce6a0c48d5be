"""Models made to hold: methods of adversarial training, and the loop that runs them."""

from medrobust.training.adversarial import (
    AdversarialTraining,
    Control,
    EnsembleTraining,
    GaussianTraining,
    SMIATraining,
    Smoothing,
)
from medrobust.training.catalogue import METHODS, MethodEntry, make_method
from medrobust.training.course import Course, Outcome, Seen, check_fit
from medrobust.training.devices import train
from medrobust.training.engine import Engine
from medrobust.training.fast import FastTraining, FreeTraining, RandomStep
from medrobust.training.method import Method, Step
from medrobust.training.options import Training
from medrobust.training.trades import MART, TRADES, Departure
from medrobust.training.trainee import Trainee
from medrobust.training.validating import Left, Validation

__all__ = [
    "MART",
    "METHODS",
    "TRADES",
    "AdversarialTraining",
    "Control",
    "Course",
    "Departure",
    "Engine",
    "EnsembleTraining",
    "FastTraining",
    "FreeTraining",
    "GaussianTraining",
    "Left",
    "Method",
    "MethodEntry",
    "Outcome",
    "RandomStep",
    "SMIATraining",
    "Seen",
    "Smoothing",
    "Step",
    "Trainee",
    "Training",
    "Validation",
    "check_fit",
    "make_method",
    "train",
]
