"""The verdict: a gain beyond luck is needed, a loss at anything forbids, all numbers are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.train.reinforce.gate import compared, verdict

NONE, ALL = [False] * 50, [True] * 50


def test_chances_by_hand() -> None:
    assert compared([False] * 4, [True] * 4).chance == 1 / 16
    assert compared([False, False, True], [True, True, False]).chance == 0.5  # 2 or 3 of 3
    assert compared([True, False], [True, False]).chance == 1.0
    one = compared([True, False, False, False], [False, True, True, False])
    assert (one.asked, one.before, one.after, one.gained, one.lost) == (4, 1, 2, 2, 1)


def test_a_clear_gain_is_kept() -> None:
    found = verdict({"program": NONE, "recall": ALL}, {"program": [True] * 6 + NONE[6:], "recall": ALL})
    assert found.keep
    assert found.why == "better at program"


def test_a_small_gain_is_not() -> None:
    found = verdict({"program": NONE}, {"program": [True] * 4 + NONE[4:]})
    assert not found.keep
    assert found.why == "no gain beyond luck"


def test_a_loss_elsewhere_forbids() -> None:
    after = {"program": ALL, "recall": [False, False, *ALL[2:]]}
    found = verdict({"program": NONE, "recall": ALL}, after)
    assert not found.keep
    assert found.why == "worse at recall"
    assert verdict({"program": NONE, "recall": ALL}, after | {"recall": [False, *ALL[1:]]}).keep


def test_looks_at_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="different prompts"):
        verdict({"program": NONE}, {"program": NONE[1:]})
    with pytest.raises(ValueError, match="different prompts"):
        verdict({"program": NONE}, {"recall": NONE})


def test_it_is_written_whole(tmp_path: Path) -> None:
    verdict({"program": NONE}, {"program": ALL}).write(tmp_path / "gate.json")
    found = json.loads((tmp_path / "gate.json").read_text())
    assert found["keep"] is True
    assert found["kinds"]["program"] == {
        "asked": 50, "before": 0, "after": 50, "gained": 50, "lost": 0, "chance": 2.0**-50,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]
