"""Each check of trust fails on a model that was built to fail it; an honest model passes all of them."""

from __future__ import annotations

import json

import broken_models as broken
import pytest
import torch
from broken_models import BROKEN, USUAL, on_few_levels, on_grid
from torch import Tensor, nn

import medrobust as mr
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.statistics import Check
from medrobust.statistics.trust_rules import RULES


def dataset_of(images: Tensor, truth: Tensor) -> InMemoryDataset:
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), 1)
    return InMemoryDataset(info, [Sample(f"s{k}", *pair) for k, pair in enumerate(zip(images, truth, strict=True))])


def checks_of(model: nn.Module, images: Tensor, truth: Tensor, levels=(2, 4, 8), attacks=None, **options) -> dict:
    """Key → check of a run on a model; randomness of the model itself comes from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        run = mr.evaluate(
            mr.Victim(model, mr.Classification(5, ordinal=True)),
            dataset_of(images, truth),
            attacks or USUAL,
            [mr.Threat(eps=level / 255) for level in levels],
            probes=16,
            gallery=0,
            **options,
        )
    ((_, checks),) = run.trust.items()
    assert [check.key for check in checks] == list(RULES)
    return {check.key: check for check in checks}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_fails_its_check(trained, name):
    case = BROKEN[name]
    victim, images, truth = trained
    checks = checks_of(case.model(victim.model), case.images(images), truth, **case.options)
    assert {key: checks[key].verdict for key in case.verdicts} == case.verdicts


def test_every_check_has_a_model_that_fails_it():
    failed = {key for case in BROKEN.values() for key in case.verdicts}
    assert failed | {"transfer"} == set(RULES)  # that one has a test of its own


def test_a_sigmoid_inside_a_model_of_labels(trained):
    """Its outputs do not sum to 1 over the labels, and are probabilities all the same."""
    victim, images, _ = trained
    task = mr.Classification(5, multilabel=True)
    info = DatasetInfo("slices", "multilabel", tuple("abcde"), 1)
    for model, verdict in ((broken.InnerSigmoid(victim.model), "fail"), (victim.model, "pass")):
        labels = mr.Victim(model, task)
        truth = task.predict(labels(images))
        samples = [Sample(f"s{k}", *pair) for k, pair in enumerate(zip(images, truth, strict=True))]
        run = mr.evaluate(labels, InMemoryDataset(info, samples), USUAL, [mr.Threat(eps=4 / 255)], probes=4, gallery=0)
        ((_, checks),) = run.trust.items()
        assert {check.key: check.verdict for check in checks}["logits"] == verdict
        told = " ".join(run.info.parts["slices"].dataset.notes)
        assert ("look like probabilities" in told) == (verdict == "fail")


def test_an_honest_model_passes_them_all(trained):
    victim, images, truth = trained
    other = mr.Victim(broken.untrained(victim.model), victim.task)
    checks = checks_of(victim.model, images, truth, expect=1.0, surrogates={"another": other})
    assert {key: check.verdict for key, check in checks.items()} == dict.fromkeys(RULES, "pass")


@pytest.mark.parametrize("change", [on_grid, on_few_levels])
def test_an_honest_model_passes_on_the_images_that_broken_ones_were_shown(trained, change):
    victim, images, truth = trained
    checks = checks_of(victim.model, change(images), truth)
    assert not [check for check in checks.values() if check.verdict == "fail"]


def test_what_another_model_finds_is_more(trained):
    victim, images, truth = trained
    checks = checks_of(broken.RoundedInput(victim.model), images, truth, surrogates={"honest": victim})
    assert checks["transfer"].verdict == "fail"
    assert checks["transfer"].measured > 0.3


def test_a_weakness_that_the_runs_own_square_finds(trained):
    victim, images, truth = trained
    attacks = {
        "pgd": mr.PGD(),
        "square": mr.Square(queries=100),
        "all": mr.Ensemble(members={"pgd": mr.PGD(), "square": mr.Square(queries=100)}),
    }
    for chosen in (("pgd", "square"), ("all",)):
        checks = checks_of(
            broken.RoundedInput(victim.model), images, truth, attacks={label: attacks[label] for label in chosen}
        )
        assert checks["answers alone"].verdict == "fail", chosen


def test_a_model_with_no_gradient_refuses_gradient_attacks_as_before(trained):
    victim, images, truth = trained
    with pytest.raises(InputError, match="differentiable path"):
        checks_of(broken.CompressedInput(victim.model), images, truth)


def test_a_defence_that_is_told_may_pass_its_gradient_through(trained):
    victim, images, truth = trained
    run = mr.evaluate(
        mr.defended(victim, mr.BitDepth(5)), dataset_of(images, truth), USUAL, [mr.Threat(eps=8 / 255)], probes=16
    )
    (checks,) = run.trust.values()
    slopes = next(check for check in checks if check.key == "slopes")
    assert slopes.verdict == "not applicable"
    assert "defence" in slopes.sentence


def test_they_are_the_same_once_saved_and_written_as_json(trained, tmp_path):
    victim, images, truth = trained
    run = mr.evaluate(
        mr.Victim(broken.Saturated(victim.model), victim.task),
        dataset_of(images, truth),
        USUAL,
        [mr.Threat(eps=4 / 255)],
        probes=8,
    )
    run.save(tmp_path / "run")
    assert mr.load_run(tmp_path / "run").trust == run.trust
    written = json.loads((tmp_path / "run" / "trust.json").read_text())
    assert [Check(**check) for check in written["slices"]] == run.trust["slices"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "These figures should not be trusted as they are" in page
    assert "Can the figures be trusted?" in page
    assert page.index("should not be trusted") < page.index("<h3>Results by attack and budget</h3>")


def test_probing_leaves_the_model_and_the_random_state_alone(trained):
    victim, images, truth = trained
    state, weights = torch.random.get_rng_state(), {n: w.clone() for n, w in victim.model.state_dict().items()}
    checks_of(victim.model, images, truth)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(weights[name], weight) for name, weight in victim.model.state_dict().items())
