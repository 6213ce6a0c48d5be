"""How long, how hard and in what arithmetic a model is trained, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medrobust.checks import at_least, boolean, not_negative, one_of, positive
from medrobust.errors import InputError
from medrobust.training.balance import Balance
from medrobust.training.trainee import Normalisation

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The defaults fine-tune a trained model in a few epochs.

    Args:
        epochs: passes over the training images.
        batch_size: images a move of the weights.
        accumulate: in how many parts a batch is seen, one after the other, where it does not fit into memory at once.
        learning_rate: the highest, of AdamW, under a cosine after a warm-up of a tenth of the steps.
        weight_decay: of AdamW.
        clip: highest norm of the gradient of all weights together.
        averaging: decay of the average of the weights over steps, which is then what is validated and handed in; 0:
            none.
        normalisation: see `Trainee`.
        ramp: share of the steps over which eps grows from 0 to its full size.
        awp: size γ of the worst change of the weights at which the gradient is taken, relative to their norm; 0: none.
            Wu, Xia, Wang: Adversarial Weight Perturbation, NeurIPS 2020, arXiv 2004.05884, algorithm 1.
        validations: how often an epoch the validation images are attacked.
        patience: stop when so many epochs went by without a better figure on attacked validation images; 0: never.
            The weights handed in are those of the best figure anyway (robust overfitting: Rice et al., arXiv
            2002.11569).
        precision: "32-true", or "bf16-mixed" or "16-mixed" for autocast.
        workers: processes that read images.
        warm_start: the attack on an image starts where that of the last epoch ended, see `LastChanges`: two bytes a
            value of the training images, in main memory and in every checkpoint.
        balance: what is done for rare classes. "sampling": images are drawn so that all classes come as often, see
            `drawing_chances`; "loss": classes have weights in the loss, see `class_weights`. Attacks stay as they are.
        devices: processes that share every batch, each on a GPU of its own, or with one thread of the CPU.

    Raises:
        InputError: an option has no such value.
    """

    epochs: int = 10
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 5.0
    averaging: float = 0.0
    normalisation: Normalisation = "frozen"
    ramp: float = 0.0
    awp: float = 0.0
    validations: int = 1
    patience: int = 5
    precision: Precision = "32-true"
    workers: int = 0
    warm_start: bool = False
    balance: Balance = "none"
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "validations", "devices"):
            at_least(name, getattr(self, name), 1)
        for name in ("patience", "workers"):
            at_least(name, getattr(self, name), 0)
        positive("learning_rate", self.learning_rate)
        positive("clip", self.clip)
        for name in ("weight_decay", "awp"):
            not_negative(name, getattr(self, name))
        for name, most in (("averaging", "below 1"), ("ramp", "at most 1")):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "averaging" and value == 1):
                raise InputError(f"{name} must be from 0 and {most}, got {value:g}")
        one_of("normalisation", self.normalisation, get_args(Normalisation))
        one_of("precision", self.precision, get_args(Precision))
        one_of("balance", self.balance, get_args(Balance))
        boolean("warm_start", self.warm_start)
        if self.batch_size % self.accumulate:
            raise InputError(f"batch_size {self.batch_size} cannot be shared out evenly in {self.accumulate} parts")
        if self.devices > 1 and self.warm_start:
            raise InputError("warm_start keeps its changes in one process: set devices to 1")
        if self.awp and self.accumulate > 1:
            raise InputError("awp needs the gradient of a whole batch at once: set accumulate to 1")
