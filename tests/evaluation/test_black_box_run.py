"""A whole run on a model that shows its scores alone."""

from __future__ import annotations

import medrobust as mr
from medrobust.attacks.estimated import NES
from medrobust.attacks.hop_skip_jump import HopSkipJump
from medrobust.attacks.square import Square
from medrobust.black_box import BlackBox
from medrobust.data.embedded import open_embedded
from medrobust.data.subset import Subset
from medrobust.tasks import Classification


def test_a_run_with_each_attack(trained, tmp_path):
    victim, _, _ = trained
    data = open_embedded("level", split="test")
    asked = BlackBox(lambda images: victim(images), Classification(5, ordinal=True))
    attacks = {
        "square": Square(queries=10),
        "nes": NES(steps=1, directions=3),
        "hopskipjump": HopSkipJump(queries=40, directions=10),
    }
    subset = Subset(data, list(range(6)))
    run = mr.evaluate(asked, subset, attacks, [mr.Threat(2 / 255), mr.Threat(8 / 255)], batch_size=4, gallery=1)
    assert sorted(run.records["attack"].unique()) == sorted(attacks)
    (part,) = run.info.parts.values()
    assert part.victim["black_box"] is True
    assert part.parameters == 0
    run.save(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()
