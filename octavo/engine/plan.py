"""What a model, a context and a machine come to, before anything is loaded. Covers: resident bytes, the cache beside
other designs, whether it fits, and time bounds. Not here: measuring; speeds are bounds that good code approaches.

Units: KB, MB, GB are powers of 1000 and KiB, MiB, GiB of 1024; a context of `128K` or `1M` means 128 x 1024 or
1024 x 1024 tokens.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from octavo.cache.layout import CacheLayout, CacheLine, RowFormat
from octavo.config.counts import active_bytes, count
from octavo.config.errors import ConfigError, LimitError, UsageError
from octavo.config.hardware import Hardware, HardwareKind
from octavo.config.hardware import hardware as find_hardware
from octavo.config.model import ModelConfig
from octavo.config.presets import preset
from octavo.engine.cost import decode_seconds, prefill_seconds_per_token, token_bytes, token_flops
from octavo.engine.offload_plan import GUESS_SHARE, OffloadPlan, Room, beside_experts, expert_read_bytes, plan_offload

V32_LAYERS = 61
CHUNK_TOKENS = 1024
WeightFormat = Literal["stored", "fp32", "bf16"]
_ELEMENT = {"fp32": 4, "bf16": 2}
_MULTIPLES = {"K": 2**10, "M": 2**20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Another cache for the same context, and this one's share of it (`ratio`, of history bytes and windows)."""

    name: str
    bytes_per_token: float
    nbytes: int
    ratio: float
    arithmetic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One line of the printed table."""

    section: str
    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The result of `plan`; all sizes in bytes, speeds in tokens per second.

    `history_bytes_per_token` counts compressed entries only, `published_bytes` entries and whole windows as published
    totals do, `cache_bytes` everything a sequence holds. `published_formats_bytes` is `published_bytes` with FP8
    entries and FP4 index keys, None where the index is too narrow for FP4. Speeds hold for one sequence, without
    draft tokens, and presuppose that everything fits; `offload` has those with routed experts on disk, where that was
    asked for or is what a CPU whose memory does not hold everything can do.
    """

    context: int
    hardware: str
    main: str
    index: str
    weights: str
    parameters: int
    active_parameters: int
    weight_lines: tuple[CacheLine, ...]
    cache_lines: tuple[CacheLine, ...]
    buffer_bytes: int
    history_bytes_per_token: float
    published_bytes: int
    published_formats_bytes: int | None
    comparisons: tuple[Comparison, ...]
    usable_bytes: int
    devices_needed: int
    decode_tokens_per_second: float
    prefill_tokens_per_second: float
    offload: OffloadPlan | None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(line.nbytes for line in self.weight_lines)

    @property
    def cache_bytes(self) -> int:
        """Bytes of one sequence."""
        return sum(line.nbytes for line in self.cache_lines)

    @property
    def total_bytes(self) -> int:
        """Weights, one sequence and working buffers."""
        return self.weight_bytes + self.cache_bytes + self.buffer_bytes

    @property
    def fits(self) -> bool:
        """Whether it all fits into the machine's usable memory."""
        return self.total_bytes <= self.usable_bytes

    @property
    def rows(self) -> tuple[PlanRow, ...]:
        """The table that `octavo plan` prints."""
        return _rows(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every field, and the derived sums."""
        derived = {name: getattr(self, name) for name in ("weight_bytes", "cache_bytes", "total_bytes", "fits")}
        return asdict(self) | derived


def plan(
    model: ModelConfig | str,
    context: int | str = "1M",
    hardware: Hardware | str = "cpu2",
    *,
    main: RowFormat | str | None = None,
    index: RowFormat | str | None = None,
    weights: WeightFormat | None = None,
    offload_experts: int | str | None = None,
    hit_share: float | None = None,
    guess_share: float = GUESS_SHARE,
) -> Plan:
    """Work out what reading `context` tokens with `model` (a configuration or the name of a preset) takes.

    Formats left out: models stored in FP4 keep what they were trained for, FP8 entries, FP4 index keys and weights as
    stored; others are kept exact, in FP32 on a CPU and BF16 on a GPU. Raises ConfigError for unknown names and
    formats. offload_experts: memory for routed experts that otherwise stay on disk ("8GB"); left out, what there is
    beside everything else, if it does not all fit. hit_share: experts of a token found there, as measured; left out,
    the share of all experts that it holds. guess_share: of the missed ones, those that are guessed a layer ahead.
    UsageError for an unreadable context, LimitError for one outside 1 .. max_position_embeddings.
    """
    config = preset(model) if isinstance(model, str) else model
    machine = find_hardware(hardware) if isinstance(hardware, str) else hardware
    tokens = parse_context(context)
    if not 1 <= tokens <= config.max_position_embeddings:
        raise LimitError(f"context is {tokens} tokens; it must be from 1 to {config.max_position_embeddings}")
    trained = config.expert_dtype == "fp4"
    exact = RowFormat.FP32 if machine.kind is HardwareKind.CPU else RowFormat.BF16
    layout = CacheLayout(
        config,
        main=_format("main", main, RowFormat.FP8 if trained else exact),
        index=_format("index", index, RowFormat.FP4 if trained else exact),
    )
    kept: WeightFormat = weights or ("stored" if trained else "fp32" if exact is RowFormat.FP32 else "bf16")
    weight_lines = _weight_lines(config, kept)
    cache_lines = layout.lines(tokens)
    buffers = _buffer_bytes(config, tokens)
    fp8 = kept == "stored" and config.quantization is not None
    moved = token_bytes(layout, tokens, weight_bytes=_read_bytes(config, kept))
    counts = count(config)
    shared = sum(line.nbytes for line in (*weight_lines, *cache_lines)) + buffers
    published = _published_formats(config)
    offloaded = None
    if offload_experts is not None or shared > machine.usable_bytes:
        room, shares = _room(layout, tokens, kept, machine), {"hit_share": hit_share, "guess_share": guess_share}
        offloaded = plan_offload(config, machine, room, budget=offload_experts, **shares)
    return Plan(
        context=tokens,
        hardware=machine.name,
        main=layout.main.value,
        index=layout.index.value,
        weights=kept,
        parameters=counts.total,
        active_parameters=counts.active,
        weight_lines=weight_lines,
        cache_lines=cache_lines,
        buffer_bytes=buffers,
        history_bytes_per_token=layout.bytes_per_token,
        published_bytes=layout.published_bytes(tokens),
        published_formats_bytes=published.published_bytes(tokens) if published is not None else None,
        comparisons=_comparisons(layout, tokens),
        usable_bytes=machine.usable_bytes,
        devices_needed=-(-shared // (machine.usable_bytes // machine.devices)),
        decode_tokens_per_second=1 / decode_seconds(token_flops(config, tokens), moved, machine, fp8=fp8),
        prefill_tokens_per_second=1 / prefill_seconds_per_token(config, tokens, machine, fp8=fp8),
        offload=offloaded,
    )


def _room(layout: CacheLayout, tokens: int, kept: str, machine: Hardware) -> Room:
    """What there is beside routed experts, and the time that a token takes with all of them, as stored, in memory."""
    config = layout.config
    others, read = beside_experts(config, element=_ELEMENT.get(kept))
    moved = token_bytes(layout, tokens, weight_bytes=read + expert_read_bytes(config))
    fp8 = kept == "stored" and config.quantization is not None
    return Room(
        other_bytes=others + sum(line.nbytes for line in layout.lines(tokens)) + _buffer_bytes(config, tokens),
        decode_seconds=decode_seconds(token_flops(config, tokens), moved, machine, fp8=fp8),
        prefill_seconds=prefill_seconds_per_token(config, tokens, machine, fp8=fp8),
        chunk_tokens=min(tokens, CHUNK_TOKENS),
    )


def parse_context(context: int | str) -> int:
    """Tokens of `context`: a number, or text such as `4096`, `128K`, `1M` with K = 1024 and M = 1024 x 1024."""
    if isinstance(context, int) and not isinstance(context, bool):
        return context
    text = str(context).strip().upper().replace("_", "").replace(",", "")
    scale = _MULTIPLES.get(text[-1:], 1)
    digits = text[:-1] if scale > 1 else text
    if not digits.isascii() or not digits.isdigit():
        raise UsageError(f"context is {context!r}; it must be a number of tokens such as 4096, 128K or 1M")
    return int(digits) * scale


def format_bytes(nbytes: float) -> str:
    """Decimal and binary: `3.69 GB (3.43 GiB)`."""
    if nbytes < 1000:
        return f"{nbytes:.0f} B"
    power = min(4, (len(str(int(nbytes))) - 1) // 3)
    decimal, binary = ("KB", "MB", "GB", "TB")[power - 1], ("KiB", "MiB", "GiB", "TiB")[power - 1]
    return f"{nbytes / 1000**power:.2f} {decimal} ({nbytes / 1024**power:.2f} {binary})"


def _format(name: str, value: RowFormat | str | None, default: RowFormat) -> RowFormat:
    try:
        return default if value is None else RowFormat(value)
    except ValueError:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(RowFormat)}") from None


def _weight_lines(config: ModelConfig, kept: str) -> tuple[CacheLine, ...]:
    counts = count(config)
    if kept == "stored":
        sizes = {part: (nbytes, "as stored, with scales") for part, nbytes in counts.bytes_by_part.items()}
    elif kept in _ELEMENT:
        size = _ELEMENT[kept]
        sizes = {part: (number * size, f"{number:,} x {size} B") for part, number in counts.by_part.items()}
        if counts.table_bytes:
            sizes["routing tables"] = (counts.table_bytes, "token id to expert, 8 B")
    else:
        raise ConfigError(f"weights is {kept!r}; it must be one of stored, fp32, bf16")
    return tuple(CacheLine(name=part, nbytes=size, arithmetic=how) for part, (size, how) in sizes.items())


def _read_bytes(config: ModelConfig, kept: str) -> int:
    """Weight bytes that decoding one token reads."""
    if kept == "stored":
        return sum(active_bytes(config).values())
    return count(config).active * _ELEMENT[kept]


def _buffer_bytes(config: ModelConfig, tokens: int) -> int:
    """Estimate of one chunk's working memory, FP32: streams twice, queries and outputs or one expert pass, logits."""
    chunk = min(tokens, CHUNK_TOKENS)
    streams = 2 * config.hc_mult * config.hidden_size
    heads = 2 * config.num_attention_heads * config.head_dim
    experts = 3 * config.num_experts_per_tok * config.moe_intermediate_size + 2 * config.hidden_size
    return 4 * (chunk * (streams + max(heads, experts)) + config.vocab_size)


def _published_formats(config: ModelConfig) -> CacheLayout | None:
    return None if config.index_head_dim % 32 else CacheLayout(config, RowFormat.FP8, RowFormat.FP4)


def _comparisons(layout: CacheLayout, tokens: int) -> tuple[Comparison, ...]:
    """Caches that keep every token in every layer, at this model's widths; and DeepSeek-V3.2 itself for its widths."""
    config = layout.config
    latent = config.head_dim + 4 * -(-config.head_dim // 128) + 2 * config.qk_rope_head_dim
    per_layer = latent + config.index_head_dim + 4
    heads, width = min(8, config.num_attention_heads), min(128, config.head_dim)
    layers = config.num_hidden_layers
    found = []
    if (config.head_dim, config.qk_rope_head_dim, config.index_head_dim) == (512, 64, 128):
        found.append(("DeepSeek-V3.2", V32_LAYERS * per_layer, f"{V32_LAYERS} layers x {per_layer} B"))
    found.append(("V3.2-style, same layers", layers * per_layer, f"{layers} layers x {per_layer} B"))
    gqa = f"{layers} layers x 2 x {heads} heads x {width} x 2 B"
    found.append((f"GQA-{heads} BF16, same layers", layers * 4 * heads * width, gqa))
    return tuple(
        Comparison(
            name=name,
            bytes_per_token=per_token,
            nbytes=per_token * tokens,
            ratio=layout.published_bytes(tokens) / (per_token * tokens),
            arithmetic=f"{how} = {per_token} B a token",
        )
        for name, per_token, how in found
    )


def _rows(plan: Plan) -> tuple[PlanRow, ...]:
    def lines(section: str, parts: tuple[CacheLine, ...]) -> list[PlanRow]:
        return [
            PlanRow(section=section, name=part.name, value=format_bytes(part.nbytes), detail=part.arithmetic)
            for part in parts
        ]

    def row(section: str, name: str, value: str, detail: str = "") -> PlanRow:
        return PlanRow(section=section, name=name, value=value, detail=detail)

    verdict = "fits" if plan.fits else f"does not fit: {plan.devices_needed} such devices needed"
    how = f"entries {plan.main}, index keys {plan.index}; windows and entries as published totals count them"
    published = []
    if plan.published_formats_bytes is not None:
        published = [row("compare", "fp8 + fp4 index keys", format_bytes(plan.published_formats_bytes), "")]
    return (
        *lines("weights", plan.weight_lines),
        row("weights", "all", format_bytes(plan.weight_bytes), f"{plan.parameters:,} parameters, {plan.weights}"),
        *lines("cache", plan.cache_lines),
        row("cache", "all", format_bytes(plan.cache_bytes), f"{plan.context:,} tokens"),
        row("cache", "history a token", f"{plan.history_bytes_per_token:,.2f} B", "compressed entries alone"),
        row("compare", "this cache", format_bytes(plan.published_bytes), how),
        *published,
        *(
            row("compare", other.name, f"{format_bytes(other.nbytes)}: {other.ratio:.2%}", other.arithmetic)
            for other in plan.comparisons
        ),
        row("memory", "working buffers", format_bytes(plan.buffer_bytes), "estimate"),
        row("memory", "all", format_bytes(plan.total_bytes), f"{plan.hardware}: {verdict}"),
        row("memory", "usable", format_bytes(plan.usable_bytes), plan.hardware),
        row("speed", "decode", f"{plan.decode_tokens_per_second:,.2f} tokens/s", "bound, one sequence, no drafts"),
        row("speed", "prefill", f"{plan.prefill_tokens_per_second:,.2f} tokens/s", "bound, mean over the context"),
        *_offload_rows(plan.offload),
    )


def _offload_rows(plan: OffloadPlan | None) -> tuple[PlanRow, ...]:
    if plan is None:
        return ()
    disk = f"{format_bytes(plan.read_bytes)} read a token at {plan.disk_bandwidth / 1e9:.3g} GB/s"
    rows = (
        ("in memory", format_bytes(plan.resident_bytes), f"{format_bytes(plan.budget_bytes)} of it for experts"),
        ("hits", f"{plan.hit_share:.1%} of a token's experts", f"an expert is {format_bytes(plan.expert_bytes)}"),
        ("decode", f"{plan.decode_tokens_per_second:,.2f} tokens/s", disk),
        ("prefill", f"{plan.prefill_tokens_per_second:,.2f} tokens/s", f"chunks of {CHUNK_TOKENS:,} tokens"),
    )
    section = "experts on disk"
    return tuple(PlanRow(section=section, name=name, value=value, detail=how) for name, value, how in rows)
