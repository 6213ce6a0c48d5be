from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats
from synthetic_run import (
    BUDGETS,
    answer_row,
    classifier_records,
    detector_records,
    frame,
    part_info,
    row,
    run_info,
    segmenter_records,
)

from medrobust.errors import InputError
from medrobust.report.run_comparison import ComparedRuns
from medrobust.statistics import summarise
from medrobust.statistics.comparison import sign_flip_test
from medrobust.statistics.paired_tests import holm
from medrobust.statistics.pairing import pair_runs
from medrobust.statistics.resampling import Clusters
from medrobust.statistics.run_comparison import BETTER, NOT_SHOWN, RUNS_SCHEMA, TOO_FEW, WORSE, compare_runs
from medrobust.statistics.swapping import contributions

GRADES = part_info("ordinal", "abcde")
BINARY = part_info("classification", ["healthy", "ill"])


def a_run(records, part=GRADES, name=None):
    name = name or records["part"][0]
    return records.with_columns(part=pl.lit(name)), run_info({name: part})


def weaker(records):
    """The same run of a model that holds at half of the budgets' strength: it answers as at the next smaller eps."""
    after = [column for column in records.columns if column.endswith("_after")]
    steps = dict(zip(BUDGETS[1:], BUDGETS, strict=False))
    moved = records.filter(pl.col("eps") < BUDGETS[-1]).select("index", "attack", "eps", *after)
    moved = moved.with_columns(eps=pl.col("eps").replace({small: large for large, small in steps.items()}))
    first = records.filter(eps=BUDGETS[0]).select("index", "attack", "eps", *after)
    return records.drop(after).join(pl.concat([first, moved]), ["index", "attack", "eps"]).select(records.columns)


def found(table, attack, metric, eps=None):
    rows = table.filter((pl.col("attack") == attack) & (pl.col("metric") == metric))
    return (rows if eps is None else rows.filter(eps=eps)).row(0, named=True)


def right_or_wrong(first, second, patients=None):
    """Two runs of one attack, from whether each leaves each image right."""
    made = []
    for right in (first, second):
        rows = [
            answer_row(0, 0, int(not ok), index=i, patient=None if patients is None else patients[i])
            for i, ok in enumerate(right)
        ]
        made.append(a_run(frame(rows), BINARY))
    return made


def test_by_hand():
    first, second = [0] * 8 + [1] * 4, [1] * 7 + [0] + [1] * 4
    table, _ = compare_runs(*right_or_wrong(first, second))
    row = found(table, "pgd", "accuracy")
    assert (row["first"], row["second"]) == (pytest.approx(4 / 12), pytest.approx(11 / 12))
    assert (row["n"], row["clusters"]) == (12, 12)
    assert row["difference"] == pytest.approx(7 / 12)
    # seven images differ, all in one direction; one attack alone needs no correction, worst case and clean are two
    assert row["p_value"] == row["p_holm"] == pytest.approx(2 / 2**7)
    assert found(table, "worst case", "accuracy")["p_holm"] == pytest.approx(2 * 2 / 2**7)
    assert row["verdict"] == BETTER
    assert found(table, "pgd", "drop of accuracy")["difference"] == pytest.approx(-7 / 12)
    assert found(table, "pgd", "drop of accuracy")["verdict"] == BETTER
    clean = found(table, "clean", "accuracy")
    assert (clean["difference"], clean["low"], clean["p_value"], clean["verdict"]) == (0, None, 1, NOT_SHOWN)
    assert table.schema == pl.Schema(RUNS_SCHEMA)


def test_the_other_way_round():
    runs = right_or_wrong([0] * 10 + [1] * 4, [1] * 14)
    there, back = (found(compare_runs(*pair)[0], "pgd", "accuracy") for pair in (runs, runs[::-1]))
    assert there["difference"] == -back["difference"]
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]), abs=0.03)
    assert (there["verdict"], back["verdict"]) == (BETTER, WORSE)


def test_a_run_and_itself():
    run = a_run(classifier_records())
    table, _ = compare_runs(run, run)
    assert set(table["verdict"].drop_nulls()) == {NOT_SHOWN}
    assert set(table["difference"].drop_nulls()) == {0.0}
    assert (table["p_holm"].drop_nulls() == 1).all()


