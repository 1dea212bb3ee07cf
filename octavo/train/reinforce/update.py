"""One update of the weights from answers and their advantages.

Covers: rows of prompts and answers, log-probabilities by the model as it trains, the experts replayed over several
updates, the correction for an engine that rounds otherwise, accumulation, clipping of the gradient. Does not cover:
where answers come from. Index, balance and draft losses are off: prompts are shorter than what the indexer picks, so
nothing here could teach it, and the routers' bias stays as it was.

Sources: experts replayed, Ma et al. 2025 (arXiv 2510.11370), who replay those of the engine, where this replays those
that training itself chose before the first of several updates; the weight min(old / engine, limit) of each token, Yao
et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from octavo.cache.view import Picks, Routed
from octavo.model.moe import Load
from octavo.model.transformer import Transformer
from octavo.train.optim import Optimizer
from octavo.train.reinforce.objective import Objective, Told, loss
from octavo.train.routing import learned_layers
from octavo.train.schedule import StepPlan
from octavo.train.step import Batch, view_of

_GRAIN = 128  # lengths of rows are multiples of this, so that few shapes come up


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An answer to learn from: prompt and answer, the engine's log-probabilities [n] of the answer's tokens, the
    answer's advantage and the weight of each of its tokens."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    engine: np.ndarray
    advantage: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some examples on the device: rows, places [n] of the tokens that are judged in the rows laid end to end (each is
    predicted from the place before it), and of each such token its engine log-probability, advantage and weight."""

    batch: Batch
    places: Tensor
    engine: Tensor
    advantage: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """What the weights that drew the answers say of `Rows`: log-probabilities [n], and the experts of each layer."""

    logprobs: Tensor
    routing: Mapping[int, Routed]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """Means over the tokens of an update. gap, most_gap: how far the log-probabilities that the ratio is taken from lie
    from the engine's. skipped: the gradient was not finite."""

    loss: float
    grad_norm: float
    clipped: float
    divergence: float
    most_ratio: float
    gap: float
    most_gap: float
    skipped: bool


def rows_of(examples: Sequence[Example], device: torch.device) -> Rows:
    """Examples as rows of one length, filled up behind their end, where nothing sees the filling."""
    longest = max(len(one.prompt) + len(one.answer) for one in examples)
    length = -(-longest // _GRAIN) * _GRAIN
    tokens = np.zeros((len(examples), length), dtype=np.int64)
    judged = np.zeros((len(examples), length), dtype=bool)
    for row, one in enumerate(examples):
        whole = one.prompt + one.answer
        tokens[row, : len(whole)] = whole
        judged[row, len(one.prompt) : len(whole)] = True
    sizes = [len(one.answer) for one in examples]
    positions = torch.arange(length, device=device).expand(len(examples), length)
    placed = torch.from_numpy(tokens).to(device)

    def each(values: Sequence[float]) -> Tensor:
        return torch.from_numpy(np.repeat(np.array(values, dtype=np.float32), sizes)).to(device)

    return Rows(
        batch=Batch(tokens=placed, weight=torch.from_numpy(judged).float().to(device), positions=positions),
        places=torch.from_numpy(np.flatnonzero(judged)).to(device),
        engine=torch.from_numpy(np.concatenate([one.engine for one in examples]).astype(np.float32)).to(device),
        advantage=each([one.advantage for one in examples]), weight=each([one.weight for one in examples]),
    )  # fmt: skip


def parts_of(examples: Sequence[Example], rows: int, device: torch.device) -> list[Rows]:
    """Examples in parts of at most `rows`, those of like length together."""
    order = sorted(examples, key=lambda one: len(one.prompt) + len(one.answer))
    return [rows_of(order[at : at + rows], device) for at in range(0, len(order), rows)]


def logprobs(
    model: Transformer, rows: Rows, temperature: float, routing: Mapping[int, Routed] | None = None
) -> tuple[Tensor, Mapping[int, Routed]]:
    """Log-probabilities FP32 [n] of the judged tokens, at the temperature they were drawn at, and the experts that the
    learned routers chose, or were given."""
    batch = rows.batch
    out = model(batch.tokens.flatten(), view_of(batch, _plan(batch), routing=routing))
    hidden = model.merge(out.streams[rows.places - 1]).float()
    scores = torch.nn.functional.linear(hidden, model.head.weight.float()) / temperature
    chosen = scores.gather(1, batch.tokens.flatten()[rows.places].unsqueeze(1)).squeeze(1)
    experts = {i: cast(Load, out.reports[i].load).experts for i in learned_layers(model)}
    return chosen - scores.logsumexp(1), experts


def old_of(model: Transformer, rows: Rows, temperature: float) -> Old:
    """What `model` says now. The bodies are those of training, whose graph is dropped: others round otherwise."""
    said, routing = logprobs(model, rows, temperature)
    return Old(logprobs=said.detach(), routing=routing)


def update(
    model: Transformer, optimizer: Optimizer, parts: Sequence[Rows], rules: Objective, *, temperature: float,
    rate: float, clip: float, old: Sequence[Old] | None = None, reference: Transformer | None = None,
) -> UpdateReport:  # fmt: skip
    """One step of the optimiser over all parts. A gradient that is not finite is dropped.

    `old`: of each part, from before the first of several updates, whose experts are replayed; None where this update is
    the only one: `model` itself drew the answers then. `reference`: the weights that the divergence is from.
    """
    optimizer.zero_grad()
    total, told, gaps = 0.0, [], []
    for i, rows in enumerate(parts):
        before = None if old is None else old[i]
        new, _ = logprobs(model, rows, temperature, None if before is None else before.routing)
        base = new.detach() if before is None else before.logprobs
        apart = None
        if reference is not None:
            with torch.no_grad():
                apart = logprobs(reference, rows, temperature)[0]
        trust = (base - rows.engine).exp().clamp(max=rules.most_weight)
        part, said = loss(new, base, rows.advantage, rows.weight * trust, rules, apart)
        part.backward()
        total += float(part.detach())
        told.append(said)
        gaps.append((base - rows.engine).abs())
    grads = [p.grad for p in optimizer.parameters.values() if p.grad is not None]
    norm = float(torch.stack([grad.norm() for grad in grads]).norm())
    if math.isfinite(norm):
        for grad in grads:
            grad.mul_(min(1.0, clip / (norm + 1e-6)))
        optimizer.step(rate)
    return _report(total, norm, told, torch.cat(gaps))


def _report(total: float, norm: float, told: Sequence[Told], gaps: Tensor) -> UpdateReport:
    tokens = sum(float(one.tokens) for one in told)
    return UpdateReport(
        loss=total, grad_norm=norm, clipped=sum(float(one.clipped) for one in told) / tokens,
        divergence=sum(float(one.divergence) for one in told) / tokens,
        most_ratio=max(float(one.most_ratio) for one in told), gap=float(gaps.mean()), most_gap=float(gaps.max()),
        skipped=not math.isfinite(norm),
    )  # fmt: skip


def _plan(batch: Batch) -> StepPlan:
    """Picks as the engine makes them."""
    length = batch.tokens.shape[1]
    return StepPlan(stage="reinforce", row_length=length, topk=None, picks=Picks.INDEX, rate=1.0, skips=0.0)
