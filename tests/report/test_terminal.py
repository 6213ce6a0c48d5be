import pytest
from rich.console import Console
from synthetic_run import (
    classifier_records,
    detector_records,
    frame,
    label_records,
    part_info,
    run_info,
    segmenter_records,
)

from medrobust.report import terminal_table
from medrobust.statistics import summarise


def shown(records, info, width: int = 100) -> str:
    console = Console(width=width, record=True, force_terminal=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(terminal_table(summarise(records, info, resamples=100), info))
    return console.export_text()


def test_two_parts(run):
    text = shown(run.records, run.info)
    for words in (
        "grades · timm:resnet18",
        "0.80 [0.7",
        "L∞ ≤ 4/255",
        "worst case",
        "60 of 64 images, 20 patients.",
        "95 % bootstrap intervals, resampling patients",
        "One subject: the figures say nothing about other people.",
        "2 samples left out",
    ):
        assert words in text
    assert "secret" not in text


def test_a_long_label_takes_several_lines():
    records = classifier_records("p", attacks=["pgd via resnet18", "pgd via resnet50"], budgets=(1 / 255,))
    text = shown(records, run_info({"p": part_info("ordinal", "abcde")}))
    lines = text.splitlines()
    for number in ("resnet18", "resnet50"):
        (place,) = [k for k, line in enumerate(lines) if line.startswith(number)]
        assert lines[place - 1].startswith("pgd via ")


@pytest.mark.parametrize(
    ("task", "records"),
    [
        ("ordinal", classifier_records("p")),
        ("multilabel", label_records("p")),
        ("segmentation", segmenter_records("p")),
        ("detection", detector_records("p")),
    ],
)
def test_nothing_is_cut_at_100_columns(task, records):
    info = run_info({"p": part_info(task, "abcd" if task == "multilabel" else "abcde")})
    narrow, wide = (shown(records, info, width) for width in (100, 300))
    assert "…" not in narrow
    assert narrow.count("\n") == wide.count("\n")


def test_what_a_detector_finds_in_an_image_is_told_without_intervals():
    text = shown(detector_records("p"), run_info({"p": part_info("detection", "ab")}))
    heading = next(line for line in text.splitlines() if line.startswith("attack"))
    assert heading.split() == ["attack", "mAP", "mAP@.5", "F1", "FP", "misses", "drop", "success", "L∞", "PSNR", "SSIM"]
    clean = next(line for line in text.splitlines() if line.startswith("clean"))
    assert clean.count("[") == 2
    assert "[–]" not in text


def test_budgets_in_hounsfield_units():
    info = run_info({"p": part_info("ordinal", "abcde", unit="HU", bounds=(-1024.0, 3071.0))})
    text = shown(classifier_records("p", budgets=(10.0,)), info)
    assert "L∞ ≤ 10 HU" in text
    assert "10.0 HU" in text


def test_labels_are_not_markup():
    records = classifier_records("p", attacks=("[red]x[/]",))
    assert "[red]x[/]" in shown(records, run_info({"p": part_info("ordinal", "abcde")}))


def test_a_part_without_images():
    assert "no image was evaluated" in shown(frame([]), run_info({"p": part_info("ordinal", "abcde")}))
