"""torchattacks 3.5.1. Clips to [0, 1], divides by unguarded norms and, unless said, returns the last point.

The momentum attacks start from the clean image. Step sizes are absolute; the library's own default is 2/255.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from oracles.peers.draws import given, given_in_place, seeded
from torch import Tensor, nn

torchattacks = pytest.importorskip("torchattacks", reason="the oracle torchattacks is not installed")


def pgd(model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int):
    """Sign steps from `start`, in place of its draw from U(−eps, eps)."""
    attack = torchattacks.PGD(model, eps=eps, alpha=step_size, steps=steps, random_start=True)
    with given_in_place("uniform_", [start - images]):
        return attack(images, truth)


def pgd_l2(model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int):
    """Unit gradient steps from `start` ≠ images, in place of a normal direction and a uniform radius."""
    attack = torchattacks.PGDL2(model, eps=eps, alpha=step_size, steps=steps, random_start=True)
    noise = start - images
    radius = noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / eps
    with given_in_place("normal_", [noise]), given_in_place("uniform_", [radius]):
        return attack(images, truth)


def eot_pgd(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int, n: int
):
    """The sum of n gradients at one point; the randomness averaged over is the model's own, so PGD if it has none."""
    attack = torchattacks.EOTPGD(model, eps=eps, alpha=step_size, steps=steps, eot_iter=n, random_start=True)
    with given_in_place("uniform_", [start - images]):
        return attack(images, truth)


def tpgd(model: nn.Module, images: Tensor, *, start: Tensor, eps: float, step_size: float, steps: int):
    """TRADES' inner loop, KL(f(x) ‖ f(x′)), from `start`, in place of x plus normal noise of 0.001."""
    attack = torchattacks.TPGD(model, eps=eps, alpha=step_size, steps=steps)
    with given("randn_like", [(start - images) / 0.001]):
        return attack(images)


def upgd(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    loss: str,
    decay: float,
):
    """PGD with MI-FGSM's momentum on the loss "ce", "dlr" or "margin" (here min(0, best wrong logit − true one))."""
    return torchattacks.UPGD(model, eps=eps, alpha=step_size, steps=steps, loss=loss, decay=decay)(images, truth)


def mi_fgsm(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, step_size: float, steps: int, decay=1.0):
    return torchattacks.MIFGSM(model, eps=eps, alpha=step_size, steps=steps, decay=decay)(images, truth)


def ni_fgsm(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, step_size: float, steps: int, decay=1.0):
    """The gradient at x + step_size·decay·g, which is not clipped."""
    return torchattacks.NIFGSM(model, eps=eps, alpha=step_size, steps=steps, decay=decay)(images, truth)


def si_ni_fgsm(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, step_size: float, steps: int, copies=5, decay=1.0
):
    """NI-FGSM on the look-ahead point divided by 2^i, i < copies; the 1/2^i stays in the gradient."""
    attack = torchattacks.SINIFGSM(model, eps=eps, alpha=step_size, steps=steps, decay=decay, m=copies)
    return attack(images, truth)


def di_fgsm(
    model: nn.Module,
    images: Tensor,
    truth: Tensor,
    *,
    eps: float,
    step_size: float,
    steps: int,
    places: Iterable[tuple[int, int, int]] | None = None,
    decay=0.0,
):
    """Square images shrunk to a side and padded with 0. Without `places` never shrunk.

    Args:
        places: (side, rows above, columns before) for each step, one for the whole batch; its own sides are
            drawn from [0.9 W, W), so neither W nor the last place ever comes.
    """
    options = {"eps": eps, "alpha": step_size, "steps": steps, "decay": decay}
    if places is None:
        with seeded():
            return torchattacks.DIFGSM(model, diversity_prob=0.0, **options)(images, truth)
    numbers = [torch.tensor([number]) for place in places for number in place]
    with given("randint", numbers), seeded():
        return torchattacks.DIFGSM(model, diversity_prob=1.0, **options)(images, truth)


def ti_fgsm(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, step_size: float, steps: int, side=15, decay=0.0
):
    """A Gaussian over −3σ…3σ, zero padding, before the division by mean|∇|; its inner DI is switched off."""
    attack = torchattacks.TIFGSM(
        _ThreeChannels(model).eval(),
        eps=eps,
        alpha=step_size,
        steps=steps,
        decay=decay,
        len_kernel=side,
        diversity_prob=0.0,
    )
    with seeded():
        return attack(_three(images), truth)[:, : images.shape[1]]


def vmi_fgsm(
    model: nn.Module, images: Tensor, truth: Tensor, *, noise: Tensor, eps: float, step_size: float, decay=1.0
):
    """`noise` (steps, N, *images.shape) replaces the draws from U(−1.5 eps, 1.5 eps) about the point stepped from."""
    attack = torchattacks.VMIFGSM(
        model, eps=eps, alpha=step_size, steps=len(noise), decay=decay, N=noise.shape[1], beta=1.5
    )
    with given_in_place("uniform_", noise.flatten(0, 1)), seeded():
        return attack(images, truth)


