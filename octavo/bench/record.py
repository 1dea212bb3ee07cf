"""Records of measurements: one JSON file a run.

Covers: writing whole files or nothing, reading, and what a record of kernels must hold, checked by file and field. Does
not cover: measuring (`run`), drawing (`report`).

A record of kernels: `schema`, `task` ("kernels"), `about` (`surroundings`), `plan` (what was asked for), `rates`
(`bounds.Rates`, null until they are measured), `running` (the case at work, null between cases), `finished`, and
`cases`, each with `op`, `name`, `size`, `status` and, by status:
    ok           error, tolerance, work, bound, times (by series), share, peers
    right        error, tolerance: checked against the reference, not timed
    wrong        error, tolerance, message: no time
    failed       message: out of memory, an exception, a process that ended or hung
    not reached  message: the budget was spent
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from octavo.config.errors import OctavoError

SCHEMA = 1
NUMBER = (int, float)
STATUSES = ("ok", "right", "wrong", "failed", "not reached")


class BenchError(OctavoError):
    """A record that cannot be used, a selection that is empty, or a run with cases that are wrong or failed."""


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write `record`, whole or not at all; numbers that JSON lacks (NaN, infinities) become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(finite(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def finite(value: Any) -> Any:
    """`value` with every number that JSON lacks as None, through dicts and lists."""
    if isinstance(value, dict):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; BenchError when it is no JSON object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchError(f"{path}: not JSON ({error})") from None
    if not isinstance(record, dict):
        raise BenchError(f"{path}: holds a {type(record).__name__}; a record is an object")
    return record


Kinds = type | tuple[type, ...]


def field(path: Path, record: dict[str, Any], *names: str | int, kind: Kinds) -> Any:
    """record[name][name].. of `kind`; BenchError names file, field and fault. Numbers are finite, and no bool is one.
    """
    value: Any = record
    called = ".".join(str(name) for name in names)
    for name in names:
        inside: Any = dict(enumerate(value)) if isinstance(value, list) else value
        if not isinstance(inside, dict) or name not in inside:
            raise BenchError(f"{path}: field {called} is missing")
        value = inside[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    odd = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, kinds) or odd or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("null" if one is type(None) else one.__name__ for one in kinds)
        raise BenchError(f"{path}: field {called} is {value!r:.60}; it must be {wanted}")
    return value


def check_kernels(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases of a record of kernels; BenchError for another schema, a missing or misshapen field."""
    schema = field(path, record, "schema", kind=int)
    if schema != SCHEMA:
        raise BenchError(f"{path}: field schema is {schema}; this version reads {SCHEMA}")
    field(path, record, "about", "device", kind=str)
    cases = field(path, record, "cases", kind=list)
    for number in range(len(cases)):
        _check_case(path, record, number)
    return cases


def _check_case(path: Path, record: dict[str, Any], number: int) -> None:
    def inside(*names: str | int, kind: Kinds) -> Any:
        return field(path, record, "cases", number, *names, kind=kind)

    for name in ("op", "name", "size", "status"):
        inside(name, kind=str)
    status = inside("status", kind=str)
    if status not in STATUSES:
        raise BenchError(
            f"{path}: field cases.{number}.status is {status!r}; it must be one of {', '.join(STATUSES)}"
        )
    if status not in ("ok", "right"):
        inside("message", kind=str)
        return
    for name in ("error", "tolerance"):
        inside(name, kind=NUMBER)
    if status == "right":
        return
    series = inside("series", kind=str)
    inside("stable", kind=bool)
    for name in ("median", "low", "high"):
        inside("times", series, name, kind=NUMBER)
    for name in ("seconds", "share"):
        inside("bound", name, kind=(*NUMBER, type(None)))
    inside("bound", "by", kind=(str, type(None)))
    for peer, found in inside("peers", kind=dict).items():
        if isinstance(found, dict) and "message" in found:
            continue
        for name in ("median", "low", "high"):
            inside("peers", peer, "ratio", name, kind=NUMBER)


def check_all_good(record: dict[str, Any]) -> BenchError | None:
    """An error that counts the cases of a run that are wrong or failed, and in a check those not reached as well."""
    bad = ("wrong", "failed", "not reached") if record["plan"]["check_only"] else ("wrong", "failed")
    found = [case for case in record["cases"] if case["status"] in bad]
    if not found:
        return None
    first = found[0]
    return BenchError(
        f"{len(found)} of {len(record['cases'])} cases have no result that holds, first {first['op']} "
        f"{first['name']}: {first['status']}, {first['message']}"
    )
