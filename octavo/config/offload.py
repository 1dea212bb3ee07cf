"""How memory for experts on disk is divided. Covers: the rule alone. Not here: reading (`octavo.model.offload_store`),
predicted rates (`octavo.engine.offload_plan`).
"""

from dataclasses import dataclass

from octavo.config.errors import LimitError


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Of a budget in bytes: `hot` holds the experts used most, `reserve` what is read ahead of its use."""

    hot: int
    reserve: int


def divide(budget_bytes: int, *, total_bytes: int, token_bytes: int) -> Division:
    """Divide a budget for experts of `total_bytes`, of which a token uses at most `token_bytes` in a layer.

    The reserve is a quarter, but at least what a token uses in two layers (one at work, one ahead) and at most four
    times that. A budget for all experts needs none beside them. LimitError for a budget below the least reserve.
    """
    need = 2 * token_bytes
    if budget_bytes < need:
        why = f"it must be at least {need:,}, the experts of a token in two layers"
        raise LimitError(f"offload_experts is {budget_bytes:,} bytes; {why}")
    reserve = min(max(budget_bytes // 4, need), 4 * need)
    return Division(hot=total_bytes if total_bytes <= budget_bytes else budget_bytes - reserve, reserve=reserve)
