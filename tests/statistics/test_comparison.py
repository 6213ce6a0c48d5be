import time

import numpy as np
import pytest
from synthetic_run import (
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
from medrobust.report.verdicts import stronger_of
from medrobust.statistics import compare_attacks
from medrobust.statistics.comparison import sign_flip_test
from medrobust.statistics.resampling import Clusters

BINARY = run_info({"p": part_info("classification", ["healthy", "ill"])})


def pairs(first, second):
    """Records of two attacks from whether each leaves each image right."""
    rows = []
    for attack, right in (("smia", first), ("pgd", second)):
        rows += [answer_row(0, 0, int(not ok), index=i, attack=attack) for i, ok in enumerate(right)]
    return frame(rows)


def test_by_hand():
    found = compare_attacks(pairs([0, 0, 0, 1], [0, 1, 1, 1]), BINARY, "p", "smia", "pgd").row(0, named=True)
    assert found["difference"] == pytest.approx(-0.5)
    assert (found["metric"], found["n"], found["clusters"]) == ("accuracy", 4, 4)
    assert found["low"] < found["difference"] < found["high"]


def test_pairing_makes_a_consistent_difference_certain():
    first, second = [0] * 20 + [1] * 20, [0] * 10 + [1] * 30
    found = compare_attacks(pairs(first, second), BINARY, "p", "smia", "pgd").row(0, named=True)
    assert found["high"] < 0


def test_equal_attacks_show_no_difference():
    found = compare_attacks(pairs([0, 1, 0, 1], [0, 1, 0, 1]), BINARY, "p", "smia", "pgd").row(0, named=True)
    assert (found["difference"], found["low"], found["high"], found["p_value"]) == (0, None, None, 1)


def test_only_images_that_both_attacked_count():
    records = pairs([0, 0, 1], [1, 1])
    found = compare_attacks(records, BINARY, "p", "smia", "pgd").row(0, named=True)
    assert (found["difference"], found["n"]) == (-1, 2)


def test_one_image_has_no_interval():
    found = compare_attacks(pairs([0], [1]), BINARY, "p", "smia", "pgd").row(0, named=True)
    assert (found["low"], found["high"], found["p_value"]) == (None, None, 1)


def test_a_row_for_every_budget_by_patient():
    records, info = classifier_records("p"), run_info({"p": part_info("ordinal", "abcde")})
    found = compare_attacks(records, info, "p", "smia", "pgd")
    assert found["eps"].to_list() == [1 / 255, 2 / 255, 4 / 255]
    assert found["resampled"].unique().to_list() == ["patients"]


def test_dense_tasks_compare_dice():
    info = run_info({"p": part_info("segmentation", "abcd")})
    found = compare_attacks(segmenter_records("p"), info, "p", "pgd", "fgsm")
    assert found["metric"].unique().to_list() == ["dice"]
    assert (found["high"] < 0).all()


def test_detectors_compare_the_f1_of_images():
    info = run_info({"p": part_info("detection", ["left organ", "right organ"])})
    records = detector_records("p")
    found = compare_attacks(records, info, "p", "pgd", "fgsm").row(-1, named=True)
    f1 = {label: records.filter(attack=label, eps=4 / 255)["f1_after"].mean() for label in ("pgd", "fgsm")}
    assert found["metric"] == "F1"
    assert found["difference"] == pytest.approx(f1["pgd"] - f1["fgsm"])
    assert (found["n"], found["clusters"]) == (30, 10)
    assert found["low"] < found["difference"] < found["high"]


def test_what_is_not_there():
    with pytest.raises(InputError, match="no attack 'square'"):
        compare_attacks(pairs([0], [1]), BINARY, "p", "smia", "square")
    with pytest.raises(InputError, match="unknown part"):
        compare_attacks(pairs([0], [1]), BINARY, "q", "smia", "pgd")


def each_alone(n: int) -> Clusters:
    return Clusters(np.arange(n), n, "images")


@pytest.mark.parametrize(
    ("difference", "p_value"),
    [
        ([-1.0] * 6, 2 / 2**6),  # only all − and all + are as far from 0
        ([-1.0] * 5, 2 / 2**5),
        ([-1.0] * 6 + [0.0] * 30, 2 / 2**6),  # images on which the attacks agree say nothing
        ([-1.0, -1.0, -1.0, 1.0], 2 * 5 / 2**4),  # at most one of four is +
        ([3.0, 1.0], 2 * 1 / 2**2),
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0], 1.0),
        ([1.0], 1.0),
        ([], 1.0),
    ],
)
def test_p_value_by_hand(difference, p_value):
    assert sign_flip_test(np.array(difference), each_alone(len(difference)), 0) == pytest.approx(p_value)


