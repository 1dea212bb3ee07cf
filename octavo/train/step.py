"""One training step: forward over packed rows, all losses, backward, update.

Covers: weighted cross entropy, MTP, balance and index losses, the router's bias rule, skipping of steps whose gradient
is not finite. Does not cover: where batches come from, logging to files, checkpoints.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from octavo.cache.view import Controls, Routed, View
from octavo.config.errors import UsageError
from octavo.kernels import dispatch
from octavo.kernels.cross_entropy import cross_entropy
from octavo.model.block import Block, BlockReport
from octavo.model.mtp import MTP
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.parallel.context import Context
from octavo.train.parallel.ranks import Ranks
from octavo.train.rounding import RoundedWeights
from octavo.train.schedule import StepPlan

_KINDS = 32  # room for kinds of task, 0 included


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses beside cross entropy, the router's bias speed, and the limit of the gradient's norm."""

    mtp: float = 0.3
    balance: float = 1e-4
    index: float = 1.0
    bias_speed: float = 1e-3
    clip: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows on the device: tokens [B, S] int64, weight [B, S] of predicting each token from those before it, rotary
    positions, the kind of task that each answer token belongs to (uint8, 0: none), for each row what is added to its
    HCA logits (FP32 [B], None: nothing), and each token's document, [B, S] integers, of which neighbours differ (None:
    rows are single ones).

    No token sees another document, nor is anything of another document predicted: `weight` of a document's first token
    counts for nothing. The balance loss, the load of experts and the choice of queries that teach the indexer are of
    all tokens of the rows, whatever documents they are in.
    """

    tokens: Tensor
    weight: Tensor
    positions: Tensor
    kind: Tensor | None = None
    dilution: Tensor | None = None
    document: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Scalars of a step. Tensors are still on the device: read them rarely. `judged` is loss and gradient norm,
    `skipped` whether the norm was not finite."""

    loss: Tensor
    text_loss: Tensor
    answer_loss: Tensor
    answer_accuracy: Tensor
    index_loss: Tensor
    balance: Tensor
    grad_norm: Tensor
    max_load: Tensor
    skipped: bool
    judged: tuple[float, float]
    hits_by_kind: Tensor
    asked_by_kind: Tensor
    mtp_loss: Tensor | None = None
    mtp_accuracy: Tensor | None = None


def recompute_layers(model: Transformer) -> None:
    """Keep only the streams between layers; everything inside a layer is computed again in the backward pass."""
    for layer in model.layers:
        layer.forward = functools.partial(
            checkpoint, layer.forward, use_reentrant=False, context_fn=dispatch.recomputed
        )


def train_step(
    model: Transformer,
    optimizer: Optimizer,
    batches: list[Batch],
    plan: StepPlan,
    weights: LossWeights,
    ranks: Ranks | None = None,
    routing: Sequence[Mapping[int, Routed]] | None = None,
    rounded: RoundedWeights | None = None,
) -> StepReport:
    """Accumulate the gradient over `batches` of all ranks, then update once; a gradient with NaN or infinity is
    dropped, counted. Every rank brings as many batches of as many rows. `routing`: for each batch, experts by layer in
    place of the routers' choice. `rounded`: the gradient is taken at these weights."""
    ranks = ranks or Ranks()
    optimizer.zero_grad()
    n, context = len(batches) * ranks.share[1], Context.of(ranks, model.config)
    total_weight, total_after_next = (torch.stack([_weight_ahead(b, k) for b in batches]).sum() for k in (1, 2))
    ranks.add([total_weight, total_after_next])
    if context is not None:  # every chunk's rank counted the whole rows
        total_weight, total_after_next = total_weight / context.count, total_after_next / context.count
    routes = [None] * len(batches) if routing is None else routing
    totals = total_weight, total_after_next
    with nullcontext() if rounded is None else rounded.lent():
        parts = [
            _backward(model, b, plan, weights, totals, n, r, context) for b, r in zip(batches, routes, strict=True)
        ]
    sums = {key: torch.stack([p[key] for p in parts]).sum(0) for key in parts[0]}
    grads = ranks.gather_gradients(optimizer.parameters.values(), list(sums.values()))
    norm = ranks.norm(grads)
    judged = tuple(torch.stack((sums["loss"].to(norm.dtype), norm)).tolist())  # the step's one wait for the device
    finite = math.isfinite(judged[1])
    if finite:
        torch._foreach_mul_(  # pyright: ignore[reportPrivateImportUsage]
            grads, (weights.clip / (norm + 1e-6)).clamp(max=1.0)
        )
        optimizer.step(plan.rate)
        _balance_routers(model, sums["counts"], weights.bias_speed)
    counts = sums["counts"]
    return StepReport(
        loss=sums["loss"],
        text_loss=sums["text"] / sums["text_n"].clamp_min(1),
        answer_loss=sums["answer"] / sums["answer_n"].clamp_min(1),
        answer_accuracy=sums["hits"] / sums["answer_n"].clamp_min(1),
        index_loss=sums["index"] / n,
        balance=sums["balance"] / n,
        grad_norm=norm,
        max_load=(counts.amax(-1) / counts.mean(-1).clamp_min(1)).amax(),
        skipped=not finite,
        judged=judged,
        hits_by_kind=sums["hits_by_kind"],
        asked_by_kind=sums["asked_by_kind"],
        mtp_loss=sums.get("mtp"),
        mtp_accuracy=sums["mtp_hits"] / sums["mtp_n"].clamp_min(1) if "mtp" in sums else None,
    )


