import sys

import pytest
import safetensors.torch
import torch
import torchvision

from medrobust.errors import InputError, MissingExtraError
from medrobust.models import load_model, weights_fingerprint


def answer(model, *shape):
    with torch.no_grad():
        return model(torch.rand(shape))


def answer_list(model, *images):
    with torch.no_grad():
        return model(list(images))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:resnet10t.c3_in1k", "torchvision:shufflenet_v2_x0_5"])
def test_classification_networks_take_channels_and_classes(name, channels):
    model = load_model(name, outputs=4, channels=channels, task="ordinal")
    assert not model.training
    assert answer(model, 2, channels, 64, 64).shape == (2, 4)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_torchvision_families_with_one_channel(name):
    model = load_model(f"torchvision:{name}", outputs=2, channels=1, task="classification")
    output = answer(model.train(), 2, 1, 64, 64) if name == "googlenet" else answer(model, 2, 1, 64, 64)
    assert output.shape == (2, 2)  # a tensor, in train mode too: no auxiliary outputs


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_segmentation_gives_a_tensor(channels):
    name = "torchvision:lraspp_mobilenet_v3_large"
    model = load_model(name, outputs=3, channels=channels, task="segmentation")
    assert answer(model, 2, channels, 40, 56).shape == (2, 3, 40, 56)
    assert all(key.startswith(("backbone.", "classifier.")) for key in model.state_dict())


def test_torchvision_volumes():
    model = load_model("torchvision:r3d_18", outputs=3, channels=1, task="classification", spatial_dims=3)
    assert answer(model, 1, 1, 16, 16, 16).shape == (1, 3)


@pytest.mark.parametrize("name", ["smp:unet-resnet18", "smp:FPN-timm-mobilenetv3_small_minimal_100"])
def test_smp(name):
    model = load_model(name, outputs=2, channels=1, task="segmentation")
    assert answer(model, 2, 1, 64, 64).shape == (2, 2, 64, 64)


def test_smp_missing_tells_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medrobust\[smp\]'"):
        load_model("smp:unet-resnet18", outputs=2, channels=1, task="segmentation")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("resnet18", "does not say where it is from: write e.g. timm:resnet18"),
        ("tim:resnet18", "unknown model source 'tim': did you mean 'timm'"),
        ("timm:resnet81", "unknown timm model 'resnet81': did you mean 'resnet"),
        ("timm:@@@@", "unknown timm model '@@@@': none of the"),
        ("torchvision:resnet-18", "unknown torchvision model 'resnet-18': did you mean 'resnet18'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "is a detection network, the task is classification"),
        ("torchvision:maskrcnn_resnet50_fpn", "unknown torchvision model 'maskrcnn_resnet50_fpn': did you mean"),
        ("torchvision:fcn_resnet50", "is a segmentation network, the task is classification"),
        ("torchvision:r3d_18", "takes 3-D images, the data are 2-D"),
        ("smp:unet-resnet18", "is a segmentation network, the task is classification"),
        ("smp:unet", "write smp:<architecture>-<encoder>"),
        ("smp:unett-resnet18", "unknown smp architecture 'unett': did you mean 'unet'"),
        ("smp:unet-resnet19", "unknown smp encoder model 'resnet19': did you mean 'resnet18'"),
        ("embedded:tissues", "unknown embedded model 'tissues': did you mean 'tissue'"),
        ("embedded:tissue", "embedded:tissue is for segmentation, 2-D, 1 channel, 3 outputs; asked for"),
        ("embedded:structures", "embedded:structures is for detection, 2-D, 1 channel, 3 outputs; asked for are class"),
        ("embedded:level", "asked for are classification, 2-D, 1 channels, 4 outputs"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(source, words):
    with pytest.raises(InputError, match=words) as caught:
        load_model(source, outputs=4, channels=1, task="classification")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_classification_networks_refuse_segmentation_and_volumes(name):
    with pytest.raises(InputError, match="is a classification network, the task is segmentation"):
        load_model(name, outputs=4, channels=1, task="segmentation")
    with pytest.raises(InputError, match="takes 2-D images, the data are 3-D"):
        load_model(name, outputs=4, channels=1, task="multilabel", spatial_dims=3)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:fcn_resnet50", "smp:unet-resnet18", "embedded:tissue"])
def test_detection_wants_a_detector(name):
    with pytest.raises(InputError, match=r"task is detection: choose|asked for are detection") as caught:
        load_model(name, outputs=3, channels=1, task="detection")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_torchvision_detectors(name, channels):
    model = load_model(f"torchvision:{name}", outputs=2, channels=channels, task="detection")
    assert not model.training
    (found,) = answer_list(model, torch.rand(channels, 70, 50))
    assert set(found) == {"boxes", "labels", "scores"}
    assert found["labels"].unique().tolist() in ([], [1], [2], [1, 2])
    boxes = torch.tensor([[5.0, 5, 40, 30]])
    model.train()
    losses = model([torch.rand(channels, 70, 50)] * 2, [{"boxes": boxes, "labels": torch.tensor([2])}] * 2)
    assert torch.isfinite(sum(losses.values()))
    untouched = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=3)
    assert list(model.state_dict()) == list(untouched.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16"]
)
def test_larger_torchvision_detectors(name):
    model = load_model(f"torchvision:{name}", outputs=2, channels=1, task="detection")
    (found,) = answer_list(model, torch.rand(1, 64, 64))
    assert set(found) == {"boxes", "labels", "scores"}


@pytest.mark.parametrize(("outputs", "channels", "dims"), [(0, 1, 2), (2, 0, 2), (2, 1, 4)])
def test_impossible_numbers(outputs, channels, dims):
    with pytest.raises(InputError, match=r"at least 1 output|spatial_dims must be 2 or 3"):
        load_model("timm:resnet10t", outputs=outputs, channels=channels, task="ordinal", spatial_dims=dims)


def test_random_weights_are_the_same_every_time_and_global_random_numbers_untouched():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = load_model("timm:resnet10t", outputs=2, channels=1, task="classification")
    assert torch.equal(torch.rand(3), expected)
    two = load_model("timm:resnet10t", outputs=2, channels=1, task="classification")
    assert weights_fingerprint(one) == weights_fingerprint(two)


def test_weights_are_loaded_into_the_model(tmp_path):
    trained = load_model("timm:resnet10t", outputs=2, channels=1, task="classification")
    with torch.no_grad():
        trained.fc.bias += 1
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    options = {"channels": 1, "task": "classification", "weights": tmp_path / "w.safetensors"}
    loaded = load_model("timm:resnet10t", outputs=2, **options)
    assert weights_fingerprint(loaded) == weights_fingerprint(trained)
    with pytest.raises(InputError, match=r"2 of another shape \(fc.weight \(2, 512\) instead of \(3, 512\)"):
        load_model("timm:resnet10t", outputs=3, **options)
