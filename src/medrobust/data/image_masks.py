"""Images and masks in two folders, paired by name: images/7.png, masks/7.png or masks/7_mask.png."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medrobust.data.assembly import assemble
from medrobust.data.class_names import name_classes, numbered
from medrobust.data.dataset import Dataset
from medrobust.data.file_types import without_suffix
from medrobust.data.files import (
    SPLIT_NAMES,
    FileEntry,
    images_under,
    last_name,
    no_split_of,
    relative_id,
    subfolders,
)
from medrobust.data.images import printable
from medrobust.data.masks import guess_classes
from medrobust.data.options import DataOptions, choose_task, evenly
from medrobust.errors import BadSampleError, InputError

IMAGES, MASKS = "images", "masks"
MASK_SUFFIXES = ("", "_mask", "-mask", "_seg", "_segmentation", "_label", "_gt")


def detect(path: Path, options: DataOptions) -> bool:
    """Is it a folder with an image and a mask folder, or with folders of splits that have them?"""
    if not path.is_dir():
        return False
    roots = [path, *(folder for folder in subfolders(path) if folder.name.lower() in SPLIT_NAMES)]
    return any(_has_both(root, options) for root in roots)


def splits(path: Path, options: DataOptions) -> tuple[str, ...]:
    """The folders of splits that have images and masks."""
    if _has_both(path, options):
        return ()
    return tuple(folder.name for folder in subfolders(path) if _has_both(folder, options))


def open_image_masks(path: Path, options: DataOptions) -> Dataset:
    """Open a folder of images and masks, `path` or `path/split`, for segmentation.

    How many classes there are is taken from the first mask that can be read, unless `classes` says it. Ids
    are the images' paths below `path`. A mask without an image is left out. Pixels of `ignore_index` stay as
    they are; an image with no others is a bad sample.

    Raises:
        InputError: a folder or the split is missing, no image can be read, the first mask may be read in more
            than one way, or `ignore_index` is one of the classes.
        BadSampleError: an image has no mask, or several (unless `options.skip_bad`).
    """
    source = printable(path)
    root, notes = _root(path, source, options)
    every = _pair(path, root / (options.image_folder or IMAGES), root / (options.mask_folder or MASKS), options)
    return assemble(
        evenly(every, options.limit),
        path,
        options,
        name=last_name(path),
        task=choose_task(options.task, "segmentation", ["segmentation"], source),
        classes=mask_classes(every, options, source),
        notes=notes,
    )


def _has_both(root: Path, options: DataOptions) -> bool:
    return all((root / name).is_dir() for name in (options.image_folder or IMAGES, options.mask_folder or MASKS))


def _root(path: Path, source: str, options: DataOptions) -> tuple[Path, tuple[str, ...]]:
    """The folder that has both, and notes."""
    if _has_both(path, options):
        return path, no_split_of(source, options.split)
    splits = [folder.name for folder in subfolders(path) if _has_both(folder, options)]
    if options.split in splits:
        return path / options.split, ()
    if splits:
        raise InputError(f"{source}: no split {options.split!r}; choose one of: {', '.join(splits)}")
    names = f"{options.image_folder or IMAGES!r} and {options.mask_folder or MASKS!r}"
    raise InputError(f"{source}: the folders {names} are not both there; set image_folder and mask_folder")


def _pair(path: Path, image_folder: Path, mask_folder: Path, options: DataOptions) -> list[FileEntry]:
    suffixes: tuple[str, ...] = MASK_SUFFIXES if options.mask_suffix is None else (options.mask_suffix,)
    masks: dict[str, list[Path]] = defaultdict(list)
    for mask in images_under(mask_folder):
        masks[_stem(mask, mask_folder)].append(mask)
    images = images_under(image_folder)
    if image_folder.resolve() == mask_folder.resolve():
        suffixes = tuple(suffix for suffix in suffixes if suffix)
        images = [image for image in images if not without_suffix(image.name).endswith(suffixes)]
    if not images:
        raise InputError(f"{printable(image_folder)}: there is no image; put PNG, JPEG, TIFF or NIfTI files there")
    return [_entry(path, image, _stem(image, image_folder), mask_folder, masks, suffixes) for image in images]


def _entry(
    path: Path,
    image: Path,
    stem: str,
    mask_folder: Path,
    masks: Mapping[str, Sequence[Path]],
    suffixes: Iterable[str],
) -> FileEntry:
    found = [mask for suffix in suffixes for mask in masks.get(stem + suffix, ())]
    fault = ""
    if len(found) != 1:
        names = " or ".join(printable(mask.name) for mask in found)
        what = f"may have the mask {names}" if found else f"has no mask in {printable(mask_folder)}"
        remedy = "set mask_suffix" if found else "put one of its name there, or set mask_suffix"
        fault = f"{printable(image)} {what}: {remedy}"
    return FileEntry(relative_id(image, path), image, found[0] if found else mask_folder, fault=fault)


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_name(without_suffix(path.name)).as_posix()


def mask_classes(entries: Iterable[FileEntry], options: DataOptions, source: str) -> tuple[str, ...]:
    """The classes of masks: as options say, or as many as the first that can be read seems to have."""
    wanted, ignored = options.classes, options.ignore_index
    count = len(wanted) if isinstance(wanted, tuple) else wanted or _guess_count(entries, ignored, options.max_pixels)
    if ignored is not None and ignored < count:
        raise InputError(
            f"{source}: ignore_index {ignored} is not a value above the classes 0 to {count - 1}, up to 255; "
            "set another, or set classes"
        )
    default = ("background", "foreground") if count == 2 else ("background", *numbered(count)[1:])
    return name_classes(wanted, default)


def _guess_count(entries: Iterable[FileEntry], ignore_index: int | None, max_pixels: int | None) -> int:
    for entry in entries:
        if not isinstance(entry.truth, Path) or entry.fault:
            continue
        try:
            count = guess_classes(entry.truth, ignore_index, max_pixels)
        except BadSampleError:
            continue  # told when the sample is read
        if count is not None:
            return count
    return 2
