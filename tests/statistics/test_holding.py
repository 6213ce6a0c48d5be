import numpy as np
import polars as pl
import pytest
from scipy import stats
from synthetic_run import answer_row, classifier_records, frame, part_info, segmenter_records

from medrobust.statistics.holding import brackets, holding

BINARY = part_info("classification", ["healthy", "ill"])
BUDGETS = (1.0, 2.0, 4.0)


def records(falls, found=None, patients=None):
    """Of each image the budget from which on it falls (None: none does), and the size that an attack found."""
    rows = []
    for index, at in enumerate(falls):
        for eps in BUDGETS:
            fallen = at is not None and eps >= at
            size = None if found is None else found[index]
            rows.append(
                answer_row(0, 0, int(fallen), index=index, eps=eps)
                | {"smallest_eps": size, "patient": None if patients is None else patients[index]}
            )
    return frame(rows)


def test_brackets_by_hand():
    known = brackets(records([1.0, 2.0, 4.0, None]), BINARY, "linf")
    assert known.lower.tolist() == [0, 1, 2, 4]
    assert known.upper.tolist() == [1, 2, 4, np.inf]
    assert not known.searched


def test_a_size_that_was_found_is_nearer_than_the_budgets():
    known = brackets(records([2.0, 2.0, None, None], [1.5, np.inf, 9.0, np.inf]), BINARY, "linf")
    assert known.upper.tolist() == [1.5, 2.0, 9.0, np.inf]
    assert known.lower.tolist() == [1, 1, 4, 4]
    assert known.searched


def test_an_image_that_falls_once_has_fallen():
    """An attack that fails at a larger budget does not raise it again; any attack's success counts."""
    rows = records([1.0]).with_columns(right_after=pl.col("eps") != 1.0)
    other = records([4.0]).with_columns(attack=pl.lit("square"))
    assert brackets(pl.concat([rows, other]), BINARY, "linf").upper.tolist() == [1.0]


def test_the_interval_of_a_median_between_budgets_begins_at_a_budget_that_was_tried():
    """None of 30 falls at 1, 20 at 2, 10 at 4: half fall between 1 and 2, and there is no doubt of it."""
    found = holding(records([2.0] * 20 + [4.0] * 10), BINARY, "linf")
    assert (found.median_from, found.median) == (1.0, 2.0)
    assert (found.median_low, found.median_high) == (1.0, 4.0)


def test_images_wrong_before_are_left_out():
    rows = records([1.0, 2.0]).with_columns(right_before=pl.col("index") == 1)
    assert brackets(rows, BINARY, "linf").upper.tolist() == [2.0]
    nothing = rows.with_columns(right_before=pl.lit(False))
    assert holding(nothing, BINARY, "linf") is None


def test_shares_are_scipys_estimate_with_right_censored_images():
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(50) < 0.2, np.inf, rng.exponential(3, 50))
    found = holding(records([None] * 50, sizes.tolist()), BINARY, "linf", resamples=200)
    fallen = sizes[np.isfinite(sizes)]
    largest = max(*fallen, 4.0)
    theirs = stats.ecdf(stats.CensoredData(fallen, right=np.full(50 - len(fallen), largest))).sf
    assert found.share == pytest.approx(theirs.evaluate(found.sizes))
    assert found.share[-1] == pytest.approx(np.isinf(sizes).mean())
    assert found.sizes[-1] == largest
    assert (np.diff(found.share) <= 0).all()


def test_the_band_is_wilsons_of_independent_images():
    found = holding(records([1.0] * 3 + [2.0] * 5 + [None] * 4), BINARY, "linf")
    for place, held in enumerate((9, 4, 4)):
        ours = (found.low[place], found.high[place])
        assert ours == pytest.approx(tuple(stats.binomtest(held, 12).proportion_ci(method="wilson")))


def test_the_median_by_hand():
    found = holding(records([1.0] * 3 + [2.0] * 5 + [None] * 4), BINARY, "linf")
    assert (found.median_from, found.median, found.n) == (1, 2, 12)
    # 9 of 12 hold 1.0, and by Wilson's interval maybe less than half of all do: these fall in (0, 1]
    low, high = stats.binomtest(9, 12).proportion_ci(method="wilson")
    assert low < 0.5 < high
    assert found.median_low == 0
    # 4 of 12 hold 4.0, and more than half of all images may
    assert stats.binomtest(4, 12).proportion_ci(method="wilson").high > 0.5
    assert found.median_high == np.inf


def test_more_than_half_hold():
    found = holding(records([1.0] * 2 + [None] * 8), BINARY, "linf")
    assert found.median == np.inf
    assert found.share.tolist() == pytest.approx([0.8, 0.8])
    assert found.sizes.tolist() == [1.0, 4.0]


@pytest.mark.slow
def test_the_interval_of_the_median_holds_it_in_95_percent():
    rng, tries, held = np.random.default_rng(1), 300, 0
    truth = 3 * np.log(2)
    for _ in range(tries):
        sizes = rng.exponential(3, 40)
        found = holding(records([None] * 40, sizes.tolist()), BINARY, "linf", resamples=50)
        held += found.median_low <= truth <= found.median_high
    assert held / tries == pytest.approx(0.95, abs=0.02 + 0.0125)


def test_patients_make_the_band_wider():
    sizes = np.repeat(np.random.default_rng(0).exponential(3, 12), 5).tolist()
    alone = holding(records([None] * 60, sizes), BINARY, "linf", resamples=500)
    together = holding(records([None] * 60, sizes, [str(k // 5) for k in range(60)]), BINARY, "linf", resamples=500)
    assert (together.clusters, together.resampled) == (12, "patients")
    middle = len(together.sizes) // 2
    assert together.high[middle] - together.low[middle] > 1.5 * (alone.high[middle] - alone.low[middle])


def test_thousands_of_sizes_are_thinned_but_span_the_same():
    sizes = np.random.default_rng(0).exponential(3, 1000)
    found = holding(records([None] * 1000, sizes.tolist()), BINARY, "linf", resamples=20)
    assert len(found.sizes) == 200
    assert (found.sizes[0], found.sizes[-1]) == (sizes.min(), sizes.max())


def test_other_tasks():
    for rows, part in (
        (classifier_records(), part_info("ordinal", "abcde")),
        (segmenter_records(), part_info("segmentation", "abcd")),
    ):
        found = holding(rows, part, "linf", resamples=100)
        # at each budget the share is one less the success of the worst case
        before = rows.filter("right_before")
        held = (
            before.group_by("eps", "index")
            .agg(pl.col("right_after").all())
            .group_by("eps")
            .agg(pl.col("right_after").mean())
        )
        shares = dict(held.iter_rows())
        for size, share in zip(found.sizes, found.share, strict=True):
            assert share == pytest.approx(shares[size])