def vni_fgsm(
    model: nn.Module, images: Tensor, truth: Tensor, *, noise: Tensor, eps: float, step_size: float, decay=1.0
):
    """As `vmi_fgsm` with NI's look-ahead; the neighbours stay about the point stepped from, not the look-ahead."""
    attack = torchattacks.VNIFGSM(
        model, eps=eps, alpha=step_size, steps=len(noise), decay=decay, N=noise.shape[1], beta=1.5
    )
    with given_in_place("uniform_", noise.flatten(0, 1)), seeded():
        return attack(images, truth)


def pi_fgsm(model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, steps: int, amplification=10.0):
    """Steps of amplification·eps/steps; what passes eps is spread over the eight neighbours."""
    attack = torchattacks.PIFGSM(
        _ThreeChannels(model).eval(), max_epsilon=eps, num_iter_set=steps, amplification=amplification
    )
    return attack(_three(images), truth)[:, : images.shape[1]]


def apgd(
    model: nn.Module, images: Tensor, truth: Tensor, *, start: Tensor, eps: float, steps: int, norm="Linf", loss="ce"
):
    """The point of the highest loss. Needs a start at the distance eps, for it scales its own draw so."""
    attack = torchattacks.APGD(model, norm=norm, eps=eps, steps=steps, loss=loss)
    with _unit_start(norm, (start - images) / eps):
        return attack.attack_single_run(images, truth)[0].detach()


def apgd_targeted(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, steps: int, classes: int, norm="Linf", seed=0
):
    """Its own driver over all wrong classes: wrongly classified points, clean images where there is none."""
    attack = torchattacks.APGDT(model, norm=norm, eps=eps, steps=steps, n_classes=classes, seed=seed)
    with seeded(seed):
        return attack(images, truth).detach()


def fab(model: nn.Module, images: Tensor, truth: Tensor, *, steps: int, norm="Linf"):
    """The nearest wrongly classified point from the clean image, whatever its distance; no final search."""
    return torchattacks.FAB(model, norm=norm, eps=1.0, steps=steps).attack_single_run(images, truth)


def square(
    model: nn.Module, images: Tensor, truth: Tensor, *, eps: float, queries: int, norm="Linf", loss="margin", seed=0
):
    """Places and signs are drawn once for the whole batch; the clean image comes back where it fails."""
    attack = torchattacks.Square(model, norm=norm, eps=eps, n_queries=queries, loss=loss, seed=seed)
    with seeded(seed):
        return attack(images, truth)


def carlini_l2(model: nn.Module, images: Tensor, truth: Tensor, *, c=1.0, kappa=0.0, steps=50, rate=0.01):
    """One c, no binary search. Pixels at 0 or 1 never move; the margin takes 0 for the logits it leaves out."""
    return torchattacks.CW(model, c=c, kappa=kappa, steps=steps, lr=rate)(images, truth)


def deepfool(model: nn.Module, images: Tensor, truth: Tensor, *, steps=50, overshoot=0.02):
    """L2; overshoots at every step, from the point it stands on.

    Where black pixels are clipped, a small overshoot comes ever nearer to the boundary and never over it.
    """
    return torchattacks.DeepFool(model, steps=steps, overshoot=overshoot)(images, truth)


def spsa(model: nn.Module, images: Tensor, truth: Tensor, *, signs: Tensor, eps: float, delta=0.01, rate=0.01):
    """Adam on estimated gradients of the margin. `signs` (steps, n, 1, C, H, W) of ±1 are shared by the images."""
    steps, samples = signs.shape[:2]
    attack = torchattacks.SPSA(
        model, eps=eps, delta=delta, lr=rate, nb_iter=steps, nb_sample=samples, max_batch_size=samples
    )
    with given_in_place("bernoulli_", (signs + 1) / 2):
        return attack(images, truth)


class _ThreeChannels(nn.Module):
    """A grey network for attacks that take three channels only: it sees the first, the others get no gradient.

    In eval mode from the start: torchattacks puts back the mode of the outermost module, into all below it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.channels = next(weights.shape[1] for weights in model.parameters() if weights.ndim == 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images[:, : self.channels])


def _three(images: Tensor) -> Tensor:
    return images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1).contiguous()


def _unit_start(norm: str, unit: Tensor):
    length = unit.flatten(1).norm(p={"Linf": float("inf"), "L2": 2}[norm], dim=1)
    if not torch.allclose(length, torch.ones_like(length), atol=1e-4):
        raise ValueError("torchattacks' APGD can only start at the distance eps from the image")
    return given("rand", [(unit + 1) / 2]) if norm == "Linf" else given("randn", [unit])
