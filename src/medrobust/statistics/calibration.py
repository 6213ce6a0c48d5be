"""How sure the model is of its answers, and how far it should be: calibration, clean and under attack.

The confidence of an answer is the probability that the model gives to it. Each known label of a multi-label task is an
answer of its own, yes or no. The expected calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017, arXiv
1706.04599) is the mean over `BINS` bins of equal width, weighted by their answers, of |share right − mean confidence|.

It is too high on few answers, even of a model that is calibrated: "ECE if calibrated" is what such a model would show
on average with these confidences. Resamples add the same once more; so its interval is the basic one, which takes it
off (Davison and Hinkley, Bootstrap Methods and their Application, 1997, 5.2.1). Simulated, 95 % intervals held the true
figure in 86 to 94 % of the cases at an ECE of 0.1 and 0.3 with 60 to 800 images. Of a model that is calibrated they do
not hold 0 as often as they should: there compare with "ECE if calibrated". "overconfidence", mean confidence less the
share right, has no such bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_calibration_error

from medrobust.evaluation.records import CLEAN, WORST_CASE, PartInfo, RunInfo
from medrobust.statistics.conditions import Condition
from medrobust.statistics.metric import Metric, class_name, number
from medrobust.statistics.metrics import known_labels
from medrobust.statistics.resampling import bootstrap, percentile_interval
from medrobust.statistics.summary import key_of
from medrobust.statistics.sums import SumStatistic, mean
from medrobust.statistics.tabulating import FIGURE, KEY, Figure, PartRecords, Resampling, Row, tabulate
from medrobust.statistics.task_traits import TASK_TRAITS

BINS = 15
SURE = 0.9  # an answer of at least this confidence is called sure
ECE, IF_CALIBRATED, OVERCONFIDENCE = "ECE", "ECE if calibrated", "overconfidence"
OF_RIGHT, OF_WRONG, SURE_WRONG = "confidence of right answers", "confidence of wrong answers", "sure of wrong answers"

CALIBRATION_SCHEMA = {
    **KEY,
    "label": pl.String,  # of a multi-label task; null for all together, and for other tasks
    "metric": pl.String,  # "sure of wrong answers": the share of them with a confidence of at least 0.9
    **FIGURE,  # "n" and "clusters" are of the images with such answers: of "… wrong answers", those answered wrong
}
RELIABILITY_SCHEMA = {
    **KEY,
    "low": pl.Float64,  # confidences of the bin, from low to below high
    "high": pl.Float64,
    "answers": pl.Int64,
    "right": pl.Int64,
    "confidence": pl.Float64,  # their mean; null in an empty bin
}

_DRAWS = 200  # of the answers of a calibrated model
_EDGES = torch.linspace(0, 1, BINS + 1).numpy()  # torchmetrics' own, in float32

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Answers with their confidence.

    Attributes:
        confidence, right, codes: `(answers,)`, `right` 0 or 1, `codes` of the clusters.
        rows: `(answers,)` which image each is of, among `images`.
        one_each: whether no image has several.
    """

    confidence: Values
    right: Values
    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    images: int
    one_each: bool = True

    def used(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which images, `(images,)`, have an answer, or one of those chosen `(answers,)`."""
        rows = self.rows if chosen is None else self.rows[chosen]
        return np.bincount(rows, minlength=self.images) > 0


def calibration(
    records: pl.DataFrame, info: RunInfo, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pl.DataFrame:
    """Calibration of every part whose answers have a probability; records of masks hold none, boxes are no classes.

    Returns:
        A row for each condition and metric; of multi-label tasks also for each label, clean and in the worst case.
        Columns as `CALIBRATION_SCHEMA`. The interval of "ECE" is a basic one, "ECE if calibrated" has none. That of
        "sure of wrong answers" is a share's where an image has one answer.

    Raises:
        InputError: `resamples` or `confidence` is out of range.
    """
    return tabulate(records, info, Resampling(resamples, confidence, seed), _rows, CALIBRATION_SCHEMA)


def reliability(records: pl.DataFrame, info: RunInfo) -> pl.DataFrame:
    """How many answers there are of each confidence, and how many are right; columns as `RELIABILITY_SCHEMA`."""
    return tabulate(records, info, Resampling(), _bins, RELIABILITY_SCHEMA)


def _rows(part: PartRecords) -> Iterator[Row]:
    figures: list[Figure] = []
    errors: list[Figure] = []
    for condition, codes in part.conditions():
        for label, answers in _questions(condition, part.info, codes):
            if not len(answers.right):
                continue
            rng = np.random.default_rng(part.resampling.seed)
            errors.append(part.figure(condition, codes, _error(answers, part.clusters.count), label=label))
            for metric in _figures(answers, part.clusters.count, rng):
                figures.append(part.figure(condition, codes, metric, label=label))
    yield from _with_basic_intervals(errors, part)
    yield from part.with_intervals(figures)


def _questions(condition: Condition, info: PartInfo, codes: NDArray[np.int64]) -> Iterator[tuple[str | None, Answers]]:
    """The answers of a condition: all of them, and label by label where there are several."""
    kind, when = TASK_TRAITS[info.task].answer, condition.when
    if kind not in ("class", "labels") or condition.rows[f"scores_{when}"].null_count():
        return
    truth, answer, scores = (
        np.array(condition.rows[name].to_list(), dtype=np.float64)
        for name in ("truth", f"prediction_{when}", f"scores_{when}")
    )
    everyone = np.arange(len(truth))
    if kind == "class":
        given = np.take_along_axis(scores, answer.astype(np.int64), 1)[:, 0]
        yield None, Answers(given, (truth == answer)[:, 0].astype(np.float64), codes, everyone, len(everyone))
        return
    known = known_labels(truth, info.dataset)
    given, right = np.where(answer == 1, scores, 1 - scores), (truth == answer).astype(np.float64)
    rows = np.nonzero(known)[0]
    yield None, Answers(given[known], right[known], codes[rows], rows, len(everyone), one_each=known.shape[1] == 1)
    for place in range(known.shape[1]) if condition.attack in (CLEAN, WORST_CASE) else ():
        of = known[:, place]
        yield (
            class_name(info.dataset, place),
            Answers(given[of, place], right[of, place], codes[of], everyone[of], len(everyone)),
        )


def _error(answers: Answers, count: int) -> Metric:
    """|Σ over a bin of (right − confidence)|, summed over the bins: torchmetrics' figure as a function of sums."""
    inside = _bin_of(answers.confidence)[:, None] == np.arange(BINS + 1)
    columns = np.hstack([inside * (answers.right - answers.confidence)[:, None], np.ones((len(inside), 1))])
    by_cluster = [np.bincount(answers.codes, weights=column, minlength=count) for column in columns.T]
    sums = np.stack(by_cluster, 1).astype(np.float64)
    given = torch.from_numpy(answers.confidence).float().clamp(0, 1), torch.from_numpy(answers.right).long()
    value = number(binary_calibration_error(*given, n_bins=BINS, norm="l1"))
    return Metric(ECE, value, answers.used(), SumStatistic(sums, _error_of))


def _error_of(sums: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(sums[:, :-1]).sum(1) / np.where(sums[:, -1] > 0, sums[:, -1], np.nan))


def _figures(answers: Answers, count: int, rng: np.random.Generator) -> Iterator[Metric]:
    given, right = answers.confidence, answers.right
    yield Metric(IF_CALIBRATED, _if_calibrated(given, rng), answers.used(), None)
    wrong = right == 0
    for name, values, is_share in (
        (OVERCONFIDENCE, given - right, False),
        (OF_RIGHT, np.where(wrong, np.nan, given), False),
        (OF_WRONG, np.where(wrong, given, np.nan), False),
        (SURE_WRONG, np.where(wrong, given >= SURE, np.nan), answers.one_each),
    ):
        statistic = mean(values, answers.codes, count)
        yield Metric(name, number(statistic.value), answers.used(np.isfinite(values)), statistic, is_share)


def _if_calibrated(given: Values, rng: np.random.Generator) -> float:
    """The mean ECE of answers that are right as often as their confidences say."""
    place = _bin_of(given)
    off = (rng.random((_DRAWS, len(given))) < given) - given
    sums = np.stack([off[:, place == one].sum(1) for one in np.unique(place)], 1)
    return float(np.abs(sums).sum(1).mean() / len(given))


def _with_basic_intervals(figures: list[Figure], part: PartRecords) -> Iterator[Row]:
    statistics = [metric.statistic for _, metric, _ in figures if metric.statistic is not None]
    how = part.resampling
    draws = [one.draws for one in bootstrap(statistics, part.clusters.count, how.resamples, how.seed)]
    for (fields, metric, clusters), drawn in zip(figures, draws, strict=True):
        low, high = _basic_interval(metric.value, drawn, how.confidence) if clusters > 1 else (None, None)
        basis = {"n": int(metric.used.sum()), "clusters": clusters, "resampled": part.clusters.kind}
        yield {**fields, "metric": metric.name, "value": metric.value, "low": low, "high": high, **basis}


def _basic_interval(value: float | None, draws: Values, confidence: float) -> tuple[float, float] | tuple[None, None]:
    """The draws `(resamples,)` reflected in the value, within 0 and 1; none that would have no width."""
    plain = percentile_interval(draws, confidence)
    if value is None or plain is None:
        return None, None
    low, high = (float(np.clip(2 * value - end, 0, 1)) for end in reversed(plain))
    return (low, high) if low < high else (None, None)


def _bins(part: PartRecords) -> Iterator[Row]:
    for condition, codes in part.conditions():
        for label, answers in _questions(condition, part.info, codes):
            if label is not None:
                continue
            place = np.minimum(_bin_of(answers.confidence), BINS - 1)  # certainty itself is drawn with the last bin
            for one in range(BINS):
                inside = place == one
                mean_of = float(answers.confidence[inside].mean()) if inside.any() else None
                edges = {"low": one / BINS, "high": (one + 1) / BINS}
                counts = {"answers": int(inside.sum()), "right": int(answers.right[inside].sum())}
                yield {**key_of(condition), **edges, **counts, "confidence": mean_of}


def _bin_of(confidence: Values) -> NDArray[np.int64]:
    """As torchmetrics: a bin holds its lower edge, and 1 is a bin of its own."""
    return np.asarray(np.searchsorted(_EDGES, confidence.astype(np.float32), "right") - 1, np.int64)
