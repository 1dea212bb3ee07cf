"""Which optimiser trains which parameter, by role.

Covers: the assignment and the number of independent matrices inside a stacked parameter. Does not cover: the update
rules.
"""

from __future__ import annotations

from enum import StrEnum

from octavo.config.model import ModelConfig


class Role(StrEnum):
    """Muon for hidden matrices; AdamW with decay for embedding and head, without for scalars; Adam with its own rate
    for Engram tables. A name's role never depends on the tensor's rank."""

    MATRIX = "matrix"
    EMBEDDING = "embedding"
    SCALAR = "scalar"
    TABLE = "table"


_SCALAR_ENDINGS = ("norm.weight", "_base", "_scale", "attn_sink", "ape", "conv.weight")


def role(name: str) -> Role:
    """The role of the parameter called `name`."""
    if name in ("embed.weight", "head.weight"):
        return Role.EMBEDDING
    if name.endswith("engram.table.weight"):
        return Role.TABLE
    return Role.SCALAR if name.endswith(_SCALAR_ENDINGS) else Role.MATRIX


def matrices(name: str, config: ModelConfig) -> int:
    """How many logically independent matrices a MATRIX parameter holds: experts are one each, grouped output one a
    group, Engram's keys and value one each."""
    if ".ffn.experts." in name:
        return config.n_routed_experts
    if name.endswith("wo_a.weight"):
        return config.o_groups
    if name.endswith("engram.wkv.weight"):
        return config.hc_mult + 1
    return 1
