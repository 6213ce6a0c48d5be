import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from medrobust.data import embedded, embedded_boxes
from medrobust.data.dataset import Dataset
from medrobust.data.embedded import open_embedded
from medrobust.errors import InputError

NAMES = ["tissue", "level", "structures"]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    before = os.environ.get("MEDROBUST_CACHE")
    os.environ["MEDROBUST_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield os.environ["MEDROBUST_CACHE"]
    if before is None:
        del os.environ["MEDROBUST_CACHE"]
    else:
        os.environ["MEDROBUST_CACHE"] = before


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_samples_are_what_the_information_says(name, split):
    data = open_embedded(name, split)
    assert isinstance(data, Dataset)
    assert (data.info.channels, data.info.bounds, data.info.source) == (1, (0.0, 1.0), "embedded")
    samples = list(data)
    assert len(samples) == len(data) >= 30
    assert len({sample.id for sample in samples}) == len(data)
    for sample in samples:
        assert sample.image.shape == (1, 120, 104)
        assert sample.image.dtype == torch.float32
        assert 0 <= sample.image.min() < 0.1 < 0.7 < sample.image.max() <= 1
        if name == "structures":
            assert sample.truth.shape[1:] == (5,)
        else:
            assert sample.truth.shape == ((120, 104) if name == "tissue" else ())
        assert sample.truth.dtype == (torch.float32 if name == "structures" else torch.int64)
        assert sample.patient is None
    classes = [sample.truth[:, 4] if name == "structures" else sample.truth.flatten() for sample in samples]
    assert torch.cat(classes).unique().tolist() == list(range(len(data.info.classes)))


def test_train_and_test_slices_keep_the_gap():
    train, test = (open_embedded("tissue", split).heights for split in ("train", "test"))
    assert np.abs(train[:, None] - test[None]).min() == embedded.GAP_SLICES + 1


def test_levels_are_fifths_of_the_height():
    data = open_embedded("level", "train")
    assert torch.all(torch.stack(data.truths)[np.argsort(data.heights)].diff() >= 0)
    assert data[0].columns["z_mm"] == "-62"
    assert data[0].id == "mni152-z-62"
    assert open_embedded("level")[-1].id == "mni152-z+65"


@pytest.mark.parametrize("split", ["train", "test"])
def test_boxes_lie_in_the_image_and_some_images_have_none(split):
    data = open_embedded("structures", split)
    assert data.info.task == "detection"
    boxes = torch.cat([sample.truth for sample in data])
    assert boxes[:, :2].min() >= 0
    assert (boxes[:, 2:4] <= torch.tensor([104.0, 120.0])).all()
    assert (boxes[:, 2:4] - boxes[:, :2]).min() >= embedded_boxes.LEAST_SIDE
    assert boxes[:, 4].long().bincount().min() >= 6
    empty = sum(len(sample.truth) == 0 for sample in data)
    assert 0.15 * len(data) < empty < 0.4 * len(data)
    others = open_embedded("tissue", split)
    assert [sample.id for sample in data] == [sample.id for sample in others]


def test_boxes_are_round_what_they_name():
    tissue, structures = open_embedded("tissue", "train"), open_embedded("structures", "train")
    for slice_, truth in zip(tissue, structures, strict=True):
        for x1, y1, x2, y2, label in truth.truth.int().tolist():
            box = slice_.truth[y1:y2, x1:x2]
            dark = (slice_.image[0, y1:y2, x1:x2] < 0.6).float().mean()
            height = int(slice_.columns["z_mm"])
            if label == 0:  # fluid, of which the surroundings have none
                assert dark > 0.05
                assert 0 <= height < 29
            if label == 1:
                assert (box == 2).float().mean() > 0.3
                assert x2 <= 52 or x1 >= 52
                assert height >= 29
            if label == 2:  # grey and white matter reach each side of the box, and no pixel beyond
                assert all((edge > 0).any() for edge in (box[0], box[-1], box[:, 0], box[:, -1]))
                assert not (slice_.truth[y2, x1:x2] > 0).any()


def test_the_rule_by_hand(monkeypatch):
    monkeypatch.setattr(embedded_boxes, "LEAST_DEPTH_MM", 1.0)
    grey, white, images = np.zeros((3, 3, 120, 104), np.float32)
    images[1] = grey[1] = 1
    grey[1, 40:60, 44:56] = 0  # fluid, 20 × 12, both sides of the mid-plane
    grey[1, 70:74, 44:56] = 0  # fluid too, but a smaller piece
    grey[0, 52:80, 30:70] = 1  # behind the commissure
    grey[0, 10:51, 30:70] = 1  # in front of it
    white[1, 20:22] = 1  # the highest slice in which it spans the mid-plane
    grey[1, 20:22] = 0
    white[2, 30:50, 20:30] = 1
    white[2, 60:69, 60:90] = 1
    white[2, 60:67, 5:50] = 1  # 7 pixels high: of the left side the largest, and too narrow
    heights = np.array([-1, 1, 2])
    found = embedded_boxes.structure_boxes(images, grey, white, heights)
    expected = [(0, 30, 52, 70, 80, 2), (1, 44, 40, 56, 60, 0), (2, 60, 60, 90, 69, 1)]
    assert found.tolist() == [list(map(float, row)) for row in expected]
    nothing = embedded_boxes.structure_boxes(0 * images, 0 * grey, 0 * white, heights)
    assert nothing.shape == (0, 6)


def test_front_is_up_and_white_matter_is_bright():
    data = open_embedded("tissue")
    middle = data[list(data.heights).index(-3)]
    # where the cerebellum and occipital lobes are, the brain is wider than in front
    rows = (middle.image[0] > 0.1).sum(1)
    half = len(rows) // 2
    assert rows[half:].float().mean() > rows[:half].float().mean()
    means = [float(middle.image[0][middle.truth == tissue].mean()) for tissue in range(3)]
    assert means[0] < 0.2 < 0.55 < means[1] < 0.72 < means[2]


def test_a_sample_can_be_changed_without_changing_the_data():
    data = open_embedded("tissue")
    data[0].image.zero_()
    assert data[0].image.max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_notes_say_whose_brain_it_is(name):
    notes = " ".join(open_embedded(name).info.notes)
    for words in ("one averaged brain", "152 healthy young adults", "no patient to resample", "over slices"):
        assert words in notes
    assert ("drawn by a rule" in notes) == (name == "structures")


def test_fingerprints_differ_by_part_split_and_version(monkeypatch):
    prints = {open_embedded(name, split).fingerprint() for name in NAMES for split in ("train", "test")}
    assert open_embedded("tissue").fingerprint() in prints
    monkeypatch.setattr(embedded, "SLICES_VERSION", "next")
    prints.add(open_embedded("tissue").fingerprint())
    assert len(prints) == 7


def test_the_second_open_does_not_import_nilearn(own_cache):
    open_embedded("tissue")
    code = (
        "import sys\n"
        "from medrobust.data.embedded import open_embedded\n"
        "assert len(open_embedded('level')) > 30\n"
        "assert not {'nilearn', 'sklearn', 'nibabel'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("damage", ["cut", "rubbish", "empty", "other", "pickle"])
def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch, damage):
    expected = open_embedded("level")
    monkeypatch.setenv("MEDROBUST_CACHE", str(tmp_path))
    open_embedded("level")
    path = tmp_path / "mni152-slices.npz"
    content = path.read_bytes()
    if damage in ("other", "pickle"):
        arrays = {"fingerprint": np.array("another")} if damage == "other" else {"fingerprint": np.array([{}])}
        np.savez(path, **arrays)
    else:
        path.write_bytes({"cut": content[:-1000], "rubbish": b"rubbish", "empty": b""}[damage])
    again = open_embedded("level")
    assert np.array_equal(again.images, expected.images)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_mistakes():
    with pytest.raises(InputError, match="unknown embedded data set 'tisue': did you mean 'tissue'"):
        open_embedded("tisue")
    with pytest.raises(InputError, match="unknown split 'tests': did you mean 'test'"):
        open_embedded("level", "tests")


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDROBUST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot write to the cache folder .*set MEDROBUST_CACHE"):
        open_embedded("level")


def test_a_cache_in_nobodys_home(monkeypatch):
    monkeypatch.setenv("MEDROBUST_CACHE", "~no such user/cache")
    with pytest.raises(InputError, match=r"MEDROBUST_CACHE=~no such user/cache: there is no such home folder"):
        open_embedded("level")


def test_files_of_nilearn_that_may_not_be_read(monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(embedded.Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"mni_icbm152_.*: cannot be read \(Permission denied\)"):
        open_embedded("level")


def test_files_of_nilearn_missing(tmp_path, monkeypatch):
    (tmp_path / "nilearn").mkdir()
    (tmp_path / "nilearn" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nilearn", raising=False)
    with pytest.raises(InputError, match=r"MNI152 files of nilearn are missing.*reinstall"):
        open_embedded("level")
