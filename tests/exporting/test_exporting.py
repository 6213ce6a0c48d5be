"""`mr.export`: files that are the model, in data units, for batches of any size; or no files at all."""

from __future__ import annotations

import copy
import json
import re
import sys
import zipfile
from hashlib import sha256

import broken_models as broken
import pytest
import torch
from tiny_detectors import retinanet
from torch import Tensor, nn
from victims import CASES, assert_same_state, build, classifier, segmenter, state

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError, MissingExtraError
from medrobust.exporting import EXPORT_FORMATS
from medrobust.exporting.checking import Agreement

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
# what ONNX or its runtime lacks: an adaptive pooling of volumes to more than one value, convolutions in double
WITHOUT_ONNX = {"3-D", "float64"}
SOON = {"one logit, no axis", "multi-label", "float64", "3-D"}
SOON_AS_ONNX = {"segmentation 3-D"}


def data_of(images: Tensor, bounds=(0.0, 1.0), unit: str = "[0, 1]", task: str = "classification") -> InMemoryDataset:
    info = DatasetInfo("slices", task, ("left", "right"), images.shape[1], bounds, unit, images.ndim - 2)
    return InMemoryDataset(info, [Sample(f"s{k}", image, torch.tensor(0)) for k, image in enumerate(images)])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def a_victim(outputs: int = 2, **options) -> mr.Victim:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return mr.Victim(classifier(3, outputs)(), mr.Classification(2), **options)


def read(folder, name: str):
    return EXPORT_FORMATS[name].read(folder / EXPORT_FORMATS[name].place)


def check(case: str, folder, formats: list[str]) -> None:
    victim, images, _ = build(CASES[case])
    before = state(victim.model)
    done = mr.export(victim, data_of(images, victim.bounds), folder, formats)
    assert_same_state(before, state(victim.model))
    assert [file.format for file in done.told.files] == formats
    for name in formats:
        run, seven = read(folder, name), torch.cat([images.float()] * 4)[:7]  # in no batch of the check
        assert torch.allclose(run(seven).double(), victim(seven).double(), atol=1e-4), name


def some_soon(cases, soon: set[str]) -> list:
    """The cases, all but some of them slow."""
    return [pytest.param(case, marks=[] if case in soon else [pytest.mark.slow]) for case in sorted(cases)]


@pytest.mark.parametrize("case", some_soon(CASES, SOON))
def test_every_kind_of_victim_is_exported(case, tmp_path):
    check(case, tmp_path / "out", ["torchscript", "torch-export"])