def test_values_are_those_of_the_summaries():
    runs = a_run(classifier_records()), a_run(weaker(classifier_records()))
    table, _ = compare_runs(*runs, resamples=100)
    for which, run in zip(("first", "second"), runs, strict=True):
        key = ["attack", "norm", "eps", "metric"]
        both = table.join(summarise(*run, resamples=100), key, suffix=" there")
        assert len(both) == len(table)
        assert both[which].to_numpy() == pytest.approx(both["value"].to_numpy())
        for end in ("low", "high"):
            assert both[f"{which}_{end}"].equals(both[f"{end} there"].alias(f"{which}_{end}")), end


def test_what_holds_better_is_shown_to_be():
    table, _ = compare_runs(a_run(classifier_records()), a_run(weaker(classifier_records())))
    for metric in ("accuracy", "AUROC", "area under accuracy", "accuracy of the strongest attack"):
        row = found(table, "worst case", metric, BUDGETS[-1])
        assert row["verdict"] == BETTER, metric
        assert row["low"] > 0


def test_pairing_is_what_makes_it_certain():
    """The same difference between runs on images that are as hard or easy for both, and that are not."""
    rng = np.random.default_rng(0)
    hard = rng.random(60) < 0.5
    better = hard.copy()
    better[np.flatnonzero(~hard)[:8]] = True
    paired = found(compare_runs(*right_or_wrong(hard, better))[0], "pgd", "accuracy")
    shuffled = found(compare_runs(*right_or_wrong(hard, rng.permutation(better)))[0], "pgd", "accuracy")
    assert paired["difference"] == pytest.approx(shuffled["difference"])
    assert paired["verdict"] == BETTER
    assert shuffled["verdict"] == NOT_SHOWN
    assert paired["high"] - paired["low"] < 0.6 * (shuffled["high"] - shuffled["low"])


def test_five_images_show_nothing():
    table, _ = compare_runs(*right_or_wrong([0] * 5, [1] * 5))
    assert found(table, "pgd", "accuracy")["verdict"] == TOO_FEW


