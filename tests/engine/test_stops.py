"""Stop strings: independent of how the text is cut, and never let out, not even in part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.stops import StopScanner


def scan(pieces: list[str], stops: list[str]) -> tuple[str, str | None, list[str]]:
    scanner = StopScanner(stops)
    out = [scanner.push(piece) for piece in pieces]
    out.append(scanner.finish())
    return "".join(out), scanner.found, out


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """By definition: the shortest beginning of the text that ends with a stop string decides."""
    for end in range(len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            longest = max(hits, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    st.text("ab\n", max_size=24),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 5)),
)
def test_any_cut_gives_what_the_definition_says(text: str, stops: list[str], sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in [*sizes, len(text)]:
        pieces.append(text[at : at + size])
        at += size
    kept, found, _ = scan(pieces, stops)
    assert (kept, found) == expected(text, stops)


@given(st.text("ab", max_size=20), st.text("ab", min_size=1, max_size=4))
def test_what_came_out_is_never_taken_back(text: str, stop: str) -> None:
    _, _, out = scan(list(text), [stop])
    kept, _ = expected(text, [stop])
    so_far = ""
    for piece in out:
        so_far += piece
        assert kept.startswith(so_far)


def test_without_stop_strings_nothing_is_held() -> None:
    scanner = StopScanner(())
    assert scanner.push("abc") == "abc"
    assert scanner.finish() == ""


@pytest.mark.parametrize(("piece", "given_out"), [("see EN", "see "), ("E", ""), ("DE", "D")])
def test_possible_beginning_is_held_back(piece: str, given_out: str) -> None:
    assert StopScanner(["END"]).push(piece) == given_out


def test_nothing_comes_out_after_the_stop() -> None:
    scanner = StopScanner(["."])
    assert (scanner.push("a.b"), scanner.push("c"), scanner.finish()) == ("a", "", "")
