"""An ensemble from a run to its report: the member each image is from, budgets in one call."""

from __future__ import annotations

import medrobust as mr
from medrobust.attacks.ensembles import Ensemble
from medrobust.data import DatasetInfo, InMemoryDataset, Sample
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
