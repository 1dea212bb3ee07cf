"""Sampled looks into a run: does the experts' clamp act, and do routers change their mind?

Covers: shares of gate and up values that the clamp cuts, and the 99.99 % quantiles of their sizes before it, by layer,
routed and shared experts together; the share of tokens whose set of experts differs between the weights of now and
those of `lag` steps ago, by learned layer. A few thousand tokens of the step's own batch pass the model once more, so
that the fused kernels need not count. Does not cover: logging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from octavo.model.block import Block
from octavo.model.linear import round_input
from octavo.model.moe import MoE
from octavo.model.transformer import Transformer
from octavo.train.routing import learned_layers
from octavo.train.schedule import StepPlan
from octavo.train.stabilise import Stabilise
from octavo.train.step import Batch, view_of

USUAL_LIMIT = 10.0  # of the report: the limit that rates are told for where the clamp is off
_ABOVE = 1e-4  # of values lie above the quantile


class Looks:
    """Takes a look every `look_every` steps, and a second one `lag` steps later at the same tokens."""

    def __init__(self, model: Transformer, config: Stabilise) -> None:
        self._model, self._config = model, config
        self._since: int | None = None  # the step of the tokens that wait for their second look
        self._sample: dict[str, Tensor] = {}
        self._said: dict[str, list[float]] = {}

    def look(self, step: int, batches: Sequence[Batch], plan: StepPlan) -> None:
        """Look at the weights as they are before `step`, if it is time."""
        every, lag, said = self._config.look_every, self._config.lag, self._said
        if every is None:
            return
        if self._since is not None and step == self._since + lag:
            said["churn"], self._since = self._churn(plan), None
        if step % every == 0:
            batch = sample_of(batches[0], self._config.look_tokens)
            clamps, chosen = observe(self._model, batch, plan)
            said |= clamps
            self._since = step
            self._sample = {"tokens": batch.tokens, "positions": batch.positions, "chosen": chosen}
            for name in ("dilution", "document"):
                if getattr(batch, name) is not None:
                    self._sample[name] = getattr(batch, name)
            if lag == 0:
                said["churn"], self._since = self._churn(plan), None

    def said(self) -> dict[str, list[float]]:
        """What was found since the last call, by name: a number for each layer."""
        said, self._said = self._said, {}
        return said

    def back_to(self, step: int) -> None:
        """Forget tokens that were drawn at `step` or later, and what was not said yet."""
        self._said = {}
        if self._since is not None and self._since >= step:
            self._since = None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What waits for its second look, and what was not said yet."""
        return (self._sample if self._since is not None else {}), {"since": self._since, "said": self._said}

    def check(self, values: Mapping[str, Any]) -> None:
        """Every sample can be gone on with."""

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        device = self._model.embed.weight.device
        self._since, self._said = values["since"], dict(values["said"])
        self._sample = {name: value.to(device) for name, value in tensors.items()}

    def _churn(self, plan: StepPlan) -> list[float]:
        kept = self._sample
        batch = Batch(
            tokens=kept["tokens"], weight=torch.zeros_like(kept["positions"], dtype=torch.float32),
            positions=kept["positions"], dilution=kept.get("dilution"), document=kept.get("document"),
        )  # fmt: skip
        _, chosen = observe(self._model, batch, plan)
        return churn(kept["chosen"], chosen).tolist()


def sample_of(batch: Batch, tokens: int) -> Batch:
    """The first rows of `batch`, or the beginning of its first row, of about `tokens` tokens in all."""
    length = min(batch.tokens.shape[1], tokens)
    rows = max(1, tokens // length)
    cut = slice(0, rows), slice(0, length)
    dilution = None if batch.dilution is None else batch.dilution[:rows]
    document = None if batch.document is None else batch.document[cut]
    return Batch(
        tokens=batch.tokens[cut], weight=batch.weight[cut], positions=batch.positions[cut], dilution=dilution,
        document=document,
    )  # fmt: skip


def observe(model: Transformer, batch: Batch, plan: StepPlan) -> tuple[dict[str, list[float]], Tensor]:
    """One pass over `batch` with the routers' own choice: by layer, `gate_clamped` and `up_clamped` (shares) and
    `gate_size` and `up_size` (quantiles); and the experts chosen in learned layers, [layers, T, A]."""
    blocks, found = cast(Sequence[Block], model.layers), {}
    learned, chosen = set(learned_layers(model)), {}

    def hook(ffn: MoE, given: tuple[Tensor, Tensor], number: int) -> None:
        with torch.no_grad():
            x, tokens = given
            experts = ffn.gate(x, tokens).experts
            found[number] = _clamped(ffn, x, experts)
            if number in learned:
                chosen[number] = experts

    hooks = [
        block.ffn.register_forward_pre_hook(partial(hook, number=i))  # pyright: ignore[reportArgumentType]
        for i, block in enumerate(blocks)
    ]
    try:
        model(batch.tokens.flatten(), view_of(batch, plan))
    finally:
        for one in hooks:
            one.remove()
    rows = torch.stack([found[i] for i in range(len(blocks))]).T.tolist()
    names = ("gate_clamped", "up_clamped", "gate_size", "up_size")
    return dict(zip(names, rows, strict=True)), torch.stack([chosen[i] for i in sorted(chosen)])


def churn(before: Tensor, after: Tensor) -> Tensor:
    """The share of tokens whose set of experts differs, of [layers, T, A] each -> [layers]."""
    same = (before.sort(-1).values == after.sort(-1).values).all(-1)
    return 1 - same.float().mean(-1)


def _clamped(ffn: MoE, x: Tensor, chosen: Tensor) -> Tensor:
    """Clamped shares of gate and up, then their quantiles, [4]."""
    gate, up = pre_activations(ffn, x, chosen)
    limit = USUAL_LIMIT if ffn.limit is None else ffn.limit
    count = max(1, round(_ABOVE * gate.numel()))
    sizes = [values.abs().flatten().topk(count).values[-1] for values in (gate, up)]
    return torch.stack([(gate > limit).float().mean(), (up.abs() > limit).float().mean(), *sizes])


def pre_activations(ffn: MoE, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """What the activation gets as gate and as up, FP32 [n] each: of all chosen experts [T, A] of x [T, D] in the order
    of experts, then of the shared one."""
    given, e, shared = round_input(x, ffn.simulate), ffn.experts, ffn.shared_experts
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    for expert in chosen.unique().tolist():
        rows = given[(chosen == expert).any(-1)]
        for weights, values in zip((e.w1, e.w3), made, strict=True):
            values.append((rows @ weights[expert].to(x.dtype).T).float().flatten())
    for linear, values in zip((shared.w1, shared.w3), made, strict=True):
        values.append((given @ linear.weight.to(x.dtype).T).float().flatten())
    return torch.cat(made[0]), torch.cat(made[1])
