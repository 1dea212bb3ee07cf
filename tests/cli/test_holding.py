"""What a server says before it loads."""

from __future__ import annotations

from octavo.cli.holding import lines
from octavo.server.launch import Holding

HELD = {"model": "tiny", "weights": "fp32", "weight_bytes": 2_000_000, "cache_bytes": 64_000_000, "cache_tokens": 512,
        "context": 4096, "free_bytes": 10**9, "documents": None}  # fmt: skip


def test_one_server() -> None:
    assert lines(Holding(**HELD)) == [
        "tiny: weights 2 MB, cache up to 64 MB",
        "  which is 512 tokens in all; a sequence has at most 4,096",
        "  memory free now: 1 GB; documents: in memory",
    ]
    assert "2 MB, rounded after loading," in lines(Holding(**HELD | {"weights": "int8"}))[0]


def test_workers_are_counted_one_by_one_and_together() -> None:
    told = lines(Holding(**HELD | {"workers": 2}))
    assert told[0] == "tiny: each worker: weights 2 MB, cache up to 64 MB"
    assert told[2] == "  2 workers: up to 132 MB in all"


def test_replicas_are_counted_one_by_one_and_together() -> None:
    told = lines(Holding(**HELD | {"documents": "books"}, replicas_min=2, replicas_max=3))
    assert told[0] == "tiny: each replica: weights 2 MB, cache up to 64 MB"
    assert told[2] == "  2 to 3 replicas: up to 198 MB in all"
    assert told[3].endswith("documents: books")
