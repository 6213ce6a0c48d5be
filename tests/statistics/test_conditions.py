import math

from synthetic_run import answer_row, frame, part_info, row

from medrobust.statistics.conditions import conditions_of, worst_rows


def test_worst_is_wrong_before_right_then_the_highest_loss():
    records = frame(
        [
            answer_row(0, 0, 0, loss=9.0, index=0, attack="a"),  # right, with the highest loss
            answer_row(0, 0, 1, loss=1.0, index=0, attack="b"),
            answer_row(0, 0, 1, loss=2.0, index=0, attack="c"),
            answer_row(0, 0, 0, loss=1.0, index=1, attack="a"),
            answer_row(0, 0, 0, loss=3.0, index=1, attack="b"),
            answer_row(0, 0, 0, loss=math.nan, index=1, attack="c"),
        ]
    )
    assert worst_rows(records, "classification")["attack"].to_list() == ["c", "b"]


def test_worst_of_a_dense_task_is_the_lowest_dice():
    records = frame([row(attack=label, dice_after=dice, loss_after=0.0) for label, dice in (("a", 0.5), ("b", 0.4))])
    assert worst_rows(records, "segmentation")["attack"].to_list() == ["b"]


def test_worst_of_a_detector_is_the_lowest_f1_then_the_highest_loss():
    records = frame(
        row(attack=label, f1_after=f1, loss_after=loss)
        for label, f1, loss in (("a", 0.5, 9.0), ("b", 0.4, 1.0), ("c", 0.4, 2.0), ("d", math.nan, 9.0))
    )
    assert worst_rows(records, "detection")["attack"].to_list() == ["c"]


def test_order_is_clean_then_eps_then_the_attacks_of_the_run_then_the_worst():
    records = frame(
        answer_row(0, 0, 1, attack=attack, eps=eps) for eps in (0.2, 0.1) for attack in ("zeta", "smia", "fgsm")
    )
    found = [(c.attack, c.eps) for c in conditions_of(records, part_info("classification", "ab"))]
    each = ["fgsm", "smia", "zeta", "worst case"]
    assert found == [("clean", 0.0)] + [(attack, 0.1) for attack in each] + [(attack, 0.2) for attack in each]


def test_an_image_that_one_attack_lacks_is_judged_by_the_others():
    records = frame(
        [
            answer_row(0, 0, 0, index=0, attack="a"),
            answer_row(0, 0, 1, index=1, attack="a"),
            answer_row(0, 0, 1, index=0, attack="b"),
        ]
    )
    worst = list(conditions_of(records, part_info("classification", "ab")))[-1]
    assert worst.rows.select("index", "attack").rows() == [(0, "b"), (1, "a")]
