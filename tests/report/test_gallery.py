import base64
import dataclasses
import io

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from synthetic_run import (
    classifier_records,
    detection_row,
    frame,
    gallery_images,
    label_records,
    part_info,
    segmenter_records,
)

from medrobust.evaluation.records import GalleryAttack, GalleryImage
from medrobust.report.gallery import gallery_entries, shown_as
from medrobust.report.marks import TRUTH, contours

GRADES = part_info("ordinal", ["none", "mild", "moderate", "severe", "worst"])


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def pixels(picture) -> np.ndarray:
    """The picture as a page shows it: under its lines, if it has any."""
    shown = opened(picture.source)
    if picture.lines:
        lines = opened(picture.lines).convert("RGBA")
        shown = shown.convert("RGB").resize(lines.size, Image.Resampling.NEAREST)
        shown.paste(lines, mask=lines)
    return np.asarray(shown)


def one(clean, adversarial, *, norm="linf", eps=0.1, **dense) -> GalleryImage:
    after = dense.pop("after", None)
    return GalleryImage("p", 0, clean, [GalleryAttack("pgd", norm, eps, adversarial, after)], **dense)


def test_the_images_are_shown_as_they_are():
    clean = torch.tensor([[[0.0, 0.5], [1.0, 0.2]]])
    entry = gallery_entries([one(clean, clean + 0)], frame([]), "p", GRADES)[0]
    assert pixels(entry.clean).tolist() == [[0, 128], [255, 51]]


def test_the_change_is_amplified_about_grey():
    clean = torch.full((1, 1, 3), 0.5)
    change = torch.tensor([[[0.0, 0.1, -0.1]]])
    attacked = gallery_entries([one(clean, clean + change)], frame([]), "p", GRADES)[0].attacks[0]
    assert attacked.factor == 5
    assert pixels(attacked.difference).tolist() == [[128, 255, 0]]
    assert "amplified 5 times" in attacked.difference.alt


@pytest.mark.parametrize(("norm", "factor"), [("linf", 5), ("l2", 8)])
def test_only_linf_bounds_a_pixel_beforehand(norm, factor):
    clean = torch.full((1, 1, 2), 0.5)
    image = one(clean, clean + 1 / 16, norm=norm)
    assert gallery_entries([image], frame([]), "p", GRADES)[0].attacks[0].factor == factor


def test_no_change_is_grey():
    clean = torch.full((1, 2, 2), 0.5)
    attacked = gallery_entries([one(clean, clean.clone(), norm="l2")], frame([]), "p", GRADES)[0].attacks[0]
    assert (pixels(attacked.difference) == 128).all()


def test_hounsfield_units_are_windowed():
    part = part_info("ordinal", "abcde", unit="HU", bounds=(-1024.0, 3071.0))
    clean = torch.tensor([[[-1350.0, -600.0, 150.0, 3000.0]]])
    image = one(clean, clean + 10, eps=10.0)
    entry = gallery_entries([image], frame([]), "p", part)[0]
    assert pixels(entry.clean).tolist() == [[0, 128, 255, 255]]
    assert entry.attacks[0].factor == 75
    assert shown_as(image, part.dataset) == ["Shown in the lung window: level -600 HU, width 1500 HU."]


@pytest.mark.parametrize(("channels", "shape"), [(1, (64, 64)), (3, (64, 64, 3)), (4, (64, 64))])
def test_channels(channels, shape):
    images = gallery_images("p", images=1, channels=channels)
    assert pixels(gallery_entries(images, frame([]), "p", GRADES)[0].clean).shape == shape
    assert shown_as(images[0], GRADES.dataset) == (["Channel 1 of 4 is shown."] if channels == 4 else [])


def test_large_images_are_reduced_and_it_is_said():
    clean = torch.zeros(1, 1024, 700)
    image = one(clean, clean)
    assert pixels(gallery_entries([image], frame([]), "p", GRADES)[0].clean).shape == (512, 350)
    assert "512 pixels" in shown_as(image, GRADES.dataset)[0]


def test_answers_of_a_classifier_come_from_the_records():
    records = classifier_records("p")
    entry = gallery_entries(gallery_images("p", images=2), records, "p", GRADES)[1]
    rows = records.filter((pl.col("index") == 1) & (pl.col("eps") == 4 / 255)).sort("attack")
    before = rows.row(0, named=True)
    name = GRADES.dataset.classes[before["prediction_before"][0]]
    assert entry.answer == f"{name} ({max(before['scores_before']):.2f})"
    assert entry.truth == "mild"
    assert [attacked.right for attacked in entry.attacks] == rows["right_after"].to_list()


def test_answers_of_a_multilabel_model_are_the_labels_found():
    part = part_info("multilabel", ["mass", "edema", "nodule", "hernia"])
    entry = gallery_entries(gallery_images("p", images=1), label_records("p"), "p", part)[0]
    assert entry.answer == "no finding" or "(" in entry.answer


def test_an_image_without_records_is_shown_all_the_same():
    entry = gallery_entries(gallery_images("p", images=1), frame([]), "p", GRADES)[0]
    assert entry.answer == "answer not recorded"
    assert entry.right is None


