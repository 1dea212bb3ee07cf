"""Comparing twins: shares of every arm, intervals of pairs, what the test asks for, and results that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.config.errors import UsageError
from octavo.evals.engram import MEMORY
from octavo.evals.facts_compare import TWIN, compare, difference, main, read, to_markdown
from octavo.evals.facts_run import FactOutcome, write

Knows = Callable[[str, str, int], bool]


def outcomes(knows: Knows, *, control: str = "none", facts: int = 32) -> list[FactOutcome]:
    """Towns 1 and 16 times shown and never, in both books; `knows(book, group, number)` says which are right."""
    made = []
    for book in ("closed", "open"):
        for exposures in (0, 1, 16):
            group = "invented" if exposures else "never"
            for number in range(facts):
                right = knows(book, group, number)
                made.append(FactOutcome(
                    id=f"river:{exposures}-{number}", group=group, exposures=exposures, wording="held_out", book=book,
                    control=control, expected="x", given="x" if right else "y", right=right,
                    chosen=0 if right else 3, choices=16, logprob=-1.0, best_other=-2.0,
                ))  # fmt: skip
    return made


def never(number: int) -> bool:
    return number < 2  # two of 32: one in 16


def recalls(closed: int, opened: int) -> Knows:
    def knows(book: str, group: str, number: int) -> bool:
        if book == "open":
            return number < opened
        return never(number) if group == "never" else number < closed

    return knows


def results(folder: Path) -> tuple[Path, Path]:
    """A model whose memory holds 26 of 32 facts, 4 without it; a twin that knows 10."""
    arms = [
        one for control, closed, opened in zip(MEMORY, (26, 4, 2), (30, 31, 20), strict=True)
        for one in outcomes(recalls(closed, opened), control=control)
    ]  # fmt: skip
    write(arms, folder / "engram", about={"engram": True, "model": "e"})
    write(outcomes(recalls(10, 30)), folder / "plain", about={"engram": False, "model": "p"})
    return folder / "engram" / "facts.json", folder / "plain" / "facts.json"


def test_every_arm_in_every_cell(tmp_path: Path) -> None:
    found = compare(*map(read, results(tmp_path)))
    assert found["arms"] == [TWIN, "Engram", "Engram off", "rows permuted"]
    cells = {(one["book"], one["group"], one["exposures"]): one for one in found["cells"]}
    assert set(cells) == {
        (b, g, n) for b in ("closed", "open") for g, n in (("never", 0), ("invented", 1), ("invented", 16))
    }
    once = cells["closed", "invented", 1]
    assert {name: one["right"] for name, one in once["choice"].items()} == {
        TWIN: 10, "Engram": 26, "Engram off": 4, "rows permuted": 2
    }  # fmt: skip
    assert (once["chance"], once["exact"]["Engram"]["asked"]) == (1 / 16, 32)
    assert once["choice_difference"]["points"] == pytest.approx(0.5)
    whole = next(one for one in found["totals"] if (one["book"], one["group"]) == ("closed", "invented"))
    assert (whole["exposures"], whole["choice"]["Engram"]["right"], whole["choice"]["Engram"]["asked"]) == (
        None,
        52,
        64,
    )
    assert whole["choice_difference"]["low"] > once["choice_difference"]["low"] > 0


def test_what_the_test_asks_for(tmp_path: Path) -> None:
    asks = compare(*map(read, results(tmp_path)))["asks"]
    assert asks["memory_share"]["Engram off"] == pytest.approx((4 / 32 - 1 / 16) / (26 / 32 - 1 / 16))
    assert asks["memory_share"]["rows permuted"] == pytest.approx(0.0)
    within = {name: gap["within"] for name, gap in asks["open_book"].items()}
    assert within == {TWIN: True, "Engram off": True, "rows permuted": False}
    assert asks["open_book"]["rows permuted"]["points"] == pytest.approx(10 / 32)
    assert all(asks["never_at_chance"].values())


def test_never_shown_but_known_is_not_at_chance(tmp_path: Path) -> None:
    path, plain = results(tmp_path)
    document = json.loads(path.read_text("utf-8"))
    for row in document["outcomes"]:
        row["chosen"] = 0
    path.write_text(json.dumps(document), "utf-8")
    asks = compare(read(path), read(plain))["asks"]
    assert asks["never_at_chance"] == {TWIN: True, "Engram": False, "Engram off": False, "rows permuted": False}


def test_intervals_of_pairs_are_newcombes() -> None:
    """Method 10 by hand for 12 both, 9 one, 2 other, 1 neither of 24, and for answers that are all the same."""
    kinds = [(True, True)] * 12 + [(True, False)] * 9 + [(False, True)] * 2 + [(False, False)]
    ours, theirs = zip(*kinds, strict=True)
    gap = difference(ours, theirs)
    # Wilson: 21 of 24 in 0.690019..0.956553, 14 of 24 in 0.388342..0.755362; phi = -6 / sqrt(21 * 3 * 14 * 10).
    phi = -6 / (21 * 3 * 14 * 10) ** 0.5
    up, down = 21 / 24 - 0.690019, 0.755362 - 14 / 24
    assert gap["points"] == pytest.approx(7 / 24)
    assert gap["low"] == pytest.approx(7 / 24 - (up**2 - 2 * phi * up * down + down**2) ** 0.5, abs=1e-4)
    assert gap["low"] < gap["points"] < gap["high"] < 1
    back = difference(theirs, ours)
    assert (back["points"], back["low"], back["high"]) == pytest.approx((-gap["points"], -gap["high"], -gap["low"]))
    same = difference([True] * 20, [True] * 20)
    assert same["points"] == 0
    assert same["low"] == pytest.approx(-same["high"])
    assert difference([True, False] * 50, [True, False] * 50)["high"] < 0.05  # the same answers, not the same share
    with pytest.raises(UsageError, match="at least 1; got 0 and 0"):
        difference([], [])


def test_page_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engram, plain = results(tmp_path)
    main([str(engram), str(plain), "--out", str(tmp_path / "both")])
    page = capsys.readouterr().out
    assert page == (tmp_path / "both" / "twins.md").read_text("utf-8")
    assert page == to_markdown(json.loads((tmp_path / "both" / "twins.json").read_text("utf-8")))
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 1
    assert len(tables) == 2 * (2 + 6 + 2)
    assert "| closed | held out | invented | 16 | 32 | 0.062 | 0.31 (0.18-0.49) | 0.81 (0.65-0.91) | 0.12" in page
    assert "- Open book, Engram less rows permuted: +31 (" in page
    assert "- Never shown, closed book: at chance without Engram, Engram, Engram off, rows permuted; not -." in page


def test_results_that_are_no_twins_are_named(tmp_path: Path) -> None:
    engram, plain = map(read, results(tmp_path))
    with pytest.raises(UsageError, match="first that of a model with Engram, then that of one without"):
        compare(plain, engram)
    write(outcomes(recalls(10, 30), facts=31), tmp_path / "fewer", about={"engram": False})
    with pytest.raises(UsageError, match="of other questions: without Engram has 186, Engram 192"):
        compare(engram, read(tmp_path / "fewer" / "facts.json"))
    bad = tmp_path / "bad.json"
    bad.write_text("[]", "utf-8")
    with pytest.raises(SystemExit, match="is no result of octavo eval facts"):
        main([str(bad), str(bad), "--out", str(tmp_path)])
    document = json.loads((tmp_path / "plain" / "facts.json").read_text("utf-8"))
    bad.write_text(json.dumps(document | {"format": 9}), "utf-8")
    with pytest.raises(UsageError, match="has format 9, only 1 is read"):
        read(bad)
