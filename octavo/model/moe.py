"""Mixture of experts: router (learned or by token id), routed experts, shared expert (report, MoE section)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from octavo.cache.view import Routed
from octavo.config.errors import UsageError
from octavo.config.model import ModelConfig
from octavo.kernels.experts import experts, mlp, total, with_shared
from octavo.kernels.experts.ref import Rounding, keep
from octavo.kernels.mixture import mixture
from octavo.kernels.pack import Pack
from octavo.kernels.quant import simulate_fp8
from octavo.kernels.route import Routing, route
from octavo.model.linear import ACTIVATION_GROUP, Linear, round_input


class Load(NamedTuple):
    """Tokens per expert [X], the balance loss of this step (0 for hash-routed layers), each token's experts [T, A], and
    the mean share of every expert in the scores [X] (None for hash-routed layers)."""

    counts: Tensor
    balance: Tensor
    experts: Tensor
    share: Tensor | None = None


class Gate(nn.Module):
    """Scores and choice of experts; `hashed` layers look the choice up by token id."""

    def __init__(self, config: ModelConfig, *, hashed: bool) -> None:
        super().__init__()
        self.top, self.scale, self.normalise = (
            config.num_experts_per_tok,
            config.routed_scaling_factor,
            config.norm_topk_prob,
        )
        self.hashed = hashed
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        if hashed:
            self.register_buffer("tid2eid", torch.zeros(config.vocab_size, self.top, dtype=torch.int64))
        else:
            self.register_buffer("bias", torch.zeros(config.n_routed_experts))

    def given(self, tokens: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Experts of the tokens [T, A] where they are looked up, and the bias [X] of a learned choice."""
        if self.hashed:
            return self.get_buffer("tid2eid")[tokens], None
        return None, self._buffers["bias"]

    def forward(self, x: Tensor, tokens: Tensor, routed: Routed | None = None) -> Routing:
        """x [T, D], tokens [T] -> the chosen experts and their weights. `routed`: experts chosen elsewhere, or another
        router's matrix and bias to choose them; their weights and the scores are this router's in any case.
        Raises UsageError for experts of another shape than [T, A]."""
        table, bias = self.given(tokens)
        rules = {"top": self.top, "scale": self.scale, "normalise": self.normalise}
        if isinstance(routed, tuple):
            with torch.no_grad():
                table = route(x, routed[0], bias=routed[1], **rules).experts
        elif routed is not None:
            if routed.shape != (len(x), self.top):
                raise UsageError(f"routing is {list(routed.shape)}; this step needs {[len(x), self.top]}")
            table = routed
        return route(x, self.weight, bias=bias, table_rows=table, **rules)


class Experts(nn.Module):
    """Stacked weights of the routed experts: w1 (gate) and w3 (up) [X, F, D], w2 (down) [X, D, F]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        X, F, D = config.n_routed_experts, config.moe_intermediate_size, config.hidden_size
        self.w1 = nn.Parameter(torch.empty(X, F, D))
        self.w3 = nn.Parameter(torch.empty(X, F, D))
        self.w2 = nn.Parameter(torch.empty(X, D, F))

    @property
    def whole(self) -> bool:
        """Whether all experts are matrices here, so that `forward` may be done together with what stands beside it."""
        return type(self) is Experts and "forward" not in vars(self)

    def forward(self, x: Tensor, routing: Routing, *, limit: float | None, round_hidden: Rounding) -> Tensor:
        """x [T, D] -> the weighted sum of each token's experts [T, D], at least FP32."""
        return experts(
            x, self.w1, self.w3, self.w2, chosen=routing.experts, weights=routing.weights, limit=limit,
            round_hidden=round_hidden,
        )  # fmt: skip


class SharedExpert(nn.Module):
    """The expert every token passes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, F, sim = config.hidden_size, config.shared_intermediate_size, config.quant_sim
        self.w1 = Linear(D, F, simulate=sim)
        self.w3 = Linear(D, F, simulate=sim)
        self.w2 = Linear(F, D, simulate=sim)
        self.limit, self.simulate = config.swiglu_limit, sim

    def forward(self, x: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        return mlp(
            round_input(x, self.simulate),
            self.w1.weight,
            self.w3.weight,
            self.w2.weight,
            limit=self.limit,
            round_hidden=_round_hidden if self.simulate else keep,
        )


class MoE(nn.Module):
    """Routed and shared experts of one layer."""

    def __init__(self, config: ModelConfig, *, hashed: bool) -> None:
        super().__init__()
        self.gate = Gate(config, hashed=hashed)
        self.experts = Experts(config)
        self.shared_experts = SharedExpert(config)
        self.limit, self.simulate = config.swiglu_limit, config.quant_sim
        shared, routed = self.shared_experts, self.experts._parameters
        self._pack = None if self.simulate else Pack(
            (self.gate._parameters, "weight"),
            *[(routed, name) for name in ("w1", "w3", "w2")],
            *[(holder._parameters, "weight") for holder in (shared.w1, shared.w3, shared.w2)],
        )  # fmt: skip

    @property
    def plain(self) -> bool:
        """Whether all experts are matrices in memory and nothing is rounded on the way."""
        return self._pack is not None

    def forward(
        self, x: Tensor, tokens: Tensor, *, load: bool = True, routed: Routed | None = None
    ) -> tuple[Tensor, Load | None]:
        """x [T, D] normalised input, tokens [T] -> output [T, D] and, if asked for, the load. `routed` as in `Gate`."""
        if load or routed is not None:
            routing = self.gate(x, tokens, routed)
            return self._routed(x, routing), load_of(routing, hashed=self.gate.hashed) if load else None
        table_rows, bias = self.gate.given(tokens)
        rules = {"top": self.gate.top, "scale": self.gate.scale, "normalise": self.gate.normalise}
        out = mixture(
            x,
            self._pack,
            **rules,
            limit=self.limit,
            bias=bias,
            table_rows=table_rows,
            plain=lambda: self._routed(x, self.gate(x, tokens)),
        )
        return out, None

    def _routed(self, x: Tensor, routing: Routing) -> Tensor:
        e, s = self.experts, self.shared_experts
        if e.whole and not self.simulate:
            shared, rules = (s.w1.weight, s.w3.weight, s.w2.weight), {"weights": routing.weights, "limit": self.limit}
            return with_shared(x, e.w1, e.w3, e.w2, shared, chosen=routing.experts, **rules)
        rounding = _round_hidden if self.simulate else keep
        given = round_input(x, self.simulate)
        return total(e(given, routing, limit=self.limit, round_hidden=rounding), s(x), x.dtype)


def _round_hidden(hidden: Tensor) -> Tensor:
    return simulate_fp8(hidden, group=min(ACTIVATION_GROUP, hidden.shape[-1]))


def load_of(routing: Routing, *, hashed: bool) -> Load:
    """Counts, and sum_e f_e P_e: f_e = X / (A T) count_e, P_e the mean normalised score (report, balance loss)."""
    T, X = routing.scores.shape
    ones = torch.ones_like(routing.experts, dtype=routing.scores.dtype).flatten()
    counts = torch.zeros(X, dtype=routing.scores.dtype, device=ones.device).index_add(
        0, routing.experts.flatten(), ones
    )
    if hashed or T == 0:
        return Load(counts, routing.scores.new_zeros(()), routing.experts)
    share = (routing.scores / routing.scores.sum(-1, keepdim=True).clamp_min(1e-20)).mean(0)
    balance = (counts * (X / (routing.experts.shape[1] * T)) * share).sum()
    return Load(counts, balance, routing.experts, share)