def test_segmentations_have_both_contours():
    part = part_info("segmentation", "abcd")
    entry = gallery_entries(gallery_images("p", images=1, dense=True), segmenter_records("p"), "p", part)[0]
    shown = pixels(entry.attacks[1].adversarial).reshape(-1, 3)
    assert len(shown) >= 320**2
    for colour in ((86, 180, 233), (230, 159, 0)):
        assert (shown == colour).all(1).any()
    assert entry.answer.startswith("Dice 0.")


def test_contours_follow_the_borders():
    truth = torch.zeros(4, 4, dtype=torch.int64)
    truth[:, 2:] = 1
    blue = contours(truth, torch.zeros_like(truth), (4, 4)) == TRUTH
    assert blue[:, 159:161].all()
    assert blue.sum() == 2 * 320


def test_contours_of_labels_that_overlap():
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    masks[0, :, 2:], masks[1, 2:] = 1, 1
    blue = contours(masks, torch.zeros_like(masks), (4, 4)) == TRUTH
    assert blue[:, 159].all()
    assert blue[159].all()


BLUE, ORANGE = (86, 180, 233), (230, 159, 0)
ORGANS = part_info("detection", ["left", "right"])


def one_detection(truth, before, *, size=(64, 64), eps=0.1):
    clean = torch.full((1, *size), 0.5)
    records = frame([detection_row(truth, before, [], index=0, eps=eps)])
    return gallery_entries([one(clean, clean, eps=eps)], records, "p", ORGANS)[0]


def drawn_in(pixels, colour) -> list[int]:
    """The box around all pixels of a colour: x1, y1, x2, y2."""
    rows, columns = np.nonzero((pixels == colour).all(2))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize(
    ("size", "shown", "scale"),
    [((64, 64), (320, 320), 5), ((1024, 512), (512, 256), 0.5), ((400, 200), (400, 200), 1)],
)
def test_boxes_are_drawn_where_they_are(size, shown, scale):
    truth, found = (0, 8, 16, 40, 56), (0, 20, 24, 60, 60, 0.9)
    pixels_ = pixels(one_detection([truth], [found], size=size).clean)
    assert pixels_.shape == (*shown, 3)
    assert drawn_in(pixels_, BLUE) == [scale * corner for corner in truth[1:]]
    box = drawn_in(pixels_, ORANGE)
    assert box == pytest.approx([scale * corner for corner in found[1:5]], abs=5)  # a dash may begin after the corner
    inside = tuple(int(scale * middle) for middle in (50, 24 + 20))
    assert tuple(pixels_[inside[1], inside[0]]) == (128, 128, 128)


def test_a_dashed_box_lets_the_box_under_it_be_seen():
    shown = pixels(one_detection([(0, 8, 8, 40, 40)], [(0, 8, 8, 40, 40, 0.9)]).clean).reshape(-1, 3)
    for colour in (BLUE, ORANGE):
        assert (shown == colour).all(1).sum() > 500


@pytest.mark.parametrize(
    ("truth", "found", "says"),
    [
        ([(0, 8, 8, 40, 40)], [(0, 8, 8, 40, 40, 0.9)], "1 of 1 found: left (0.90)"),
        (
            [(0, 8, 8, 40, 40), (1, 0, 0, 5, 5)],
            [(1, 8, 8, 40, 40, 0.9), (0, 8, 8, 40, 40, 0.8)],
            "1 of 2 found, 1 false positive: right (0.90) and left (0.80)",
        ),
        ([(0, 8, 8, 40, 40)], [(0, 8, 8, 40, 40, 0.4)], "0 of 1 found"),
        ([], [], "nothing found"),
        ([], [(0, 1, 1, 5, 5, 0.6)] * 8, "8 false positives: " + "left (0.60), " * 5 + "left (0.60) and 2 more"),
    ],
)
def test_what_a_detector_found_is_told(truth, found, says):
    entry = one_detection(truth, found)
    assert entry.answer == says
    assert says in entry.clean.alt
    assert (pixels(entry.clean) == BLUE).all(2).any() == bool(truth)


def test_the_objects_of_an_image_are_counted():
    truth = [(1, 0, 0, 5, 5), (0, 8, 8, 40, 40), (1, 20, 0, 25, 5)]
    assert one_detection(truth, []).truth == "2 × right and 1 × left"
    assert one_detection([], []).truth == "no object"
    assert one_detection([], []).right


def test_what_scores_too_little_is_not_drawn():
    part = dataclasses.replace(ORGANS, victim={"task_options": {"score": 0.3}})
    records = frame([detection_row([], [(0, 8, 8, 40, 40, 0.4)], [], index=0, eps=0.1)])
    clean = torch.full((1, 64, 64), 0.5)
    for which, drawn in ((ORGANS, False), (part, True)):
        entry = gallery_entries([one(clean, clean)], records, "p", which)[0]
        assert (pixels(entry.clean) == ORANGE).all(2).any() == drawn


def test_boxes_without_records_are_not_drawn():
    entry = gallery_entries(gallery_images("p", images=1), frame([]), "p", ORGANS)[0]
    assert entry.answer == "answer not recorded"
    assert entry.truth == ""


def test_other_parts_are_left_out():
    images = gallery_images("p", images=1) + gallery_images("q", images=2)
    assert len(gallery_entries(images, frame([]), "q", dataclasses.replace(GRADES))) == 2
