"""A stability analysis as a configuration asks for it: of every data set, and every model that it names for it."""

from __future__ import annotations

from collections.abc import Iterator

from medrobust.config import RunConfig
from medrobust.errors import InputError
from medrobust.evaluation.trajectories import traced_attack
from medrobust.jobs import Part, build_parts
from medrobust.stability_run import Stability, stability
from medrobust.victim import Victim

USUAL_ATTACKS = ("pgd", "mi", "smia")
USUAL_BUDGET = ("4/255",)


def stability_config(
    config: RunConfig, *, seeds: int = 3, images: int = 16, pictures: int = 2, progress: bool = False
) -> Stability:
    """Do the analysis as configured; surrogates are further models of the same data.

    PGD, MI-FGSM and SMIA at 4/255 are taken where the configuration names no attacks and no budget.

    Args:
        config: as of `evaluate`.
        seeds, images, pictures: see `medrobust.stability`.
        progress: show progress bars on standard error.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    if "attacks" not in config.model_fields_set:
        config = config.model_copy(update={"attacks": {name: {} for name in USUAL_ATTACKS}})
    attacks = config.build_attacks()
    for label, attack in attacks.items():
        traced_attack(label, attack)  # before a model is trained in vain
    if "eps" in config.threat.model_fields_set and len(config.threat.eps) != 1:
        raise InputError(f"ways are compared at one budget, got {len(config.threat.eps)}: give one --eps")
    written = config.written()
    written["threat"]["eps"] = list(config.threat.eps if "eps" in config.threat.model_fields_set else USUAL_BUDGET)
    whole: Stability | None = None
    parts = list(build_parts(config))
    for part in parts:
        (threat,) = config.threat.threats(part.dataset.info, USUAL_BUDGET)
        for name, model_name, victim in _models(part, config.name if len(parts) == 1 else None):
            analysis = stability(
                victim,
                part.dataset,
                attacks,
                threat,
                seeds=seeds,
                seed=config.seed,
                images=images,
                pictures=pictures,
                batch_size=config.batch_size,
                skip_bad=config.skip_bad,
                name=name,
                model_name=model_name,
                config=written,
                progress=progress,
            )
            whole = analysis if whole is None else whole.joined(analysis)
    assert whole is not None
    return whole


def _models(part: Part, own_name: str | None) -> Iterator[tuple[str, str, Victim]]:
    """Name of the part of the analysis, name of the model, and the model."""
    data = own_name or part.dataset.info.name
    if not part.surrogates:
        yield data, part.model_name, part.victim
        return
    yield f"{data}, {part.model_name}", part.model_name, part.victim
    for name, victim in part.surrogates.items():
        yield f"{data}, {name}", name, victim
