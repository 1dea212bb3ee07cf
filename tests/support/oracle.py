"""A second derivation of the whole model, in float64, for one sequence read at once.

Covers: embedding, hyper-connections, attention with sink, window and inverse rotation, both compressors, the lightning
indexer, experts, Engram, the head and the plain MTP block, each written from the published formulas with dense masks
and without any of the product's code. Does not cover: caches, chunks, FP8/FP4 simulation, DSpark. Slow on purpose.
Letters: T tokens, D model, H heads, K head width, I indexer heads, J their width, C compressed rows, M streams,
X experts, A chosen experts, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from octavo.config.model import ModelConfig
from tests.support.oracle_engram import engram_update

F64 = torch.float64


@dataclass(kw_only=True)
class OracleResult:
    """Everything the derivation passes through.

    `logits` [T, V]; `streams[l]` [T, M, D] before layer l (the last one after all layers); `scores[l]` [T, C] index
    scores of CSA layer l (-inf where unseen), `picks[l]` [T, index_topk] its chosen entries, ascending, padded with
    -1, and `gaps[l]` [T] the score at rank k minus that at rank k+1 (inf when nothing was dropped); `expert_scores`,
    `experts` [T, A] and `expert_gaps` likewise for learned routers; `mtp_logits` [T-1, V] (row t guesses token t+2) or
    None without an MTP block. Picks and gaps are the oracle's own choice also where another was imposed on it.
    """

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    streams: list[Tensor] = field(default_factory=list)
    scores: dict[int, Tensor] = field(default_factory=dict)
    picks: dict[int, Tensor] = field(default_factory=dict)
    gaps: dict[int, Tensor] = field(default_factory=dict)
    expert_scores: dict[int, Tensor] = field(default_factory=dict)
    experts: dict[int, Tensor] = field(default_factory=dict)
    expert_gaps: dict[int, Tensor] = field(default_factory=dict)
    mtp_logits: Tensor | None = None

    def shortfall(self, layer: int, picks: Tensor) -> Tensor:
        """How far `picks` [T, any] of CSA layer `layer` are from the best choice, in index score: [T], 0 = as good.

        That is the score at rank k minus the lowest chosen one; inf where the number of chosen entries is wrong, one is
        chosen twice, or one is not visible. A near-tie gives a small number, whichever side of it was taken.
        """
        return _shortfall(self.scores[layer], self.picks[layer], picks)

    def expert_shortfall(self, layer: int, experts: Tensor) -> Tensor:
        """The same for the learned router of layer `layer`, in biased affinity: [T]."""
        return _shortfall(self.expert_scores[layer], self.experts[layer], experts)


def _shortfall(scores: Tensor, best: Tensor, chosen: Tensor) -> Tensor:
    lost = torch.full((len(scores),), math.inf, dtype=F64)
    for t, (row, own, other) in enumerate(zip(scores, best, chosen, strict=True)):
        own, other = own[own >= 0], other[other >= 0]
        if len(own) == len(other) == len(other.unique()):
            lost[t] = row[own].min() - row[other].min() if len(own) else 0.0
    return lost


class Oracle:
    """The model of `config` with the official `tensors` (any float dtype; widened to float64)."""

    def __init__(
        self, config: ModelConfig, tensors: Mapping[str, Tensor], *, compressed_ids: Sequence[int] | None = None
    ) -> None:
        """`compressed_ids` [V] is Engram's map of token ids; None = every id stands for itself."""
        if config.quant_sim or config.index_levels != 1:
            raise ValueError("the oracle has neither quantisation simulation nor a two-level index")
        self.config = config
        self.compressed_ids = list(range(config.vocab_size)) if compressed_ids is None else list(compressed_ids)
        self._w = {name: value.to(F64) if value.is_floating_point() else value for name, value in tensors.items()}

    def run(
        self,
        ids: Sequence[int],
        *,
        picks: Mapping[int, Tensor] | None = None,
        experts: Mapping[int, Tensor] | None = None,
        first_position: int = 0,
    ) -> OracleResult:
        """Read `ids` from position 0 on.

        `picks` and `experts` (layer -> rows as in the result) replace the oracle's own choice in those layers, for
        comparing everything behind a near-tie. `first_position` shifts the rotary positions of ratio-0 layers only.
        """
        out = OracleResult()
        token = torch.tensor(list(ids), dtype=torch.int64)
        self._picks, self._experts, self._out = picks or {}, experts or {}, out
        position = torch.arange(len(token)) + first_position
        h = self._w["embed.weight"][token].unsqueeze(1).repeat(1, self.config.hc_mult, 1)
        for layer in range(self.config.num_hidden_layers):
            out.streams.append(h)
            if self.config.has_engram(layer):
                h = engram_update(self.config, self._w, layer, h, [self.compressed_ids[t] for t in ids], self._pad_id())
            h = self._block(h, token, position, f"layers.{layer}", layer, self.config.layer_ratios[layer])
        out.streams.append(h)
        out.logits = self._head(h, "", "norm.weight")
        if "mtp.0.enorm.weight" in self._w and len(token) > 1:
            out.mtp_logits = self._mtp(h, token, position)
        return out

    def _pad_id(self) -> int:
        assert self.config.engram is not None
        return self.compressed_ids[self.config.engram.pad_id]

    def _norm(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        scaled = x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return scaled if weight is None else scaled * weight

    def _block(self, h: Tensor, token: Tensor, position: Tensor, at: str, layer: int, ratio: int) -> Tensor:
        w = self._w
        pre, post, mix = self._hyper(h, f"{at}.hc_attn")
        x = self._norm(torch.einsum("tm,tmd->td", pre, h), w[f"{at}.attn_norm.weight"])
        y = self._attention(x, position, f"{at}.attn", layer, ratio)
        h = post.unsqueeze(-1) * y.unsqueeze(1) + torch.einsum("tjk,tjd->tkd", mix, h)
        pre, post, mix = self._hyper(h, f"{at}.hc_ffn")
        x = self._norm(torch.einsum("tm,tmd->td", pre, h), w[f"{at}.ffn_norm.weight"])
        y = self._experts_sum(x, token, f"{at}.ffn", layer)
        return post.unsqueeze(-1) * y.unsqueeze(1) + torch.einsum("tjk,tjd->tkd", mix, h)

    def _hyper_logits(self, h: Tensor, fn: str) -> Tensor:
        flat = h.reshape(h.shape[0], -1)
        return self._norm(flat) @ self._w[fn].T

    def _hyper(self, h: Tensor, at: str) -> tuple[Tensor, Tensor, Tensor]:
        """pre [T, M], post [T, M], mix [T, M, M] (report section 2.2, order of steps as in the released code)."""
        M, eps = self.config.hc_mult, self.config.hc_eps
        m = self._hyper_logits(h, f"{at}_fn")
        base, scale = self._w[f"{at}_base"], self._w[f"{at}_scale"]
        pre = torch.sigmoid(m[:, :M] * scale[0] + base[:M]) + eps
        post = 2 * torch.sigmoid(m[:, M : 2 * M] * scale[1] + base[M : 2 * M])
        c = (m[:, 2 * M :] * scale[2] + base[2 * M :]).reshape(-1, M, M)
        c = torch.exp(c - c.amax(dim=2, keepdim=True))
        c = c / c.sum(dim=2, keepdim=True) + eps
        for step in range(self.config.hc_sinkhorn_iters):
            if step > 0:
                c = c / (c.sum(dim=2, keepdim=True) + eps)
            c = c / (c.sum(dim=1, keepdim=True) + eps)
        return pre, post, c

    def _head(self, h: Tensor, at: str, norm: str) -> Tensor:
        m = self._hyper_logits(h, f"{at}hc_head_fn")
        weights = torch.sigmoid(m * self._w[f"{at}hc_head_scale"] + self._w[f"{at}hc_head_base"]) + self.config.hc_eps
        x = self._norm(torch.einsum("tm,tmd->td", weights, h), self._w[norm])
        return x @ self._w["embed.weight" if self.config.tie_word_embeddings else "head.weight"].T

    def _mtp(self, h: Tensor, token: Tensor, position: Tensor) -> Tensor:
        w = self._w
        following = self._norm(w["embed.weight"][token[1:]], w["mtp.0.enorm.weight"]) @ w["mtp.0.e_proj.weight"].T
        streams = self._norm(h[:-1], w["mtp.0.hnorm.weight"]) @ w["mtp.0.h_proj.weight"].T
        mixed = following.unsqueeze(1) + streams
        layer = self.config.num_hidden_layers
        mixed = self._block(mixed, token[1:], position[:-1], "mtp.0", layer, 0)
        return self._head(mixed, "mtp.0.", "mtp.0.norm.weight")

    # Attention

    def _frequencies(self, ratio: int) -> Tensor:
        """Radians per position of each channel pair, [P/2]; YaRN on compressed layers only."""
        width, base, yarn = self.config.qk_rope_head_dim, self.config.rope_theta, None
        if ratio > 0:
            base, yarn = self.config.compress_rope_theta, self.config.rope_scaling
        frequencies = []
        for pair in range(width // 2):
            plain = base ** (-2 * pair / width)
            if yarn is not None:
                span = yarn.original_max_position_embeddings
                low = math.floor(width * math.log(span / (2 * math.pi * yarn.beta_fast)) / (2 * math.log(base)))
                high = math.ceil(width * math.log(span / (2 * math.pi * yarn.beta_slow)) / (2 * math.log(base)))
                low, high = max(low, 0), min(high, width - 1)
                ramp = (pair - low) / (high - low if high != low else 0.001)
                ramp = min(max(ramp, 0.0), 1.0)
                plain = plain * (1 - ramp) + plain / yarn.factor * ramp
            frequencies.append(plain)
        return torch.tensor(frequencies, dtype=F64)

    def _rotate(self, x: Tensor, position: Tensor, ratio: int, sign: int = 1) -> Tensor:
        """Turn channel pairs of the last P channels of x [T, ..., K] by sign * position * frequency."""
        angle = sign * position.to(F64).unsqueeze(1) * self._frequencies(ratio)
        width = self.config.qk_rope_head_dim
        angle = angle.reshape(len(position), *[1] * (x.dim() - 2), width // 2)
        turned = x.clone()
        even, odd = x[..., -width::2], x[..., x.shape[-1] - width + 1 :: 2]
        turned[..., -width::2] = even * torch.cos(angle) - odd * torch.sin(angle)
        turned[..., x.shape[-1] - width + 1 :: 2] = even * torch.sin(angle) + odd * torch.cos(angle)
        return turned

    def _attention(self, x: Tensor, position: Tensor, at: str, layer: int, ratio: int) -> Tensor:
        cfg, w, T = self.config, self._w, x.shape[0]
        H, K = cfg.num_attention_heads, cfg.head_dim
        latent = self._norm(x @ w[f"{at}.wq_a.weight"].T, w[f"{at}.q_norm.weight"])
        q = self._norm((latent @ w[f"{at}.wq_b.weight"].T).reshape(T, H, K))
        q = self._rotate(q, position, ratio)
        keys = self._norm(x @ w[f"{at}.wkv.weight"].T, w[f"{at}.kv_norm.weight"])
        keys = self._rotate(keys, position, ratio)
        age = torch.arange(T).unsqueeze(1) - torch.arange(T).unsqueeze(0)
        visible = (age >= 0) & (age < cfg.sliding_window)
        if ratio > 0:
            entries = self._compress(x, f"{at}.compressor", ratio, K)
            seen = torch.arange(len(entries)) < ((torch.arange(T) + 1) // ratio).unsqueeze(1)
            if f"{at}.indexer.wq_b.weight" in w:
                seen = self._choose(x, latent, position, f"{at}.indexer", layer, ratio, seen)
            keys, visible = torch.cat((keys, entries)), torch.cat((visible, seen), dim=1)
        score = torch.einsum("thk,ek->hte", q, keys) / math.sqrt(K)
        score = score.masked_fill(~visible, -math.inf)
        sink = w[f"{at}.attn_sink"].reshape(H, 1, 1)
        top = torch.maximum(score.amax(dim=2, keepdim=True), sink)
        weight = torch.exp(score - top)
        weight = weight / (weight.sum(dim=2, keepdim=True) + torch.exp(sink - top))
        o = torch.einsum("hte,ek->thk", weight, keys)
        o = self._rotate(o, position, ratio, sign=-1)
        group_in = H // cfg.o_groups * K
        o = o.reshape(T, cfg.o_groups, group_in)
        down = w[f"{at}.wo_a.weight"].reshape(cfg.o_groups, cfg.o_lora_rank, group_in)
        return torch.einsum("tgi,gri->tgr", o, down).reshape(T, -1) @ w[f"{at}.wo_b.weight"].T

    def _compress(self, x: Tensor, at: str, ratio: int, width: int) -> Tensor:
        """Entries [T // ratio, width], rotated to the position of their first token (report sections 2.3.1, 2.3.2)."""
        w, count = self._w, x.shape[0] // ratio
        value = x @ w[f"{at}.wkv.weight"].T
        score = x @ w[f"{at}.wgate.weight"].T + w[f"{at}.ape"][torch.arange(x.shape[0]) % ratio]
        overlapping = value.shape[1] == 2 * width
        entries = torch.zeros(count, width, dtype=F64)
        for c in range(count):
            own = slice(ratio * c, ratio * (c + 1))
            values, scores = value[own, -width:], score[own, -width:]
            if overlapping and c > 0:
                before = slice(ratio * (c - 1), ratio * c)
                values = torch.cat((value[before, :width], values))
                scores = torch.cat((score[before, :width], scores))
            entries[c] = (torch.softmax(scores, dim=0) * values).sum(dim=0)
        entries = self._norm(entries, w[f"{at}.norm.weight"])
        return self._rotate(entries, ratio * torch.arange(count), ratio)

    def _choose(
        self, x: Tensor, latent: Tensor, position: Tensor, at: str, layer: int, ratio: int, seen: Tensor
    ) -> Tensor:
        """Restrict `seen` [T, C] to the best index_topk entries of each query; of equal scores the lower entry wins."""
        cfg, T, C = self.config, *seen.shape
        I, J = cfg.index_n_heads, cfg.index_head_dim
        keys = self._compress(x, f"{at}.compressor", ratio, J)
        q = self._rotate((latent @ self._w[f"{at}.wq_b.weight"].T).reshape(T, I, J), position, ratio)
        head = (x @ self._w[f"{at}.weights_proj.weight"].T) / math.sqrt(J) / math.sqrt(I)
        score = torch.einsum("ti,tic->tc", head, torch.relu(torch.einsum("tij,cj->tic", q, keys)))
        score = score.masked_fill(~seen, -math.inf)
        k = min(cfg.index_topk, C)
        ordered, entry = torch.sort(score, dim=1, descending=True, stable=True)
        gap = torch.full((T,), math.inf, dtype=F64)
        if k < C:
            crowded = torch.isfinite(ordered[:, k])
            gap[crowded] = (ordered[:, k - 1] - ordered[:, k])[crowded]
        best = entry[:, :k].masked_fill(~torch.isfinite(ordered[:, :k]), -1)
        self._out.scores[layer] = score
        self._out.gaps[layer], self._out.picks[layer] = gap, _ascending(best, cfg.index_topk)
        best = self._picks.get(layer, best)
        chosen = torch.zeros(T, C + 1, dtype=torch.bool)
        chosen.scatter_(1, torch.where(best < 0, C, best), True)
        return seen & chosen[:, :C]

    # Experts

    def _experts_sum(self, x: Tensor, token: Tensor, at: str, layer: int) -> Tensor:
        cfg, w, T = self.config, self._w, x.shape[0]
        z = x @ w[f"{at}.gate.weight"].T
        affinity = torch.sqrt(torch.clamp(z, min=0) + torch.log1p(torch.exp(-z.abs())))
        if f"{at}.gate.tid2eid" in w:
            chosen = w[f"{at}.gate.tid2eid"][token].long()
        else:
            biased = affinity + w[f"{at}.gate.bias"]
            ordered, expert = torch.sort(biased, dim=1, descending=True, stable=True)
            self._out.expert_scores[layer] = biased
            A = cfg.num_experts_per_tok
            chosen = expert[:, :A]
            gap = ordered[:, A - 1] - ordered[:, A] if cfg.n_routed_experts > A else torch.full((T,), math.inf)
            self._out.expert_gaps[layer], self._out.experts[layer] = gap, chosen.sort(dim=1).values
            chosen = self._experts.get(layer, chosen)
        weight = torch.gather(affinity, 1, chosen)
        weight = weight / weight.sum(dim=1, keepdim=True) * cfg.routed_scaling_factor
        total = self._feed_forward(x, f"{at}.shared_experts")
        for expert in range(cfg.n_routed_experts):
            rows, slot = torch.nonzero(chosen == expert, as_tuple=True)
            if len(rows):
                y = self._feed_forward(x[rows], f"{at}.experts.{expert}")
                total.index_add_(0, rows, weight[rows, slot].unsqueeze(1) * y)
        return total

    def _feed_forward(self, x: Tensor, at: str) -> Tensor:
        limit = self.config.swiglu_limit
        up = torch.clamp(x @ self._w[f"{at}.w3.weight"].T, min=-limit, max=limit)
        gate = torch.clamp(x @ self._w[f"{at}.w1.weight"].T, max=limit)
        return (gate * torch.sigmoid(gate) * up) @ self._w[f"{at}.w2.weight"].T


def _ascending(picks: Tensor, width: int) -> Tensor:
    """Rows sorted ascending with -1 moved to the end, padded to `width`."""
    big = torch.iinfo(torch.int64).max
    ordered = torch.where(picks < 0, big, picks).sort(dim=1).values
    ordered = torch.where(ordered == big, -1, ordered)
    return torch.nn.functional.pad(ordered, (0, width - ordered.shape[1]), value=-1)
