"""A model behind a preprocessing step or a defence, which an attack sees through: straight through where it must."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from medrobust.detectors import Detections, Detector, DetectorOutputs, Places, detector_of
from medrobust.errors import InputError
from medrobust.tasks import Detection
from medrobust.threat import sample_generators
from medrobust.transforms.transform import Transform, in_full
from medrobust.victim import Victim, ascending, normalisation, normalised

NON_ADAPTIVE = (
    "What attacks that do not know a defence show of it is worth nothing on its own: whoever attacks will know it "
    "(arXiv 1705.07263, 2002.08347)."
)
SLACK = 0.01  # of the bounds' width: far more than rounding, far less than a normalisation


class Preprocessed(nn.Module):
    """A model that sees its images through a transform, and normalised only then.

    Its input is in data units. So mean and std belong here, and a `Victim` around it has none; `defended` makes such a
    victim of an undefended one.

    A random transform draws for each image from the seed and the image's own values: the same image has the same draw,
    whatever is beside it and whenever it comes. The slightest change of it has a fresh one: a step of an attack, but
    also a last bit that a batch of another size rounds differently, as it may after steps in L2.

    An attack thus knows the draw that its result is measured by. Show its images to the model of another seed
    (`evaluation.another_model`) to see what is left at a draw that it did not know, and let it average over draws of
    the transform itself (EOT: Athalye et al., arXiv 1707.07397).

    Args:
        model: any module from `(B, C, *spatial)` to outputs.
        transform: what is done to the images first.
        bounds: lowest and highest value of an image in data units.
        mean, std: per channel (or one for all), in data units; the model sees (transformed image − mean)/std.
        seed: of a random transform's draws.

    Raises:
        InputError: an argument has no such value.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Transform,
        bounds: Sequence[float] = (0.0, 1.0),
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if not isinstance(transform, Transform):
            raise InputError(f"transform must be a medrobust.transforms.Transform, got {type(transform).__name__}")
        self.model = model
        self.transform = transform
        self.bounds = ascending(bounds)
        self.mean, self.std = normalisation(mean, std)
        self.seed = seed

    def extra_repr(self) -> str:
        """The options."""
        return f"transform={self.transform}, bounds={self.bounds}, seed={self.seed}"

    def forward(self, images: Tensor) -> object:
        """The model's outputs for images `(B, C, *spatial)` in data units.

        Raises:
            InputError: the images leave the bounds, as those do that are normalised already. This is looked at when no
                gradient is asked for, so that no step of an attack has to wait for it.
        """
        return self.model(self.seen(images))

    def describe_preprocessing(self) -> dict[str, object]:
        """For `Victim.describe`: the transforms ("defence"), their seed, and mean and std, which come after them."""
        mean, std = (None if values is None else values.tolist() for values in (self.mean, self.std))
        return {"mean": mean, "std": std, "defence": self.transform.describe(), "defence_seed": self.seed}

    def seen(self, images: Tensor) -> Tensor:
        """What the model is given for these images, differentiable in them."""
        if not (exported := _being_exported()) and not torch.is_grad_enabled():
            self._check_range(images)
        generators = self._generators(images) if self.transform.random else None
        # half precision is for the model alone
        with nullcontext() if exported else torch.autocast(images.device.type, enabled=False):
            changed = self.transform(images, self.bounds, generators)
            return normalised(in_full(changed), self.mean, self.std).to(images.dtype)

    def _generators(self, images: Tensor) -> list[torch.Generator]:
        contents = in_full(images.detach()).cpu().numpy()
        digests = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in contents]
        return sample_generators(self.seed, digests, "preprocessing")

    def _check_range(self, images: Tensor) -> None:
        if images.numel() == 0:
            return
        low, high = self.bounds
        least, most = float(images.min()), float(images.max())
        slack = SLACK * (high - low)
        if least < low - slack or most > high + slack:
            raise InputError(
                f"images range from {least:g} to {most:g}, outside the bounds [{low:g}, {high:g}] of Preprocessed: it "
                "takes them in data units, so give mean and std to it and not to the Victim"
            )


def _being_exported() -> bool:
    """Is the call written down for a file? What is no operation on tensors has no place there."""
    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


class PreprocessedDetector(Preprocessed):
    """`Preprocessed` for detectors; every transform of this package leaves objects in their place.

    Args:
        model: a detector of a family that `medrobust.detectors.detector_of` knows.
        transform, bounds, mean, std, seed: as for `Preprocessed`; torchvision's detectors normalise by themselves.
        classes: number of classes without the background, if known, as `detector_of` takes it.

    Raises:
        InputError: an argument has no such value, or the model is of no known family.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Transform,
        bounds: Sequence[float] = (0.0, 1.0),
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        *,
        seed: int = 0,
        classes: int | None = None,
    ) -> None:
        super().__init__(model, transform, bounds, mean, std, seed=seed)
        self._wanted = classes
        detector_of(model, classes)

    @property
    def family(self) -> Detector:
        """The detector behind the transform."""
        return detector_of(self.model, self._wanted)

    @property
    def classes(self) -> int:
        """Number of classes, without the background."""
        return self.family.classes

    def forward(self, images: Tensor) -> DetectorOutputs:
        """Raw outputs for images `(B, C, H, W)` in data units."""
        return self.family.forward(self.seen(images))

    def loss(self, outputs: DetectorOutputs, truth: Tensor) -> Tensor:
        """The family's."""
        return self.family.loss(outputs, truth)

    def places(self, outputs: DetectorOutputs) -> Places:
        """The family's."""
        return self.family.places(outputs)

    def log_probs(self, outputs: DetectorOutputs, places: Places) -> Tensor:
        """The family's."""
        return self.family.log_probs(outputs, places)

    def detect(self, outputs: DetectorOutputs) -> list[Detections]:
        """The family's."""
        return self.family.detect(outputs)


def defended(victim: Victim, transform: Transform, seed: int = 0) -> Victim:
    """The victim with a transform before its model, in the same bounds and with the same normalisation after it.

    Attacks on what comes of it see through the defence: by its gradient, straight through where it has none (BPDA),
    averaged over its draws with `Expectation` (EOT). Images that were made on the undefended model (`Transfer`, an
    aftercheck) do not, and what is left of those is worth nothing on its own as a figure of the defence: Athalye,
    Carlini, Wagner, arXiv 1802.00420.

    It is not compiled: a transform draws by the images' values, and is no function of tensors alone.

    Args:
        victim: the undefended model; it stays as it is, and shares its weights.
        transform: what the defence does to the images.
        seed: of a random transform's draws, see `Preprocessed`.

    Raises:
        InputError: the transform is none.
    """
    mean, std = (None if values is None else values.tolist() for values in (victim.mean, victim.std))
    if isinstance(victim.task, Detection):
        classes = victim.task.classes
        model: Preprocessed = PreprocessedDetector(
            victim.model, transform, victim.bounds, mean, std, seed=seed, classes=classes
        )
    else:
        model = Preprocessed(victim.model, transform, victim.bounds, mean, std, seed=seed)
    return Victim(model, victim.task, victim.bounds, channels_last=victim.channels_last, autocast=victim.autocast)
