"""Figures of images under attacks, drawn without a model, for the statistics of stability and their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from synthetic_run import part_info

from medrobust.evaluation.stability_files import StabilityInfo
from medrobust.evaluation.trajectories import MEASURES, OUTCOME_SCHEMA, STEP_SCHEMA
from medrobust.statistics.stability import QUANTITIES

ATTACKS = ("pgd", "mi", "smia")


def quantities(
    shifts: Mapping[str, Mapping[str, float]],
    *,
    images: int = 24,
    seeds: int = 2,
    parts: Sequence[str] = ("tissue",),
    attacks: Sequence[str] = ATTACKS,
    patients: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Every quantity around 1 with the same image and its own noise under each attack; `shifts` moves some of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for part in parts:
        of_image = {name: rng.normal(0, 0.3, images) for name in QUANTITIES}
        for attack in attacks:
            for index in range(images):
                for number in range(seeds):
                    row = {
                        name: 1 + of_image[name][index] + shifts.get(attack, {}).get(name, 0.0) + rng.normal(0, 0.1)
                        for name in QUANTITIES
                    }
                    patient = None if patients is None else f"patient {index % patients}"
                    rows.append(
                        {"part": part, "index": index, "attack": attack, "seed": number, "patient": patient, **row}
                    )
    return pl.DataFrame(rows, schema_overrides={"patient": pl.String})


def info(parts: Sequence[str] = ("tissue",), attacks: Sequence[str] = ATTACKS, **changes) -> StabilityInfo:
    made = {
        name: replace(
            part_info("segmentation", ("background", "organ"), name=name),
            attacks={label: {"attack": label.upper(), "steps": 6} for label in attacks},
            threats=[{"norm": "linf", "eps": 4 / 255, "unit": "[0, 1]"}],
            data_sha256=name,
        )
        for name in parts
    }
    values = {
        "parts": made,
        "reference": "smia",
        "seeds": [0, 1],
        "step_lengths": {name: dict.fromkeys(attacks, 0.01) for name in parts},
        "created": "2026-03-01T12:00:00+00:00",
        "seconds": 12.3,
        "device": "cpu",
        "versions": {"medrobust": "0.1.0"},
    }
    return StabilityInfo(**{**values, **changes})


def rows(
    *, images: int = 16, seeds: int = 2, steps: int = 6, parts: Sequence[str] = ("tissue",), seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Steps and outcomes of attacks that settle, each at a pace of its own."""
    rng = np.random.default_rng(seed)
    key = [
        {"part": part, "index": index, "patient": None, "attack": attack, "seed": number}
        for part in parts
        for attack in ATTACKS
        for number in range(seeds)
        for index in range(images)
    ]
    pace = {"pgd": 0.5, "mi": 0.7, "smia": 0.4}
    ways = []
    for one in key:
        noise = rng.uniform(0.9, 1.1, steps + 1)
        for step in range(steps + 1):
            falling = float(noise[step] * pace[one["attack"]] ** step)
            values = dict.fromkeys(MEASURES, falling) | {"l2": 2.0, "linf": 0.01}
            values |= {"kl_final": 0.0 if step == steps else falling, "kl_initial": 1 - pace[one["attack"]] ** step}
            if step == 0:
                values |= {"kl_previous": np.nan, "moved": np.nan, "cosine": np.nan}
            if step < 2:
                values |= {"sign_flips": np.nan}
            ways.append({**one, "step": step, **values})
    outcomes = [
        {
            **one,
            "value_before": 0.9,
            "value_after": float(rng.normal(0.5, 0.1)),
            "loss_before": 0.1,
            "loss_after": float(rng.normal(1.0, 0.2)),
            "success": True,
            "linf": 0.01,
            "l2": 2.0,
            "zero_gradients": 0,
            "seed_distance": float(rng.normal(0.8, 0.1)),
            "image_distance": 1.4 if one["seed"] == 0 else None,
            "sketch": (rng.normal(size=256) / 16).tolist(),
        }
        for one in key
    ]
    return pl.DataFrame(ways, schema=STEP_SCHEMA), pl.DataFrame(outcomes, schema=OUTCOME_SCHEMA)
