"""The twelve headline ratios: target, what was reached, and the record that says so.

Covers: the goals and their page. A ratio that holds at several places (token counts, two quantities) has a goal for
each, under one number; one without a record is listed as not measured, with the command that measures it. Does not
cover: how a ratio is worked out of records (`ratios`).
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.bench.ratios import (
    Find,
    Records,
    best_public,
    drafts,
    levels_recall,
    million,
    offload,
    over_peer,
    over_rate,
    step_growth,
    step_share,
)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One ratio with its target: at least `limit`, or at most it where `most`; `find` gives a value or why there is
    none."""

    number: int
    ratio: str
    limit: float
    find: Find
    command: str
    most: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side of the limit."""
        return value <= self.limit if self.most else value >= self.limit

    def printed(self, value: float) -> str:
        """`value` with the unit."""
        return f"{value:.3g}{self.unit}" if self.unit else f"{value:.2f}"

    @property
    def target(self) -> str:
        """The limit as it is printed."""
        return f"{'<=' if self.most else '>='} {self.limit:g}{self.unit}"


def _kernel(op: str, name: str, device: str = "cuda") -> str:
    return f'octavo bench kernels --device {device} --ops {op} --cases "{name}"'


_PREFILL = ("sparse_attention", "chunk 4096 at 4K, picks")
_INDEX, _SCAN, _LEVELS = "chunk 4096 to 1024K", "cpu chunk of 256 at 64K", "cpu two levels, chunk of 256 at 1M"
_STORED, _EAGER = "our scores stored, torch.topk", "stored scores and torch.topk"
_SLICE, _PICKS = "python -m benchmarks.gpu_slice --decode", "decode picks, batch 32, 8K"

GOALS: tuple[Goal, ...] = (
    Goal(number=1, ratio="sparse prefill, TFLOP/s over measured BF16 products (512 + 128 entries, 64 heads)",
         limit=0.45, find=over_rate(*_PREFILL, "bf16"), command=_kernel(*_PREFILL)),
    Goal(number=2, ratio="sparse decode, bytes/s over measured copy (batch 32, FP8 entries)", limit=0.75,
         find=over_rate("sparse_attention", _PICKS, "bandwidth"), command=_kernel("sparse_attention", _PICKS)),
    Goal(number=3, ratio="sparse prefill over the best public kernel on the same GPU", limit=0.8,
         find=best_public(*_PREFILL), command=_kernel(*_PREFILL)),
    Goal(number=4, ratio="index and top-k in one over our scores stored and torch.topk (1M tokens)", limit=3, unit="x",
         find=over_peer("index_topk", _INDEX, _STORED), command=_kernel("index_topk", _INDEX)),
    Goal(number=5, ratio="decode step at 1M over one at 4K (batch 1)", limit=1.25, most=True, find=step_growth,
         command=f"{_SLICE} --batches 1"),
    *(Goal(number=6, ratio=f"FP4 experts, bytes/s over measured copy ({T} token{'s' * (T > 1)})", limit=0.7,
           find=over_rate("experts", f"fp4, {T} tokens", "bandwidth"), command=_kernel("experts", f"fp4, {T} tokens"))
      for T in (1, 2, 4, 8, 16)),
    Goal(number=7, ratio="FP4 experts, BF16 activations, TFLOP/s over measured BF16 products (4,096 tokens)", limit=0.6,
         find=over_rate("experts", "fp4, 4096 tokens", "bf16"), command=_kernel("experts", "fp4, 4096 tokens")),
    *(Goal(number=8, ratio=f"streams around a sublayer, fused over eager ({T:,} token{'s' * (T > 1)})", limit=limit,
           unit="x", find=over_peer("hyper", f"cross, {T} x 4 x 4096 bfloat16", "eager"),
           command=_kernel("hyper", f"cross, {T} x 4 x 4096 bfloat16")) for T, limit in ((1, 10), (4096, 3))),
    Goal(number=9, ratio="decode step over its byte bound (batch 1)", limit=0.4, find=step_share,
         command=f"{_SLICE} --batches 1"),
    Goal(number=10, ratio="decoding with drafts over without (batch 1, natural text)", limit=1.6, unit="x", find=drafts,
         command="python -m benchmarks.speculation --model FOLDER"),
    Goal(number=11, ratio="CPU index scan over eager FP32", limit=8, unit="x",
         find=over_peer("index_topk", _SCAN, _EAGER), command=_kernel("index_topk", _SCAN, "cpu")),
    Goal(number=11, ratio="reading 1M tokens on the CPU, preset s", limit=15, most=True, unit=" min", find=million,
         command="python -m benchmarks.long_read --model s --lengths 8K 1M --levels 2"),
    Goal(number=12, ratio="experts on disk, tokens/s over the bound", limit=0.65, find=offload,
         command="python -m benchmarks.offload"),
    Goal(number=12, ratio="index of two levels, share of the exact picks", limit=0.97, find=levels_recall,
         command="python -m benchmarks.index_levels --lengths 64K 256K 1M"),
    Goal(number=12, ratio="index of two levels over the exact scan (CPU, 1M tokens)", limit=8, unit="x",
         find=over_peer("index_topk", _LEVELS, "exact scan"), command=_kernel("index_topk", _LEVELS, "cpu")),
)  # fmt: skip


def headlines(records: Records) -> tuple[str, list[str]]:
    """The page of the ratios in Markdown, and a line for each that is not measured."""
    rows, origins, notes, without = [], [], {}, []
    for goal in GOALS:
        found = goal.find(records)
        if isinstance(found, str):
            rows.append(f"| {goal.number} | {goal.ratio} | {goal.target} | not measured | |")
            without.append(f"{goal.number}, {goal.ratio}: {found}; `{goal.command}`")
            continue
        source = found.source
        met = "yes" if goal.met(found.value) else "no"
        rows.append(f"| {goal.number} | {goal.ratio} | {goal.target} | {goal.printed(found.value)} | {met} |")
        origins.append(
            f"| {goal.number} | {found.note} | `{source.path.name}` | `{found.fields}` | {source.when:%Y-%m-%d} "
            f"| {source.device} | {source.commit} |"
        )
        if source.content.get("note"):
            notes[source.path.name] = source.content["note"]
    lines = [
        "# Headline ratios", "", "Made by `octavo bench report` from the newest records in `docs/results`.", "",
        "| # | ratio | target | reached | met |", "|---|---|---|---|---|", *rows, "",
    ]  # fmt: skip
    if without:
        lines += ["Not measured, and the command that measures it:", "", *(f"- {one}" for one in without), ""]
    lines += [
        "Where each value comes from:", "", "| # | | record | field | date | device | commit |",
        "|---|---|---|---|---|---|---|", *origins, "",
    ]  # fmt: skip
    lines += [f"- Note of `{name}`: {note}" for name, note in sorted(notes.items())]
    return "\n".join(lines).rstrip() + "\n", [f"headline {one}" for one in without]
