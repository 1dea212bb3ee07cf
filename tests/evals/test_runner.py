"""Runs over kinds, lengths and controls."""

from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.evals.runner import CONTROLS, RecallPlan, run_recall
from tests.support.small_text import small_prose
from tests.support.tiny_llm import tiny_llm


def test_every_cell_and_control_in_order(tmp_path: Path) -> None:
    text = tmp_path / "held_out.txt"
    text.write_text(small_prose(120, seed=5), "utf-8")
    llm = tiny_llm(tmp_path / "model")
    plan = RecallPlan(
        cells=(("fact", str(text)), ("quotation", str(text))), lengths=(1200, 700), count=2,
        controls=("random picks", "HCA off"), control_limit=700,
        max_tokens=3,
    )  # fmt: skip
    titles: list[str] = []
    results = list(run_recall(llm, llm.tokenizer, plan, progress=lambda title, *_: titles.append(title)))
    assert [(r.kind, r.length, r.control) for r in results] == [
        ("fact", 700, "none"), ("fact", 700, "random picks"), ("fact", 700, "HCA off"),
        ("quotation", 700, "none"), ("quotation", 700, "random picks"), ("quotation", 700, "HCA off"),
        ("fact", 1200, "none"), ("quotation", 1200, "none"),
    ]  # fmt: skip
    assert all(len(r.outcomes) == 2 for r in results)
    assert "fact 700 HCA off" in titles


def test_controls_change_what_the_model_answers(tmp_path: Path) -> None:
    text = tmp_path / "held_out.txt"
    text.write_text(small_prose(120, seed=5), "utf-8")
    llm = tiny_llm(tmp_path / "model", seed=3)
    plan = RecallPlan(cells=(("fact", str(text)),), lengths=(1000,), count=4, controls=tuple(CONTROLS), max_tokens=8)
    given = {r.control: [o.given for o in r.outcomes] for r in run_recall(llm, llm.tokenizer, plan)}
    assert list(given) == ["none", "random picks", "HCA off", "any words"]
    assert given["any words"] == given["none"]  # this model does not quote
    assert given["random picks"] != given["none"] != given["HCA off"]


def test_bad_plans_are_named() -> None:
    with pytest.raises(UsageError, match="unknown control 'no head'"):
        RecallPlan(cells=(("fact", "a"),), lengths=(10,), controls=("no head",))
    with pytest.raises(UsageError, match="at least one cell"):
        RecallPlan(cells=(), lengths=(10,))
