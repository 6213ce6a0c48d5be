"""Images that are fooled leave the batch; what leaves is what would be saved, and no other image notices."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from tiny_detectors import CLASSES, tiny_detector
from victims import Greedy

import medrobust as mr
from medrobust.errors import InputError

THREAT = mr.Threat(eps=6 / 255)


@pytest.fixture(scope="module")
def crowd(trained):
    """The 16 images, of which some fall fast, some late, some never."""
    victim, images, truth = trained
    whole = mr.PGD(steps=8, keep="best")(victim, images, truth, THREAT)
    assert 0 < int(whole.success.sum()) < 16, "all or none is fooled: nothing can be told apart"
    return victim, images, truth


@pytest.mark.parametrize(
    "attack",
    [
        mr.BIM(steps=8),
        mr.PGD(steps=8, restarts=2, keep="best"),
        mr.SMIA(steps=8, momentum=0.9),
        mr.VMIFGSM(steps=8, neighbours=2),
        mr.SINIFGSM(steps=8, copies=2),
        mr.DIFGSM(steps=8, momentum=1.0),
        mr.PIFGSM(steps=8),
        mr.APGD(steps=12),
        mr.APGDT(steps=8, targets=3),
        mr.PGD(steps=8, step="adam", inputs=[{"eot": {"transform": {"noise": {"sigma": 0.01}}, "samples": 2}}]),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_who_stays_goes_on_as_if_nobody_had_left(crowd, attack):
    """Who was fooled on the way counts, and the unfooled end at the same image."""
    victim, images, truth = crowd
    whole = attack(victim, images, truth, THREAT)
    early = replace(attack, early_stop=True)(victim, images, truth, THREAT)
    assert bool((early.success >= whole.success).all())
    stayed = ~early.success
    assert bool(stayed.any())
    assert bool(early.success.any())
    differing = (early.adversarial[stayed] - whole.adversarial[stayed]).abs() > 1e-6
    assert float(differing.double().mean()) <= 0.002, "a sign step turns on rounding here and there, no more"
    assert early.steps_used[stayed].tolist() == whole.steps_used[stayed].tolist()
    assert int(early.steps_used[early.success].sum()) < int(whole.steps_used[early.success].sum())


def test_success_is_judged_on_what_would_be_saved(crowd):
    """On a coarse grid an iterate may fool that its rounded image does not: it must not leave."""
    victim, images, truth = crowd
    grid = mr.Threat(eps=6 / 255, quantum=2 / 255)
    images = (images * 127.5).round() / 127.5
    result = mr.BIM(steps=8, early_stop=True)(victim, images, truth, grid)
    fresh = victim.task.fooled(victim(result.adversarial), truth)
    assert torch.equal(result.success, fresh)
    levels = result.adversarial.double() * 127.5
    assert float((levels - levels.round()).abs().max()) < 1e-4


def test_an_image_that_is_wrong_already_is_left_as_it_is(crowd):
    victim, images, truth = crowd
    wrong = (truth + 1) % 5
    result = mr.PGD(early_stop=True, random_start=False)(victim, images, wrong, THREAT)
    assert torch.equal(result.adversarial, images)
    assert result.steps_used.tolist() == [0] * 16


def test_the_model_sees_fewer_images(crowd):
    victim, images, truth = crowd
    seen = []
    hook = victim.model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    mr.BIM(steps=8)(victim, images, truth, THREAT)
    whole, seen[:] = sum(seen), []
    mr.BIM(steps=8, early_stop=True)(victim, images, truth, THREAT)
    hook.remove()
    assert sum(seen) < whole


def test_per_image_eps_and_masks_go_along(crowd):
    victim, images, truth = crowd
    eps = torch.linspace(1, 12, 16) / 255
    mask = (torch.arange(images.shape[-1]) % 2 == torch.arange(16)[:, None]).reshape(16, 1, 1, -1)
    mask = mask | (torch.arange(16) > 7).reshape(16, 1, 1, 1)
    threat = mr.Threat(eps=eps, mask=mask)
    result = mr.PGD(steps=8, early_stop=True)(victim, images, truth, threat)
    assert bool((result.delta.flatten(1).abs().amax(1) <= eps + 1e-6).all())
    assert not bool(result.delta[~mask.expand_as(result.delta)].any())
    for place in (0, 15):
        alone = mr.PGD(steps=8, early_stop=True)(
            victim, images[[place]], truth[[place]], mr.Threat(float(eps[place]), mask=mask[place]), ids=[place]
        )
        assert torch.allclose(alone.adversarial[0], result.adversarial[place], atol=1e-6)


def test_a_detectors_goals_go_along():
    """TOG's and DAG's goals are of the clean images: they leave with them."""
    victim = mr.Victim(tiny_detector("ssdlite"), mr.Detection(CLASSES, score=0.3))
    images = torch.rand(4, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        truth = victim.task.predict(victim(images)).clone()
    truth[0, :, 4] = torch.where(truth[0, :, 4] < 0, truth[0, :, 4], (truth[0, :, 4] + 1) % CLASSES)  # wrong already
    for attack in (mr.TOG(steps=3, early_stop=True), mr.DAG(steps=3, early_stop=True)):
        result = attack(victim, images, truth, mr.Threat(2 / 255))
        assert result.steps_used[0] == 0
        assert bool((result.steps_used[1:] > 0).all())
        with torch.no_grad():
            assert torch.equal(result.success, victim.task.fooled(victim(result.adversarial), truth))
        alone = attack(victim, images[2:3], truth[2:3], mr.Threat(2 / 255), ids=[2])
        assert float(((alone.adversarial[0] - result.adversarial[2]).abs() > 1e-6).double().mean()) <= 0.05  # rounding


def test_a_trace_is_not_cut_short():
    with pytest.raises(InputError, match="trace records the whole way, which early_stop cuts short"):
        mr.PGD(trace=True, early_stop=True)


class TestBudgets:
    """Several budgets in one call."""

    THREATS = (mr.Threat(8 / 255), mr.Threat(1 / 255), mr.Threat(4 / 255))

    def test_they_are_those_of_one_after_the_other(self, crowd):
        victim, images, truth = crowd
        together = mr.SMIA(steps=4)(victim, images, truth, list(self.THREATS))
        for threat, result in zip(self.THREATS, together, strict=True):
            assert torch.equal(result.adversarial, mr.SMIA(steps=4)(victim, images, truth, threat).adversarial)

    def test_what_falls_early_is_not_attacked_again(self, crowd):
        victim, images, truth = crowd
        attack = mr.PGD(steps=6, early_stop=True)
        assert attack.shares_budgets
        large, small, middle = attack(victim, images, truth, list(self.THREATS))
        assert bool((small.success <= middle.success).all())
        assert bool((middle.success <= large.success).all())
        assert torch.equal(middle.adversarial[small.success], small.adversarial[small.success])
        assert int(middle.steps_used[small.success].sum()) == 0
        for threat, result in zip(self.THREATS, (large, small, middle), strict=True):
            assert float(result.delta.abs().max()) <= threat.eps + 1e-6
            alone = attack(victim, images, truth, threat)
            assert bool((result.success >= alone.success).all())

    def test_other_norms_share_nothing(self, crowd):
        victim, images, truth = crowd
        threats = [mr.Threat(8 / 255), mr.Threat(0.3, norm="l2")]
        first, second = mr.PGD(steps=4, early_stop=True)(victim, images, truth, threats)
        alone = mr.PGD(steps=4, early_stop=True)(victim, images, truth, threats[1])
        assert torch.equal(second.adversarial, alone.adversarial)
        assert float(first.delta.abs().max()) <= 8 / 255 + 1e-6

    def test_a_threat_that_is_none_is_told(self, crowd):
        victim, images, truth = crowd
        with pytest.raises(InputError, match="threat must be a Threat"):
            mr.PGD()(victim, images, truth, [mr.Threat(0.1), 0.2])
        with pytest.raises(InputError, match="one budget at a time"):
            mr.PGD()(victim, list(images), list(truth), [mr.Threat(0.1), mr.Threat(0.2)])


class TestMemory:
    """A batch too large for the memory."""

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"),
            MemoryError(),
        ],
        ids=["cuda", "cpu", "python"],
    )
    def test_it_is_halved_and_the_result_is_the_same(self, crowd, error):
        victim, images, truth = crowd
        small = mr.Victim(Greedy(victim.model, 5, error), victim.task)
        eps = torch.linspace(2, 8, 16) / 255
        expected = mr.PGD(steps=3)(victim, images, truth, mr.Threat(eps=eps))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            result = mr.PGD(steps=3)(small, images, truth, mr.Threat(eps=eps))
        assert [str(warning.message) for warning in told] == [
            f"out of memory with {count} images at once: going on with {count // 2}; the results are the same"
            for count in (16, 8)
        ]
        assert torch.allclose(result.adversarial, expected.adversarial, atol=1e-6)
        assert torch.equal(result.success, expected.success)
        assert result.steps_used.tolist() == [3] * 16

    def test_of_several_budgets(self, crowd):
        victim, images, truth = crowd
        small = mr.Victim(Greedy(victim.model, 8, MemoryError()), victim.task)
        threats = [mr.Threat(2 / 255), mr.Threat(4 / 255)]
        with pytest.warns(UserWarning, match="going on with 8"):
            results = mr.BIM(steps=2)(small, images, truth, threats)
        for threat, result in zip(threats, results, strict=True):
            expected = mr.BIM(steps=2)(victim, images, truth, threat)
            assert torch.allclose(result.adversarial, expected.adversarial, atol=1e-6)

    def test_one_image_that_is_too_large_is_an_error(self, crowd):
        victim, images, truth = crowd
        small = mr.Victim(Greedy(victim.model, 0, MemoryError("out")), victim.task)
        with pytest.raises(InputError, match="out of memory with a single image; resize the images"):
            mr.BIM(steps=1)(small, images[:1], truth[:1], THREAT)

    def test_other_errors_are_not_retried(self, crowd):
        victim, images, truth = crowd
        broken = mr.Victim(Greedy(victim.model, 0, RuntimeError("shape mismatch")), victim.task)
        with pytest.raises(RuntimeError, match="shape mismatch"):
            mr.BIM(steps=1)(broken, images, truth, THREAT)