def _backward(
    model: Transformer,
    batch: Batch,
    plan: StepPlan,
    weights: LossWeights,
    totals: tuple[Tensor, Tensor],
    count: int,
    routing: Mapping[int, Routed] | None,
    context: Context | None,
) -> dict[str, Tensor]:
    total_weight, total_after_next = totals
    index_loss = any(p.requires_grad for name, p in model.named_parameters() if ".indexer." in name)
    view = view_of(batch, plan, index_loss=index_loss, routing=routing, context=context)
    out = model(_here(batch.tokens, context), view)
    targets, weight = _shift(batch, batch.tokens, 1, context), _shift(batch, batch.weight, 1, context)
    loss, hits = cross_entropy(model.merge(out.streams), model.head.weight, targets, weight)
    loss = loss / total_weight
    index, balance, counts = _side_losses(out.reports, context)
    total = loss + (weights.index * index + weights.balance * balance) / count
    ahead = _mtp(model, out.streams, batch, view, total_after_next, context) if hasattr(model, "mtp") else {}
    if ahead:
        total = total + weights.mtp * ahead["mtp"]
    answer = weight >= 1.0
    # before the backward pass, behind which a rank has but its own rows of the weights
    split = _split(model, out.streams.detach(), targets, answer, (weight > 0) & ~answer, hits)
    total.backward()
    with torch.no_grad():
        return {
            "loss": loss.detach(),
            "index": index.detach(),
            "balance": balance.detach(),
            "counts": counts,
            **split,
            **_by_kind(batch, hits & answer, answer, context),
            **{name: value.detach() for name, value in ahead.items()},
        }


def view_of(
    batch: Batch, plan: StepPlan, *, index_loss: bool = False, routing: Mapping[int, Routed] | None = None,
    context: Context | None = None,
) -> View:  # fmt: skip
    """The view of a step over the rows of `batch`, packed one behind the other, or over this rank's chunk of each;
    experts' load is reported. Raises UsageError for chunks of rows of several documents."""
    controls = Controls(
        picks=plan.picks,
        index_topk=plan.topk,
        index_loss=index_loss,
        index_every=plan.index_every,
        load=True,
        hca_offset=batch.dilution,
        routing=routing,
    )
    if context is not None and batch.document is not None:
        raise UsageError(f"rows hold several documents; cp is {context.count}, and only whole rows (cp 1) may")
    if context is not None:
        return context.view(batch.tokens, batch.positions, controls)
    B, S = batch.tokens.shape
    borders = range(0, (B + 1) * S, S)
    document = None if batch.document is None else batch.document.flatten()
    rows = {"positions": batch.positions.flatten(), "device": batch.tokens.device, "document": document}
    return View.packed(borders, controls=controls, **rows)


