import base64
import dataclasses
import hashlib
import os
import re
from html.parser import HTMLParser

import polars as pl
import pytest
from synthetic_run import (
    classifier_records,
    detection_row,
    detection_run,
    frame,
    gallery_images,
    label_records,
    part_info,
    run_info,
)

from medrobust.errors import InputError
from medrobust.evaluation.records import Skipped
from medrobust.report import write_report
from medrobust.statistics import summarise

HOSTILE = "<script>alert(1)</script>\"'$x_1$ ../../etc \u202eevil " + "ש" * 150 + "x" * 150


class Outline(HTMLParser):
    """What a browser would make of the page: tags, attributes, text, duplicate ids."""

    void = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(run.records, run.info, run.gallery, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page) -> Outline:
    return Outline(page)


def test_it_holds_what_it_should(outline):
    for words in (
        "On clean images the accuracy is 0.80 [0.72, 0.88]",
        "One subject: the figures say nothing about other people.",
        "2 samples left out",
        "The attacker knows the model",
        "Results by attack and budget",
        "Dice by class",
        "SMIA against PGD",
        "no difference shown",
        "change × 31",
        "border of the prediction (dashed)",
        "medrobust evaluate run.yaml",
        "SHA-256 of the weights",
        "No black-box attack",
        "With 20 patients",
    ):
        assert words in outline.text, words


