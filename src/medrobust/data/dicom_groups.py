"""The header fields of a DICOM file by which images may be grouped: an explicit list, none of which is an identity.

They enter a sample, and so the records, only where the user names them; an age does so as a band of ages.
"""

from __future__ import annotations

from typing import Any

GROUP_FIELDS = (
    *("PatientSex", "PatientAge", "Modality", "BodyPartExamined", "ImageLaterality", "ViewPosition"),
    *("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "KVP", "SliceThickness", "ConvolutionKernel"),
    "InstitutionName",
)
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def group_fields(dataset: Any) -> dict[str, str]:
    """Those that the header holds, as text; an age in years. One that cannot be read is left out."""
    found = {}
    for keyword in GROUP_FIELDS:
        try:
            value = dataset.get(keyword)
            text = "" if value is None else str(value).strip()
        except Exception:  # noqa: BLE001, S112  a field that breaks the standard raises what pydicom's parser raises
            continue
        if keyword == "PatientAge":
            text = _in_years(text)
        if text:
            found[keyword] = text
    return found


def _in_years(age: str) -> str:
    """Of an age string, PS3.5 6.2: "045Y", "018M", "003W", "010D"."""
    if not age[:-1].isdigit() or age[-1:] not in _YEARS:
        return ""
    return f"{int(age[:-1]) * _YEARS[age[-1]]:.4g}"
