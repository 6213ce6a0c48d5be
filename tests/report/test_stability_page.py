"""The page of a stability analysis: whole, inert, and saying what the tables say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_run import two_part_run
from synthetic_stability import info, rows

from medrobust.errors import InputError
from medrobust.evaluation.landscapes import LossSurface, StepMaps
from medrobust.evaluation.records import Skipped
from medrobust.report import write_report
from medrobust.stability_run import Stability

HOSTILE = '<script>alert("x")</script>'


def maps(part: str, attack: str) -> StepMaps:
    generator = torch.Generator().manual_seed(0)
    final, initial = torch.rand(2, 4, 12, 10, generator=generator).square()
    final[-1], initial[0] = 0, 0
    final[:, 0, 0] = torch.nan
    return StepMaps(part, 3, attack, (0, 1, 4, 6), torch.rand(1, 12, 10, generator=generator), final, initial)


def surface(part: str, second: str) -> LossSurface:
    along = torch.linspace(-1.6, 1.6, 17)
    loss = along[None, :] + 0.3 * along[:, None] + 2
    angles = torch.linspace(0, 2 * np.pi, 50)
    border = torch.stack([angles.cos(), angles.sin()], 1)
    return LossSurface(part, 3, "smia", second, (0.3, 0.8), along, loss, border)


def analysis(part: str = "tissue", **changes) -> Stability:
    steps, outcomes = rows(parts=[part], images=12)
    return Stability(steps, outcomes, info([part], **changes))


def illustrated() -> Stability:
    whole = analysis()
    whole.maps = [maps("tissue", attack) for attack in ("pgd", "smia")]
    whole.surfaces = [surface("tissue", "pgd"), surface("tissue", "random")]
    return whole


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "stability.html"
    illustrated().report(path)
    return path.read_text(encoding="utf-8")


def test_it_needs_nothing_else(page):
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page.replace('xlink:href="#', 'href="#'))
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_every_figure_is_svg_in_the_colours_of_the_page_with_words(page):
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 4
    for svg in drawings:
        ET.fromstring(svg)
        assert "currentColor" in svg
        assert "mathdefault" not in svg
    assert "var(--series-0" in drawings[0]
    assert page.count('role="img"') == 4
    assert "KL(p_t ‖ p_T): to the last step, near the end pgd" in page
    assert "loss 2 at the clean image, 3 where smia ends" in page


def test_sentences_tests_and_components_are_those_of_the_object(page):
    whole = analysis()
    for sentence in whole.sentences():
        assert sentence in page
    body = page.partition("against each other attack</h3>")[2].partition("</table>")[0]
    assert body.count("<tr>") == len(whole.tests) + 1
    assert "smia is steadier" in body
    assert "Distance between images: pgd 1.4, mi 1.4 and smia 1.4 on average. This is not tested" in page
    row = whole.components.filter(component="seed", attack="smia", quantity="effect").row(0, named=True)
    assert f"{row['value']:.3g} ({100 * row['share']:.3g} %)" in page


def test_hostile_names_are_inert_and_folders_stay_at_home(tmp_path):
    config = {"data": {"path": "/data/Smith_John/x.npz"}, "out": "/home/jane/run"}
    part = f"{HOSTILE} ../../etc"
    whole = analysis(part, config=config)
    model = replace(whole.info.parts[part], model=f"/models/{HOSTILE}")
    whole.info = replace(whole.info, parts={part: model})
    whole.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "Smith_John" not in text
    assert "/home/jane" not in text


def test_the_command_asks_for_the_images_that_could_not_be_read_too(tmp_path):
    whole = analysis(config={"data": "x.npz"}, pictures=0)
    part = replace(whole.info.parts["tissue"], evaluated=12, skipped=[Skipped(3, "damaged"), Skipped(5, "damaged")])
    whole.info = replace(whole.info, parts={"tissue": part})
    whole.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "medrobust stability run.yaml --seeds 2 --images 14 --pictures 0</code>" in text


def test_the_caption_tells_how_many_images_have_a_line(page):
    assert "single images (mean over seeds), at most 24 of each attack" in page


def test_figures_as_files(tmp_path):
    illustrated().save(tmp_path / "analysis")
    names = sorted(path.name for path in (tmp_path / "analysis" / "figures").iterdir())
    assert names == [
        f"part-1-{figure}.{kind}"
        for figure in ("divergences", "maps-3", "movement", "surface-3")
        for kind in ("png", "svg")
    ]
    svg = (tmp_path / "analysis" / "figures" / "part-1-divergences.svg").read_text(encoding="utf-8")
    assert "var(--" not in svg, "a file has no page to take its colours from"
    ET.fromstring(svg)


def of_run(run, **changes) -> Stability:
    """An analysis of the first part of a run."""
    whole, one = analysis(), next(iter(run.info.parts.values()))
    same = {name: getattr(one, name) for name in ("data_sha256", "weights_sha256", "victim", "model")}
    whole.info = replace(whole.info, parts={"tissue": replace(whole.info.parts["tissue"], **{**same, **changes})})
    return whole


@pytest.mark.parametrize(
    "changes", [{"data_sha256": "other"}, {"weights_sha256": "other"}, {"victim": {"defence": "JPEG"}}]
)
def test_what_is_of_other_data_or_another_model_is_left_out_of_a_runs_report(changes, tmp_path):
    run = two_part_run()
    whole = of_run(run, **changes)
    whole.save(tmp_path / "stability")
    write_report(run.records, run.info, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Left out here, being of other data or of another model than this run: tissue." in page
    assert whole.sentences()[0] not in page


def test_another_budget_is_told_in_a_runs_report(tmp_path):
    run = two_part_run()
    of_run(run, threats=[{"norm": "linf", "eps": 9 / 255, "unit": "[0, 1]"}]).save(tmp_path / "stability")
    write_report(run.records, run.info, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "tissue was traced at L∞ ≤ 9/255, which is none of this run’s budgets." in page


def test_the_report_of_a_run_shows_the_analysis_beside_it(tmp_path):
    run = two_part_run()
    alone = tmp_path / "alone" / "report.html"
    alone.parent.mkdir()
    write_report(run.records, run.info, [], alone)
    assert 'id="stability"' not in alone.read_text(encoding="utf-8")
    whole = of_run(run)
    whole.save(tmp_path / "run" / "stability")
    write_report(run.records, run.info, [], tmp_path / "run" / "report.html")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for sentence in whole.sentences():
        assert sentence in page
    assert "<bdi>tissue</bdi> by <bdi>timm:resnet18</bdi> at L∞ ≤ 4/255" in page
    assert "Left out here" not in page
    assert "none of this run’s budgets" not in page
    assert 'href="stability/stability.html"' in page
    (tmp_path / "run" / "stability" / "trajectories.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=r"trajectories\.parquet cannot be read"):
        write_report(run.records, run.info, [], tmp_path / "run" / "report.html")
