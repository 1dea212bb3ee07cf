"""What one token costs: bytes moved, arithmetic, and the time bound that follows. Covers: prefill and decode of one
sequence at a given context, experts in memory or on disk. Not here: resident memory (`plan.py`), measured rates
(benchmarks).

Multiply-add counts 2. A key costs 2 J operations per index head and 4 K per query head; index scan and HCA entries grow
with the context, chosen entries and windows do not.
"""

from dataclasses import dataclass

from octavo.cache.layout import CacheLayout
from octavo.config.counts import count
from octavo.config.hardware import Hardware
from octavo.config.model import CSA_RATIO, LayerKind, ModelConfig

_COARSE_NUMBERS = 4  # bytes beside a coarse key: its scale


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlops:
    """Operations of one token with `context` tokens before it, by part."""

    weights: float
    index: float
    chosen: float
    hca: float
    window: float

    @property
    def attention(self) -> float:
        """Operations on entries and window rows."""
        return self.chosen + self.hca + self.window

    @property
    def total(self) -> float:
        """All operations."""
        return self.weights + self.index + self.attention


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBytes:
    """Bytes read to decode one token with `context` tokens before it, by part."""

    weights: float
    index: float
    chosen: float
    hca: float
    window: float

    @property
    def cache(self) -> float:
        """Bytes of the sequence's own cache."""
        return self.index + self.chosen + self.hca + self.window

    @property
    def total(self) -> float:
        """All bytes."""
        return self.weights + self.cache


def token_flops(config: ModelConfig, context: int) -> TokenFlops:
    """Operations of the last token of `context`; weights count 2 per active parameter."""
    per_key = 4 * config.num_attention_heads * config.head_dim
    kinds = config.layer_kinds
    scanned = context // CSA_RATIO
    return TokenFlops(
        weights=2.0 * count(config).active,
        index=_index_flops(config, *_index_keys(config, context)),
        chosen=float(kinds.count(LayerKind.CSA) * min(config.index_topk, scanned) * per_key),
        hca=float(_hca_entries(config, context) * per_key),
        window=float(config.num_hidden_layers * min(config.sliding_window, context) * per_key),
    )


def token_bytes(layout: CacheLayout, context: int, *, weight_bytes: float) -> TokenBytes:
    """Bytes that decoding the last token of `context` reads: weights (given), index keys, rows attended to.

    Coarse keys of two levels are read in four bits with a scale beside each (`kernels.index_topk.packed`).
    """
    config = layout.config
    main, scanned = layout.row_bytes("main"), context // CSA_RATIO
    csa, (coarse, fine) = config.layer_kinds.count(LayerKind.CSA), _index_keys(config, context)
    return TokenBytes(
        weights=float(weight_bytes),
        index=float(csa * (coarse * (config.index_head_dim / 2 + _COARSE_NUMBERS) + fine * layout.row_bytes("index"))),
        chosen=float(csa * min(config.index_topk, scanned) * main),
        hca=float(_hca_entries(config, context) * main),
        window=float(config.num_hidden_layers * min(config.sliding_window, context) * layout.window_row_bytes),
    )


def decode_seconds(flops: TokenFlops, moved: TokenBytes, machine: Hardware, *, fp8: bool) -> float:
    """Lower bound of a decode step of one sequence: the larger of moving the bytes and doing the arithmetic.

    `fp8`: weights and index scan run at the FP8 rate. Communication between devices is not counted.
    """
    return max(_arithmetic_seconds(flops, machine, fp8=fp8), moved.total / (machine.bandwidth * machine.devices))


def offloaded_seconds(compute: float, missed_bytes: float, machine: Hardware, *, guess_share: float) -> float:
    """Time of a step that takes `compute` seconds with all experts in memory and misses some, of `missed_bytes` m.

    With g the share of missed experts that were guessed a layer ahead and d the disk's bandwidth, the larger of
    compute + (1 - g) m / d: what was not guessed is read while its layer waits, all else while layers compute; and
    (2 - g) m / d: a layer guesses as many experts as it uses, so that the disk reads (1 - g) m in vain.
    """
    wait, busy = 1 - guess_share, 2 - guess_share
    return max(compute + wait * missed_bytes / machine.disk_bandwidth, busy * missed_bytes / machine.disk_bandwidth)


def experts_hit(config: ModelConfig, tokens: int) -> float:
    """Experts of a layer that `tokens` tokens choose, the mean when all are as likely: X (1 - (1 - A / X)^tokens)."""
    X, A = config.n_routed_experts, config.num_experts_per_tok
    return X * (1 - (1 - A / X) ** tokens)


def prefill_seconds_per_token(config: ModelConfig, context: int, machine: Hardware, *, fp8: bool) -> float:
    """Lower bound of the mean time per token of reading `context` tokens: arithmetic only, in large chunks.

    On average a token sees half of the entries that grow with the context; those that an index of two levels looks
    into do not.
    """
    last = token_flops(config, context)
    index = _index_flops(config, *_mean_index_keys(config, context))
    mean = TokenFlops(weights=last.weights, index=index, chosen=last.chosen, hca=last.hca / 2, window=last.window)
    return _arithmetic_seconds(mean, machine, fp8=fp8)


def _arithmetic_seconds(flops: TokenFlops, machine: Hardware, *, fp8: bool) -> float:
    narrow = machine.fp8_flops if fp8 else machine.wide_flops
    seconds = (flops.weights + flops.index) / narrow + flops.attention / machine.wide_flops
    return seconds / machine.devices


def _index_keys(config: ModelConfig, context: int) -> tuple[int, int]:
    """Keys that the indexer of a layer scores by one head, and by all, for the last token of `context`: none and all,
    or all coarse ones of two levels, and those of the best blocks and behind the last border."""
    levels = config.levels
    if levels is None or not levels.choose(context):
        return 0, context // CSA_RATIO
    coarse = levels.known(context)
    return coarse, (levels.best - coarse) * levels.block // CSA_RATIO + context // CSA_RATIO


def _mean_index_keys(config: ModelConfig, context: int) -> tuple[float, float]:
    """`_index_keys`, the mean over the tokens of `context`. Entries behind the last border, fewer than a border has,
    are left out."""
    levels = config.levels
    if levels is None or not levels.choose(context):
        return 0.0, context // CSA_RATIO / 2
    whole = levels.begin - 1  # tokens that choose among all entries
    share = whole / context
    coarse = (1 - share) * (whole + context) / 2 / levels.block
    return coarse, share * whole / CSA_RATIO / 2 + (1 - share) * levels.best * levels.block / CSA_RATIO


def _index_flops(config: ModelConfig, coarse: float, fine: float) -> float:
    """Operations of all layers' index scores of so many keys by one head, and by all."""
    scored = config.layer_kinds.count(LayerKind.CSA) * (coarse + config.index_n_heads * fine)
    return 2.0 * config.index_head_dim * scored


def _hca_entries(config: ModelConfig, context: int) -> int:
    """Entries of all layers that attend to every entry."""
    return sum(context // ratio for ratio in config.layer_ratios if LayerKind.of(ratio) is LayerKind.HCA)
