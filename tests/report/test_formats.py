import csv
import io
import json
import math
import re
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from synthetic_run import SyntheticRun, classifier_records, detection_run, part_info, run_info, two_part_run

import medrobust as mr
from medrobust.errors import InputError
from medrobust.evaluation.records import Skipped
from medrobust.report import FORMATS, write_report
from medrobust.report.document import schema_text
from medrobust.report.latex import latex_text
from medrobust.report.markdown_text import markdown_text
from medrobust.statistics import summarise

SCHEMA = Path(__file__).parents[2] / "docs/report.schema.json"
HOSTILE = (
    "<script>alert(1)</script>|x| `code` [a](javascript:alert(1)) ![i](http://evil/x.png) \\input{/etc/passwd} "
    "$x$ & % # _ ~ ^ ../../etc \u202eevil\n\n# heading"
)


def written(run: SyntheticRun, folder: Path, name: str) -> str:
    path = folder / Path(FORMATS[name].place).name
    write_report(run.records, run.info, run.gallery, path, format=name)
    return path.read_text(encoding="utf-8")


def hostile_run() -> SyntheticRun:
    part = part_info(
        "ordinal",
        [HOSTILE + str(k) for k in range(5)],
        name=HOSTILE,
        notes=(HOSTILE,),
        model=HOSTILE,
        attacks={HOSTILE: {"attack": HOSTILE, "note": HOSTILE}, "pgd": {"attack": "PGD"}},
        skipped=[Skipped(1, HOSTILE)],
        evaluated=20,
    )
    info = run_info({HOSTILE: part}, config={HOSTILE: HOSTILE}, device=HOSTILE, versions={HOSTILE: HOSTILE})
    return SyntheticRun(classifier_records(HOSTILE, attacks=(HOSTILE, "pgd"), images=20), info, [])


