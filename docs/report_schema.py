"""Writes `report.schema.json`, which describes what `medrobust report RUN --format json` gives, from the code."""

from pathlib import Path

from medrobust.report.document import schema_text

if __name__ == "__main__":
    Path(__file__).with_name("report.schema.json").write_text(schema_text(), encoding="utf-8")
