"""A hardening as a configuration asks for it: trained on one part of the data, measured before and after on another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medrobust.comparing import RunComparison, compare
from medrobust.config import EMBEDDED, RunConfig
from medrobust.data.subset import check_apart
from medrobust.errors import InputError
from medrobust.evaluation.storage import RUN_JSON, check_output_folder, write_whole
from medrobust.hardening import WEIGHTS, Hardened, harden
from medrobust.hardening_card import AFTER, BEFORE, CARD, card_of
from medrobust.jobs import build_parts, load_surrogates, open_split, run_config
from medrobust.training import Validation

CHECKPOINT, COMPARISON = "checkpoint.safetensors", "comparison"
USUAL_ATTACKS: dict[str, dict[str, object]] = {"medrobust": {}}


def harden_config(config: RunConfig, folder: Path, *, progress: bool = False) -> Hardened:
    """Train as configured and write `model.safetensors` and `training.json` to the folder.

    While it trains, the folder `.NAME.training` beside it holds a checkpoint; called again, the training goes on.

    Raises:
        InputError: anything in the configuration cannot be used, or patients to learn from are among those to test on.
    """
    check_output_folder(folder)
    config.harden.check()
    if config.data.path == EMBEDDED:
        raise InputError("give the data to learn from with --data, e.g. embedded:level")
    (part,) = build_parts(config)
    training = open_split(config, config.harden.split)
    validation = None if config.harden.validation_split is None else open_split(config, config.harden.validation_split)
    for name, other in (("training", training), ("validation", validation)):
        if other is None:
            continue
        check_apart(other, part.dataset, (f"the {name}", "the test"))
        if other.fingerprint() == part.dataset.fingerprint():
            raise InputError(f"the {name} images are the test images: give harden.split, or data.split")
    threat = config.harden.threat(config.threat.norm, training.info)
    others = load_surrogates(training.info, config, part.victim, config.harden.surrogates)
    with _kept_while_training(folder) as checkpoint:
        found = harden(
            part.victim,
            training,
            validation,
            config.harden.build_method(list(others.values())),
            threat,
            config.harden.training(),
            look=Validation(images=config.harden.validation_images),
            seed=config.seed,
            checkpoint=checkpoint,
            progress=progress,
        )
        found.save(folder)
    return found


def measure_config(
    config: RunConfig, folder: Path, *, before: Path | None = None, progress: bool = False
) -> RunComparison:
    """Measure the model before and after on the test images, and write both runs, their comparison and a model card.

    The attacks are those of the configuration; where it names none, the ensemble `medrobust`, which no method learns
    from. A run that is there already is taken as it is.

    Args:
        config: as of `harden_config`.
        folder: of the hardened model.
        before: where the run of the model as it was is, or goes to; `before` in the folder when not given.
        progress: show progress bars on standard error.

    Raises:
        InputError: anything in the configuration cannot be used.
    """
    first = _measured(config, before or folder / BEFORE, None, progress)
    found = compare(first, _measured(config, folder / AFTER, folder / WEIGHTS, progress))
    if not (folder / COMPARISON).exists():
        found.save(folder / COMPARISON)
    write_whole(folder / CARD, card_of(folder, found).encode())
    return found


def _measured(config: RunConfig, folder: Path, weights: Path | None, progress: bool) -> Path:
    if (folder / RUN_JSON).exists():
        return folder
    if "attacks" not in config.model_fields_set:
        config = config.model_copy(update={"attacks": USUAL_ATTACKS})
    if weights is not None:
        config = config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})
    run_config(config, progress=progress).save(folder)
    return folder


@contextmanager
def _kept_while_training(folder: Path) -> Iterator[Path]:
    """The place of the checkpoint; it goes when all went well."""
    beside = folder.absolute().parent / f".{folder.name}.training"
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{beside} cannot be made: {error.strerror}") from error
    checkpoint = beside / CHECKPOINT
    try:
        yield checkpoint
        checkpoint.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # it holds a checkpoint to go on from
            beside.rmdir()
