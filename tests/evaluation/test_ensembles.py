"""An ensemble from a run to its report: the member each image is from, budgets in one call."""

from __future__ import annotations

import warnings

import pytest

import medrobust as mr
from medrobust.attacks.ensembles import Ensemble
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
from medrobust.errors import InputError, MedrobustWarning
from medrobust.report.effort import members


def test_who_broke_what(trained, tmp_path):
    victim, images, truth = trained
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(16)])
    ensemble = Ensemble(members=[("fgsm", mr.FGSM()), ("pgd", mr.PGD(steps=20))])
    threats = [mr.Threat(8 / 255), mr.Threat(2 / 255)]
    attacks = {"fgsm": mr.FGSM(), "both": ensemble}
    run = mr.evaluate(victim, data, attacks, threats, batch_size=5)
    rows = run.records.filter(attack="both")
    assert set(rows["found_by"]) <= {"fgsm", "pgd", "clean"}
    for eps in (8 / 255, 2 / 255):
        alone, both = (run.records.filter(attack=name, eps=eps).sort("index") for name in attacks)
        assert all(b or not a for a, b in zip(alone["success"], both["success"], strict=True))
    (part,) = run.info.parts.values()
    found = members(run.records, part)
    assert [line.budget for line in found] == ["L∞ ≤ 2/255", "L∞ ≤ 8/255"]
    for line, eps in zip(found, (2 / 255, 8 / 255), strict=True):
        broken = rows.filter(eps=eps).filter("success")
        assert line.broken == f"{len(broken)} of 16 images"
        assert sum(int(count) for _, count in line.by) == len(broken)
    run.save(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "both (of 2 attacks) is an ensemble" in page
    assert mr.load_run(tmp_path / "run").records.equals(run.records)


STANDARD = {
    "standard": {"steps": 2, "targets": 2, "queries": 10},
    "medrobust": {"steps": 2, "targets": 2, "queries": 10},
}
WITHOUT = {"standard": "apgd, apgd-t, fab-t", "medrobust": "smia, apgd, apgd-t, fab-t"}


@pytest.mark.parametrize("name", STANDARD)
def test_what_an_ensemble_goes_without_on_a_black_box_is_told_once_and_in_the_report(trained, name):
    victim, images, truth = trained
    box = mr.BlackBox(lambda shown: victim(shown), victim.task, victim.bounds)
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(6)])
    words = f"goes without {WITHOUT[name]} (a black box gives no gradients); what is left: square."
    attack = mr.make_attack(name, STANDARD[name])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # Python's own
        run = mr.evaluate(box, data, {"mine": attack}, [mr.Threat(1 / 255), mr.Threat(2 / 255)], batch_size=2)
    told = [str(one.message) for one in caught if issubclass(one.category, MedrobustWarning)]
    assert told == [f"{type(attack).__name__} {words}"]
    (part,) = run.info.parts.values()
    assert part.dataset.notes == (f"mine {words}",)
    assert set(run.records["found_by"]) <= {"square", "clean"}
    assert words in " ".join(repr(run.table()).split())


def test_what_it_goes_without_by_its_threat_is_told_in_the_report(trained):
    """Also of an ensemble within one of a user's own; a warning would be an error here."""
    victim, images, truth = trained
    info = DatasetInfo("slices", "ordinal", tuple("abcde"), channels=1)
    data = InMemoryDataset(info, [Sample(f"s{k}", images[k], truth[k]) for k in range(2)])
    standard = mr.make_attack("standard", STANDARD["standard"])
    attacks = {"standard": standard, "own": Ensemble(members=[("fgsm", mr.FGSM()), ("aa", standard)])}
    threats = [mr.Threat(2.0, norm="l1"), mr.Threat(3.0, norm="l1"), mr.Threat(0.01)]
    (part,) = mr.evaluate(victim, data, attacks, threats).info.parts.values()
    words = "goes without square (not for changes within l1); what is left: apgd, apgd-t, fab-t."
    assert part.dataset.notes == (f"standard {words}", f"own (aa) {words}")


def test_where_none_can_attack_that_is_the_error(trained):
    victim, images, truth = trained
    box = mr.BlackBox(lambda shown: victim(shown), victim.task, victim.bounds)
    with pytest.raises(InputError, match="none of the attacks of Standard can attack this victim within l1"):
        mr.make_attack("standard")(box, images, truth, mr.Threat(2.0, norm="l1"))
