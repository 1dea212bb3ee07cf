"""What of a model's configuration the GPU's kernels do not have. Loads no Triton."""

from __future__ import annotations

from octavo.config.model import ModelConfig


def missing(config: ModelConfig) -> str | None:
    """Why the kernels cannot run a model of this configuration; None where they can."""
    if config.hc_mult not in (1, 2, 4):
        return f"hc_mult is {config.hc_mult}; 1, 2 or 4 streams are possible"
    if config.head_dim > 512:
        return f"head_dim is {config.head_dim}; up to 512 channels are possible"
    if config.engram is not None and config.engram.has_conv:
        return "engram.variant is v1; its convolution is not among the kernels"
    if config.index_levels == 2:
        return "index_levels is 2; the kernels choose among all entries"
    if config.index_head_dim & (config.index_head_dim - 1) or not 32 <= config.index_head_dim <= 128:
        return f"index_head_dim is {config.index_head_dim}; a power of two from 32 to 128 is possible"
    if any(width % 16 for width in _inner_widths(config)):
        return f"inner widths are {_inner_widths(config)}; the kernels need multiples of 16"
    rows = config.o_lora_rank
    if config.o_groups > 1 and rows % 16:
        return f"o_lora_rank is {rows}; with several groups it must be a multiple of 16"
    return None


def _inner_widths(config: ModelConfig) -> tuple[int, ...]:
    both = (config.hidden_size, config.q_lora_rank, config.group_width, config.o_groups * config.o_lora_rank)
    return (*both, config.moe_intermediate_size, config.shared_intermediate_size)
