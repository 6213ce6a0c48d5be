"""Taking the patient out of a DICOM header, by rules on tags and value representations that hold in every sequence.

After the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E), but told the other way round where
text is free: instead of naming what to remove, few texts are named that stay. Nothing is done to the pixels: writing
burned into them stays, and so does (0028,0301) that tells of it.
"""

from __future__ import annotations

import hashlib
from typing import Any

METHOD = "medrobust: by value representation, after PS3.15 Annex E"

# Patient, trial, study request, visit, procedure, storage and icon, signatures, interpretation, curves, overlays
_GROUPS = (
    *((group, group) for group in (0x0010, 0x0012, 0x0032, 0x0038, 0x0040, 0x0088, 0x0400)),
    *((0x4000, 0x4FFF), (0x5000, 0x50FF), (0x6000, 0x60FF), (0xFFFA, 0xFFFC)),
)
# Names, dates, ages, places, free text, and bytes of unknown content
_KINDS = frozenset(
    ["PN", "DA", "DT", "TM", "AS", "AE", "LT", "ST", "UT", "UC", "UR", "UN", "OB", "OD", "OF", "OL", "OV", "OW"]
)
_BYTES_KEPT = frozenset(
    (
        *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "LUTData", "ICCProfile"),
        *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
        *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    )
)
_TEXTS_KEPT = frozenset(
    (
        *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "FilterType"),
        *("CollimatorGridName", "SequenceName", "ReceiveCoilName", "TransmitCoilName"),
        *("RescaleType", "LUTExplanation", "ModalityLUTType", "WindowCenterWidthExplanation"),
        *("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"),
    )
)
_SEQUENCES_KEPT_OF_0008 = frozenset(
    (
        *("AnatomicRegionSequence", "AnatomicRegionModifierSequence"),
        *("PrimaryAnatomicStructureSequence", "PrimaryAnatomicStructureModifierSequence"),
    )
)
_SEQUENCES_REMOVED = frozenset(("ContributingEquipmentSequence", "OriginalAttributesSequence"))
# Elements that a file must have, if without a value (type 2 of the patient and general study modules)
_EMPTIED = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    *("PatientName", "PatientBirthDate", "PatientSex"),
)


def deidentify(dataset: Any, patient: str | None) -> None:
    """Remove from a dataset, in place, what may tell who the patient is.

    PatientID becomes the first 16 hex digits of the SHA-256 of `patient`, so that a patient's images stay together:
    a pseudonym, from which whoever has a list of all IDs can find the right one. Every UID of an instance is replaced
    by one made from it, so that references among files written this way still hold.
    """
    dataset.remove_private_tags()
    emptied = [keyword for keyword in _EMPTIED if keyword in dataset]
    _clean(dataset)
    for keyword in emptied:
        setattr(dataset, keyword, None)
    dataset.PatientID = pseudonym(patient) if patient else ""
    dataset.PatientName = None
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def pseudonym(patient: str) -> str:
    """The first 16 hex digits of the SHA-256 of a patient's identity."""
    return hashlib.sha256(patient.encode()).hexdigest()[:16]


def replaced_uid(uid: str) -> str:
    """The same new UID for the same old one."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["medrobust", uid]))


def _clean(dataset: Any) -> None:
    for element in list(dataset):
        if _tells(element):
            del dataset[element.tag]
        elif element.VR == "UI":
            element.value = _new_uids(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item)


def _tells(element: Any) -> bool:
    """May the element tell who the patient is, by where it stands and what it holds?"""
    if any(first <= element.tag.group <= last for first, last in _GROUPS):
        return True
    if element.VR in ("LO", "SH"):
        return element.keyword not in _TEXTS_KEPT
    if element.VR == "SQ":
        outside = element.tag.group == 0x0008 and element.keyword not in _SEQUENCES_KEPT_OF_0008
        return outside or element.keyword in _SEQUENCES_REMOVED or _has_local_code(element)
    return element.VR in _KINDS and element.keyword not in _BYTES_KEPT


def _has_local_code(element: Any) -> bool:
    """Codes of an institution's own scheme (99…, L) may name it."""
    schemes = (str(item.get("CodingSchemeDesignator") or "") for item in element.value)
    return any(scheme.startswith("99") or scheme == "L" for scheme in schemes)


def _new_uids(value: Any) -> Any:
    if value is None or value == "":
        return value
    return _new_uid(value) if isinstance(value, str) else [_new_uid(each) for each in value]


def _new_uid(uid: str) -> str:
    """A UID that the standard itself names (a class, a code) stays."""
    from pydicom.uid import UID_dictionary

    return uid if uid in UID_dictionary else replaced_uid(uid)
