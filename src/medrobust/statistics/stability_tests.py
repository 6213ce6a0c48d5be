"""Is SMIA stronger, and is it steadier? Paired tests against each other attack, corrected for their number.

What is tested of an image is the mean over its seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from medrobust.statistics.comparison import LEAST_CLUSTERS, SIGNIFICANCE
from medrobust.statistics.paired_tests import PairedTest, holm, paired_test
from medrobust.statistics.resampling import clusters_of
from medrobust.statistics.stability import TESTED, Frame
from medrobust.statistics.summary import check_resampling

TEST_SCHEMA: Frame = {
    "part": pl.String,
    "quantity": pl.String,
    "first": pl.String,  # the reference
    "second": pl.String,
    "mean_first": pl.Float64,
    "mean_second": pl.Float64,
    "difference": pl.Float64,  # under the first less under the second
    "low": pl.Float64,
    "high": pl.Float64,
    "wilcoxon": pl.Float64,  # two-sided p-values, then corrected by Holm over all rows
    "flips": pl.Float64,
    "wilcoxon_holm": pl.Float64,
    "flips_holm": pl.Float64,
    "rank_biserial": pl.Float64,
    "rank_biserial_low": pl.Float64,
    "rank_biserial_high": pl.Float64,
    "standardised": pl.Float64,
    "standardised_low": pl.Float64,
    "standardised_high": pl.Float64,
    "n": pl.Int64,
    "clusters": pl.Int64,
    "resampled": pl.String,
    "verdict": pl.String,  # of the first: "higher", "lower", "no difference shown" or "too few"
}
HIGHER, LOWER, NO_DIFFERENCE, TOO_FEW = "higher", "lower", "no difference shown", "too few"


def paired_tests(
    quantities: pl.DataFrame, reference: str, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """The reference against each other attack, in every part and tested quantity; columns as `TEST_SCHEMA`.

    An attack is called higher or lower when both tests, each corrected by Holm over all rows, are below `SIGNIFICANCE`
    and the interval of the difference, where there is one, excludes 0. "Too few" is told where not even differences
    that are all of one sign could show anything among so many rows.

    Args:
        quantities: from `image_quantities`.
        reference: an attack's label.
        resamples, confidence, seed: of the bootstrap of clusters.

    Raises:
        InputError: if `resamples` or `confidence` is out of range.
    """
    check_resampling(resamples, confidence)
    rows: list[dict[str, object]] = []
    tested = list(_pairs(quantities, reference))
    for part, quantity, second, pairs in tested:
        clusters = clusters_of(pairs["patient"])
        difference = (pairs["first"] - pairs["second"]).to_numpy()
        test = paired_test(
            difference, clusters, resamples=resamples, confidence=confidence, seed=seed, family=len(tested)
        )
        rows.append(
            {
                "part": part,
                "quantity": quantity,
                "first": reference,
                "second": second,
                "mean_first": pairs["first"].mean(),
                "mean_second": pairs["second"].mean(),
                **_figures(test),
                "n": len(pairs),
                "clusters": clusters.count,
                "resampled": clusters.kind,
            }
        )
    for name in ("wilcoxon", "flips"):
        for row, corrected in zip(rows, holm([_number(row[name]) for row in rows]), strict=True):
            row[f"{name}_holm"] = corrected
    for row in rows:
        row["verdict"] = _verdict(row, len(rows))
    return pl.DataFrame(rows, schema=TEST_SCHEMA)


def least_clusters(family: int) -> int:
    """How many patients or images it takes for differences of one sign to be shown among `family` tests."""
    least = LEAST_CLUSTERS
    while family * 2.0 ** (1 - least) >= SIGNIFICANCE:
        least += 1
    return least


def _pairs(quantities: pl.DataFrame, reference: str) -> Iterator[tuple[str, str, str, pl.DataFrame]]:
    """Part, quantity, other attack, and the images that both have a value of: patient, first and second."""
    by_image = quantities.group_by("part", "attack", "index", maintain_order=True).agg(
        pl.col("patient").first(), pl.col(list(TESTED)).mean()
    )
    for part in quantities["part"].unique(maintain_order=True):
        of_part = by_image.filter(part=part)
        own = of_part.filter(attack=reference)
        for quantity in TESTED:
            for second in of_part["attack"].unique(maintain_order=True):
                if second == reference:
                    continue
                pairs = (
                    own.select("index", "patient", pl.col(quantity).alias("first"))
                    .join(of_part.filter(attack=second).select("index", pl.col(quantity).alias("second")), "index")
                    .filter(pl.col("first").is_finite() & pl.col("second").is_finite())
                    .sort("index")
                )
                if len(pairs):
                    yield part, quantity, second, pairs


def _figures(test: PairedTest) -> dict[str, object]:
    return {
        "difference": test.difference,
        "low": test.interval[0],
        "high": test.interval[1],
        "wilcoxon": test.wilcoxon,
        "flips": test.flips,
        "rank_biserial": test.rank_biserial,
        "rank_biserial_low": test.rank_biserial_interval[0],
        "rank_biserial_high": test.rank_biserial_interval[1],
        "standardised": test.standardised,
        "standardised_low": test.standardised_interval[0],
        "standardised_high": test.standardised_interval[1],
    }


def _verdict(row: Mapping[str, object], family: int) -> str:
    if _number(row["clusters"]) < least_clusters(family):
        return TOO_FEW
    low, high, difference = row["low"], row["high"], _number(row["difference"])
    if low is not None and high is not None and _number(low) <= 0 <= _number(high):
        return NO_DIFFERENCE
    if max(_number(row["wilcoxon_holm"]), _number(row["flips_holm"])) >= SIGNIFICANCE or difference == 0:
        return NO_DIFFERENCE
    return HIGHER if difference > 0 else LOWER


def _number(value: object) -> float:
    assert isinstance(value, float | int)
    return float(value)
