"""Hyper-connection mixing in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.kernels import dispatch
from octavo.kernels.dispatch import fusable
from octavo.kernels.hyper import lanes, loops
from octavo.kernels.rmsnorm import rmsnorm
from octavo.kernels.wide_linear import wide_linear


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def inverse_rms(streams: Tensor, norm_eps: float) -> Tensor:
    """1 / RMS over all M*D channels, [T, 1]."""
    return torch.rsqrt(_wide(streams).flatten(1).square().mean(-1, keepdim=True) + norm_eps)


def sinkhorn(logits: Tensor, *, iters: int, eps: float) -> Tensor:
    """Row softmax, then `iters` column steps with row steps between; [T, M, M] -> [T, M, M], columns sum to 1.

    The tokens are kept in the last dimension while iterating, so that each step runs over contiguous memory.
    """
    c = logits.permute(1, 2, 0).softmax(dim=1) + eps
    c = c / (c.sum(0, keepdim=True) + eps)
    for _ in range(iters - 1):
        c = c / (c.sum(1, keepdim=True) + eps)
        c = c / (c.sum(0, keepdim=True) + eps)
    return c.permute(2, 0, 1)


def mix(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See the package docstring for the contract."""
    raw = wide_linear(streams.flatten(1), fn)
    if dispatch.loops_on_cpu(streams):
        return loops.gates(streams, raw, base, scale, iters=iters, eps=eps, norm_eps=norm_eps)
    pre, post, logits = _gates(streams, raw, base, scale, eps, norm_eps)
    return pre, post, _normalised(logits, iters=iters, eps=eps)


@fusable
def _gates(
    streams: Tensor, raw: Tensor, base: Tensor, scale: Tensor, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """pre, post and the logits of comb from the raw product [T, M*(2+M)] of the streams with `fn`."""
    M = streams.shape[1]
    m = raw * inverse_rms(streams, norm_eps)
    base, scale = base.to(m.dtype), scale.to(m.dtype)
    pre = torch.sigmoid(m[:, :M] * scale[0] + base[:M]) + eps
    post = 2 * torch.sigmoid(m[:, M : 2 * M] * scale[1] + base[M : 2 * M])
    return pre, post, (m[:, 2 * M :] * scale[2] + base[2 * M :]).view(-1, M, M)


def _normalised(logits: Tensor, *, iters: int, eps: float) -> Tensor:
    M = logits.shape[1]
    if dispatch.trains_on_gpu(logits) and logits.dtype == torch.float32 and M & (M - 1) == 0:
        from octavo.kernels.hyper.sinkhorn import Sinkhorn  # triton is there where a GPU is

        return Sinkhorn.apply(logits, iters, eps)
    return sinkhorn(logits, iters=iters, eps=eps)


def read(streams: Tensor, pre: Tensor) -> Tensor:
    """Weighted sum of the streams, [T, D]."""
    if dispatch.trains_on_gpu(streams):
        return _read_by_stream(streams, pre)
    if dispatch.loops_on_cpu(streams):
        return loops.read(streams, pre)
    out = torch.bmm(pre.unsqueeze(1), _wide(streams)).squeeze(1)
    return out.to(streams.dtype)


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """post (x) y + comb^T streams, [T, M, D]."""
    if dispatch.trains_on_gpu(streams):
        return _write_by_stream(streams, y, post, comb)
    if dispatch.loops_on_cpu(streams) and y.dtype == torch.float32:
        body = lanes.write_four if lanes.fits(streams) else loops.write_part
        return loops.write(streams, y, post, comb, body)
    kept = torch.bmm(comb.transpose(1, 2), _wide(streams))
    return (kept + post.unsqueeze(-1) * _wide(y).unsqueeze(1)).to(streams.dtype)


def enter(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised input of a sublayer, and the coefficients of the write behind it."""
    if dispatch.loops_on_cpu(streams, tokens=streams.shape[0]) and fn.dtype == gain.dtype == streams.dtype:
        return loops.enter(streams, fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps)
    if dispatch.loops_on_cpu(streams) and lanes.fits(streams) and fn.dtype == gain.dtype == streams.dtype:
        raw = wide_linear(streams.flatten(1), fn)
        return lanes.enter(streams, raw, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps)
    pre, post, comb = mix(streams, fn, base, scale, iters=iters, eps=eps, norm_eps=norm_eps)
    return rmsnorm(read(streams, pre), gain, norm_eps), post, comb


def merge(streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, *, eps: float, norm_eps: float) -> Tensor:
    """The head's read of the streams, [T, D]."""
    m = wide_linear(streams.flatten(1), fn) * inverse_rms(streams, norm_eps)
    return read(streams, torch.sigmoid(m * scale.to(m.dtype) + base.to(m.dtype)) + eps)


# Batched products of 4 x 4 matrices leave a GPU idle; written out stream by stream they fuse into one pass.


@fusable
def _read_by_stream(streams: Tensor, pre: Tensor) -> Tensor:
    h = _wide(streams).unbind(1)
    return sum_of([pre[:, j : j + 1] * h[j] for j in range(len(h))]).to(streams.dtype)


@fusable
def _write_by_stream(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    h, out = _wide(streams).unbind(1), _wide(y)
    M = len(h)
    made = [
        sum_of([post[:, k : k + 1] * out, *(comb[:, j, k : k + 1] * h[j] for j in range(M))]) for k in range(M)
    ]
    return torch.stack(made, dim=1).to(streams.dtype)


def sum_of(terms: list[Tensor]) -> Tensor:
    """The terms added from left to right."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
