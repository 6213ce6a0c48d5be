"""Certificates and screens as a configuration asks for them, of every data set that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medrobust.attacks.iterative import IterativeAttack
from medrobust.budget import Budget
from medrobust.config import EMBEDDED, RunConfig
from medrobust.data import Dataset
from medrobust.data.subset import check_apart
from medrobust.errors import InputError
from medrobust.evaluation import check_output_folder
from medrobust.guards import (
    Certified,
    LearnedScreen,
    Screen,
    Screened,
    Squeezing,
    certify,
    load_screen,
    screen,
    train_screen,
)
from medrobust.jobs import Part, build_parts, open_split

USUAL_BUDGET, USUAL_SIGMA = ("4/255",), "0.25"
SQUEEZING, LEARNED = "squeezing", "learned"


def certify_config(
    config: RunConfig,
    sigma: str | None,
    folder: Path,
    *,
    n0: int = 100,
    n: int = 1000,
    alpha: float = 0.001,
    tau: float = 0.75,
    radii: Sequence[str] = (),
    batch_size: int = 64,
    progress: bool = False,
) -> Iterator[tuple[Path, Certified]]:
    """Certify as configured, and write what is found: the folder and the result of each data set.

    Args:
        config: as of `evaluate`; its attacks and budgets have no part in it.
        sigma, radii: as written, "0.25" or "20HU"; 0.25 for data in [0, 1] when sigma is None.
        folder: to write to; with several data sets each has a folder of its own in it.
        n0, n, alpha, tau, batch_size: see `medrobust.certify`.
        progress: show progress bars on standard error.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    check_output_folder(folder)
    noise = Budget.parse(USUAL_SIGMA if sigma is None else sigma, "sigma")
    at = [Budget.parse(radius, "a radius") for radius in radii]
    parts = list(build_parts(config))
    for part in parts:
        info = part.dataset.info
        if info.unit != "[0, 1]" and sigma is None:
            raise InputError(f"{info.name!r} is not in [0, 1] but in {info.unit}: give sigma")
        found = certify(
            part.victim,
            part.dataset,
            noise.in_unit(info.unit, name="sigma"),
            n0=n0,
            n=n,
            alpha=alpha,
            tau=tau,
            radii=[one.in_unit(info.unit, name="a radius") for one in at] or None,
            seed=config.seed,
            batch_size=batch_size,
            skip_bad=config.skip_bad,
            name=config.name if len(parts) == 1 else None,
            model_name=part.model_name,
            config=config.written(),
            progress=progress,
        )
        place = folder if len(parts) == 1 else folder / info.name
        found.save(place)
        yield place, found


def screen_config(
    config: RunConfig,
    folder: Path,
    *,
    screens: Sequence[str] = (SQUEEZING,),
    false_positives: float = 0.05,
    adaptive: Sequence[str] = (),
    calibration_split: str | None = None,
    train_split: str = "train",
    progress: bool = False,
) -> Screened:
    """Measure screens as configured, and write what is found; a screen that is trained lies in `learned` in there.

    Args:
        config: as of `evaluate`; 4/255 is taken where it names no budget.
        folder: to write to.
        screens: "squeezing", "learned" (trained on SMIA at the first budget), or folders of learned ones.
        false_positives: see `medrobust.screen`.
        adaptive: labels of the configuration's attacks, or names, of iterative attacks that are told of the screens;
            PGD of 40 steps when none is given.
        calibration_split: of the clean images that thresholds are set on; half of the attacked patients when None.
        train_split: of the images that "learned" learns from.
        progress: show progress bars on standard error.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    check_output_folder(folder)
    if config.data.path == EMBEDDED:
        raise InputError("give the data that screens are measured on with --data, e.g. embedded:level")
    attacks, knowing = config.build_attacks(), _knowing(config, adaptive)
    for name in screens:
        if screens.count(name) > 1:
            raise InputError(f"screen {name!r} is given twice")
    loaded = {name: load_screen(name) for name in screens if name not in (SQUEEZING, LEARNED)}
    (part,) = build_parts(config)
    threats = config.threat.threats(part.dataset.info, USUAL_BUDGET)
    calibration = None if calibration_split is None else _opened(config, calibration_split, part, "calibration")
    ready: dict[str, Screen] = {}
    for name in screens:
        if name == LEARNED:
            training = _opened(config, train_split, part, "training")
            ready[name] = train_screen(
                part.victim,
                training,
                threat=threats[0],
                seed=config.seed,
                batch_size=config.batch_size,
                progress=progress,
            )
        else:
            short, taken = Path(name).name, {*ready, *screens} - {name}
            label = "/".join(Path(name).parts[-2:]) if short in taken else short
            ready[label] = Squeezing() if name == SQUEEZING else loaded[name].to(part.victim.device)
    found = screen(
        part.victim,
        part.dataset,
        ready,
        attacks,
        threats,
        calibration=calibration,
        false_positives=false_positives,
        adaptive=knowing,
        seed=config.seed,
        batch_size=config.batch_size,
        skip_bad=config.skip_bad,
        name=config.name,
        model_name=part.model_name,
        config=config.written(),
        progress=progress,
    )
    found.save(folder)
    learned = ready.get(LEARNED)
    if isinstance(learned, LearnedScreen):
        learned.save(folder / LEARNED)
    return found


def _knowing(config: RunConfig, names: Sequence[str]) -> dict[str, IterativeAttack] | None:
    """The attacks that are told of screens."""
    if not names:
        return None
    found: dict[str, IterativeAttack] = {}
    for name in names:
        attack = config.build_attack(name)
        if not isinstance(attack, IterativeAttack):
            raise InputError(f"attack {name} cannot be told of a screen: give iterative ones, e.g. pgd,smia")
        found[name] = attack
    return found


def _opened(config: RunConfig, split: str, part: Part, purpose: str) -> Dataset:
    """Another split of the data than that which is attacked."""
    data = open_split(config, split)
    check_apart(data, part.dataset, (f"the {purpose}", "the attacked"))
    if data.fingerprint() == part.dataset.fingerprint():
        raise InputError(f"the {purpose} images are the attacked images: give another split")
    return data
