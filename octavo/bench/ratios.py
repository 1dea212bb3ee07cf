"""How each headline ratio is worked out of records.

Covers: `Records` (what is known), and for every ratio a function that gives its value with the fields it was made of,
or says in words why there is none. Does not cover: targets and the page (`headlines`), reading files (`sources`). No
measured value stands here; the constant is a published figure of another project, for the ratio that has no rival
on our machine yet.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.bench.record import NUMBER
from octavo.bench.sources import Outcome, Source, SourceKind, newest

PUBLIC = "public: "  # how the name of a peer begins that is another project's kernel
FLASHMLA = "FlashMLA's own figure for sparse prefill on an H800 (README of deepseek-ai/FlashMLA)"
FLASHMLA_FLOPS = 640e12
MILLION = 2**20
NO_RECORD = "no record"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A value, the fields of `source` that it was made of, and what should be known beside it."""

    value: float
    source: Source
    fields: str
    note: str = ""


@dataclass(frozen=True)
class Records:
    """What is known: all records, the oldest first, and the newest outcome of every case."""

    sources: tuple[Source, ...]
    outcomes: tuple[Outcome, ...]

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Records:
        """`sources` as `read_sources` gives them."""
        return cls(tuple(sources), tuple(newest(sources)))

    def case(self, op: str, name: str) -> Outcome | str:
        """The newest outcome of a case on any device, or why there is no time. One that a run was not for, or did not
        come to, does not stand before an older time."""
        found = [one for one in self.outcomes if (one.case["op"], one.case["name"]) == (op, name)]
        if not found:
            return NO_RECORD
        told = [one for one in found if one.case["status"] not in ("right", "not reached")]
        last = max(told or found, key=lambda one: one.source.when)
        return last if last.timed else f"{last.case['status']}: {last.case.get('message', 'it was only checked')}"

    def of_kind(self, kind: SourceKind) -> list[Source]:
        """The records of a kind, the newest first."""
        return [source for source in reversed(self.sources) if source.kind == kind]


Find = Callable[[Records], Reached | str]


def over_rate(op: str, name: str, rate: str) -> Find:
    """FLOP/s of a case over the measured product rate, or its bytes/s over the measured copy."""
    of, rates = ("bytes_per_second", ("bandwidth",)) if rate == "bandwidth" else ("flops_per_second", ("peaks", rate))

    def find(records: Records) -> Reached | str:
        found = records.case(op, name)
        if isinstance(found, str):
            return found
        got = found.source.at("cases", found.number, of, kind=NUMBER)
        value = got / found.source.at("rates", *rates, kind=NUMBER)
        fields = f"cases.{found.number}.{of} / rates.{'.'.join(rates)}"
        return Reached(value=value, source=found.source, fields=fields)

    return find


def over_peer(op: str, name: str, peer: str) -> Find:
    """How many times as fast as a peer in the same run."""

    def find(records: Records) -> Reached | str:
        found = records.case(op, name)
        if isinstance(found, str):
            return found
        there = found.case["peers"].get(peer)
        if there is None or "ratio" not in there:
            return f"the record of this case has no time of {peer!r}"
        field = ("cases", found.number, "peers", peer, "ratio", "median")
        value = found.source.at(*field, kind=NUMBER)
        return Reached(value=value, source=found.source, fields=".".join(str(name) for name in field))

    return find


def best_public(op: str, name: str) -> Find:
    """Our speed over that of the quickest public kernel beside it."""

    def find(records: Records) -> Reached | str:
        found = records.case(op, name)
        if isinstance(found, str):
            return found
        peers = [peer for peer in found.case["peers"] if peer.startswith(PUBLIC)]
        ratios = [one for peer in peers if not isinstance(one := over_peer(op, name, peer)(records), str)]
        if ratios:
            return min(ratios, key=lambda one: one.value)
        flops = found.source.at("cases", found.number, "flops_per_second", kind=NUMBER)
        return (
            f"no public kernel ran beside ours. {FLASHMLA} is {FLASHMLA_FLOPS / 1e12:.0f} TFLOP/s; ours reached "
            f"{flops / FLASHMLA_FLOPS:.2f} of it on {found.source.device}. A peer whose name begins with {PUBLIC!r} is "
            "missing in the case"
        )

    return find


def _cells(source: Source) -> dict[int, int]:
    """Where the batch-1 steps of a slice are: context -> number."""
    steps = range(len(source.at("decode", kind=list)) if source.has("decode") else 0)
    alone = [number for number in steps if source.at("decode", number, "batch", kind=int) == 1]
    return {source.at("decode", number, "context", kind=int): number for number in alone}


def step_growth(records: Records) -> Reached | str:
    """A batch-1 decode step at 1,048,576 tokens over one at 4,096, of the same record."""
    for source in records.of_kind("slice"):
        cells = _cells(source)
        if 4096 in cells and MILLION in cells:
            near, far = (source.at("decode", cells[at], "seconds", "median", kind=NUMBER) for at in (4096, MILLION))
            fields = f"decode.{cells[MILLION]}.seconds.median / decode.{cells[4096]}.seconds.median"
            ratios = source.at("config", "compress_ratios", kind=list)
            note = f"a slice of {len(ratios)} layers, {ratios.count(4)} of them with an index"
            return Reached(value=far / near, source=source, fields=fields, note=note)
    return "no record of a slice holds steps of batch 1 at both contexts"


