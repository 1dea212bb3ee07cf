"""Records: whole files or nothing, and complaints that name file and field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from octavo.bench import record as module
from octavo.bench.record import BenchError, check_all_good, check_kernels, read_json, write_json
from tests.bench.toys import outcome, record

FILE = Path("a.json")


def test_a_record_is_written_whole_and_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": math.nan, "b": [1.5, (math.inf, 2)], "c": {"d": True}})
    assert read_json(path) == {"a": None, "b": [1.5, [None, 2]], "c": {"d": True}}
    assert [one.name for one in path.parent.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(("text", "fault"), [("{", "not JSON"), ("[1]", "holds a list; a record is an object")])
def test_what_is_no_record_is_named(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match=f"bad.json: {fault}"):
        read_json(path)


def test_cases_of_every_status_pass() -> None:
    named = {"op": "double", "name": "b", "size": "full"}
    cases = [
        outcome(), outcome(bound={"seconds": None, "share": None, "by": None, "message": "no rate"}),
        named | {"status": "right", "error": 0, "tolerance": 1e-3}, named | {"status": "wrong", "message": "error 1"},
        named | {"status": "failed", "message": "no"}, named | {"status": "not reached", "message": "no time"},
    ]  # fmt: skip
    assert check_kernels(FILE, record(*cases)) == cases


@pytest.mark.parametrize(
    ("place", "value", "fault"),
    [
        (("schema",), 2, "field schema is 2; this version reads 1"),
        (("about", "device"), None, "field about.device is None; it must be str"),
        (("cases",), {}, "field cases is {}; it must be list"),
        (("cases", 0), 7, "field cases.0.op is missing"),
        (("cases", 0, "op"), None, "field cases.0.op is None; it must be str"),
        (("cases", 0, "status"), "fine", "field cases.0.status is 'fine'; it must be one of ok, right"),
        (("cases", 0, "series"), "hot", "field cases.0.times.hot.median is missing"),
        (("cases", 0, "stable"), 1, "field cases.0.stable is 1; it must be bool"),
        (("cases", 0, "error"), True, "field cases.0.error is True; it must be int or float"),
        (("cases", 0, "tolerance"), math.nan, "field cases.0.tolerance is nan; it must be int or float"),
        (("cases", 0, "times", "cold", "low"), "x", "field cases.0.times.cold.low is 'x'"),
        (("cases", 0, "bound", "share"), "x", "field cases.0.bound.share is 'x'; it must be int or float or null"),
        (("cases", 0, "bound", "by"), 1, "field cases.0.bound.by is 1; it must be str or null"),
        (("cases", 0, "peers", "v1.2 eager"), {}, "field cases.0.peers.v1.2 eager.ratio.median is missing"),
    ],
)
def test_a_malformed_record_is_named_by_file_and_field(place: tuple[Any, ...], value: Any, fault: str) -> None:
    bad = json.loads(json.dumps(record(outcome())))
    holder: Any = bad
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    with pytest.raises(BenchError) as caught:
        check_kernels(FILE, bad)
    assert str(caught.value).startswith(f"a.json: {fault}")


def test_a_failed_case_needs_its_reason() -> None:
    bad = record({"op": "a", "name": "b", "size": "full", "status": "failed"})
    with pytest.raises(BenchError, match="field cases.0.message is missing"):
        check_kernels(FILE, bad)


def test_wrong_and_failed_cases_are_an_error_and_unreached_ones_in_a_check() -> None:
    late = {"op": "double", "name": "late", "status": "not reached", "message": "no time"}
    assert check_all_good(record(outcome(), late)) is None
    found = check_all_good(record(outcome(), late) | {"plan": {"check_only": True}})
    assert str(found) == "1 of 2 cases have no result that holds, first double late: not reached, no time"
    wrong = outcome("bad", status="wrong", message="error 1 above 0.1")
    assert "1 of 3 cases" in str(check_all_good(record(outcome(), wrong, late)))