def test_a_large_family_can_still_be_told_of_one_sign(monkeypatch):
    """With 9999 flips the least p-value is 0.0002, which 256 tests make 0.0512 of."""
    one_sign = np.full(16, -1.0)
    assert sign_flip_test(one_sign, each_alone(16), 0) * 256 > 0.05
    assert sign_flip_test(one_sign, each_alone(16), 0, family=256) * 256 < 0.05
    monkeypatch.setattr("medrobust.statistics.comparison._FLIPPED", 0)  # as if there were very many images
    assert sign_flip_test(one_sign, each_alone(16), 0, family=256) * 256 < 0.05


def test_images_of_a_patient_are_flipped_together():
    clusters = Clusters(np.arange(12) // 2, 6, "patients")
    assert sign_flip_test(np.full(12, -1.0), clusters, 0) == pytest.approx(2 / 2**6)


def test_the_p_value_of_many_is_the_seeds():
    difference = np.random.default_rng(0).normal(0.1, 1, 50)
    first, again, other = (sign_flip_test(difference, each_alone(50), seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.02)


def test_thousands_of_images_take_a_moment():
    started = time.perf_counter()
    sign_flip_test(np.random.default_rng(0).normal(0, 1, 10_000), each_alone(10_000), 0)
    assert time.perf_counter() - started < 10  # 1 s on an idle core


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4, 6, 8, 20])
@pytest.mark.parametrize("kind", ["accuracy", "dice"])
def test_a_difference_that_is_none_is_rarely_claimed(n, kind):
    """Two attacks of the same distribution: the percentile interval alone would claim one in 48, 20, …, 9, 7 %."""
    rng, tries, claimed = np.random.default_rng([n, 1]), 400, 0
    info = run_info({"p": part_info("segmentation" if kind == "dice" else "classification", "ab")})
    for _ in range(tries):
        if kind == "dice":
            values = rng.uniform(0.2, 0.9, (2, n))
            rows = [
                row(index=i, attack=attack, dice_before=0.9, dice_after=value)
                for attack, column in zip(("smia", "pgd"), values, strict=True)
                for i, value in enumerate(column.tolist())
            ]
            records = frame(rows)
        else:
            records = pairs(*rng.integers(0, 2, (2, n)).tolist())
        found = compare_attacks(records, info, "p", "smia", "pgd", resamples=200).row(0, named=True)
        claimed += stronger_of(found) is not None
    assert claimed / tries <= 0.07
    assert n >= 6 or claimed == 0


@pytest.mark.parametrize("fooled_by_pgd", [0, 1, 2])
def test_a_large_difference_is_found_at_twelve_images(fooled_by_pgd):
    records = pairs([0] * 12, [0] * fooled_by_pgd + [1] * (12 - fooled_by_pgd))
    found = compare_attacks(records, BINARY, "p", "smia", "pgd").row(0, named=True)
    assert stronger_of(found) == "smia"
    assert found["p_value"] == pytest.approx(2 / 2 ** (12 - fooled_by_pgd))


def test_images_without_a_known_label_are_left_out():
    info = run_info({"p": part_info("multilabel", "ab")})
    rows = [
        row(index=i, attack=attack, truth=truth, right_before=True, right_after=attack == "pgd" or truth == [-1, -1])
        for attack in ("smia", "pgd")
        for i, truth in enumerate([[1, -1], [0, 1], [-1, -1]])
    ]
    found = compare_attacks(frame(rows), info, "p", "smia", "pgd").row(0, named=True)
    assert (found["difference"], found["n"], found["clusters"]) == (-1, 2, 2)
