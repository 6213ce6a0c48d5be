"""Attacks traced step by step: rows worked by hand, common starts, pictures that say what the rows say."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest
import torch
from torch import nn
from victims import CASES, build

from medrobust.attacks import MIFGSM, PGD, SMIA, Square, make_attack
from medrobust.attacks.catalogue import ATTACKS
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError
from medrobust.evaluation.trajectories import MEASURES, OUTCOME_SCHEMA, STEP_SCHEMA, Tracing, trace
from medrobust.tasks import Classification
from medrobust.threat import Deformation, Threat, sample_generators
from medrobust.victim import Victim

STEPS = 3
THREE = {"pgd": PGD(steps=STEPS), "mi": MIFGSM(steps=STEPS), "smia": SMIA(steps=STEPS)}

TWO = {label: THREE[label] for label in ("mi", "smia")}


def dataset_of(name: str) -> tuple[Victim, InMemoryDataset, Threat]:
    case = CASES[name]
    victim, images, truth = build(case)
    task = "segmentation" if "segmentation" in name else "classification"
    classes = tuple(f"class {number}" for number in range(case.classes))
    info = DatasetInfo("phantoms", task, classes, images.shape[1], case.bounds)
    samples = [
        Sample(f"secret {place}", image, answer, patient=f"patient {place // 2}")
        for place, (image, answer) in enumerate(zip(images, truth, strict=True))
    ]
    return victim, InMemoryDataset(info, samples), Threat(case.eps)


class Slope(nn.Module):
    """One pixel; the logit of class 1 is 4x − 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = 4 * x.flatten(1)[:, 0] - 2
        return torch.stack([torch.zeros_like(value), value], 1)


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_one_pixel_by_hand():
    """A step of twice the budget ends at x − eps, from wherever it began."""
    eps, x = 0.1, 0.6
    victim = Victim(Slope(), Classification(2))
    info = DatasetInfo("one pixel", "classification", ("no", "yes"), 1)
    data = InMemoryDataset(info, [Sample("a", torch.full((1, 1, 1), x), torch.tensor(1))])
    found = trace(victim, data, Tracing({"pgd": PGD(steps=1, step_size=2 * eps)}, Threat(eps), [4]), "part")
    [generator] = sample_generators(4, ["a"], "start 0")
    start = x + eps * (2 * float(torch.rand(1, 1, 1, generator=generator)) - 1)
    before, after = (1 / (1 + math.exp(2 - 4 * at)) for at in (start, x - eps))
    first, last = found.steps.sort("step").iter_rows(named=True)
    wanted = {
        "kl_final": (kl(before, after), 0.0),
        "kl_initial": (0.0, kl(before, after)),
        "kl_previous": (math.nan, kl(after, before)),
        "kl_smoothed": (0.0, 0.0),  # of one pixel, smoothing changes nothing
        "deviation": (-math.log(before), -math.log(after)),
        "linf": (abs(start - x), eps),
        "moved": (math.nan, start - (x - eps)),
    }
    for name, values in wanted.items():
        assert (first[name], last[name]) == pytest.approx(values, rel=1e-4, abs=1e-6, nan_ok=True), name
    [outcome] = found.outcomes.iter_rows(named=True)
    clean = 1 / (1 + math.exp(2 - 4 * x))
    assert (outcome["value_before"], outcome["value_after"], outcome["success"]) == (1.0, 0.0, True)
    assert outcome["loss_before"] == pytest.approx(-math.log(clean), rel=1e-5)
    assert outcome["loss_after"] == pytest.approx(-math.log(after), rel=1e-5)
    assert outcome["seed_distance"] is None
    assert outcome["image_distance"] is None


@pytest.mark.parametrize("name", ["ordinal", "segmentation ignored", "segmentation multi-label", "segmentation 3-D"])
def test_a_row_for_every_step_and_none_else(name):
    victim, data, threat = dataset_of(name)
    found = trace(victim, data, Tracing(THREE, threat, [0, 1], pictures=1), "part")
    assert found.steps.schema == STEP_SCHEMA
    assert found.outcomes.schema == OUTCOME_SCHEMA
    key = ["part", "index", "attack", "seed"]
    assert len(found.outcomes) == len(data) * len(THREE) * 2
    assert not found.outcomes.select(key).is_duplicated().any()
    counts = found.steps.group_by(key).agg(pl.col("step").sort())
    assert len(counts) == len(found.outcomes)
    assert all(steps == list(range(STEPS + 1)) for steps in counts["step"].to_list())
    assert "secret" not in str(found.outcomes.rows()) + str(found.steps.rows())
    # what the last row says is what came of it
    both = found.outcomes.join(found.steps.filter(step=STEPS), key)
    assert both["loss_after"].to_list() == pytest.approx(both["deviation"].to_list(), rel=1e-3, abs=1e-5)
    assert both["l2_right"].to_list() == pytest.approx(both["l2"].to_list(), rel=1e-3)


