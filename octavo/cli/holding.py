"""What a server will hold, in words.

Covers: one server, workers, replicas. Does not cover: the numbers (`octavo.server.launch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.cli.output import size

if TYPE_CHECKING:
    from octavo.server.launch import Holding


def lines(held: Holding) -> list[str]:
    """What `octavo serve` prints before it loads; with replicas, of each and of all."""
    note, most = ", rounded after loading" if held.weights == "int8" else "", held.replicas_max
    each = "each replica: " if most > 1 else "each worker: " if held.workers > 1 else ""
    told = [
        f"{held.model}: {each}weights {size(held.weight_bytes)}{note}, cache up to {size(held.cache_bytes)}",
        f"  which is {held.cache_tokens:,} tokens in all; a sequence has at most {held.context:,}",
        f"  memory free now: {size(held.free_bytes)}; documents: {held.documents or 'in memory'}",
    ]
    if most > 1:
        total = size(most * (held.weight_bytes + held.cache_bytes))
        told.insert(2, f"  {held.replicas_min} to {most} replicas: up to {total} in all")
    if held.workers > 1:
        total = size(held.workers * (held.weight_bytes + held.cache_bytes))
        told.insert(2, f"  {held.workers} workers: up to {total} in all")
    return told
