import base64
import zlib

import numpy as np
import pytest
import torch
from synthetic_run import answer_row, ct_run, frame, gallery_images, part_info

from medrobust.evaluation.records import GalleryAttack, GalleryImage
from medrobust.report.gallery import entry_size, gallery_entries
from medrobust.report.outcomes import by_harm, outcome_of
from medrobust.report.showing import EVERYTHING, ROOM, Showing, showing_for, worst_of_each_budget, worst_of_the_largest
from medrobust.report.values import packed, whole_values

PART = part_info("classification", ["healthy", "ill"])


def made(attack: str, eps: float) -> GalleryAttack:
    return GalleryAttack(attack, "linf", eps, torch.zeros(1, 2, 2))


def test_the_attack_that_raised_the_loss_most_is_shown_at_each_budget():
    image = GalleryImage("p", 0, torch.zeros(1, 2, 2), [made(a, e) for a in ("pgd", "smia") for e in (0.1, 0.2)])
    losses = {("pgd", 0.1): 1.0, ("smia", 0.1): 2.0, ("pgd", 0.2): 5.0, ("smia", 0.2): float("nan")}
    rows = frame([answer_row(0, 0, 1, attack=a, eps=e, loss=loss) for (a, e), loss in losses.items()])
    shown = [(one.attack, one.eps) for one in worst_of_each_budget(image, rows)]
    assert shown == [("smia", 0.1), ("pgd", 0.2)]
    assert [(one.attack, one.eps) for one in worst_of_the_largest(image, rows)] == [("pgd", 0.2)]
    assert len(worst_of_each_budget(image, frame([]))) == 2


def test_less_is_shown_only_where_the_page_would_grow_too_large():
    images = gallery_images("p", images=4)
    asked = []

    def size(image, showing):
        asked.append(showing)
        return ROOM // (2 if showing.choose is worst_of_the_largest else 1)

    assert showing_for(images[:1], lambda *_: ROOM) == EVERYTHING
    assert showing_for([], size) == EVERYTHING
    assert showing_for(images[:2], size).choose is worst_of_the_largest
    smallest = showing_for(images, size)
    assert smallest.largest < showing_for(images[:2], size).largest
    assert asked[0] == EVERYTHING


def test_the_size_of_an_entry_is_that_of_its_pictures_in_the_page():
    run = ct_run()
    part = run.info.parts["abdomen"]
    image = run.gallery[0]
    (entry,) = gallery_entries([image], run.records, "abdomen", part)
    assert entry.values is not None
    text = str(entry)
    assert 0.9 * len(text) < entry_size(image, run.records, part, EVERYTHING) < len(text)


def test_slices_of_a_volume_stand_one_below_the_other():
    run = ct_run()
    part = run.info.parts["abdomen"]
    (entry,) = gallery_entries(run.gallery[:1], run.records, "abdomen", part)
    assert entry.slices == (2, 5, 8)
    assert entry.size == (64, 64)
    (fewer,) = gallery_entries(run.gallery[:1], run.records, "abdomen", part, Showing(slices=1, values=False))
    assert fewer.slices == (5,)
    assert fewer.values is None


def unpacked(text: str, width: int) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    steps = (planes[0].astype(np.int32) | planes[1].astype(np.int32) << 8).astype(np.int16).reshape(-1, width)
    return np.cumsum(steps, 1, dtype=np.int16)


def test_values_of_a_ct_come_back_to_the_nearest_unit():
    rng = np.random.default_rng(0)
    slices = [rng.uniform(-1100, 3100, (5, 7)) for _ in range(2)]
    values = whole_values(slices, (5, 7))
    assert np.array_equal(values, np.round(np.concatenate(slices)))
    assert np.array_equal(unpacked(packed(values), 7), values)


def test_a_reduced_value_is_the_mean_of_those_it_stands_for():
    assert whole_values([np.array([[0.0, 10, 20, 40], [0, 10, 20, 40]])], (1, 2)).tolist() == [[5, 30]]


ROWS = {
    0: frame([answer_row(0, 0, 0, loss=0.3), answer_row(0, 0, 0, eps=0.2, loss=0.4)]),  # held
    1: frame([answer_row(0, 0, 1, loss=2.0), answer_row(0, 0, 0, eps=0.2, loss=0.3)]),  # fooled once
    2: frame([answer_row(0, 0, 1, loss=1.0), answer_row(0, 0, 1, eps=0.2, loss=1.5)]),  # fooled twice
    3: frame([answer_row(0, 1, 1, loss=9.0)]),  # wrong before
    4: frame([answer_row(0, 0, 0, loss=0.9)]),  # held, less easily
    5: frame([]),
}


@pytest.mark.parametrize(
    ("index", "outcome"), [(0, "held"), (1, "fooled"), (2, "fooled"), (3, "wrong before"), (5, None)]
)
def test_outcomes(index, outcome):
    assert outcome_of(ROWS[index], PART) == outcome


def test_the_order_of_harm():
    assert by_harm(ROWS, PART) == [2, 1, 4, 0, 3, 5]
