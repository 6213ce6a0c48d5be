"""Attacks that go on where those of the last epoch ended; and channels_last, in which a model learns the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from learning import course, network, victim_of

import medrobust as mr
from medrobust.attacks.unjudged import attacked_images
from medrobust.errors import InputError
from medrobust.training import AdversarialTraining, Control, Engine, FreeTraining, make_method
from medrobust.training.warm import LastChanges


def test_changes_are_kept_by_image_and_unknown_images_start_at_random():
    images = torch.full((3, 1, 2, 2), 0.5)
    space = mr.Threat(eps=0.25).space(images, (0.0, 1.0))
    changes = LastChanges()
    changes.keep([4, 7], torch.stack([torch.full((1, 2, 2), 0.125), torch.full((1, 2, 2), -0.25)]))
    starts = changes.starts([7, 2, 4], images, space, 0, "abc")
    assert (starts[0] == 0.25).all()
    assert (starts[2] == 0.625).all()
    assert 0 < (starts[1] - 0.5).abs().max() <= 0.25
    assert torch.equal(starts[1], changes.starts([2, 8, 9], images, space, 0, "bxz")[0])  # by seed and id alone
    again = LastChanges()
    again.fill(changes.tensors())
    assert torch.equal(again.starts([4, 7, 4], images, space, 0, "abc")[0], starts[2])


def test_an_attack_of_the_second_epoch_starts_at_the_end_of_that_of_the_first():
    """Written out: what the first epoch handed in is where the attack of the second began, ball and all."""
    seen: dict[str, list[tuple[int, torch.Tensor, torch.Tensor | None]]] = {}

    class Watched(AdversarialTraining):
        def images(self, step):
            attacked = super().images(step)
            begun = attacked_images(
                self.attack, step.victim, step.images, step.truth, step.threat, step.seed, step.ids, step.start
            )
            assert torch.equal(attacked, begun)
            for one, change, start in zip(step.ids, attacked - step.images, step.start - step.images, strict=True):
                seen.setdefault(one, []).append((change, start))
            return attacked

    Engine(course(Watched(attack=mr.BIM(steps=1)), warm_start=True, epochs=3)).run()
    assert len(seen) == 32
    for epochs in seen.values():
        (first, begun), (second, from_first), (_, from_second) = epochs
        assert 0 < begun.abs().max() <= 16 / 255 + 1e-6
        # a start is kept in eight binary digits
        torch.testing.assert_close(from_first, first, rtol=2**-8, atol=1e-7)
        torch.testing.assert_close(from_second, second, rtol=2**-8, atol=1e-7)


def test_the_images_of_free_training_go_on_too():
    starts = []

    class Watched(FreeTraining):
        def images(self, step):
            begun = super().images(step)
            starts.append((step.ids, (begun - step.images).detach(), (step.start - step.images).clone()))
            return begun

    Engine(course(Watched(replays=2), warm_start=True, epochs=2)).run()
    for _, begun, given in starts:
        torch.testing.assert_close(begun, given, rtol=2**-8, atol=1e-6)  # rounded beyond the ball, and put back


def test_one_warm_step_finds_more_than_one_cold_step_by_the_third_epoch():
    """The attack inside, on a model that hardly moves: steps add up over epochs."""
    found = {}
    for warm in (False, True):
        losses = []

        class Watched(AdversarialTraining):
            def loss(self, step, attacked, losses=losses):
                loss = super().loss(step, attacked)
                losses.append(float(loss.detach()))
                return loss

        method = Watched(attack=mr.PGD(steps=1, step_size=4 / 255))
        victim = victim_of(network(norm=False, dropout=0.0))
        Engine(course(method, victim, warm_start=warm, epochs=3, learning_rate=1e-6)).run()
        found[warm] = sum(losses[-4:]) / 4
    assert found[True] > found[False] + 0.05


@pytest.mark.parametrize(
    ("method", "threat"),
    [
        (Control(), mr.Threat(eps=0.1)),
        (AdversarialTraining(attack=mr.APGD(steps=2)), mr.Threat(eps=0.1)),
        (AdversarialTraining(), mr.Contrast(0.1)),
    ],
)
def test_what_cannot_start_warm_is_told(method, threat):
    with pytest.raises(InputError, match="warm_start is for attacks that walk through changes of pixels"):
        Engine(replace(course(method, warm_start=True), threat=threat))


@pytest.mark.parametrize("masks", [False, True])
def test_channels_last_learns_the_same(masks):
    """The weights lie in that layout while they learn, and as they lay before at the end."""
    trained = {}
    for fast in (False, True):
        torch.manual_seed(1)
        model = network(masks=masks, dropout=0.0)
        model.insert(0, torch.nn.Conv2d(1, 1, 1))
        model.insert(1, torch.nn.Conv2d(1, 4, 3, padding=1))
        model.insert(2, torch.nn.Conv2d(4, 1, 3, padding=1))
        victim = mr.Victim(model, victim_of(model, masks=masks).task, mean=0.5, std=0.25, channels_last=fast)
        layouts = []

        class Watched(AdversarialTraining):
            def loss(self, step, attacked, model=model, layouts=layouts):
                layouts.append(model[2].weight.is_contiguous())
                return super().loss(step, attacked)

        Engine(course(Watched(), victim, masks=masks, normalisation="frozen")).run()
        assert layouts == [not fast] * 8
        trained[fast] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in trained[False].items():
        torch.testing.assert_close(trained[True][name], value, rtol=1e-3, atol=1e-4)
        assert trained[True][name].is_contiguous()


def test_training_in_channels_last_goes_on_to_the_very_same_weights(tmp_path):
    def engine(path, tell=lambda *_: None):
        victim = victim_of(network(masks=True), masks=True)
        victim.channels_last = True
        return Engine(course(make_method("pgd-at"), victim, masks=True), path, "x", save_every=-1, tell=tell), victim

    class Stopped(Exception):
        pass

    def stop(step, *_):
        if step == 3:
            raise Stopped

    whole, undisturbed = engine(None)
    whole.run()
    with pytest.raises(Stopped):
        engine(tmp_path / "c.safetensors", stop)[0].run()
    second, again = engine(tmp_path / "c.safetensors")
    second.run()
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