def step_share(records: Records) -> Reached | str:
    """The least share of the byte bound over contexts, batch 1."""
    for source in records.of_kind("slice"):
        cells = _cells(source)
        shares = {at: source.at("decode", number, "share", kind=NUMBER) for at, number in cells.items()}
        if shares:
            worst = min(shares, key=lambda at: shares[at])
            note = f"the least over contexts, {worst:,} tokens; the best is {max(shares.values()):.2f}"
            return Reached(value=shares[worst], source=source, fields=f"decode.{cells[worst]}.share", note=note)
    return "no record of a slice holds steps of batch 1"


def drafts(records: Records) -> Reached | str:
    """The best number of drafts of a model that was trained."""
    for source in records.of_kind("drafts"):
        if "random weights" in source.at("model", kind=str) or not source.content["drafts"]:
            continue
        ratios = [source.at("drafts", n, "speed_ratio", kind=NUMBER) for n in range(len(source.content["drafts"]))]
        best = ratios.index(max(ratios))
        note = f"{source.at('model', kind=str)}, {source.at('drafts', best, 'draft', kind=int)} drafts"
        return Reached(value=ratios[best], source=source, fields=f"drafts.{best}.speed_ratio", note=note)
    return "no record of a model with a trained predictor"


def million(records: Records) -> Reached | str:
    """Minutes of reading a million tokens with the preset `s`, with the quicker index of the newest record."""
    for source in records.of_kind("lengths"):
        if not source.has("lengths"):
            continue  # of decoding alone
        if source.content.get("model") != "s":
            continue
        lengths = source.at("lengths", kind=list)
        tokens = [source.at("lengths", number, "tokens", kind=NUMBER) for number in range(len(lengths))]
        rows = [number for number, count in enumerate(tokens) if count >= MILLION]
        if rows:
            seconds = {number: source.at("lengths", number, "seconds", kind=NUMBER) for number in rows}
            best = min(seconds, key=lambda number: seconds[number])
            note = f"index of {lengths[best].get('index_levels', 1)} levels, {source.content.get('cpu_capability')}"
            return Reached(value=seconds[best] / 60, source=source, fields=f"lengths.{best}.seconds / 60", note=note)
    return "no record of this length"


def offload(records: Records) -> Reached | str:
    """The least share of its bound over the sizes of the hot set: the resident model's speed, or the needed bytes a
    token at the disk's bandwidth."""
    for source in records.of_kind("offload"):
        if not source.has("decode", "resident"):
            continue
        resident = source.at("decode", "resident", "tokens_per_second", kind=NUMBER)
        count = len(source.at("disk_bytes_per_second", "decode", kind=list))
        disk = statistics.median(source.at("disk_bytes_per_second", "decode", n, kind=NUMBER) for n in range(count))
        shares = {}
        for held in source.at("decode", kind=dict):
            if held in ("resident", "100%"):
                continue
            speed, read, wasted = (
                source.at("decode", held, name, kind=NUMBER)
                for name in ("tokens_per_second", "read_bytes_per_token", "wasted_bytes_per_token")
            )
            shares[held] = speed / min(resident, disk / max(1.0, read - wasted))
        if shares:
            worst = min(shares, key=lambda held: shares[held])
            fields = (
                f"decode.{worst}.tokens_per_second / min(decode.resident.tokens_per_second, median of "
                "disk_bytes_per_second.decode / (read - wasted bytes_per_token))"
            )
            note = f"the least over hot sets, {worst} of the experts held; the best is {max(shares.values()):.2f}"
            return Reached(value=shares[worst], source=source, fields=fields, note=note)
    return "no record of offload beside a resident model"


def levels_recall(records: Records) -> Reached | str:
    """Share of the exact picks that two levels choose too, at the longest context of the newest record. Runs that end
    before two levels begin say nothing of them."""
    for source in records.of_kind("levels"):
        runs = range(len(source.content["runs"]))
        said = {n: source.has("runs", n, "index_from_tokens") for n in runs}
        after = {n: source.at("runs", n, "index_from_tokens", kind=int) if said[n] else 0 for n in runs}
        tokens = {n: source.at("runs", n, "tokens", kind=int) for n in runs}
        approximate = [n for n in runs if tokens[n] > after[n]]
        if not approximate:
            continue
        far = max(approximate, key=lambda n: tokens[n])
        value = source.at("runs", far, "overlap", kind=NUMBER)
        note = f"{tokens[far]:,} tokens, {source.at('runs', far, 'mass', kind=NUMBER):.2f} of the picks' weight"
        return Reached(value=value, source=source, fields=f"runs.{far}.overlap", note=note)
    return NO_RECORD