def _split(
    model: Transformer, streams: Tensor, targets: Tensor, answer: Tensor, text: Tensor, hits: Tensor, sample: int = 4096
) -> dict[str, Tensor]:
    """Loss on answers and on (a sample of) text apart, as sums and counts, detached. The bodies are those of training:
    others may hold on to the memory of weights, which spread ones must give back."""
    out = {"hits": (hits & answer).sum().float(), "answer_n": answer.sum().float()}
    for name, mask in (("answer", answer), ("text", text)):
        rows = mask.nonzero().squeeze(1)
        rows = rows[:: max(1, len(rows) // sample)]
        mean = torch.zeros((), device=streams.device)
        if len(rows):
            mean = torch.nn.functional.cross_entropy(model.logits(streams[rows]), targets[rows]).detach()
        size = out["answer_n"] if name == "answer" else mask.sum().float()
        out[name] = mean * size
        out[f"{name}_n"] = size
    return out


def _by_kind(batch: Batch, hits: Tensor, answer: Tensor, context: Context | None) -> dict[str, Tensor]:
    """Right and asked answer tokens of each kind of task, [_KINDS] each."""
    none, kind = torch.zeros(_KINDS, device=hits.device), torch.zeros_like(hits, dtype=torch.int64)
    if batch.kind is not None:
        kind = _shift(batch, batch.kind, 1, context).long()
    return {
        "hits_by_kind": none.index_add(0, kind, hits.float()),
        "asked_by_kind": none.index_add(0, kind, answer.float()),
    }


def _here(rows: Tensor, context: Context | None) -> Tensor:
    """Rows [B, S], or this rank's chunk of each, one behind the other."""
    return (rows if context is None else context.part(rows)).flatten()


def _shift(batch: Batch, rows: Tensor, by: int, context: Context | None) -> Tensor:
    """What comes `by` tokens later in the same document, zero at its end; [B, S] -> [B * S], or of this rank's chunk.
    """
    shifted = torch.zeros_like(rows)
    shifted[:, :-by] = rows[:, by:]
    if batch.document is not None:
        shifted[:, :-by] *= batch.document[:, by:] == batch.document[:, :-by]
    return _here(shifted, context)


def _weight_ahead(batch: Batch, by: int) -> Tensor:
    """The sum of the weights of what comes `by` tokens later."""
    return batch.weight[:, by:].sum() if batch.document is None else _shift(batch, batch.weight, by, None).sum()


def _side_losses(
    reports: tuple[BlockReport, ...], context: Context | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Index loss, balance loss and tokens per expert [L, X]; with chunks, this rank's terms of the rows' losses."""
    loads = [r.load for r in reports if r.load is not None]
    counts = torch.stack([load.counts for load in loads])
    balance = torch.stack([load.balance for load in loads]).sum()
    taught = [r.index_loss for r in reports if r.index_loss is not None]
    queries = [one.queries for one in taught]
    if context is not None:
        every, *queries = context.add([counts, *queries])
        terms = [
            (count * (len(count) / count.sum()) * load.share).sum() / context.count
            for count, load in zip(every, loads, strict=True) if load.share is not None
        ]  # fmt: skip
        balance = torch.stack(terms).sum() if terms else balance
    terms = [one.divergence / n.clamp_min(1) for one, n in zip(taught, queries, strict=True)]
    return torch.stack(terms).sum() if terms else balance.new_zeros(()), balance, counts


def _mtp(
    model: Transformer, streams: Tensor, batch: Batch, view: View, total_after_next: Tensor, context: Context | None
) -> dict[str, Tensor]:
    """Cross entropy of the token after next by the first stage, over the weight of all batches, and how many answer
    tokens it hits of how many; documents' last two tokens have no target."""
    following, target, weight = (
        _shift(batch, rows, by, context) for rows, by in ((batch.tokens, 1), (batch.tokens, 2), (batch.weight, 2))
    )
    embedded = model.embed(following).to(streams.dtype)
    stage = model.mtp[0]
    assert isinstance(stage, MTP)
    hidden, _ = stage.predict(streams, embedded, following, view, model.rotary)
    loss, hits = cross_entropy(hidden, model.head.weight, target, weight)
    answer = weight >= 1.0
    return {
        "mtp": loss / total_after_next.clamp_min(1e-30),  # 0, as the loss is, where only a row's second token weighs
        "mtp_hits": (hits & answer).sum().float(),
        "mtp_n": answer.sum().float(),
    }


@torch.no_grad()
def _balance_routers(model: Transformer, counts: Tensor, speed: float) -> None:
    """bias_e += speed * sign(mean load - load_e) for learned routers that train (report, balance rule)."""
    for layer, load in zip(model.layers, counts, strict=True):
        assert isinstance(layer, Block)
        if not layer.ffn.gate.hashed and layer.ffn.gate.weight.requires_grad:
            layer.ffn.gate.get_buffer("bias").add_(speed * torch.sign(load.mean() - load))