def test_all_attacks_begin_at_the_same_point_and_each_seed_at_another():
    victim, data, threat = dataset_of("ordinal")
    first = trace(victim, data, Tracing(THREE, threat, [0, 1]), "part").steps.filter(step=0)
    apart = first.group_by("index", "seed").agg(pl.col("deviation").n_unique())
    assert set(apart["deviation"]) == {1}
    seeds = first.filter(attack="pgd").group_by("index").agg(pl.col("deviation").n_unique())
    assert set(seeds["deviation"]) == {2}


def test_results_hang_on_neither_batch_nor_company():
    victim, data, threat = dataset_of("1 channel")
    whole = trace(victim, data, Tracing(THREE, threat, [0]), "part")
    alone = trace(victim, data, Tracing({"smia": THREE["smia"]}, threat, [0], batch_size=1), "part")
    key = ["index", "step"]
    one, other = whole.steps.filter(attack="smia").sort(key), alone.steps.sort(key)
    for name in MEASURES:
        assert one[name].to_list() == pytest.approx(other[name].to_list(), rel=1e-3, abs=1e-6, nan_ok=True), name
    assert whole.outcomes.filter(attack="smia").sort("index")["image_distance"].to_list() == pytest.approx(
        alone.outcomes.sort("index")["image_distance"].to_list(), rel=1e-3
    )


def test_some_images_keep_their_place_in_the_data_set():
    victim, data, threat = dataset_of("1 channel")
    found = trace(victim, data, Tracing(THREE, threat, [0], images=2), "part")
    assert found.evaluated == 2
    assert found.outcomes["index"].unique().to_list() == [0, 2]


def test_maps_are_those_of_the_rows():
    victim, data, threat = dataset_of("segmentation")
    found = trace(victim, data, Tracing(THREE, threat, [0, 1], pictures=1), "part")
    assert {(one.index, one.attack) for one in found.maps} == {(0, label) for label in THREE}
    for one in found.maps:
        rows = found.steps.filter(index=0, attack=one.attack, seed=0).sort("step")
        for field, measure in (("final", "kl_final"), ("initial", "kl_initial")):
            maps = getattr(one, field)
            assert maps.shape == (len(one.steps), 8, 9)
            expected = [rows[measure][step] for step in one.steps]
            assert maps.flatten(1).mean(1).tolist() == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_the_surface_holds_the_losses_at_its_corners():
    victim, data, threat = dataset_of("1 channel")
    found = trace(victim, data, Tracing(TWO, threat, [0], pictures=1, surfaces=1), "part")
    assert [(one.first, one.second) for one in found.surfaces] == [("smia", "mi"), ("smia", "random")]
    rows = {row["attack"]: row for row in found.outcomes.filter(index=0).iter_rows(named=True)}
    for one in found.surfaces:
        middle = len(one.along) // 2
        one_length = int((one.along - 1).abs().argmin())
        assert float(one.along[one_length]) == pytest.approx(1)
        assert float(one.loss[middle, middle]) == pytest.approx(rows["smia"]["loss_before"], rel=1e-4)
        assert float(one.loss[middle, one_length]) == pytest.approx(rows["smia"]["loss_after"], rel=1e-4)
    # an attack that fills the ball ends on its border, or where it was cut to the bounds
    assert one.border[0].tolist() == pytest.approx([1, 0], abs=1e-4)


def test_the_border_of_an_l2_ball_is_a_circle_and_its_ends_lie_on_it():
    victim, data, _ = dataset_of("1 channel")
    found = trace(victim, data, Tracing(TWO, Threat(0.2, "l2"), [0], pictures=1), "part")
    plane = found.surfaces[0]
    lengths = plane.border.norm(dim=1)
    assert torch.allclose(lengths, lengths[:1], rtol=1e-5)
    assert torch.tensor(plane.end).norm() <= lengths[0] * (1 + 1e-4)


