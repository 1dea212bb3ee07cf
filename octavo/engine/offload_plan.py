"""What a machine does with a model whose routed experts do not fit into its memory. Covers: the predicted rates of
`plan` when experts stay on disk. Not here: bounds with everything in memory (`cost`), the reading itself
(`octavo.model.offload_store`).
"""

from dataclasses import dataclass

from octavo.config.counts import active_bytes, count
from octavo.config.errors import LimitError, UsageError
from octavo.config.hardware import Hardware, HardwareKind
from octavo.config.model import ModelConfig
from octavo.config.offload import divide
from octavo.config.sizes import parse_bytes
from octavo.config.tensors import Part, TensorSpec, tensor_specs
from octavo.engine.cost import experts_hit, offloaded_seconds

GUESS_SHARE = 0.5
"""Missed experts that the layer before guessed: 0.46 was published for the released weights (four guesses a layer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadPlan:
    """Experts on disk, `budget_bytes` of memory for the ones used most; sizes in bytes, speeds in tokens per second.

    `resident_bytes`: the budget and all that is no routed expert. `missed_bytes`: of experts that a decoded token uses
    and memory does not hold; `read_bytes`: what the disk reads for it, wrong guesses included.
    """

    budget_bytes: int
    resident_bytes: int
    expert_bytes: int
    hit_share: float
    guess_share: float
    missed_bytes: float
    read_bytes: float
    disk_bandwidth: float
    decode_tokens_per_second: float
    prefill_tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the plan knows: bytes beside the routed experts, and seconds with everything in memory."""

    other_bytes: int
    decode_seconds: float
    prefill_seconds: float
    chunk_tokens: int


def plan_offload(
    config: ModelConfig, machine: Hardware, room: Room, *, budget: int | str | None, hit_share: float | None = None,
    guess_share: float = GUESS_SHARE,
) -> OffloadPlan | None:  # fmt: skip
    """Rates with the memory `budget` ("8GB") for experts; None: with what memory leaves beside everything else, and no
    plan where that is too little or the machine has a GPU.

    A token uses A experts of each layer, of which 1 - hit_share are missed: m = L A (1 - hit_share) e bytes, e those of
    an expert as stored. A chunk of T tokens uses X (1 - (1 - A / X)^T) experts of a layer, and all of them are known
    in time. Both go into `cost.offloaded_seconds`. `hit_share` left out: the share of all experts that the hot set
    holds, as if no expert were used more than others. Raises UsageError for a budget on a GPU or a share outside 0 ..
    1, LimitError for a budget that is too small (see `octavo.config.offload`).
    """
    for name, share in (("hit_share", hit_share), ("guess_share", guess_share)):
        if share is not None and not 0 <= share <= 1:
            raise UsageError(f"{name} is {share}; it must be from 0 to 1")
    if machine.kind is not HardwareKind.CPU:
        if budget is not None:
            raise UsageError(f"offload_experts needs a CPU; {machine.name} is a {machine.kind}")
        return None
    total, expert = _expert_bytes(config)
    left = machine.usable_bytes - room.other_bytes
    given = left if budget is None else parse_bytes(budget, name="offload_experts")
    try:
        hot = divide(given, total_bytes=total, token_bytes=config.num_experts_per_tok * expert).hot
    except LimitError:
        if budget is None:
            return None
        raise
    hits = min(1.0, hot / total) if hit_share is None else hit_share
    missed = config.num_hidden_layers * config.num_experts_per_tok * expert * (1 - hits)
    of_chunk = config.num_hidden_layers * experts_hit(config, room.chunk_tokens) * expert * (1 - hits)
    chunk_seconds = room.prefill_seconds * room.chunk_tokens
    return OffloadPlan(
        budget_bytes=given,
        resident_bytes=room.other_bytes + min(given, total),
        expert_bytes=expert,
        hit_share=hits,
        guess_share=guess_share,
        missed_bytes=missed,
        read_bytes=(2 - guess_share) * missed,
        disk_bandwidth=machine.disk_bandwidth,
        decode_tokens_per_second=1 / offloaded_seconds(room.decode_seconds, missed, machine, guess_share=guess_share),
        prefill_tokens_per_second=room.chunk_tokens
        / offloaded_seconds(chunk_seconds, of_chunk, machine, guess_share=1),
    )


def beside_experts(config: ModelConfig, *, element: int | None) -> tuple[int, int]:
    """Bytes of weights that are no routed experts, and those of them that decoding a token reads.

    `element`: bytes of a number in memory; None: as stored. Experts of draft stages are routed experts too.
    """
    counts = count(config)
    experts = [spec for spec in tensor_specs(config) if _is_expert(spec)]
    if element is None:
        read = sum(nbytes for part, nbytes in active_bytes(config).items() if part != Part.EXPERTS.value)
        return counts.bytes - sum(spec.stored_bytes for spec in experts), read
    others = counts.total - sum(spec.parameters for spec in experts)
    active = counts.active - counts.active_by_part[Part.EXPERTS.value]
    return element * others + counts.table_bytes, element * active


def expert_read_bytes(config: ModelConfig) -> int:
    """Bytes of routed experts, as stored, that decoding one token uses."""
    return active_bytes(config)[Part.EXPERTS.value]


def _expert_bytes(config: ModelConfig) -> tuple[int, int]:
    """(all routed experts, draft stages' too; one of them), as stored."""
    total = sum(spec.stored_bytes for spec in tensor_specs(config) if _is_expert(spec))
    layers = config.num_hidden_layers + len(config.draft_ratios)
    return total, total // (layers * config.n_routed_experts)


def _is_expert(spec: TensorSpec) -> bool:
    return ".ffn.experts." in spec.name