@pytest.mark.parametrize("case", some_soon(CASES.keys() - WITHOUT_ONNX, SOON_AS_ONNX))
def test_and_as_onnx(case, tmp_path):
    check(case, tmp_path / "out", ["onnx"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "task", "shape"),
    [
        ("timm:convnext_atto", "classification", (3, 64, 64)),
        ("torchvision:r3d_18", "classification", (1, 8, 32, 32)),
        ("torchvision:lraspp_mobilenet_v3_large", "segmentation", (1, 64, 64)),
        ("smp:unet-resnet18", "segmentation", (1, 64, 64)),
    ],
)
def test_networks_of_libraries(source, task, shape, tmp_path):
    dims = len(shape) - 1
    model = mr.load_model(source, outputs=2, channels=shape[0], task=task, spatial_dims=dims)
    victim = mr.Victim(model, mr.Segmentation(2) if task == "segmentation" else mr.Classification(2), mean=0.4, std=0.2)
    images, formats = drawn(5, *shape), ["onnx", "torchscript"]
    mr.export(victim, data_of(images, task=task), tmp_path / "out", formats)
    for name in formats:
        expected = victim(images)
        assert torch.allclose(read(tmp_path / "out", name)(images), expected, atol=1e-4 * max(1, expected.abs().max()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of all formats with the victim and the images that were there."""
    folder, images = tmp_path_factory.mktemp("all") / "out", -1024 + 4095 * drawn(9, 3, 8, 8, seed=1)
    victim = a_victim(bounds=(-1024.0, 3071.0), mean=[-500.0, 40.0, 100.0], std=[400.0, 80.0, 200.0])
    data = data_of(images, victim.bounds, "HU")
    mr.export(victim, data, folder, list(EXPORT_FORMATS), model_name="/a/b/net")
    return folder, victim, images


def test_the_files_take_data_units_and_normalise_by_themselves(exported):
    """By hand: what the network itself says of (image − mean)/std; HU that no [0, 1] would do for."""
    folder, victim, images = exported
    mean, std = torch.tensor([-500.0, 40, 100])[:, None, None], torch.tensor([400.0, 80, 200])[:, None, None]
    network = victim.model.eval()
    for name in EXPORT_FORMATS:
        assert torch.allclose(read(folder, name)(images), network((images - mean) / std), atol=1e-4), name
        assert not torch.allclose(read(folder, name)(images), network(images), atol=1e-2), name


def test_what_is_told_is_true_and_names_no_folder(exported):
    folder, _, _ = exported
    told = json.loads((folder / "export.json").read_text())
    assert (told["model"], told["classes"], told["output"]["shape"]) == ("…/net", ["left", "right"], ["batch", 2])
    assert told["input"] == {
        "name": "images",
        "shape": ["batch", 3, 8, 8],
        "unit": "HU",
        "bounds": [-1024.0, 3071.0],
    }
    names = {"export.json", "model-card.md"}
    for file in told["files"]:
        content = (folder / file["file"]).read_bytes()
        assert (file["sha256"], file["size"]) == (sha256(content).hexdigest(), len(content))
        assert file["max_difference"] < 1e-4
        names.add(file["file"])
    assert {path.name for path in folder.iterdir()} == names
    assert not re.search(r'"/\w', (folder / "export.json").read_text())
    card = (folder / "model-card.md").read_text()
    assert "**Not normalised: that is inside the file**" in card
    assert "mean [-500.0, 40.0, 100.0]" in card


def test_no_image_and_no_path_of_this_machine_is_in_the_files(exported):
    folder, _, images = exported
    contents = [(folder / "model.onnx").read_bytes()]
    for name in ("model.pt", "model.pt2"):
        with zipfile.ZipFile(folder / name) as archive:
            contents += [archive.read(record) for record in archive.namelist()]
    here = str(torch.__file__).rpartition("/torch/")[0].encode()
    for content in contents:
        assert here not in content
        for image in images:
            assert image[0, 0].numpy().tobytes() not in content


class Branching(nn.Module):
    """Answers otherwise where an image is bright: a trace knows one of the two ways alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.inner(x)
        return outputs + 1 if float(x.mean()) > 0.8 else outputs


class OfTwo(nn.Module):
    """Knows batches of two alone when traced."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.inner(x[place : place + 1]) for place in range(len(x))])


def wrapped(kind) -> mr.Victim:
    return mr.Victim(kind(a_victim().model), mr.Classification(2))


@pytest.mark.parametrize(
    ("victim", "formats", "words"),
    [
        (
            lambda: wrapped(Branching),
            ["torchscript"],
            "torchscript: its outputs differ .* by up to 1, more",
        ),
        (
            lambda: wrapped(OfTwo),
            ["torchscript"],
            r"torchscript: a batch of 3 is answered in shape \(2, 2\), not \(3, 2\)",
        ),
        (lambda: wrapped(broken.RandomLayer), ["torch-export"], r"torch-export: its outputs differ"),
        (lambda: wrapped(Branching), ["torch-export"], r"torch-export: \w+"),
        (lambda: wrapped(Branching), ["torch-export", "torchscript"], "torch-export: .*; torchscript: its outputs"),
    ],
)
def test_a_file_that_is_not_the_model_is_not_left_behind(victim, formats, words, tmp_path):
    bright = 0.9 + 0.1 * drawn(8, 3, 8, 8)
    with torch.random.fork_rng(devices=[]), pytest.raises(InputError, match=words) as told:
        mr.export(victim(), data_of(bright), tmp_path / "out", formats)
    assert "nothing was written" in str(told.value)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_formats_that_would_do_are_named(tmp_path):
    with pytest.raises(InputError, match=r"to torch-export: .*; nothing was written \(torchscript can be\)"):
        mr.export(wrapped(Branching), data_of(drawn(8, 3, 8, 8)), tmp_path / "out", ["torchscript", "torch-export"])


@pytest.mark.parametrize(
    ("largest", "difference", "allowed"),
    [(0.5, 0.9e-4, True), (0.5, 1.1e-4, False), (50, 4e-3, True), (50, 6e-3, False)],
)
def test_what_a_difference_may_be(largest, difference, allowed):
    """1e-4, of the largest output where that is above 1."""
    assert (difference <= Agreement(difference, largest).allowed) == allowed


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        (lambda: mr.BlackBox(lambda x: x.flatten(1)[:, :2], mr.Classification(2)), "the answers alone are seen"),
        (lambda: mr.Victim(retinanet(), mr.Detection(3)), "detectors are not exported"),
        (lambda: mr.defended(a_victim(), mr.Noise(0.1)), "draws at random"),
        (
            lambda: mr.Victim(mr.SlidingWindow(segmenter(3, 2)(), (4, 4)), mr.Segmentation(2)),
            "leave out model.window and model.over_slices",
        ),
    ],
)
def test_what_cannot_be_exported_is_told(victim, words, tmp_path):
    with pytest.raises(InputError, match=words):
        mr.export(victim(), data_of(drawn(8, 3, 8, 8)), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_format_data_and_folder_that_do_not_do(tmp_path):
    data, victim = data_of(drawn(8, 3, 8, 8)), a_victim()
    with pytest.raises(InputError, match="unknown export format 'onnyx': did you mean 'onnx'"):
        mr.export(victim, data, tmp_path / "out", "onnyx")
    with pytest.raises(InputError, match="give a format"):
        mr.export(victim, data, tmp_path / "out", [])
    with pytest.raises(InputError, match="there is no image to check the files with"):
        mr.export(victim, InMemoryDataset(data.info, []), tmp_path / "out")
    sizes = InMemoryDataset(data.info, [data[0], Sample("x", drawn(3, 9, 8), torch.tensor(0))])
    with pytest.raises(InputError, match=r"a file takes images of one size, 'slices' has .* set data.resize"):
        mr.export(victim, sizes, tmp_path / "out")
    with pytest.raises(InputError, match="outside the bounds"):
        mr.export(victim, data_of(9 * drawn(8, 3, 8, 8)), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(InputError, match="is not an empty folder"):
        mr.export(victim, data, tmp_path / "full")
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_without_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed; run: pip install 'medrobust\[onnx\]'"):
        mr.export(a_victim(), data_of(drawn(8, 3, 8, 8)), tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("defence", [mr.BitDepth(3), mr.Smooth(), mr.Resize(0.5)])
def test_a_defence_goes_into_the_file(defence, tmp_path):
    plain = a_victim(mean=0.5, std=0.2)
    victim = mr.defended(plain, defence)
    images = drawn(8, 3, 8, 8)
    mr.export(victim, data_of(images), tmp_path / "out", ["torchscript", "torch-export"])
    for name in ("torchscript", "torch-export"):
        outputs = read(tmp_path / "out", name)(images)
        assert torch.allclose(outputs, plain(defence(images, (0.0, 1.0))), atol=1e-4)
        assert not torch.allclose(outputs, plain(images), atol=1e-3)


def test_half_precision_and_compiling_are_of_the_victim_not_of_the_file(tmp_path):
    victim = a_victim(autocast="bfloat16", compile=True, mean=0.5)
    whole = copy.copy(victim)
    whole.autocast, whole.compile = None, False
    images = drawn(8, 3, 8, 8)
    mr.export(victim, data_of(images), tmp_path / "out", "torchscript")
    assert torch.allclose(read(tmp_path / "out", "torchscript")(images), whole(images), atol=1e-6)
