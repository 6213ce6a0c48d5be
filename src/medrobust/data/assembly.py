"""From the entries of a set in files to the data set: the last steps, the same for every layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medrobust.data.admission import admit
from medrobust.data.dataset import Dataset, DatasetInfo, TaskName
from medrobust.data.dicom_groups import GROUP_FIELDS
from medrobust.data.file_types import is_dicom_image
from medrobust.data.files import FileEntry
from medrobust.data.groups import check_groups
from medrobust.data.images import printable
from medrobust.data.options import DataOptions
from medrobust.data.slices import dataset_of_files
from medrobust.data.traits import image_traits


def assemble(
    entries: Iterable[FileEntry],
    path: Path,
    options: DataOptions,
    *,
    name: str,
    task: TaskName,
    classes: tuple[str, ...],
    notes: tuple[str, ...],
) -> Dataset:
    """The data set of these entries, read as options say.

    Args:
        entries: those of the split, at most `limit`.
        path: what the user opened.
        options: of the reading.
        name: the set's, for tables.
        task: what the truth is.
        classes: names in index order.
        notes: what the report must say; the images' own notes follow.

    Raises:
        InputError: no image can be read, or an option does not fit them.
        BadSampleError: an entry has a fault, or leads out of the data folder (unless `options.skip_bad`).
    """
    source = printable(path)
    admitted = admit(entries, path, options)
    if options.groups:
        fields = GROUP_FIELDS if any(is_dicom_image(entry.image) for entry in admitted if not entry.fault) else ()
        check_groups(options.groups, [entry.columns for entry in admitted], fields, source)
    traits = image_traits(admitted, options, source)
    info = DatasetInfo(
        name=name,
        task=task,
        classes=classes,
        channels=traits.channels,
        bounds=traits.bounds,
        unit=traits.unit,
        spatial_dims=traits.spatial_dims,
        source=source,
        notes=(*notes, *traits.notes),
        ignore_index=options.ignore_index,
        groups=options.groups,
    )
    return dataset_of_files(info, admitted, options)
