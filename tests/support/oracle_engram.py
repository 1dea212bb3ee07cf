"""The n-gram memory in float64, position by position, from the Engram paper's formulas (arXiv 2601.07372).

Covers: primes, multipliers, addresses, gate, convolution of variant v1, residual. Does not cover: the tokenizer
compression (ids arrive compressed), document borders inside a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from octavo.config.engram import EngramConfig
from octavo.config.model import ModelConfig

_CONV_EPS = 1e-5  # of the norm in front of the convolution, in the published demo


def prime_table(engram: EngramConfig) -> dict[int, list[int]]:
    """Layer -> one prime per hash head (order 2's heads first), ascending over the whole model without repeats."""
    candidate, table = engram.rows_per_head, {}
    for layer in sorted(engram.layers):
        table[layer] = []
        while len(table[layer]) < (engram.max_ngram_size - 1) * engram.heads_per_order:
            if candidate > 1 and all(candidate % d for d in range(2, math.isqrt(candidate) + 1)):
                table[layer].append(candidate)
            candidate += 1
    return table


def multipliers(engram: EngramConfig, layer: int, vocabulary: int) -> list[int]:
    """Odd factors of the current token, the one before it, and so on."""
    bound = max(1, ((2**63 - 1) // vocabulary) // 2)
    generator = np.random.Generator(np.random.PCG64(engram.seed + 10007 * layer))
    return [2 * int(r) + 1 for r in generator.integers(0, bound, size=engram.max_ngram_size, dtype=np.int64)]


def addresses(engram: EngramConfig, layer: int, ids: Sequence[int], *, pad: int, vocabulary: int) -> list[list[int]]:
    """Rows of the flat table that each position reads; `ids` and `pad` are compressed ids."""
    primes, factors = prime_table(engram)[layer], multipliers(engram, layer, vocabulary)
    rows = []
    for t in range(len(ids)):
        mix, offset, found = 0, 0, []
        for back in range(engram.max_ngram_size):
            mix ^= (ids[t - back] if t >= back else pad) * factors[back]
            if back == 0:
                continue
            for j in range(engram.heads_per_order):
                prime = primes[(back - 1) * engram.heads_per_order + j]
                found.append(mix % prime + offset)
                offset += prime
        rows.append(found)
    return rows


def engram_update(
    config: ModelConfig, weights: Mapping[str, Tensor], layer: int, h: Tensor, ids: Sequence[int], pad: int
) -> Tensor:
    """The streams [T, M, D] after layer `layer`'s memory has been added."""
    engram = config.engram
    assert engram is not None
    T, M, D = h.shape
    at = f"layers.{layer}.engram"
    vocabulary = engram.compressed_vocab_size or config.vocab_size
    rows = addresses(engram, layer, ids, pad=pad, vocabulary=vocabulary)
    memory = weights[f"{at}.table.weight"][torch.tensor(rows)].reshape(T, -1)
    projected = (memory @ weights[f"{at}.wkv.weight"].T).reshape(T, M + 1, D)
    keys, value = projected[:, :M], projected[:, M]
    q = _norm(h, weights[f"{at}.q_norm.weight"], config.rms_norm_eps)
    k = _norm(keys, weights[f"{at}.k_norm.weight"], config.rms_norm_eps)
    s = (q * k).sum(-1) / math.sqrt(D)
    gate = torch.sigmoid(torch.sign(s) * torch.sqrt(torch.clamp(s.abs(), min=1e-6)))
    u = gate.unsqueeze(-1) * value.unsqueeze(1)
    if engram.variant != "v1":
        return h + u
    source = _norm(u, weights[f"{at}.conv_norm.weight"], _CONV_EPS)
    taps = weights[f"{at}.conv.weight"].reshape(M, D, -1)
    kernel = taps.shape[-1]
    convolved = torch.zeros_like(u)
    for t in range(T):
        for tap in range(kernel):
            back = (kernel - 1 - tap) * engram.max_ngram_size
            if t >= back:
                convolved[t] += taps[:, :, tap] * source[t - back]
    return h + u + convolved * torch.sigmoid(convolved)


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight
