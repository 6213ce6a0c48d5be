"""The pairs for classifiers: attacks of this package beside their twins, with the same steps, step size and budget."""

from __future__ import annotations

from dataclasses import replace

from peer_libraries import (
    Twins,
    adv_lib,
    art,
    autoattack,
    classes,
    count,
    eps,
    foolbox,
    others,
    our_standard,
    ours,
    step,
    torchattacks,
)

INFINITY = float("inf")
STEP, WHOLE = {"long": 9, "short": 1}, {"long": 20}
STILL = {"random_start": False}
UNREFINED = {"refine": 0}  # theirs leave the image where they found it


def twins() -> list[Twins]:
    """All pairs. 1.00: never slower; 0.67 of libraries that do needless passes or copies."""
    return [*_climbing(), *_adaptive(), *_nearest(), *_asking(), *_together()]


def _torch_attack(name: str, twin: str, goal: float = 1.0, ours_too: dict[str, object] | None = None, **options):
    mine = ours(name, step_size=step, **(ours_too or {}))
    return Twins(name, "torchattacks", mine, torchattacks(twin, eps=eps, alpha=step, **options), goal, **STEP)


def _climbing() -> list[Twins]:
    """One step at a time; all but the last are torchattacks'."""
    pgd = ours("pgd", step_size=step, **STILL)
    early = ours("pgd", step_size=step, early_stop=True, **STILL)
    in_adv_lib = adv_lib("pgd_linf", "steps", ε=eps, absolute_step_size=step, random_init=False)
    in_art = art("ProjectedGradientDescent", eps=eps, eps_step=step, batch_size=count)
    in_foolbox = foolbox("LinfPGD", abs_stepsize=step, random_start=False)
    in_torchattacks = torchattacks("PGD", eps=eps, alpha=step, **STILL)
    return [
        Twins("fgsm", "torchattacks", ours("fgsm", ""), torchattacks("FGSM", "", eps=eps), 1.0, long=1),
        _torch_attack("bim", "BIM"),
        _torch_attack("pgd", "PGD", ours_too=STILL, **STILL),
        Twins("pgd", "foolbox", pgd, in_foolbox, 0.67, **STEP),
        Twins("pgd", "ART", pgd, in_art, 0.67, **STEP),
        Twins("pgd", "adv-lib", pgd, in_adv_lib, 1.0, **STEP),
        Twins("pgd early_stop", "torchattacks", early, in_torchattacks, 0.5, **WHOLE),
        _torch_attack("mi", "MIFGSM"),
        _torch_attack("ni", "NIFGSM"),
        _torch_attack("sini", "SINIFGSM", 0.8),
        _torch_attack("di", "DIFGSM"),
        _torch_attack("ti", "TIFGSM", diversity_prob=0.0),
        _torch_attack("vmi", "VMIFGSM", 0.8),
        _torch_attack("vni", "VNIFGSM", 0.8),
        Twins("pi", "torchattacks", ours("pi"), torchattacks("PIFGSM", "num_iter_set", max_epsilon=eps), 1.0, **STEP),
    ]


def _adaptive() -> list[Twins]:
    apgd, towards, fab = ours("apgd"), ours("apgd-t", targets=others), ours("fab", **UNREFINED)
    in_adv_lib = adv_lib("apgd", "n_iter", eps=eps, norm=INFINITY, loss_function="ce")
    in_art = art("AutoProjectedGradientDescent", eps=eps, eps_step=lambda setting: 2 * eps(setting), batch_size=count)
    towards_in_torchattacks = torchattacks("APGDT", eps=eps, n_classes=classes)
    fab_in_torchattacks = torchattacks("FAB", eps=eps, n_classes=classes)
    return [
        Twins("apgd", "torchattacks", apgd, torchattacks("APGD", eps=eps), 1.0, **WHOLE),
        Twins("apgd", "adv-lib", apgd, in_adv_lib, 1.0, **WHOLE),
        Twins("apgd", "ART", apgd, in_art, 0.67, **WHOLE),
        Twins("apgd-t", "torchattacks", towards, towards_in_torchattacks, 1.0, **WHOLE),
        Twins("fab", "torchattacks", fab, fab_in_torchattacks, 1.0, **WHOLE),
        Twins("fab", "adv-lib", fab, adv_lib("fab", "n_iter", norm=INFINITY), 1.0, **WHOLE),
    ]


def _nearest() -> list[Twins]:
    """The smallest change; torchattacks' CW gives up after 4 of 20 steps and cannot be told not to: no twin."""
    two = {"binary_search_steps": 2, "abort_early": False}
    cw = ours("cw", norm="l2", searches=2, **UNREFINED)
    deepfool = ours("deepfool", norm="l2", candidates=None, **UNREFINED)
    ddn = ours("ddn", norm="l2", **UNREFINED)
    fmn = ours("fmn", max_step=0.05, **UNREFINED)
    ddn_in_adv_lib = adv_lib("ddn", "steps", levels=None)
    fmn_in_adv_lib = adv_lib("fmn", "steps", norm=INFINITY, α_init=0.05)
    l2 = [
        Twins("cw", "adv-lib", cw, adv_lib("carlini_wagner_l2", "max_iterations", **two), 1.0, **WHOLE),
        Twins("cw", "foolbox", cw, foolbox("L2CarliniWagnerAttack", "l2", **two), 0.67, **WHOLE),
        Twins("deepfool", "torchattacks", deepfool, torchattacks("DeepFool"), 1.0, **WHOLE),
        Twins("deepfool", "foolbox", deepfool, foolbox("L2DeepFoolAttack", "l2", candidates=None), 0.67, **WHOLE),
        Twins("ddn", "foolbox", ddn, foolbox("DDNAttack", "l2"), 0.67, **WHOLE),
        Twins("ddn", "adv-lib", ddn, ddn_in_adv_lib, 1.0, **WHOLE),
    ]
    return [
        *(replace(pair, norm="l2") for pair in l2),
        Twins("fmn", "foolbox", fmn, foolbox("LInfFMNAttack", max_stepsize=0.05), 0.67, **WHOLE),
        Twins("fmn", "adv-lib", fmn, fmn_in_adv_lib, 1.0, **WHOLE),
    ]


def _asking() -> list[Twins]:
    """Without gradients. HopSkipJump begins at the same wrong images, and counts as found what is in a wide ball."""
    square = ours("square", "queries")
    spsa = ours("spsa", directions=8, width=0.01, step_size=step, early_stop=False)
    spsa_in_torchattacks = torchattacks("SPSA", "nb_iter", eps=eps, lr=step, nb_sample=8, max_batch_size=8)
    walk_options = {"norm": "l2", "directions": 10, "start": lambda setting: setting.pool}
    walk = ours("hopskipjump", **walk_options)
    # a bisection of ART's ends at 0.01/√d of d values, foolbox's at 1/d^1.5
    coarse = ours("hopskipjump", gamma=lambda setting: 0.01 * setting.images[0].numel(), **walk_options)
    in_foolbox = foolbox("HopSkipJumpAttack", "l2", starts=True, initial_gradient_eval_steps=10)
    in_art = art("HopSkipJump", starts=True, norm=2, init_eval=10, batch_size=64)
    boundary = {"norm": "l2", "wider": 40.0, "long": 4}
    return [
        Twins("square", "torchattacks", square, torchattacks("Square", "n_queries", eps=eps), 1.0, 100),
        Twins("square", "ART", square, art("SquareAttack", eps=eps), 0.67, 100),
        Twins("spsa", "torchattacks", spsa, spsa_in_torchattacks, 1.0, long=4, wider=16.0),
        Twins("hopskipjump", "foolbox", walk, in_foolbox, 0.67, **boundary),
        Twins("hopskipjump", "ART", coarse, in_art, 0.67, **boundary),
    ]


def _together() -> list[Twins]:
    """One change for all images (ART's of DeepFool's steps, ours of mean gradients), and the ensemble."""
    universal = art("UniversalPerturbation", "attacker_params", attacker="deepfool", eps=eps, delta=0.01, max_iter=1)
    return [
        Twins("universal", "ART", ours("universal", "epochs"), universal, 0.67, long=10, wider=8.0),
        Twins("standard", "pyautoattack", our_standard, autoattack, 0.9, **WHOLE),
    ]
