"""How visible a change is: norms, PSNR and SSIM of each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

GAUSSIAN_WINDOW = 11


def image_quality(clean: Tensor, adversarial: Tensor, bounds: tuple[float, float]) -> dict[str, Tensor]:
    """`linf`, `l2` (data units), `psnr` (dB) and `ssim` of each image, `(B,)` each.

    PSNR and SSIM take the width of the bounds as data range; PSNR is +inf where nothing changed. SSIM is Wang et al.
    2004 with the Gaussian window of 11, sigma 1.5; where an axis is shorter than 11, with a uniform window of at
    most 7 that fits.
    """
    delta = (adversarial - clean).flatten(1).double()
    width = bounds[1] - bounds[0]
    axes = tuple(range(1, clean.ndim))
    psnr = peak_signal_noise_ratio(adversarial, clean, data_range=width, reduction="none", dim=axes)
    return {
        "linf": delta.abs().amax(1),
        "l2": delta.norm(dim=1),
        "psnr": torch.where(delta.abs().amax(1) > 0, psnr, torch.inf),
        "ssim": _ssim(clean.float(), adversarial.float(), width),
    }


def _ssim(clean: Tensor, adversarial: Tensor, width: float) -> Tensor:
    shortest = min(clean.shape[2:])
    if shortest >= GAUSSIAN_WINDOW:
        window: dict[str, object] = {"gaussian_kernel": True, "sigma": 1.5}
    else:
        side = min(7, shortest - 1 + shortest % 2)
        window = {"gaussian_kernel": False, "kernel_size": max(side, 1)}
    # one image at a time: the reduction of a single image comes without its batch axis
    values = structural_similarity_index_measure(
        adversarial,
        clean,
        data_range=width,
        reduction="none",
        **window,  # type: ignore[arg-type]
    )
    assert isinstance(values, Tensor)
    return values.reshape(-1)
