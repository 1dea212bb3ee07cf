"""Muon for matrices and AdamW for the rest, in one optimiser with named state.

Covers: hybrid Newton-Schulz orthogonalisation batched over equal shapes, decoupled decay, state as tensors by parameter
name. Does not cover: schedules, gradient reduction.

Muon (report, algorithm 1): M = mu M + G; O = orthogonalise(G + mu M) * 0.18 sqrt(max(rows, columns)), so that the
update's RMS is 0.18 and AdamW-like rates carry over; W = W (1 - lr decay) - lr O.
"""

# torch publishes no other way to update many tensors in one call.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octavo.config.model import ModelConfig
from octavo.train.groups import Role, matrices, role

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
        x = a * x + torch.bmm(b * gram + c * torch.bmm(gram, gram), x)
    return x.transpose(1, 2) if g.shape[1] > g.shape[2] else x


class Optimizer:
    """Updates a model's parameters in place from their gradients; state lives in `state[name][kind]`."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], model: ModelConfig, config: OptimConfig) -> None:
        self.config = config
        self.parameters = dict(parameters)
        self.step_count = 0
        self.state: dict[str, dict[str, Tensor]] = {}
        self._matrix_batches: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for name, p in self.parameters.items():
            if role(name) is Role.MATRIX:
                count = matrices(name, model)
                shape = (p.numel() // p.shape[-1] // count, p.shape[-1])
                self._matrix_batches.setdefault(shape, []).append((name, count))
                self.state[name] = {"momentum": torch.zeros_like(p)}
            else:
                self.state[name] = {"first": torch.zeros_like(p), "second": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update at `rate` times the peak rates; parameters without a gradient are left alone."""
        self.step_count += 1
        for shape, members in self._matrix_batches.items():
            self._muon(shape, [(n, k) for n, k in members if self.parameters[n].grad is not None], rate)
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

    def _muon(self, shape: tuple[int, int], members: list[tuple[str, int]], rate: float) -> None:
        if not members:
            return
        config, lr = self.config, self.config.matrix_lr * rate
        rows, cols = shape
        params: list[Tensor] = [self.parameters[n] for n, _ in members]
        grads: list[Tensor] = [p.grad for p in params if p.grad is not None]
        moments = [self.state[n]["momentum"] for n, _ in members]
        torch._foreach_mul_(moments, config.momentum)
        torch._foreach_add_(moments, grads)
        ahead = torch._foreach_add(grads, moments, alpha=config.momentum)
        batch = torch.cat([u.reshape(-1, rows, cols) for u in ahead])
        work = batch.to(torch.bfloat16) if batch.is_cuda else batch
        update = orthogonalise(work, fast_steps=config.fast_steps, polish_steps=config.polish_steps)
        update = update.to(batch.dtype) * (UPDATE_RMS * max(rows, cols) ** 0.5)
        torch._foreach_mul_(params, 1 - lr * config.decay)
        parts = update.split([k for _, k in members])
        torch._foreach_add_(params, [u.reshape(p.shape) for u, p in zip(parts, params, strict=True)], alpha=-lr)

    def _adam(self, names: list[str], lr: float, decay: float) -> None:
        b1, b2 = self.config.betas
        params: list[Tensor] = [self.parameters[n] for n in names]
        grads: list[Tensor] = [p.grad for p in params if p.grad is not None]
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
