"""A victim's model as it learns: data units in, outputs out, with gradients of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from medrobust.errors import InputError
from medrobust.model_state import as_it_is
from medrobust.tasks import Detection
from medrobust.victim import Victim, normalised

Normalisation = Literal["frozen", "adversarial", "batch"]


class Packed:
    """Outputs that an engine is to hand on as they are: Fabric opens dataclasses, and fails at frozen ones."""

    def __init__(self, outputs: Any) -> None:
        self.outputs = outputs


class Trainee(nn.Module):
    """The model of a victim, with its preprocessing, in one module that a training engine can wrap.

    Args:
        victim: its model learns in place.
        normalisation: what layers that normalise by statistics of the batch (BatchNorm) do meanwhile.
            "frozen": they keep the statistics they came with, and go on as in use; their scales learn. For fine-tuning
            a trained model in small batches, whose statistics are noise, and of which an attack moves just those.
            "adversarial": every batch is normalised by itself, clean and attacked images apart (as AdvProp, arXiv
            1911.09665, has it), and the statistics kept for use are those of the attacked images, for which the model
            is to hold. "batch": likewise, but the statistics kept are of all that was seen.
    """

    def __init__(self, victim: Victim, normalisation: Normalisation) -> None:
        super().__init__()
        self.model = victim.model
        self.normalisation = normalisation
        self._victim = victim
        self._norms = [module for module in self.model.modules() if isinstance(module, _NormBase)]

    def forward(self, images: Tensor) -> Any:
        """The outputs for images `(B, C, *spatial)` in data units, as `Victim` gives them but in train mode.

        Those of a detector are `Packed`.

        Raises:
            InputError: a layer is to normalise a batch of one value a channel by itself.
        """
        victim = self._victim
        inputs = normalised(victim.laid_out(images), victim.mean, victim.std)
        with as_it_is(self.model), _single_image_told():
            outputs = victim.task.run(self.model, inputs)
        return outputs if isinstance(outputs, Tensor) else Packed(outputs)

    def learning(self) -> None:
        """Train mode, for what is to be in train mode; of a detector, nothing is.

        Its losses are those of train mode without it, see `medrobust.detectors`.
        """
        self.model.train(not isinstance(self._victim.task, Detection))
        if self.normalisation == "frozen":
            for norm in self._norms:
                norm.eval()

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """What is seen meanwhile (clean images) moves no statistics, if those of attacked images are to be kept."""
        if self.normalisation != "adversarial":
            yield
            return
        momenta = [norm.momentum for norm in self._norms]
        counts = [
            None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in self._norms
        ]
        try:
            for norm in self._norms:
                norm.momentum = 0.0
            yield
        finally:
            for norm, momentum, count in zip(self._norms, momenta, counts, strict=True):
                norm.momentum = momentum
                if count is not None and norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.copy_(count)


@contextmanager
def _single_image_told() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "the model normalises by the batch (BatchNorm), of which one image alone leaves it one value a channel: "
            "see two images or more at a time (batch_size over accumulate), or take normalisation 'frozen'"
        ) from error