@pytest.mark.parametrize("make", [two_part_run, detection_run, hostile_run])
def test_the_json_is_as_the_published_schema_says(make, tmp_path):
    document = json.loads(written(make(), tmp_path, "json"))
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    document["parts"][0]["clean"]["accuracy"] = {"value": "high"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_the_published_schema_is_that_of_the_code():
    """Written by `python docs/report_schema.py`."""
    assert SCHEMA.read_text() == schema_text()


def test_the_json_has_the_figures_of_the_summary(run, tmp_path):
    document = json.loads(written(run, tmp_path, "json"))
    summary = summarise(run.records, run.info)
    (part,) = [part for part in document["parts"] if part["name"] == "grades"]
    for condition in part["conditions"]:
        rows = summary.filter(
            (pl.col("part") == "grades")
            & (pl.col("attack") == condition["attack"])
            & (pl.col("eps") == condition["eps"])
        )
        assert len(rows) == len(condition["figures"]) > 5
        for row in rows.iter_rows(named=True):
            figure = condition["figures"][row["metric"]]
            for name in ("value", "low", "high", "n", "clusters"):
                assert figure[name] == row[name] or math.isnan(row[name])
    assert len(part["conditions"]) == 3 * 4
    assert part["skipped"] == 2


def test_the_csv_is_the_summary(run, tmp_path):
    rows = list(csv.DictReader(io.StringIO(written(run, tmp_path, "csv"))))
    summary = summarise(run.records, run.info)
    assert list(rows[0]) == summary.columns
    assert len(rows) == len(summary)
    assert float(rows[0]["value"]) == summary["value"][0]


def test_a_name_is_no_formula_of_a_spreadsheet(tmp_path):
    attacks = {"=HYPERLINK(1)": {"attack": "PGD"}, "-x": {"attack": "PGD"}}
    part = part_info("ordinal", [str(k) for k in range(5)], name="@p", attacks=attacks, evaluated=20)
    run = SyntheticRun(classifier_records("@p", attacks=tuple(attacks), images=20), run_info({"@p": part}), [])
    rows = list(csv.DictReader(io.StringIO(written(run, tmp_path, "csv"))))
    assert {row["part"] for row in rows} == {"'@p"}
    assert {"'=HYPERLINK(1)", "'-x", "worst case", "clean"} == {row["attack"] for row in rows}


def test_a_model_card_tells_that_figures_are_not_to_be_trusted(run, tmp_path):
    assert "Trust: " in written(run, tmp_path, "model-card")
    records = run.records.with_columns(right_after=pl.col("eps") != 1 / 255)  # a larger budget does less
    records = records.with_columns(
        pl.when("right_after").then("prediction_before").otherwise("prediction_after").alias("prediction_after")
    )
    broken = SyntheticRun(records, run.info, [])
    assert "**These figures should not be trusted as they are:**" in written(broken, tmp_path, "model-card")


@pytest.mark.slow
def test_no_format_names_a_sample_a_patient_or_a_folder(run, tmp_path):
    for name in FORMATS:
        text = written(run, tmp_path, name)
        assert "secret" not in text
        assert "jane" not in text


def test_markdown_has_the_table_and_figures_that_are_there(run, tmp_path):
    text = written(run, tmp_path, "markdown")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 2 * 7 + 5 + 2
    summary = summarise(run.records, run.info)
    value = summary.filter(part="grades", attack="worst case", metric="accuracy", eps=1 / 255)["value"].item()
    assert f"| L∞ ≤ 1/255 | worst case | {value:.2f} [" in text
    sources = re.findall(r'<img src="([^"]+)"', html)
    assert len(sources) == 3 + 2
    for source in sources:
        assert Image.open(tmp_path / source).size[0] > 800
        assert (tmp_path / source).with_suffix(".svg").read_text().startswith("<?xml")


def test_hostile_names_are_inert_in_markdown(tmp_path):
    for name in ("markdown", "model-card"):
        text = written(hostile_run(), tmp_path, name)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
        html = MarkdownIt("commonmark").enable("table").render(text)
        assert not re.search(r"<(script|h1>heading|em|strong>evil)", html)
        assert set(re.findall(r'href="([^"]*)"', html)) <= {f"figures/part-1-{k}.svg" for k in (1, 2, 3)}
        assert set(re.findall(r'src="([^"]*)"', html)) <= {f"figures/part-1-{k}.png" for k in (1, 2, 3)}


@pytest.mark.parametrize("text", [HOSTILE, "a_b*c", "0.80 [0.72, 0.88]", "\\", "[x][y]", "[x]: http://evil"])
def test_markdown_shows_the_text_itself(text):
    html = MarkdownIt("commonmark").render("said: " + markdown_text(text))
    shown = re.sub(r"</?p>", "", html).strip()
    assert "<" not in shown
    plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert plain == "said: " + " ".join(text.split())


def test_latex_is_balanced_and_nothing_foreign_is_a_command(tmp_path):
    text = written(hostile_run(), tmp_path, "latex")
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    commands = set(re.findall(r"\\([a-zA-Z]+)", text))
    assert commands <= {
        "begin", "end", "centering", "small", "caption", "toprule", "midrule", "bottomrule", "multicolumn", "textbf",
        "footnotesize", "textbackslash", "textasciitilde", "textasciicircum", "infty", "leq", "dots", "usepackage",
        "kappa", "textless", "textgreater", "textbar", "resizebox", "ifdim", "width", "linewidth", "else", "fi",
    }  # fmt: skip
    rows = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


def test_a_label_in_brackets_begins_a_row_of_latex(tmp_path):
    part = part_info("ordinal", "abcde", name="p", attacks={"[x]": {"attack": "PGD"}}, evaluated=20)
    run = SyntheticRun(classifier_records("p", attacks=("[x]",), images=20), run_info({"p": part}), [])
    rows = [line for line in written(run, tmp_path, "latex").splitlines() if "[x]" in line]
    assert rows
    assert all(row.startswith("{}[x] &") for row in rows)


def test_latex_text():
    assert latex_text("a_b & 5 %") == r"a\_b \& 5 \%"
    assert latex_text("\\input{x}") == r"\textbackslash{}input\{x\}"
    assert latex_text("−0.2 at ≤ ∞") == r"$-$0.2 at $\leq$ $\infty$"


def test_a_run_writes_by_suffix_and_by_name(run, tmp_path):
    made = mr.Run(run.records, run.info, run.gallery)
    for suffix, begins in ((".json", "{"), (".csv", "part,attack"), (".tex", "% needs"), (".html", "<!doctype html>")):
        made.report(tmp_path / f"r{suffix}")
        assert (tmp_path / f"r{suffix}").read_text().startswith(begins)
    made.report(tmp_path / "card.md", "model-card")
    assert (tmp_path / "card.md").read_text().startswith("## Adversarial robustness")
    with pytest.raises(InputError, match="no report format 'pdf'; there are html"):
        made.report(tmp_path / "r.pdf", "pdf")
