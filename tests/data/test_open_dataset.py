from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from medrobust.data import FORMATS, DataOptions, DatasetInfo, InMemoryDataset, Sample, open_dataset
from medrobust.errors import InputError


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: there is no such file or folder; check the path"):
        open_dataset(tmp_path / "nothing")


def test_no_known_format_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(InputError, match="no known data format; looked for") as caught:
            open_dataset(path)
        for name, known in FORMATS.items():
            assert name in str(caught.value)
            assert known.description in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown data format 'medmist': did you mean 'medmnist'"):
        open_dataset(tmp_path, DataOptions(format="medmist"))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_forced_on_other_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "x.txt"):
        with pytest.raises(InputError) as caught:
            open_dataset(path, DataOptions(format=name))
        assert "\n" not in str(caught.value)


def test_an_option_without_meaning_is_told(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / name / "1.png")
    with pytest.raises(InputError, match="option label_column has no meaning for image_folder data"):
        open_dataset(tmp_path, DataOptions(label_column="x"))


def test_a_path_as_text_and_in_the_home_folder(
    tmp_path: Path, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "set" / name / "1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_dataset(str(tmp_path / "set"))) == 2
    assert len(open_dataset("~/set")) == 2


def test_embedded_data_are_delegated(monkeypatch: pytest.MonkeyPatch) -> None:
    info = DatasetInfo(name="brain", task="ordinal", classes=("a", "b"), channels=1)
    samples = [Sample(str(number), torch.zeros(1, 2, 2), torch.tensor(0)) for number in range(6)]
    asked: list[tuple[str, str]] = []
    stand_in = ModuleType("medrobust.data.embedded")
    stand_in.open_embedded = (  # type: ignore[attr-defined]
        lambda name, split: asked.append((name, split)) or InMemoryDataset(info, samples)
    )
    stand_in.EmbeddedName = stand_in.Split = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medrobust.data.embedded", stand_in)
    assert len(open_dataset("embedded:tissue")) == 6
    few = open_dataset("embedded:level", DataOptions(split="train", limit=2))
    assert [few[index].id for index in range(len(few))] == ["0", "3"]
    assert asked == [("tissue", "test"), ("level", "train")]
    with pytest.raises(InputError, match="option resize has no meaning for embedded:tissue data"):
        open_dataset("embedded:tissue", DataOptions(resize=3))


@pytest.mark.parametrize("known", ["auto", *FORMATS])
@pytest.mark.parametrize("name", ["x" * 300, "x.txt/below", "a\0b", "\udcff", chr(0xD800), "~no such user/x"])
def test_paths_that_can_be_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError) as caught:
        open_dataset(name, DataOptions(format=known))
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode("utf-8")


@pytest.mark.parametrize("option", ["table", "image_folder", "mask_folder", "mask_suffix"])
@pytest.mark.parametrize("value", ["x" * 300, "t.csv/x", "a\0b", "\ud800"])
def test_options_that_can_be_no_file(tmp_path: Path, write_image: Callable[..., Path], option: str, value: str) -> None:
    for folder in ("images", "masks"):
        write_image(tmp_path / folder / "a.png")
    (tmp_path / "t.csv").write_text("image,label\na,0\n")
    known = "csv_table" if option in ("table", "image_folder") else "image_masks"
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path, DataOptions(format=known, **{option: value}))
    assert "\n" not in str(caught.value)


def test_a_path_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        open_dataset(tmp_path)


def test_a_single_image_is_told_what_it_lacks(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    path = write_image(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png is an image without truth: name it in a CSV manifest") as caught:
        open_dataset(path)
    assert len(str(caught.value)) < 250
