"""The header fields of a DICOM file by which images may be grouped: an explicit list, none of which is an identity.

They enter a sample, and so the records, only where the user names them; an age does so as a band of ages.
"""

from __future__ import annotations

from typing import Any

from medrobust.data.groups import in_years

GROUP_FIELDS = (
    *("PatientSex", "PatientAge", "Modality", "BodyPartExamined", "ImageLaterality", "ViewPosition"),
    *("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "KVP", "SliceThickness", "ConvolutionKernel"),
    "InstitutionName",
)


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
            text = in_years(text)
        if text:
            found[keyword] = text
    return found
