"""Small DICOM files with known contents, made by pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, Sequence, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid


def sample(name: str) -> Path:
    """One of pydicom's own files, of those that come with the package."""
    path = get_testdata_file(name, download=False)
    assert path is not None, f"pydicom has no {name}"
    return Path(path)


def image(pixels: np.ndarray, *, bits: int | None = None, **elements: Any) -> Dataset:
    """A dataset of grey pixels `(H, W)` or `(N, H, W)`; an element that is None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "MR", "P-17", "Doe^Jane"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def ct(pixels: np.ndarray, **elements: Any) -> Dataset:
    """A dataset of CT, in Hounsfield units after its rescale."""
    known = {"SOPClassUID": CTImageStorage, "Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
    return image(pixels, **{keyword: value for keyword, value in {**known, **elements}.items() if value is not None})


def save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID")
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


AXIAL = [1, 0, 0, 0, 1, 0]


def enhanced(places: list[float], **elements: Any) -> Dataset:
    """Frames at places along z, frame k holding k, each with its own rescale intercept 10 k."""
    count = len(places)
    dataset = ct(np.arange(count, dtype=np.uint16)[:, None, None] * np.ones((1, 2, 3), np.uint16), **elements)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = [0.5, 0.75], AXIAL
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, place in enumerate(places):
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, 10 * number, "HU"
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


HIDDEN_ORDER = (3, 0, 4, 1, 2)  # place of the slice in the k-th file by name


def slices(step: float = 2.5, orientation: list[float] | None = None, shape: tuple[int, int] = (4, 6)) -> list[Dataset]:
    """Five CT slices of one series by place: slice k holds 100 k, 100 k + 1, … and lies at k steps on the normal."""
    cosines = orientation or AXIAL
    normal = np.cross(cosines[:3], cosines[3:])
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    return [
        ct(
            (100 * place + np.arange(shape[0] * shape[1], dtype=np.int16)).reshape(shape),
            SeriesInstanceUID=series,
            StudyInstanceUID=study,
            FrameOfReferenceUID=frame,
            ImageOrientationPatient=cosines,
            ImagePositionPatient=[float(round(value, 6)) for value in np.array([-10, 5, 30]) + place * step * normal],
            PixelSpacing=[0.5, 0.75],
            SliceThickness=9,
            InstanceNumber=100 - place,
            PatientBirthDate="19700101",
            PatientSex="F",
            StudyDate="20200202",
            StudyTime="101010",
            StudyID="1",
            AccessionNumber="A1",
            ReferringPhysicianName="Roe^Richard",
            Manufacturer="ACME",
        )
        for place in range(5)
    ]


def series(folder: Path, datasets: list[Dataset]) -> Path:
    """A folder whose files by name are in another order than the slices."""
    folder.mkdir()
    for number, place in enumerate(HIDDEN_ORDER):
        if place < len(datasets):
            save(datasets[place], folder / f"IM{number:03d}.dcm")
    return folder
