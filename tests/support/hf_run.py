"""Running the same model in transformers: logits, the entries its indexers chose, and choices imposed on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HfRun:
    """`logits` [T, V]; `picks[l]` [T, k] what the indexer of CSA layer l chose, -1 = none; `experts[l]` [T, A]."""

    logits: Tensor
    picks: dict[int, Tensor]
    experts: dict[int, Tensor]


@torch.no_grad()
def hf_run(model: Any, ids: Tensor, *, picks: Mapping[int, Tensor] | None = None) -> HfRun:
    """Read `ids` [T] in one pass without a cache.

    `picks` (layer -> [T, k]) are used instead of the indexer's own choice, which is still reported: everything behind a
    near-tie can then be compared.
    """
    chosen: dict[int, Tensor] = {}
    experts: dict[int, Tensor] = {}
    hooks = []
    for number, layer in enumerate(model.model.layers):
        compressor = layer.self_attn.compressor
        if hasattr(compressor, "indexer"):
            imposed = None if picks is None else picks[number]
            hooks.append(compressor.indexer.register_forward_hook(_replace(chosen, number, imposed)))
        hooks.append(layer.mlp.gate.register_forward_hook(_keep_experts(experts, number)))
    try:
        logits = model(ids.unsqueeze(0), use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return HfRun(logits=logits, picks=chosen, experts=experts)


def _replace(chosen: dict[int, Tensor], layer: int, imposed: Tensor | None) -> Any:
    def hook(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
        chosen[layer] = output[0]
        return output if imposed is None else imposed.unsqueeze(0)

    return hook


def _keep_experts(experts: dict[int, Tensor], layer: int) -> Any:
    def hook(_module: Any, _arguments: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        experts[layer] = output[2]

    return hook
