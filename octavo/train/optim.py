"""Muon for matrices and AdamW for the rest, in one optimiser with named state.

Covers: hybrid Newton-Schulz orthogonalisation batched over equal shapes, decoupled decay, state as tensors by parameter
name. Does not cover: schedules, gradient reduction.

Muon (report, algorithm 1): M = mu M + G; O = orthogonalise(G + mu M) * 0.18 sqrt(max(rows, columns)), so that the
update's RMS is 0.18 and AdamW-like rates carry over; W = W (1 - lr decay) - lr O.
"""

# torch publishes no other way to update many tensors in one call.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octavo.config.model import ModelConfig
from octavo.train.groups import Role, matrices, role
from octavo.train.parallel.owners import Owners
from octavo.train.parallel.ranks import local

_FAST = (3.4445, -4.7750, 2.0315)  # pulls all singular values near 1
_POLISH = (2.0, -1.5, 0.5)  # converges to 1
UPDATE_RMS = 0.18


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Peak rates by role, decay, momentum and Newton-Schulz steps (fast, then polishing).

    `eps` is of the size of a squared gradient: Adam divides by sqrt(second moment) + sqrt(eps).
    """

    matrix_lr: float = 5e-3
    embedding_lr: float = 3e-3
    scalar_lr: float = 3e-3
    table_lr: float = 1.5e-2
    decay: float = 0.1
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-20
    fast_steps: int = 8
    polish_steps: int = 2


def orthogonalise(g: Tensor, *, fast_steps: int, polish_steps: int) -> Tensor:
    """Nearest semi-orthogonal matrices of a batch [N, r, c], by Newton-Schulz in the input's dtype."""
    x = g.transpose(1, 2) if g.shape[1] > g.shape[2] else g
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
    for a, b, c in [_FAST] * fast_steps + [_POLISH] * polish_steps:
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if g.shape[1] > g.shape[2] else x


class Optimizer:
    """Updates a model's parameters in place from their gradients; state lives in `state[name][kind]`.

    Parameters may be spread over ranks by their first dimension; state is kept for the rows that this rank holds, and
    `owners` are the ranks that share the matrices then. A matrix is orthogonalised whole, by one of them.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], model: ModelConfig, config: OptimConfig,
        owners: Owners | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.parameters = dict(parameters)
        self.step_count = 0
        self.state: dict[str, dict[str, Tensor]] = {}
        self._owners = owners
        self._matrix_batches: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for name, p in self.parameters.items():
            kinds = ("momentum",) if role(name) is Role.MATRIX else ("first", "second")
            self.state[name] = {kind: torch.zeros_like(local(p.detach())) for kind in kinds}
            if role(name) is Role.MATRIX:
                count = len(p) if _stacked(p) else matrices(name, model)
                shape = (p.numel() // p.shape[-1] // count, p.shape[-1])
                self._matrix_batches.setdefault(shape, []).append((name, count))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update at `rate` times the peak rates; parameters without a gradient are left alone."""
        self.step_count += 1
        first = 0
        for shape, members in self._matrix_batches.items():
            self._muon(shape, [(n, k) for n, k in members if self.parameters[n].grad is not None], rate, first)
            first += len(members)
        rates = {
            Role.EMBEDDING: self.config.embedding_lr,
            Role.SCALAR: self.config.scalar_lr,
            Role.TABLE: self.config.table_lr,
        }
        for kind, peak in rates.items():
            names = [n for n, p in self.parameters.items() if role(n) is kind and p.grad is not None]
            if names:
                self._adam(names, peak * rate, self.config.decay if kind is Role.EMBEDDING else 0.0)

    def zero_grad(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def _held(self, names: Sequence[str]) -> tuple[list[Tensor], list[Tensor]]:
        """What this rank holds of the parameters, which have gradients, and of those."""
        params = [self.parameters[n] for n in names]
        return [local(p.detach()) for p in params], [local(p.grad) for p in params if p.grad is not None]

    def _muon(self, shape: tuple[int, int], members: list[tuple[str, int]], rate: float, first: int) -> None:
        """`first`: whose turn it is to own the first of the matrices."""
        if not members:
            return
        config, lr = self.config, self.config.matrix_lr * rate
        params, grads = self._held([n for n, _ in members])
        moments = [self.state[n]["momentum"] for n, _ in members]
        torch._foreach_mul_(moments, config.momentum)
        torch._foreach_add_(moments, grads)
        ahead = list(torch._foreach_add(grads, moments, alpha=config.momentum))
        work = [u.to(torch.bfloat16) if u.is_cuda else u for u in ahead]
        made = self._updates(shape, members, work, first)
        scale = UPDATE_RMS * max(shape) ** 0.5
        updates = [u.to(p.dtype).view_as(p) * scale for u, p in zip(made, params, strict=True)]
        torch._foreach_mul_(params, 1 - lr * config.decay)
        torch._foreach_add_(params, updates, alpha=-lr)

    def _updates(
        self, shape: tuple[int, int], members: list[tuple[str, int]], work: list[Tensor], first: int
    ) -> list[Tensor]:
        """Orthogonalised `work`, which holds the rows of every member that are here."""
        if self._owners is None:
            return self._orthogonal(work, shape)
        spread = [i for i, (n, _) in enumerate(members) if not _stacked(self.parameters[n])]
        done = list(work)
        whole = [i for i in range(len(work)) if i not in set(spread)]
        if whole:  # rows of stacked matrices are matrices
            for i, made in zip(whole, self._orthogonal([work[i] for i in whole], shape), strict=True):
                done[i] = made
        if spread:
            heights = [shape[0] * members[i][1] for i in spread]
            parts = [work[i] for i in spread]
            made = self._owners.apply(parts, heights, lambda owned: self._orthogonal(owned, shape), first=first)
            for i, one in zip(spread, made, strict=True):
                done[i] = one
        return done

    def _orthogonal(self, tensors: list[Tensor], shape: tuple[int, int]) -> list[Tensor]:
        """Each tensor holds whole matrices of `shape`, one behind the other; maybe none."""
        rows, cols = shape
        counts = [u.numel() // (rows * cols) for u in tensors]
        batch = torch.cat([u.reshape(k, rows, cols) for u, k in zip(tensors, counts, strict=True)])
        if not len(batch):
            return tensors
        made = orthogonalise(batch, fast_steps=self.config.fast_steps, polish_steps=self.config.polish_steps)
        return [part.reshape(u.shape) for part, u in zip(made.split(counts), tensors, strict=True)]

    def _adam(self, names: list[str], lr: float, decay: float) -> None:
        b1, b2 = self.config.betas
        params, grads = self._held(names)
        first = [self.state[n]["first"] for n in names]
        second = [self.state[n]["second"] for n in names]
        torch._foreach_lerp_(first, grads, 1 - b1)
        torch._foreach_mul_(second, b2)
        torch._foreach_addcmul_(second, grads, grads, 1 - b2)
        scale1, scale2 = 1 - b1**self.step_count, 1 - b2**self.step_count
        root = torch._foreach_sqrt(torch._foreach_div(second, scale2))
        torch._foreach_add_(root, self.config.eps**0.5)
        if decay:
            torch._foreach_mul_(params, 1 - lr * decay)
        torch._foreach_addcdiv_(params, torch._foreach_div(first, scale1), root, value=-lr)


def _stacked(parameter: Tensor) -> bool:
    """Whether the first dimension counts matrices."""
    return parameter.dim() == 3
