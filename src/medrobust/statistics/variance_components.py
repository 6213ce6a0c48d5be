"""Where the variance of a quantity comes from: image, seed, model, data set, each told apart from the others.

A random-effects model of a quantity under one attack, in data set d, by model k, on image i, from seed s:

    y = mean + data set_d + model_dk + image_di + (image × model)_dki + seed_dkis

Within a data set every image goes through every model from every seed, so the design is balanced, and the components
follow from the mean squares of the two-way layout with replicates by equating them with their expectations (the ANOVA
or method-of-moments estimator: Searle, Casella and McCulloch, Variance Components, 1992, chapters 4 and 5), which needs
no distribution. An estimate below 0, which chance gives where a component is small, is told as 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Variances, `(attacks, resamples)` each, not yet cut at 0; NaN where the design cannot tell.

    Attributes:
        image: between the images of a data set.
        seed: between the seeds of one image under one model.
        model: between the models of a data set.
        residual: the interaction, by which an image is another one's better under one model and not under the other.
            With one seed, that between seeds is in it; with one model it is in the image's.
        data_set: between the means of the data sets.
    """

    image: Values
    seed: Values
    model: Values
    residual: Values
    data_set: Values

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the components."""
        return tuple(f.name for f in fields(cls))

    def value(self, name: str) -> Values:
        """One of them."""
        found: Values = getattr(self, name)
        return found


@dataclass(frozen=True)
class _Of:
    """The components of one data set, its mean, and what that mean varies by, `(attacks, resamples)` each."""

    components: Components
    mean: Values
    error: Values


def components(quantities: list[Values], weights: list[Values]) -> Components:
    """The components over data sets; those within one are averaged over them.

    Args:
        quantities: `(attacks, models, images, seeds)` of each data set, of as many attacks.
        weights: how often each image counts, `(resamples, images)` of each.
    """
    of_each = [_within(values, weight) for values, weight in zip(quantities, weights, strict=True)]
    if len(of_each) == 1:
        return of_each[0].components
    means = np.stack([one.mean for one in of_each])
    between = means.var(0, ddof=1) - np.mean([one.error for one in of_each], axis=0)
    averaged = {
        name: _mean_of_known([one.components.value(name) for one in of_each])
        for name in Components.names()
        if name != "data_set"
    }
    return Components(**averaged, data_set=between)


def _within(values: Values, weights: Values) -> _Of:
    attacks, models, images, seeds = values.shape
    n = weights.sum(1)  # (resamples,)
    cell = values.mean(3)  # (attacks, models, images)
    image = cell.mean(1)
    deviation = cell - image[:, None]
    mean = image @ weights.T / n
    shift = np.einsum("aki,bi->akb", deviation, weights) / n  # of each model from the mean
    with np.errstate(divide="ignore", invalid="ignore"):
        of_images = models * seeds * ((image**2) @ weights.T - n * mean**2) / (n - 1)
        of_models = n * seeds * (shift**2).sum(1) / (models - 1)
        both = seeds * ((deviation**2).sum(1) @ weights.T - n * (shift**2).sum(1)) / ((n - 1) * (models - 1))
        of_seeds = ((values - cell[..., None]) ** 2).sum((1, 3)) @ weights.T / (n * models * (seeds - 1))
    unknown = np.full((attacks, len(n)), np.nan)
    below = of_seeds if seeds > 1 else np.zeros_like(unknown)  # the expectation that all mean squares share
    expected = both if models > 1 else below
    image_part = (of_images - expected) / (models * seeds) if images > 1 else unknown
    model_part = (of_models - both) / (n * seeds) if models > 1 else unknown
    error = (of_images + (of_models - both if models > 1 else 0)) / (n * models * seeds)
    return _Of(
        Components(
            image=image_part,
            seed=of_seeds if seeds > 1 else unknown,
            model=model_part,
            residual=(both - below) / seeds if models > 1 and images > 1 else unknown,
            data_set=unknown,
        ),
        mean,
        error,
    )


def _mean_of_known(parts: list[Values]) -> Values:
    """The mean over the data sets that can tell."""
    stacked = np.stack(parts)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
