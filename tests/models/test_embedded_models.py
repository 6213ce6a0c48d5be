import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medrobust.data.embedded import open_embedded
from medrobust.errors import InputError
from medrobust.models import embedded, load_embedded_model, load_model, weights_fingerprint
from medrobust.models.embedded_training import Recipe, augment
from medrobust.models.networks import LevelNet, UNet
from medrobust.tasks import Segmentation

NAMES = ["tissue", "level", "structures"]


@pytest.fixture
def quick(shared_cache, tmp_path, monkeypatch):
    """A cache of its own, with slices but without models, and training cut to two steps."""
    open_embedded("level")
    shutil.copy(Path(shared_cache) / "mni152-slices.npz", tmp_path)
    monkeypatch.setenv("MEDROBUST_CACHE", str(tmp_path))
    for name in NAMES:
        monkeypatch.setitem(embedded._RECIPES, name, Recipe(steps=2, batch_size=2, learning_rate=1e-3))
    return tmp_path


@pytest.fixture
def trainings(monkeypatch):
    """Counts how often a network is trained."""
    calls = []
    train = embedded.train
    monkeypatch.setattr(embedded, "train", lambda *args: (calls.append(1), train(*args)))
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_trained_once_and_kept(quick, trainings, name, capfd):
    first = load_embedded_model(name)
    shown = capfd.readouterr()
    assert f"Training the embedded {name} model" in shown.err
    assert shown.out == ""
    second = load_embedded_model(name)
    assert len(trainings) == 1
    assert not second.training
    assert weights_fingerprint(first) == weights_fingerprint(second)
    assert sorted(path.name for path in quick.iterdir()) == [
        f"embedded-{name}.safetensors",
        "mni152-slices.npz",
    ]


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_file_is_made_anew(quick, trainings, damage):
    first = load_embedded_model("level")
    path = quick / "embedded-level.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    again = load_embedded_model("level")
    assert len(trainings) == 2
    assert weights_fingerprint(first) == weights_fingerprint(again)  # the same seed, the same weights


def test_another_recipe_is_trained_anew(quick, trainings, monkeypatch):
    load_embedded_model("level")
    monkeypatch.setattr(embedded, "TRAINING_VERSION", "next")
    load_embedded_model("level")
    assert len(trainings) == 2


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_another_network_for_the_same_job(quick, trainings, name):
    usual, other = load_embedded_model(name), load_embedded_model(name, seed=7)
    assert weights_fingerprint(usual) != weights_fingerprint(other)
    assert weights_fingerprint(load_embedded_model(name, seed=7)) == weights_fingerprint(other)
    assert weights_fingerprint(load_embedded_model(name, seed=0)) == weights_fingerprint(usual)
    assert len(trainings) == 2
    assert (quick / f"embedded-{name}-seed7.safetensors").exists()


@pytest.mark.parametrize("name", NAMES)
def test_global_random_numbers_are_left_alone(quick, name):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with torch.no_grad():  # nor does it matter what the caller has switched off
        load_embedded_model(name)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(4), expected)


def test_weights_of_the_users_own_need_no_training(quick, trainings, tmp_path):
    network = LevelNet()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    loaded = load_model("embedded:level", outputs=5, channels=1, task="ordinal", weights=tmp_path / "w.pt")
    assert weights_fingerprint(loaded) == weights_fingerprint(network)
    assert not trainings


@pytest.mark.slow
def test_two_at_once_leave_a_whole_cache(quick, trainings):
    code = (
        "from medrobust.models import embedded, load_embedded_model\n"
        "from medrobust.models.embedded_training import Recipe\n"
        "embedded._RECIPES['level'] = Recipe(steps=2, batch_size=2, learning_rate=1e-3)\n"
        "load_embedded_model('level')\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    load_embedded_model("level")
    assert not trainings
    assert not list(quick.glob("*.part"))


def test_a_cache_folder_that_cannot_be_written(quick, monkeypatch):
    (quick / "file").write_text("")
    monkeypatch.setenv("MEDROBUST_CACHE", str(quick / "file" / "below"))
    with pytest.raises(InputError, match=r"cannot write to the cache folder.*set MEDROBUST_CACHE"):
        load_embedded_model("level")


def test_an_unknown_name():
    with pytest.raises(InputError, match="unknown embedded model 'levels': did you mean 'level'"):
        load_embedded_model("levels")


@pytest.mark.parametrize("size", [(120, 104), (33, 47)])
def test_networks_take_any_size(size):
    images = torch.rand(2, 2, *size)
    assert UNet(channels=2, outputs=4).eval()(images).shape == (2, 4, *size)
    assert LevelNet(channels=2, outputs=4).eval()(images).shape == (2, 4)


def test_blurred_levels_are_probabilities_that_favour_the_level():
    data = open_embedded("level", split="train")
    shares = embedded.blurred_levels(torch.as_tensor(data.heights))
    torch.testing.assert_close(shares.sum(1), torch.ones(len(data)))
    assert torch.equal(shares.argmax(1), torch.stack(data.truths))


def test_augmentation_moves_the_truth_with_the_image_and_stays_in_bounds():
    recipe = Recipe(1, 1, 1, gain=0, offset=0, noise=0)
    truths = torch.zeros(6, 40, 30, dtype=torch.int64)
    truths[:, 10:30, 8:22] = 1
    images, moved = augment(truths.unsqueeze(1).float(), truths, recipe, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, truths)
    assert ((images[:, 0] > 0.5) == (moved == 1)).float().mean() > 0.99
    strong = Recipe(1, 1, 1, gain=1, offset=1, noise=1)
    shares = torch.rand(6, 5)
    images, kept = augment(images, shares, strong, torch.Generator().manual_seed(0))
    assert kept is shares
    assert images.min() >= 0
    assert images.max() <= 1


def test_turning_does_not_shear():
    recipe = Recipe(1, 1, 1, rotation=90, scale=0, shift=0, gain=0, offset=0, noise=0)
    square = torch.zeros(8, 60, 40, dtype=torch.int64)
    square[:, 22:38, 12:28] = 1
    _, turned = augment(square.unsqueeze(1).float(), square, recipe, torch.Generator().manual_seed(1))
    area = turned.flatten(1).sum(1)
    assert (area - 256).abs().max() <= 12


@pytest.mark.slow
def test_trained_models_reach_their_targets_on_held_out_slices(shared_cache):
    data = open_embedded("tissue")
    images, truths = (torch.stack(parts) for parts in zip(*((s.image, s.truth) for s in data), strict=True))
    with torch.no_grad():
        outputs = load_embedded_model("tissue")(images)
    assert Segmentation(3).image_metrics(outputs, truths)["dice"].mean() >= 0.88
    levels = torch.stack(open_embedded("level").truths)
    with torch.no_grad():
        answers = load_embedded_model("level")(images).argmax(1)
    assert (answers == levels).float().mean() >= 0.9
    assert (answers - levels).abs().max() <= 1