def test_the_p_value_of_a_mean_is_that_of_the_sign_flip_test():
    rng = np.random.default_rng(1)
    patients = [str(k) for k in np.arange(40) // 4]
    first, second = rng.random(40) < 0.4, rng.random(40) < 0.8
    row = found(compare_runs(*right_or_wrong(first, second, patients))[0], "pgd", "accuracy")
    clusters = Clusters(np.arange(40) // 4, 10, "patients")
    assert row["p_value"] == pytest.approx(sign_flip_test(second * 1.0 - first * 1.0, clusters, 0))
    assert row["clusters"] == 10


UNEQUAL = [10, 8, 12, 9, 11, *[2] * 10, *[6] * 15]  # images of 30 patients


def runs_that_differ_in(changed):
    """Two runs of patients of unlike numbers of images; the second is right on all images of the first few."""
    patients = np.repeat(np.arange(len(UNEQUAL)), UNEQUAL)
    return right_or_wrong(patients < 0, patients < changed, [str(k) for k in patients])


@pytest.mark.parametrize(("changed", "p_value"), [(1, 1.0), (4, 2 / 2**4), (5, 2 / 2**5)])
def test_patients_of_many_images_who_do_not_differ_show_nothing(changed, p_value):
    """With k patients of one sign the exact p-value is 2/2ᵏ, whatever the numbers of images of the others."""
    table, _ = compare_runs(*runs_that_differ_in(changed), resamples=50)
    for metric in ("accuracy", "drop of accuracy", "area under accuracy"):
        row = found(table, "pgd", metric)
        assert row["p_value"] == pytest.approx(p_value), metric
        assert row["verdict"] == NOT_SHOWN


@pytest.mark.parametrize("metric", ["AUROC", "quadratic-weighted kappa"])
def test_who_does_not_differ_contributes_nothing_to_a_figure_that_is_no_mean(metric):
    """Four of 24 patients differ, one to four images each: the p-value is 2/2⁴ at least, whatever ranks move."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(24), rng.integers(1, 5, 24))
    truth = rng.integers(0, 2, len(patients))
    scores = np.where(truth == 1, 0.3, 0.7) + rng.normal(0, 0.1, len(patients))
    runs = []
    for right in (patients < 0, patients < 4):
        second = np.where(right, 0.2 + 0.6 * truth, scores).clip(0.01, 0.99)
        rows = [
            answer_row(int(truth[i]), int(truth[i]), int(second[i] > 0.5), index=i, patient=str(patients[i]))
            | {"scores_before": [0.5, 0.5], "scores_after": [1 - second[i], second[i]]}
            for i in range(len(patients))
        ]
        runs.append(a_run(frame(rows), part_info("ordinal", "ab")))
    row = found(compare_runs(*runs, resamples=50)[0], "pgd", metric)
    assert row["difference"] > 0.05
    assert row["p_value"] == pytest.approx(2 / 2**4)


def test_contributions_add_up_to_the_difference():
    """To rounding for a mean, to second order for what is none; scores on another scale change no AUROC."""
    runs = a_run(classifier_records()), a_run(weaker(classifier_records()))
    [pair] = pair_runs(runs)
    scaled = runs[1][0].with_columns(pl.col("scores_after").list.eval(pl.element() / 4))
    [other] = pair_runs((runs[0], (scaled, runs[1][1])))
    wanted = ("accuracy", "AUROC", "quadratic-weighted kappa")
    parts, theirs = contributions(pair, wanted, 0), contributions(other, wanted, 0)
    table, _ = compare_runs(*runs, resamples=50)
    for line in table.filter(pl.col("metric").is_in(wanted), attack="pgd").iter_rows(named=True):
        place = ((line["attack"], line["norm"], line["eps"]), line["metric"])
        exact = line["metric"] == "accuracy"
        assert parts[place].sum() == pytest.approx(line["difference"], abs=1e-6 if exact else 0.02)
        assert theirs[place] == pytest.approx(parts[place])


@pytest.mark.slow
def test_alike_models_on_patients_of_unlike_numbers_of_images():
    """Three large patients among twenty: p < 0.05 in at most 5 % of the pairs of models that are alike, but for noise.

    Jackknife pseudo-values, which the contributions are not, would claim a difference in 13 %.
    """
    rng, tries, claimed = np.random.default_rng(5), 300, 0
    patients = np.repeat(np.arange(20), [30, 20, 15, *[3] * 17])
    for _ in range(tries):
        differs, sign = rng.random(20) < 0.6, rng.choice([-1, 1], 20)
        first, second = ((differs & (sign == one))[patients] for one in (-1, 1))
        runs = right_or_wrong(first, second, [str(k) for k in patients])
        claimed += found(compare_runs(*runs, resamples=2)[0], "pgd", "accuracy")["p_value"] < 0.05
    assert claimed / tries < 0.05 + 0.03, claimed


@pytest.mark.parametrize(
    ("records", "part", "metric"),
    [(segmenter_records(), part_info("segmentation", "abcd"), "dice"), (detector_records(), None, "mAP")],
)
def test_other_tasks(records, part, metric):
    part = part or part_info("detection", ["left organ", "right organ"])
    table, _ = compare_runs(a_run(records, part), a_run(weaker(records), part), resamples=300)
    row = found(table, "worst case", metric, BUDGETS[-1])
    assert row["verdict"] == BETTER, row
    assert row["low"] < row["difference"] < row["high"]


def holm_by_hand(p_values):
    """Holm's steps as he wrote them: reject while the i-th smallest is at most alpha / (n − i + 1)."""
    rejected = set()
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for place, index in enumerate(order):
        if p_values[index] > 0.05 / (len(p_values) - place):
            break
        rejected.add(index)
    return rejected


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = (rng.random(6) ** 3).tolist()
        assert {i for i, p in enumerate(holm(p_values)) if p <= 0.05} == holm_by_hand(p_values)
    largest = holm([0.5, 0.9])
    assert largest == [1.0, 1.0]
    assert stats.false_discovery_control([0.01, 0.02])[0] <= holm([0.01, 0.02])[0]  # Benjamini-Hochberg is milder


@pytest.mark.slow
@pytest.mark.parametrize("by_patient", [False, True])
def test_two_models_that_are_alike_are_rarely_told_apart(by_patient):
    """Each metric alone, uncorrected: 5 %, and 8 % for kappa (a few large errors); the noise is of 300 tries."""
    rng, tries, claimed = (
        np.random.default_rng(3),
        300,
        dict.fromkeys(("accuracy", "AUROC", "quadratic-weighted kappa"), 0),
    )
    patients = [str(k) for k in np.arange(36) // 3] if by_patient else [None] * 36
    for _ in range(tries):
        truth = rng.integers(0, 3, 36)
        runs = []
        hard = rng.normal(0, 1, 36)[:, None]
        for _ in range(2):
            logits = 1.2 * np.eye(3)[truth] * (1 + hard) + rng.normal(0, 1, (36, 3))
            scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            rows = [
                answer_row(int(truth[i]), 0, int(scores[i].argmax()), index=i, patient=patients[i])
                | {"scores_before": [0.4, 0.3, 0.3], "scores_after": scores[i].tolist()}
                for i in range(36)
            ]
            runs.append(a_run(frame(rows), part_info("ordinal", "abc")))
        table, _ = compare_runs(*runs, resamples=100)
        for metric in claimed:
            claimed[metric] += found(table, "pgd", metric)["p_value"] < 0.05
    for metric, most in {"accuracy": 0.05, "AUROC": 0.05, "quadratic-weighted kappa": 0.08}.items():
        assert 0.01 < claimed[metric] / tries < most + 0.03, claimed


# what runs must agree on


def refused(first, second, words):
    with pytest.raises(InputError, match=words) as error:
        pair_runs([first, second])
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_what_does_not_agree_is_refused():
    records = classifier_records()
    run = a_run(records)
    refused(
        run, a_run(records, replace(GRADES, task="classification")), "their task differ: ordinal and classification"
    )
    refused(run, a_run(records, part_info("ordinal", "abcdf")), "their classes differ")
    refused(run, a_run(records, part_info("ordinal", "abcde", unit="HU")), "unit of the images differ")
    refused(run, a_run(records.with_columns(attack=pl.lit("square") + pl.col("attack"))), "no attack in common")
    refused(run, a_run(records.with_columns(eps=pl.col("eps") * 3)), "no budget in common: A has linf 1/255")
    other = replace(GRADES, data_sha256="e" * 64)
    refused(run, a_run(records, other, name="elsewhere"), "no part in common: A has grades; B has elsewhere")
    refused(run, a_run(records.with_columns(id=pl.col("id") + "x"), other), "no image in common")
    changed = records.with_columns(truth=pl.when(pl.col("index") == 7).then([9]).otherwise("truth"))
    refused(run, a_run(changed, other), "1 of 60 images have another truth in B, the first has the index 7")
    twice = records.with_columns(id=pl.lit("same"))
    refused(run, a_run(twice, other), "do not tell its images apart")
    refused(a_run(records.filter((pl.col("index") > 0) | (pl.col("attack") != "pgd"))), run, "compare whole runs")


def test_units_of_a_budget_must_agree():
    threats = [{"norm": "linf", "eps": eps, "unit": "%"} for eps in BUDGETS]
    records = classifier_records()
    refused(a_run(records), a_run(records, replace(GRADES, threats=threats)), r"different units, \[0, 1\] and %")


def under(**threat):
    return replace(GRADES, threats=[{"norm": "linf", "eps": eps, "unit": "[0, 1]"} | threat for eps in BUDGETS])


def test_what_may_change_must_agree():
    records = classifier_records()
    region = {"classes": [1], "outside": False, "margin": 0}
    refused(a_run(records), a_run(records, under(region=region)), "what linf may change differs: anything and region")
    refused(
        a_run(records, under(masked=True)), a_run(records), "what linf may change differs: masked True and anything"
    )
    everywhere = under(masked=False, quantum=None, region=None)
    assert pair_runs([a_run(records), a_run(records, everywhere)])[0].notes == []
    [pair] = pair_runs([a_run(records, under(quantum=1 / 255)), a_run(records, everywhere)])
    assert pair.notes == ["The grid that linf keeps to is not the same: steps of 0.003922 and none."]


def test_images_of_another_size_are_told():
    """An L2 change over the root of n, and the PSNR that goes with it, of 64² and of 224² values."""
    runs = []
    for n in (64**2, 224**2):
        rms = 0.01
        records = classifier_records().with_columns(
            norm=pl.lit("l2"), l2=pl.lit(rms * n**0.5), psnr=pl.lit(-20 * np.log10(rms))
        )
        runs.append(a_run(records, under(norm="l2")))
    [pair] = pair_runs(runs)
    [note] = pair.notes
    assert note.startswith("The images are not of one size (4.1e+03 values each in {0}, 5.02e+04 in {1}): an eps of l2")
    assert pair_runs([runs[0]] * 2)[0].notes == []


def test_one_part_is_not_compared_with_several():
    records = classifier_records()
    first = a_run(records, name="p")
    second = (
        pl.concat([records.with_columns(part=pl.lit(name)) for name in "xy"]),
        run_info(dict.fromkeys("xy", GRADES)),
    )
    words = "p of A and x, y of B are on the same data"
    refused(first, second, words)
    refused(second, first, "x, y of A and p of B are on the same data")


def test_rows_of_parts_of_other_names_name_both():
    records = classifier_records()
    table, pairs = compare_runs(a_run(records, name="before"), a_run(records, name="after"), resamples=20)
    assert set(table.select("part", "second_part").iter_rows()) == {("before", "after")}
    [part] = ComparedRuns(table, pairs, ("A", "B"), [((), ())]).parts
    assert part.title == "before · after"
    assert part.answer
    assert part.blocks


def test_masks_cannot_be_compared_by_id():
    part = part_info("segmentation", "abcd")
    records = segmenter_records()
    refused(a_run(records, part), a_run(records, replace(part, data_sha256="e" * 64)), "hold no masks")
    assert len(pair_runs([a_run(records, part)] * 2)) == 1


def test_images_are_matched_by_id_where_the_files_differ():
    records = classifier_records()
    shuffled = records.with_columns(index=59 - pl.col("index"))
    runs = a_run(records), a_run(shuffled, replace(GRADES, data_sha256="e" * 64))
    [pair] = pair_runs(runs)
    assert any("matched by id" in note for note in pair.notes)
    table, _ = compare_runs(*runs, resamples=50)
    assert set(table["difference"].drop_nulls().round(9)) == {0.0}


def test_what_only_one_has_is_left_out_and_told():
    records = classifier_records()
    more = a_run(records.filter(pl.col("index") < 50))
    less = a_run(records.filter((pl.col("attack") != "smia") & (pl.col("eps") < 3 / 255)))
    [pair] = pair_runs([more, less])
    told = " ".join(pair.notes)
    for words in ("Only {0} has linf 4/255", "Only {0} has the attacks smia", "10 images that only {1} has"):
        assert words in told
    table, _ = compare_runs(more, less, resamples=50)
    assert set(table["attack"]) == {"clean", "fgsm", "pgd", "worst case"}
    assert set(table.filter(metric="accuracy")["n"]) == {50}
    # the worst case is over what both ran
    without = summarise(*a_run(records.filter((pl.col("attack") != "smia") & (pl.col("index") < 50))), resamples=50)
    wanted = without.filter(attack="worst case", metric="accuracy", eps=BUDGETS[0])["value"].item()
    assert found(table, "worst case", "accuracy", BUDGETS[0])["first"] == pytest.approx(wanted)


def test_an_attack_with_other_options_is_told():
    records = classifier_records()
    stronger = GRADES.attacks | {"pgd": GRADES.attacks["pgd"] | {"steps": 50, "file": "/home/jane/m.nii"}}
    [pair] = pair_runs([a_run(records), a_run(records, replace(GRADES, attacks=stronger))])
    assert "The attack pgd is not the same in both runs: steps 10 and 50; file." in pair.notes


def test_parts_of_other_names_are_matched_by_their_data():
    records = classifier_records()
    [pair] = pair_runs([a_run(records, name="before"), a_run(records, name="after")])
    assert pair.names == ("before", "after")


def test_budgets_written_a_little_differently_are_the_same():
    records = classifier_records()
    other = records.with_columns(eps=pl.col("eps") * (1 + 1e-12))
    table, _ = compare_runs(a_run(records), a_run(other), resamples=50)
    assert set(table["eps"]) == {0.0, *BUDGETS}


def test_unknown_labels_of_a_row_count_nowhere():
    rows = [
        row(
            index=i,
            truth=[1, -1],
            right_before=True,
            right_after=i > 2,
            prediction_before=[1, 1],
            prediction_after=[int(i > 2), 1],
        )
        for i in range(8)
    ]
    run = a_run(frame(rows), part_info("multilabel", "ab"))
    table, _ = compare_runs(run, run, resamples=50)
    assert found(table, "pgd", "exact match")["first"] == pytest.approx(5 / 8)