def test_it_loads_nothing_and_runs_its_own_script_alone(page, outline):
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(outline.of("script")) == 1
    (policy,) = [meta["content"] for meta in outline.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert outline.of("link") == [{"rel": "icon", "href": "data:,"}]  # else a browser would ask a server for one
    assert not outline.of("iframe")
    sources = [value for _, attributes in outline.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(source.startswith(("data:image/png;base64,", "#")) or source == "data:," for source in sources)
    assert {source[1:] for source in sources if source.startswith("#")} <= {a.get("id") for _, a in outline.tags}
    assert not re.search(r"url\((?!#)", page)
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]


def test_it_names_no_sample_patient_or_file(page):
    for secret in ("secret", "jane", ".png:"):
        assert secret not in page


def test_it_reads_well_without_eyes(outline):
    assert all(image["alt"] for image in outline.of("img") if "src" in image and image["class"] != "lines")
    assert all(cell.get("scope") for cell in outline.of("th"))
    assert len(outline.of("caption")) == len(outline.of("table"))
    assert outline.of("html") == [{"lang": "en"}]
    assert len(outline.of("h1")) == 1
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [a["aria-labelledby"] for _, a in outline.tags if "aria-labelledby" in a]
    assert set(labelled) <= set(ids)


def test_the_same_run_gives_the_same_page(run, tmp_path):
    for name in ("a", "b"):
        write_report(run.records, run.info, run.gallery, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_summary_is_used_when_given(run, tmp_path):
    summary = summarise(run.records, run.info, confidence=0.8, resamples=100)
    write_report(run.records, run.info, [], tmp_path / "r.html", summary=summary)
    assert "80 % bootstrap intervals" in (tmp_path / "r.html").read_text()


def test_hostile_names_are_inert(tmp_path):
    attacks = {
        HOSTILE: {"attack": HOSTILE, "note": HOSTILE},
        "smia": {"attack": "SMIA"},
        "pgd": {"attack": "PGD"},
    }
    part = part_info(
        "ordinal",
        [HOSTILE + str(k) for k in range(5)],
        name=HOSTILE,
        notes=(HOSTILE,),
        model=HOSTILE,
        attacks=attacks,
        skipped=[Skipped(1, HOSTILE)],
    )
    info = run_info({"p": part}, config={HOSTILE: HOSTILE}, device=HOSTILE, versions={HOSTILE: HOSTILE})
    records = classifier_records("p", attacks=(HOSTILE, "smia", "pgd"), images=20)
    path = tmp_path / "r.html"
    write_report(records, info, gallery_images("p"), path)
    page = path.read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "alert(1)" in Outline(page).text
    assert "alert" not in page.split("<script>")[1]
    assert "\u202e" not in page.split('aria-label="The configuration"')[0]


@pytest.mark.parametrize(
    ("task", "classes", "records"),
    [
        ("classification", ["healthy", "ill"], classifier_records("p", classes=2, patients=None)),
        ("multilabel", ["mass", "edema", "nodule", "hernia"], label_records("p")),
        ("classification", [], classifier_records("p", patients=1, attacks=("pgd",))),
        ("classification", ["healthy", "ill"], classifier_records("p", classes=2, images=1)),
    ],
)
def test_other_tasks_and_little_data(task, classes, records, tmp_path):
    info = run_info({"p": part_info(task, classes)}, config=None)
    write_report(records, info, gallery_images("p", images=1), tmp_path / "r.html")
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "started from Python" in text
    assert "nan" not in text.lower().replace("finance", "")


@pytest.fixture(scope="module")
def boxes_page(tmp_path_factory) -> str:
    run = detection_run()
    path = tmp_path_factory.mktemp("boxes") / "report.html"
    write_report(run.records, run.info, run.gallery, path)
    return path.read_text(encoding="utf-8")


def test_a_detector_has_its_own_figures_and_words(boxes_page):
    text = Outline(boxes_page).text
    for words in (
        "Detection by torchvision:ssdlite",
        "On clean images the mAP is 0.74 [",
        "mAP against eps (L∞).",
        "Image F1 against eps (L∞).",
        "False positives per image",
        "Misses per image",
        "Drop of mAP",
        "mAP by class",
        "left organ",
        "Image F1 (mAP is of all images together: no image has one) under the first attack minus under the second",
        "(image F1 under smia minus under pgd",
        "box of the truth (solid)",
        "detection that scores at least 0.5 (dashed)",
        "2 of 2 found: left organ (0.",
        "while its F1 is at least 0.5, where the detections that score at least 0.5 count",
        "The worst case takes for each image the attack that leaves the lowest F1.",
    ):
        assert words in text, words
    assert "secret" not in boxes_page
    assert "nan" not in text.lower()


def test_a_detector_of_which_all_is_missed(tmp_path):
    rows = [detection_row([(0, 1, 1, 9, 9)], [(0, 1, 1, 9, 9, 0.9)], [], index=k, eps=4 / 255) for k in range(8)]
    info = run_info({"p": part_info("detection", ["polyp"])})
    write_report(frame(rows), info, gallery_images("p"), tmp_path / "r.html")
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "On clean images the mAP is 1.00 [–]; under attack it is 0.00 [–]" in text
    assert "nothing found" not in text
    assert "0 of 1 found" in text


def test_hounsfield_units(tmp_path):
    part = part_info("classification", ["a", "b"], unit="HU", bounds=(-1024.0, 3071.0))
    images = gallery_images("p", images=1, low=-1024, high=3071, eps=10.0)
    write_report(
        classifier_records("p", classes=2, budgets=(10.0,)),
        run_info({"p": part}),
        images,
        tmp_path / "r.html",
    )
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "L∞ ≤ 10 HU" in text
    assert "lung window" in text


def test_no_image_evaluated(tmp_path):
    write_report(frame([]), run_info({"p": part_info("ordinal", "abc")}), [], tmp_path / "r.html")
    assert "No image was evaluated" in (tmp_path / "r.html").read_text()


def test_an_older_report_stays_when_writing_fails(run, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_report(run.records, run.info, [], path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.html"]  # noqa: PTH208


def test_a_folder_that_is_not_there(run, tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_report(run.records, dataclasses.replace(run.info), [], tmp_path / "no" / "r.html")


def test_it_names_no_folder(run, tmp_path):
    folder = "/data/patients/Smith_John_1961"
    part = run.info.parts["grades"]
    dataset = dataclasses.replace(part.dataset, source=f"{folder}/grades.csv")
    part = dataclasses.replace(part, dataset=dataset, model=f"python:{folder}/net.py:build")
    config = {
        "data": {"path": f"{folder}/grades.csv", "mask_folder": "Smith_John_1961/masks"},
        "model": {"weights": f"{folder}/net.pt"},
        "out": f"{folder}/run",
    }
    info = dataclasses.replace(run.info, parts={"grades": part}, config=config)
    write_report(run.records, info, [], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "Smith" not in page
    for words in ("…/grades.csv", "…/net.pt", "…/run", "…/masks", "run.json, in the run’s folder, has the full paths"):
        assert words in page


def test_of_what_the_model_made_of_an_image_mean_and_std_are_told(outline, run, tmp_path):
    assert "(image − mean) / std: mean 0.5; std 0.25" in outline.text
    parts = {name: dataclasses.replace(part, victim={}) for name, part in run.info.parts.items()}
    write_report(run.records, dataclasses.replace(run.info, parts=parts), [], tmp_path / "r.html")
    assert "Preprocessing" not in (tmp_path / "r.html").read_text()


def test_figures_that_do_not_vary_have_no_interval(tmp_path):
    records = classifier_records("p", images=4, classes=2, patients=None, budgets=(1e-9,))
    records = records.with_columns(scores_before=pl.Series([[1.0, 0.0], [0.0, 1.0]] * 6))
    write_report(records, run_info({"p": part_info("classification", "ab")}), [], tmp_path / "r.html")
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "1.00 [–]" in text
    assert "[–] no interval: the figure does not vary in the sample" in text
    assert "too few images to tell" in text


def test_an_image_of_which_no_label_is_known_is_neither_right_nor_wrong(tmp_path):
    records = label_records("p").with_columns(truth=pl.Series([[-1] * 4] * len(label_records("p"))))
    write_report(records, run_info({"p": part_info("multilabel", "abcd")}), gallery_images("p"), tmp_path / "r.html")
    text = Outline((tmp_path / "r.html").read_text()).text
    assert "truth: unknown" in text
    assert "✓ right" not in text
    assert "✗ wrong" not in text
