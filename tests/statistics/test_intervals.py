import numpy as np
import pytest
from scipy import stats

from medrobust.statistics.figure import Figure
from medrobust.statistics.intervals import (
    BCA,
    EXACT,
    WILSON,
    bca_interval,
    unanimous_interval,
    wilson_interval,
)
from medrobust.statistics.resampling import Resampled, bootstrap, percentile_interval
from medrobust.statistics.sums import mean


def resampled(values: np.ndarray, resamples: int = 20_000) -> Resampled:
    n = len(values)
    [found] = bootstrap([mean(values, np.arange(n), n)], n, resamples, seed=0)
    return found


def scipys(values: np.ndarray, method: str, confidence: float) -> tuple[float, float]:
    options = {"n_resamples": 20_000, "method": method, "confidence_level": confidence}
    found = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(1), **options).confidence_interval
    return found.low, found.high


def widened(confidence: float, n: int) -> float:
    """The confidence whose normal quantile is the widened one: what scipy must be asked for to widen as we do."""
    reach = stats.t.isf((1 - confidence) / 2, n - 1) * np.sqrt(n / (n - 1))
    return 1 - 2 * stats.norm.sf(reach)


@pytest.mark.parametrize("draw", ["gamma", "normal", "exponential"])
@pytest.mark.parametrize("n", [12, 80])
def test_bca_is_scipys_with_wider_tails(draw, n):
    values = getattr(np.random.default_rng(3), draw)(2.0, size=n)
    ours = bca_interval(resampled(values), n, 0.95)
    theirs = scipys(values, "BCa", widened(0.95, n))
    # the Monte-Carlo error of a 1 % quantile of 20 000 draws is about 0.03 standard errors, of both
    assert ours == pytest.approx(theirs, abs=0.15 * values.std() / np.sqrt(n))


def test_the_correction_is_seen():
    """The comparison above would fail with the percentile interval in place of ours."""
    values = np.random.default_rng(3).gamma(2.0, size=12)
    found = resampled(values)
    plain, ours = percentile_interval(found.draws, widened(0.95, 12)), bca_interval(found, 12, 0.95)
    assert abs(plain[1] - ours[1]) > 0.15 * values.std() / np.sqrt(12)


def test_percentile_is_scipys():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    ours = percentile_interval(resampled(values).draws, 0.95)
    assert ours == pytest.approx(scipys(values, "percentile", 0.95), abs=0.1 * values.std() / np.sqrt(80))


@pytest.mark.parametrize(("hits", "n"), [(3, 10), (1, 40), (39, 40), (500, 1000)])
def test_wilson_by_its_formula(hits, n):
    share, z = hits / n, stats.norm.isf(0.025)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert wilson_interval(share, n, 0.95) == pytest.approx((middle - half, middle + half))


def test_a_unanimous_share_has_the_rule_of_three():
    low, high = unanimous_interval(0.0, 20, 0.95)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert unanimous_interval(1.0, 20, 0.95) == pytest.approx((1 - high, 1))


def figure(right, *, images=None, share=True, one=True) -> Figure:
    drawn = resampled(np.asarray(right, float), 500)
    return Figure("accuracy", ("pgd", "linf", 0.1), drawn.value, images or len(right), len(right), drawn, share, one)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (figure([0, 1, 1, 1]), WILSON),
        (figure([1, 1, 1, 1]), EXACT),
        (figure([0, 0, 0]), EXACT),
        (figure([0, 1, 1, 1], images=9), BCA),  # several images a patient
        (figure([0, 1, 1, 1], one=False), BCA),  # made of several shares
        (figure([0.2, 0.5, 0.9, 0.4], share=False, one=False), BCA),
    ],
)
def test_which_figure_has_which_interval(made, kind):
    (low, high), found = made.interval(0.95)
    assert found == kind
    assert low <= made.value <= high


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [0.7]])
def test_what_cannot_be_doubted_has_none(values):
    assert figure(values, share=False, one=False).interval(0.95) is None


def test_undefined_resamples_are_left_out():
    drawn = np.array([np.nan, 0.0, 1.0, 2.0])
    assert percentile_interval(drawn, 0.5) == (0.5, 1.5)
    left_out = np.array([np.nan, 0.5, 1.5])
    assert bca_interval(Resampled(1.0, left_out, drawn), 200, 0.5) == pytest.approx((0.5, 1.5), abs=0.02)


def test_no_interval_when_most_resamples_are_undefined():
    drawn = np.array([np.nan, np.nan, 1.0])
    assert percentile_interval(drawn, 0.95) is None
    assert bca_interval(Resampled(1.0, drawn, drawn), 20, 0.95) is None


def test_a_value_beyond_all_resamples_still_has_an_interval():
    drawn = np.linspace(0, 1, 100)
    low, high = bca_interval(Resampled(2.0, drawn, drawn), 20, 0.95)
    assert 0 <= low < high <= 1