def test_the_loss_is_drawn_along_pgd_wherever_it_stands():
    victim, data, threat = dataset_of("1 channel")
    attacks = {"mi": MIFGSM(steps=2), "walk": PGD(steps=2, step_size=threat.eps / 9), "smia": SMIA(steps=2)}
    found = trace(victim, data, Tracing(attacks, threat, [0], pictures=1), "part")
    assert [(one.first, one.second) for one in found.surfaces] == [("smia", "walk"), ("smia", "random")]


def test_without_pixels_there_is_no_surface():
    victim, data, _ = dataset_of("segmentation")
    found = trace(victim, data, Tracing({"pgd": PGD(steps=2)}, Deformation(1.0), [0]), "part")
    assert found.surfaces == []
    assert len(found.maps) == 2


def test_one_direction_twice_spans_no_plane():
    victim, data, threat = dataset_of("1 channel")
    twice = {"smia": SMIA(steps=2), "again": SMIA(steps=2)}
    assert [one.second for one in trace(victim, data, Tracing(twice, threat, [0]), "part").surfaces] == ["random"]


def test_all_attacks_are_watched_under_the_smoothing_of_the_reference():
    victim, data, threat = dataset_of("1 channel")
    wide = {"kernel_size": 5, "sigma": 2.0}
    attacks = {"pgd": PGD(steps=2), "smia": SMIA(steps=2, **wide), "narrow": SMIA(steps=2)}
    first = trace(victim, data, Tracing(attacks, threat, [0], pictures=0), "part").steps.filter(step=0).sort("index")
    alone = trace(victim, data, Tracing({"smia": SMIA(steps=2)}, threat, [0], pictures=0), "part").steps.filter(step=0)
    own = first.filter(attack="smia")["kl_smoothed"].to_list()
    assert alone.sort("index")["kl_smoothed"].to_list() != pytest.approx(own, rel=1e-2), "the smoothing matters"
    for label in ("pgd", "narrow"):
        assert first.filter(attack=label)["kl_smoothed"].to_list() == pytest.approx(own, rel=1e-4, abs=1e-8), label


def test_the_reference_is_smia():
    assert Tracing(THREE, Threat(0.1)).reference == "smia"
    assert Tracing({"a": PGD(), "b": MIFGSM()}, Threat(0.1)).reference == "a"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attacks": {"sq": Square()}}, "attack 'sq' takes no steps whose way could be noted: leave it out"),
        ({"attacks": {"pgd": PGD(targeted=True)}}, "attack 'pgd' is targeted"),
        ({"attacks": {}}, "at least one attack and one seed"),
        ({"seeds": [1, 1]}, "a seed is given twice"),
        ({"images": 0}, "images must be a whole number of at least 1"),
        ({"pictures": -1}, "pictures must be a whole number of at least 0"),
    ],
)
def test_what_cannot_be_traced(changes, words):
    with pytest.raises(InputError, match=words):
        Tracing(**{"attacks": THREE, "threat": Threat(0.1), **changes})


@pytest.mark.parametrize("label", [name for name, entry in ATTACKS.items() if not entry.tasks])
def test_every_attack_is_traced_or_refused(label):
    victim, data, threat = dataset_of("1 channel")
    try:
        attack = make_attack(label)
        attack = replace(attack, steps=2) if "steps" in attack.describe() and label != "fgsm" else attack
        found = trace(victim, data, Tracing({label: attack}, threat, [0], images=1, pictures=0), "part")
    except InputError as error:
        said = str(error)
    else:
        said, found = "leave it out", found.steps.filter(step=1)
        assert len(found) == 1
    assert "leave it out" in said


def test_an_empty_or_unreadable_set():
    victim, data, threat = dataset_of("1 channel")
    with pytest.raises(InputError, match="no sample of 'phantoms' could be read: the data set is empty"):
        trace(victim, InMemoryDataset(data.info, []), Tracing(THREE, threat), "part")
    bad = [replace(data.samples[0], image=data.samples[0].image + 5)]
    with pytest.raises(InputError, match="no sample of 'phantoms' could be read; the first: image 'secret 0'"):
        trace(victim, InMemoryDataset(data.info, bad), Tracing(THREE, threat, skip_bad=True), "part")
