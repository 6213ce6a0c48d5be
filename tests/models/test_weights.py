import argparse
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from medrobust.errors import InputError
from medrobust.models import OverSlices, load_weights, weights_fingerprint
from medrobust.transforms import BitDepth, Preprocessed, Smooth


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        dict,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
        lambda state: {"state_dict": {"model": state}},
        lambda state: prefixed(state, "module."),
        lambda state: prefixed(state, "model."),
        lambda state: {"state_dict": prefixed(state, "model.module._orig_mod.")},
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_state_dict_comes_back_through_the_usual_wrappers(tmp_path, wrap, suffix):
    source, target = network(0), network(1)
    torch.save(wrap(source.state_dict()), tmp_path / f"w{suffix}")
    load_weights(target, tmp_path / f"w{suffix}")
    assert same(source, target)


def test_safetensors_and_the_old_torch_format(tmp_path):
    source = network(0)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("w.safetensors", "old.pt"):
        target = network(1)
        load_weights(target, tmp_path / name)
        assert same(source, target)


def test_half_precision_is_read_into_the_models_own_dtype(tmp_path):
    torch.save(network(0).half().state_dict(), tmp_path / "w.pt")
    target = network(1)
    load_weights(target, tmp_path / "w.pt")
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, network(0)[0].weight, atol=1e-3, rtol=1e-3)


def test_batchnorm_counters_may_be_missing(tmp_path):
    state = {name: value for name, value in network(0).state_dict().items() if "num_batches" not in name}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    target = network(1)
    load_weights(target, tmp_path / "w.safetensors")
    assert same(network(0), target)


def refused(path, words):
    """The file is refused in one line that names it, and the model stays as it was."""
    model = network(1)
    with pytest.raises(InputError, match=words) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert same(model, network(1))
    return message


def test_all_that_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path):
    state = network(0).state_dict()
    state["0.weight"] = torch.zeros(4, 3, 3, 3)
    state["head.weight"] = state.pop("3.weight")
    for extra in "abcd":
        state[f"extra.{extra}"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    message = refused(tmp_path / "w.pt", r"1 missing \(3\.weight\)")
    assert "5 unexpected (head.weight, extra.a, extra.b, …)" in message
    assert "1 of another shape (0.weight (4, 3, 3, 3) instead of (4, 1, 3, 3))" in message


def test_weights_with_nan(tmp_path):
    state = network(0).state_dict()
    state["3.bias"][1] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"1 weights hold NaN \(3\.bias\)")


class Code:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("save", [torch.save, lambda it, path: path.write_bytes(pickle.dumps(it, protocol=2))])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, save):
    marker = tmp_path / "ran"
    save({"0.weight": Code(marker)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"mkdir, which was not loaded since it can run code.*save model\.state_dict\(\)")
    assert not marker.exists()


def test_a_whole_model_is_refused_with_what_to_do(tmp_path):
    torch.save(network(0), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"whole pickled model.*save model\.state_dict\(\)")


def test_other_objects_beside_the_weights_are_named(tmp_path):
    torch.save({"state_dict": network(0).state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"argparse\.Namespace")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_is_told_apart(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "TorchScript program")


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, {"model": {"a": 1}}])
def test_a_mapping_of_other_things(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "entries are no tensors")


@pytest.mark.parametrize("content", [torch.zeros(3), {}, [1, 2]])
def test_no_mapping_at_all(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "no state dict")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_short(tmp_path, suffix, share):
    path = tmp_path / f"w{suffix}"
    save = torch.save if suffix == ".pt" else safetensors.torch.save_file
    save(network(0).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "damaged, cut short")


@pytest.mark.parametrize("content", [b"hello world", b"<html>404</html>", b"\x00" * 100, bytes(range(256))])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_something_else(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    refused(path, "damaged, cut short or of another format")


def test_no_file_a_folder_and_another_ending(tmp_path):
    refused(tmp_path / "none.pt", "there is no such weights file")
    (tmp_path / "folder.pt").mkdir()
    refused(tmp_path / "folder.pt", "is a folder")
    (tmp_path / "w.h5").write_bytes(b"")
    refused(tmp_path / "w.h5", r"must be a \.safetensors, \.pt, \.pth, \.bin or \.ckpt file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    torch.save(network(0).state_dict(), tmp_path / "w.pt")
    (tmp_path / "w.pt").chmod(0)
    refused(tmp_path / "w.pt", "may not be read")


def test_fingerprint_tells_weights_names_and_dtypes_apart():
    before = weights_fingerprint(network(0))
    assert before == weights_fingerprint(network(0))
    assert len(before) == 64
    changed = network(0)
    with torch.no_grad():
        changed[3].bias[2] += 1e-6
    renamed = nn.Sequential(*network(0), nn.Identity())
    renamed.register_buffer("more", torch.zeros(()))
    others = [changed, renamed, network(0).half(), network(0).bfloat16(), network(1)]
    assert len({before, *map(weights_fingerprint, others)}) == 6


def test_fingerprint_is_of_the_weights_however_they_are_wrapped():
    plain = network(0)
    before = weights_fingerprint(plain)
    once = Preprocessed(plain, Smooth())
    for wrapped in (once, Preprocessed(once, BitDepth(4)), OverSlices(plain), nn.DataParallel(plain)):
        assert weights_fingerprint(wrapped) == before
    assert weights_fingerprint(Preprocessed(network(1), Smooth())) != before
    # a part of a larger model that is called so is no wrapper
    larger = nn.ModuleDict({"model": network(0), "head": nn.Linear(3, 2)})
    assert weights_fingerprint(larger) != before
    assert len(weights_fingerprint(nn.Identity())) == 64


def test_fingerprint_sees_buffers_and_takes_any_layout():
    changed = network(0)
    changed[1].running_mean += 1
    assert weights_fingerprint(changed) != weights_fingerprint(network(0))
    assert weights_fingerprint(network(0).to(memory_format=torch.channels_last)) == weights_fingerprint(network(0))
