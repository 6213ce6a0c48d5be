import pytest
from synthetic_run import answer_row, classifier_records, frame, part_info, run_info, segmenter_records

from medrobust.errors import InputError
from medrobust.statistics import compare_attacks

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
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)


def test_only_images_that_both_attacked_count():
    records = pairs([0, 0, 1], [1, 1])
    found = compare_attacks(records, BINARY, "p", "smia", "pgd").row(0, named=True)
    assert (found["difference"], found["n"]) == (-1, 2)


def test_one_image_has_no_interval():
    found = compare_attacks(pairs([0], [1]), BINARY, "p", "smia", "pgd").row(0, named=True)
    assert (found["low"], found["high"]) == (None, None)


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


def test_what_is_not_there():
    with pytest.raises(InputError, match="no attack 'square'"):
        compare_attacks(pairs([0], [1]), BINARY, "p", "smia", "square")
    with pytest.raises(InputError, match="unknown part"):
        compare_attacks(pairs([0], [1]), BINARY, "q", "smia", "pgd")
