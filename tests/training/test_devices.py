"""Several processes that share every batch learn what one learns alone; on the CPU, by gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from learning import Bars, course, network, victim_of
from safetensors.torch import load_file

import medrobust as mr
from medrobust.errors import InputError
from medrobust.training import AdversarialTraining, Control, Course, Training, make_method, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="several devices on the CPU are forked processes"),
]
ALIKE = {
    "pgd-at": {},
    "trades": {"accumulate": 2, "averaging": 0.9},
    "free": {"balance": "sampling"},
    "mart": {"balance": "loss"},
    "control": {"awp": 0.01},
}


def shared(method, devices: int, count: int = 33, **how) -> Course:
    """The last batch is of nine images: shares of five and four."""
    victim = victim_of(network(norm=False, dropout=0.0))
    made = course(method, victim, devices=devices, normalisation="frozen", epochs=2, **how)
    return replace(made, training=Bars(count))


@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_learn_what_one_learns_alone(name):
    outcomes, weights = {}, {}
    for devices in (1, 2):
        made = shared(make_method(name), devices, **ALIKE[name])
        outcomes[devices] = train(made)
        weights[devices] = made.victim.model.state_dict()
        assert not made.victim.model.training
    for key, value in weights[1].items():
        torch.testing.assert_close(weights[2][key], value, rtol=0, atol=1e-5)
    one, two = (outcomes[devices] for devices in (1, 2))
    assert (one.best, one.stopped, one.steps) == (two.best, two.stopped, two.steps)
    for alone, together in zip(one.history, two.history, strict=True):
        assert (alone.step, alone.clean, alone.attacked) == (together.step, together.clean, together.attacked)
        assert alone.loss == pytest.approx(together.loss, abs=1e-5)


def test_a_batch_with_fewer_images_than_processes():
    """Five images in batches of three: the last of two, so that the third process has none of its own."""
    weights = {}
    for devices in (1, 3):
        made = shared(Control(), devices, count=5, batch_size=3)
        train(made)
        weights[devices] = made.victim.model.state_dict()
    for key, value in weights[1].items():
        torch.testing.assert_close(weights[3][key], value, rtol=0, atol=1e-5)


SCRIPT = """
import sys
from contextlib import contextmanager
from pathlib import Path
from safetensors.torch import save_file
from learning import course
from medrobust.training import AdversarialTraining, train

@contextmanager
def watch(steps):
    yield lambda step, *_: print(step, flush=True)

made = course(AdversarialTraining(), epochs=6, devices=2, normalisation="adversarial")
train(made, Path(sys.argv[1]), "x", watch, save_every=-1)
save_file(made.victim.model.state_dict(), sys.argv[2])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_that_are_stopped_end_where_undisturbed_ones_do(tmp_path, how):
    """Killed all at once, or told by Ctrl-C; dropout and statistics of BatchNorm included. A script needs no guard."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    call = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path / "checkpoint"), str(tmp_path / "made")]
    options = {"env": environment, "text": True}
    with subprocess.Popen(
        call, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            reached = int(process.stdout.readline())
        os.killpg(process.pid, how)
        _, told = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert told.strip().endswith("KeyboardInterrupt")
    again = subprocess.run(call, check=True, stdout=subprocess.PIPE, **options).stdout.split()
    assert reached <= int(again[0]) <= reached + 2  # it goes on where it was
    whole = course(AdversarialTraining(), epochs=6, devices=2, normalisation="adversarial")
    train(whole)
    stopped = load_file(tmp_path / "made")
    assert all(torch.equal(value, stopped[name]) for name, value in whole.victim.model.state_dict().items())


def test_what_goes_wrong_in_a_process_is_told_here():
    with pytest.raises(InputError, match="is not finite at step"):
        train(shared(Control(), 2, learning_rate=1e30))


def test_another_number_of_devices_does_not_go_on_from_the_same_file(tmp_path):
    path, victim = tmp_path / "checkpoint.safetensors", victim_of(network())

    def hardened(devices):
        how = Training(epochs=1, batch_size=16, devices=devices)
        threat = mr.Threat(eps=0.1)
        return mr.harden(victim, Bars(), Bars(8, seed=1), AdversarialTraining(), threat, how, checkpoint=path)

    first = hardened(2)
    again = hardened(2)
    assert again.outcome == first.outcome
    for key, value in first.victim.model.state_dict().items():
        assert torch.equal(again.victim.model.state_dict()[key], value)
    with pytest.raises(InputError, match="is of a training with another model, data, method or options"):
        hardened(1)
