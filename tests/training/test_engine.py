"""The training loop: what it learns, what it leaves alone, and that a stop loses nothing."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import Bars, course, network, victim_of
from safetensors.torch import load_file
from tiny_detectors import tiny_detector
from torch import Tensor, nn

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.training import (
    AdversarialTraining,
    Control,
    Course,
    Engine,
    FastTraining,
    Left,
    Training,
    Validation,
    make_method,
)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


class Stopped(Exception):
    pass


def stop_after(steps: int):
    def tell(step, *_):
        if step == steps:
            raise Stopped

    return tell


WAYS = {
    "warm pgd-at": {"method": "pgd-at", "warm_start": True, "ramp": 0.5},
    "warm free, sampled": {"method": "free", "warm_start": True, "balance": "sampling"},
    "weighted mart": {"method": "mart", "balance": "loss"},
    "pgd-at": {},
    "smia-at": {"normalisation": "frozen", "accumulate": 2},
    "trades": {"normalisation": "adversarial", "ramp": 0.5},
    "fgsm-rs": {"averaging": 0.9},
    "free": {},
    "control": {"awp": 0.01},
    "mart": {"precision": "bf16-mixed"},
}
QUICK = ("pgd-at", "free", "warm pgd-at")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WAYS]
)
def test_a_training_that_is_stopped_anywhere_ends_where_an_undisturbed_one_does(name, tmp_path):
    """Dropout, shuffling and random starts included; the file is written after every step."""

    def training(path=None, tell=lambda *_: None):
        how = dict(WAYS[name])
        made = course(make_method(how.pop("method", name)), **how)
        return Engine(made, path, "the same", save_every=-1, tell=tell), made.victim.model

    engine, model = training()
    undisturbed = engine.run()
    assert undisturbed.steps == engine.steps
    for stop in range(1, engine.steps, 3):
        path = tmp_path / f"{stop}.safetensors"
        first, _ = training(path, stop_after(stop))
        with pytest.raises(Stopped):
            first.run()
        second, again = training(path)
        outcome = second.run()
        assert second.step == engine.steps
        assert same(weights_of(again), weights_of(model))
        assert [(seen.step, seen.clean, seen.attacked, seen.loss) for seen in outcome.history] == [
            (seen.step, seen.clean, seen.attacked, seen.loss) for seen in undisturbed.history
        ]


@pytest.mark.slow
def test_a_training_that_is_killed_at_random_moments_ends_where_an_undisturbed_one_does(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from safetensors.torch import save_file
        from medrobust.training import AdversarialTraining, Engine
        from learning import course
        made = course(AdversarialTraining(), epochs=10)
        tell = lambda step, *_: print(step, flush=True)
        Engine(made, Path(sys.argv[1]), "x", save_every=-1, tell=tell).run()
        save_file(made.victim.model.state_dict(), sys.argv[2])
        """
    )
    made_of, made_in = tmp_path / "checkpoint.safetensors", tmp_path / "killed.safetensors"
    call = [sys.executable, "-c", script, str(made_of), str(made_in)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    draws, reached = random.Random(0), 0
    for _ in range(4):
        with subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(draws.randint(1, 8)):
                first, reached = reached, int(process.stdout.readline())
                assert reached > first - 1  # it goes on where it was: at most the step under way is lost
            time.sleep(draws.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
    subprocess.run(call, env=environment, check=True, stdout=subprocess.DEVNULL)
    made = course(AdversarialTraining(), epochs=10)
    Engine(made).run()
    assert same(load_file(made_in), weights_of(made.victim.model))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ctrl_c_waits_for_the_step_under_way_and_is_written_down(tmp_path, accumulate):
    """It comes in the midst of a step, in the first part of a batch where there are two."""
    path, steps = tmp_path / "checkpoint.safetensors", []

    class Interrupted(Control):
        def images(self, step):
            steps.append(step)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return step.images

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Engine(course(Interrupted(), accumulate=accumulate), path, "x", save_every=1000).run()
    assert len(steps) == (3 if accumulate == 1 else 4)
    assert signal.getsignal(signal.SIGINT) is before
    again = course(Control(), accumulate=accumulate)
    Engine(again, path, "x").run()
    whole = course(Control(), accumulate=accumulate)
    Engine(whole).run()
    assert same(weights_of(again.victim.model), weights_of(whole.victim.model))


def test_it_is_the_seed_that_decides_and_nobody_elses_random_numbers_are_touched():
    made = {}
    for label, seed, disturb in (("first", 0, 1), ("again", 0, 2), ("other", 1, 1)):
        one = course(AdversarialTraining(), seed=seed)
        torch.manual_seed(disturb), random.seed(disturb), np.random.seed(disturb)
        before = torch.get_rng_state()
        Engine(one).run()
        assert torch.equal(torch.get_rng_state(), before)
        made[label] = weights_of(one.victim.model)
    assert same(made["first"], made["again"])
    assert not same(made["first"], made["other"])


def test_training_on_attacked_images_holds_where_plain_training_does_not():
    left = {}
    for name in ("control", "pgd-at", "smia-at", "fgsm-rs", "free"):
        one = course(make_method(name), epochs=12, learning_rate=3e-3, batch_size=16, patience=0)
        history = Engine(one).run().history
        left[name] = history[-1].attacked
        assert history[-1].clean > history[0].clean
        assert history[-1].loss < history[1].loss
    assert left.pop("control") <= 0.6
    assert min(left.values()) >= 0.9


def test_parts_of_a_batch_add_up_to_the_batch():
    """Without layers that look at the batch or draw numbers."""
    trained = {}
    for parts in (1, 4):
        victim = victim_of(network(norm=False, dropout=0.0))
        one = course(AdversarialTraining(), victim, accumulate=parts, epochs=1)
        # the same images in the same batches, whatever their order in them
        engine = Engine(one)
        engine.order = type(engine.order)(32, 8 // parts, 0, 0, 0)
        engine.run()
        trained[parts] = weights_of(victim.model)
    for name, value in trained[1].items():
        torch.testing.assert_close(trained[4][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["frozen", "adversarial", "batch"])
def test_what_becomes_of_the_statistics_of_batchnorm(how):
    seen = []

    class Watched(Control):
        def images(self, step):
            return step.images * 0.5

        def loss(self, step, attacked):
            norm = step.victim.model[1]
            before = norm.running_mean.clone(), norm.num_batches_tracked.clone()
            clean = step.clean()
            seen.append((torch.equal(norm.running_mean, before[0]), norm.momentum))
            loss = step.task.loss(step.outputs(attacked), step.truth).mean() + 0 * clean.sum()
            seen.append((torch.equal(norm.running_mean, before[0]), int(norm.num_batches_tracked - before[1])))
            return loss

    victim = victim_of(network())
    begun = weights_of(victim.model)
    Engine(course(Watched(), victim, normalisation=how, epochs=1)).run()
    assert seen[0] == (how != "batch", 0.1)
    assert seen[1] == {"frozen": (True, 0), "adversarial": (False, 1), "batch": (False, 2)}[how]
    assert torch.equal(begun["1.running_mean"], victim.model[1].running_mean) == (how == "frozen")
    assert not torch.equal(begun["1.weight"], victim.model[1].weight)  # its scale learns in any case
    assert not victim.model.training


def test_the_weights_of_the_best_figure_are_handed_in_and_the_rest_is_not_waited_for():
    """A look that says beforehand what it will see: best after the second epoch, worse ever after."""
    figures, kept = iter([0.1, 0.3, 0.5, 0.4, 0.4, 0.4, 0.4]), []

    class Told(Validation):
        def __call__(self, victim, data, threat, seed):
            kept.append(weights_of(victim.model))
            return Left(1.0, next(figures), 0.0)

    one = course(Control(), epochs=9, patience=3)
    object.__setattr__(one, "look", Told())
    outcome = Engine(one).run()
    assert outcome.best == 8
    assert outcome.stopped == "no better figure under attack since step 8"
    assert [seen.step for seen in outcome.history] == [0, 4, 8, 12, 16, 20]
    assert same(weights_of(one.victim.model), kept[2])


def test_of_weights_that_leave_the_same_share_those_of_the_lower_loss_under_attack_are_handed_in():
    losses = iter([0.1, 0.6, 0.4, 0.5])

    class Told(Validation):
        def __call__(self, victim, data, threat, seed):
            return Left(1.0, 0.5, next(losses))

    one = course(Control(), epochs=3)
    object.__setattr__(one, "look", Told())
    assert Engine(one).run().best == 8


def test_what_is_left_of_a_model_is_told_by_share_and_loss():
    one = course(Control())
    images, truth, ids = mr.stack([one.validation[place] for place in range(16)])
    made = mr.PGD(steps=10)(one.victim, images, truth, one.threat, seed=0, ids=ids).adversarial
    left = Validation(batch_size=5)(one.victim, one.validation, one.threat, 0)
    logits = one.victim(made)
    assert left.attacked == pytest.approx(float((logits.argmax(1) == truth).float().mean()))
    assert left.loss == pytest.approx(float(nn.functional.cross_entropy(logits, truth)), rel=1e-5)
    assert left.clean == pytest.approx(float((one.victim(images).argmax(1) == truth).float().mean()))


def test_the_average_of_the_weights_is_what_is_looked_at_and_handed_in():
    trained = []

    class Kept(Control):
        def images(self, step):
            trained.append(weights_of(step.victim.model))
            return step.images

    one = course(Kept(), epochs=1, averaging=0.5, normalisation="frozen")
    Engine(one).run()
    moves = [*trained[1:], None]
    # after 4 moves: the first is copied, then each new one counts a half; the last move is not seen from outside
    average = moves[0]["0.weight"]
    for move in moves[1:3]:
        average = 0.5 * average + 0.5 * move["0.weight"]
    last = 2 * one.victim.model.state_dict()["0.weight"] - average
    assert (last - trained[-1]["0.weight"]).abs().max() < 2e-3  # a last step of the size of the others
    assert not torch.allclose(one.victim.model.state_dict()["0.weight"], trained[-1]["0.weight"], atol=1e-6)


def test_catastrophic_overfitting_is_caught():
    """A single step of a large eps from the clean image: the network learns to break that step, and nothing else."""
    one = course(
        FastTraining(attack=mr.FGSM()), victim_of(network(norm=False, dropout=0.0)), epochs=200, patience=0,
        learning_rate=1e-2, batch_size=16,
    )  # fmt: skip
    object.__setattr__(one, "threat", mr.Threat(eps=40 / 255))
    object.__setattr__(one, "look", Validation(attack=mr.PGD(steps=30)))
    outcome = Engine(one).run()
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("catastrophic overfitting: under attack")
    best = max(seen.attacked for seen in outcome.history)
    handed_in = Validation(attack=mr.PGD(steps=30))(one.victim, one.validation, one.threat, one.seed)
    assert handed_in.attacked == best > 2 * outcome.history[-1].attacked


def test_a_damaged_file_and_that_of_another_training_are_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    Engine(course(Control()), path, "one").run()
    with pytest.raises(InputError, match="is of a training with another model, data, method or options"):
        Engine(course(Control()), path, "another").run()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="is damaged; remove it"):
        Engine(course(Control()), path, "one").run()


def test_weights_that_grow_beyond_all_bounds_stop_it():
    with pytest.raises(InputError, match="is not finite at step"):
        Engine(course(Control(), learning_rate=1e30, epochs=5)).run()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 6, "accumulate": 4}, "batch_size 6 cannot be shared out"),
        ({"averaging": 1.0}, "averaging must be from 0 and below 1"),
        ({"ramp": 1.5}, "ramp must be"),
        ({"normalisation": "none"}, "normalisation must be one of frozen, adversarial, batch"),
        ({"precision": "8"}, "precision must be one of"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"balance": "classes"}, "balance must be one of none, sampling, loss"),
        ({"warm_start": 1}, "warm_start must be"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(InputError, match=told):
        Training(**options)


def test_the_model_of_others_is_left_alone():
    """An attack on another model, and the copy that a user keeps."""
    other = victim_of(network())
    before, kept = weights_of(other.model), copy.deepcopy(other.model)
    Engine(course(make_method("ensemble", others=[other]))).run()
    assert same(before, weights_of(other.model))
    assert all(weight.grad is None for weight in other.model.parameters())
    assert kept.training == other.model.training


def test_eps_grows_along_the_ramp():
    seen = []

    class Watched(Control):
        def images(self, step):
            seen.append(step.threat.eps * 255 / 16)
            return step.images

    Engine(course(Watched(), ramp=0.5, epochs=2)).run()
    assert seen[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert seen[4:] == [1.0] * 4


def test_bars_are_masks_too():
    one = course(make_method("trades"), masks=True)
    assert isinstance(Engine(one).run().history[-1].attacked, float)
    assert Bars(masks=True)[0].truth.shape == (8, 8)


@pytest.mark.parametrize("family", ["faster_rcnn", pytest.param("retinanet", marks=pytest.mark.slow), "ssd"])
@pytest.mark.parametrize("name", ["control", pytest.param("pgd-at", marks=pytest.mark.slow), "smia-at"])
def test_a_detector_learns_by_its_own_losses(family, name):
    """Its weights move, the statistics of its BatchNorm do not, and the loss on what it saw falls."""
    model = tiny_detector(family)
    victim = mr.Victim(model, mr.Detection(3))
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[8.0, 8, 40, 40, 0], [20, 16, 60, 50, 2]])
    info = DatasetInfo("boxes", "detection", ("a", "b", "c"), channels=3)
    data = InMemoryDataset(info, [Sample(str(k), image, truth) for k, image in enumerate(images)])
    before = weights_of(model)
    how = Training(epochs=4, batch_size=4, learning_rate=1e-3, patience=0)
    look = Validation(attack=mr.FGSM())
    outcome = Engine(Course(victim, data, data, make_method(name), mr.Threat(eps=1 / 255), how, look, 0)).run()
    losses = [seen.loss for seen in outcome.history[1:]]
    assert losses[-1] < losses[0]
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert not [key for key in changed if "running" in key or "num_batches" in key]
    assert any("backbone" in key for key in changed)
    assert any("head" in key for key in changed)


@pytest.mark.parametrize("images", [16, 18, 9])
def test_a_batch_seen_in_parts_moves_the_weights_as_one_seen_whole(images):
    """Also the last batch of an epoch, which is of two images, or of nine."""
    made = {}
    for accumulate in (1, 2, 4):
        victim = victim_of(network(norm=False, dropout=0.0))
        one = course(AdversarialTraining(), victim, accumulate=accumulate, batch_size=8, epochs=2)
        Engine(replace(one, training=Bars(images))).run()
        made[accumulate] = weights_of(victim.model)
    for accumulate in (2, 4):
        for name, value in made[1].items():
            torch.testing.assert_close(made[accumulate][name], value, rtol=0, atol=1e-6)


def test_what_needs_a_whole_batch_is_not_seen_in_parts():
    with pytest.raises(InputError, match="awp needs the gradient of a whole batch at once"):
        course(Control(), awp=0.01, accumulate=2)
    with pytest.raises(InputError, match="FreeTraining moves the weights several times on a batch"):
        Engine(course(make_method("free"), accumulate=2))
