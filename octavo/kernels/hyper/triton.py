"""Hyper-connections on a GPU without gradients: `enter`, `cross`, `write` and `merge` in one or two launches each.

Covers: M = 1, 2 or 4 streams of up to 16,384 channels in BF16 or FP32, coefficients in FP32, and the launches that the
functions with gradients share (`triton_backward`). Does not cover: other numbers of streams (`ref`).

The first launch writes the streams (`cross`) and multiplies them with `fn` on their way: programs take tiles of tokens
and shares of the channels, so that one token too keeps many multiprocessors busy. Their sums [splits, T, BLOCK_N] are
added up in order by the second launch; column N holds the sum of squares. The second launch has programs that make post
and comb, and programs that collapse the streams of a token and normalise the result.
"""

# Triton's annotations do not know that constants arrive as plain numbers, nor launch options.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo.kernels.hyper import triton_many
from octavo.kernels.hyper.tiles import load_streams, pick

PROGRAMS = 264  # that fill an H100 twice
_WIDEST = 16_384
_FLOATS = (torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Config:
    """Sizes of the launches: a tile of `block_t` tokens x `block_d` channels, `splits` programs share the channels;
    `tokens` a program that makes post and comb takes."""

    block_t: int
    block_d: int
    splits: int
    warps: int
    stages: int
    tokens: int


# (tokens up to which, tokens a tile, channels a tile, warps, tokens whose matrices a program makes)
_TABLE = ((16, 16, 32, 4, 1), (64, 16, 64, 4, 1), (1023, 16, 64, 4, 16), (2**31, 64, 32, 8, 32))


def config_of(T: int, D: int) -> Config:
    """Sizes for T tokens of D channels."""
    block_t, block_d, warps, tokens = next(row[1:] for row in _TABLE if row[0] >= T)
    splits = max(1, min(triton.cdiv(D, block_d), triton.cdiv(PROGRAMS, triton.cdiv(T, block_t))))
    return Config(block_t, block_d, splits, warps, 2, tokens)


@triton.jit
def _written(k: tl.constexpr, out, h0, h1, h2, h3, post, comb, t, ok, M: tl.constexpr):
    """post_k out + sum_j comb[j, k] h_j of tokens t, in this order."""
    c = comb + t * (M * M) + k
    total = tl.load(post + t * M + k, mask=ok, other=0.0)[:, None] * out
    total += tl.load(c, mask=ok, other=0.0)[:, None] * h0
    if M > 1:
        total += tl.load(c + M, mask=ok, other=0.0)[:, None] * h1
    if M > 2:
        total += tl.load(c + 2 * M, mask=ok, other=0.0)[:, None] * h2
        total += tl.load(c + 3 * M, mask=ok, other=0.0)[:, None] * h3
    return total


@triton.jit
def _add_product(h, w, acc, NATIVE: tl.constexpr):
    """acc [T, N] + h [T, D] times w [N, D]^T, FP32 but for the order of its sums.

    BF16 on a GPU is exact: w is all of three parts in BF16, whose products with h the matrix units add up in FP32.
    """
    BF16: tl.constexpr = h.dtype == tl.bfloat16
    if NATIVE:  # opaque, or Triton would load and compute h once more in the layout that the product wants
        PACK: tl.constexpr = 2 if BF16 else 1
        h = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [h], dtype=h.dtype, is_pure=False, pack=PACK)
    if NATIVE and BF16:
        high = w.to(tl.bfloat16)
        rest = w - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        acc = tl.dot(h, tl.trans(high), acc)
        acc = tl.dot(h, tl.trans(middle), acc)
        acc = tl.dot(h, tl.trans(low), acc)
    else:
        acc = tl.dot(h.to(tl.float32), tl.trans(w), acc, input_precision="tf32x3")
    return acc


@triton.jit(do_not_specialize=["T"])
def _project(
    streams, y, post, comb, fn, after, partial, T, D, chunk,
    M: tl.constexpr, N: tl.constexpr, WRITE: tl.constexpr, PROJECT: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    t = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)
    ok = t < T
    o = tl.arange(0, BLOCK_N)
    first = tl.program_id(1) * chunk
    acc = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    squares = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    for at in range(first, tl.minimum(first + chunk, D), BLOCK_D):
        d = at + tl.arange(0, BLOCK_D)
        there = ok[:, None] & (d < D)[None, :]
        place = t[:, None] * (M * D) + d[None, :]
        h0, h1, h2, h3 = load_streams(streams + place, there, D, M)
        if WRITE:
            out = tl.load(y + t[:, None] * D + d[None, :], mask=there, other=0.0).to(tl.float32)
        for k in tl.static_range(M):
            h = pick(k, h0, h1, h2, h3)
            if WRITE:
                rounded = _written(k, out, h0, h1, h2, h3, post, comb, t, ok, M).to(after.dtype.element_ty)
                tl.store(after + place + k * D, rounded, mask=there)
                h = rounded.to(tl.float32)
            if PROJECT:
                squares += h * h
                weights = fn + o[:, None] * (M * D) + (k * D + d)[None, :]
                w = tl.load(weights, mask=(o < N)[:, None] & (d < D)[None, :], other=0.0)
                acc = _add_product(h.to(after.dtype.element_ty), w.to(tl.float32), acc, NATIVE)
    if PROJECT:
        square = tl.sum(squares, axis=1)
        to = partial + (tl.program_id(1).to(tl.int64) * T + t)[:, None] * BLOCK_N + o[None, :]
        tl.store(to, tl.where((o == N)[None, :], square[:, None], acc), mask=ok[:, None] & (o <= N)[None, :])


@triton.jit
def _summed(partial, t, o, ok, T, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr):
    """Columns o of tokens t (vectors of one length), added up over the splits."""
    split = tl.arange(0, BLOCK_S)
    at = (split.to(tl.int64)[:, None] * T + t[None, :]) * BLOCK_N + o[None, :]
    return tl.sum(tl.load(partial + at, mask=(split < SPLITS)[:, None] & ok[None, :], other=0.0), axis=0)


@triton.jit
def _coefficients(
    partial, base, scale, post, comb, first, T, D, eps, norm_eps,
    M: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr, TOKENS: tl.constexpr,
    ITERS: tl.constexpr,
):  # fmt: skip
    """post and comb of the tokens from `first` on."""
    N: tl.constexpr = M * (2 + M)
    lane = tl.arange(0, TOKENS * M)
    t = first + (lane // M).to(tl.int64)
    o = lane % M
    ok = t < T
    rho = tl.rsqrt(_summed(partial, t, N + o * 0, ok, T, SPLITS, BLOCK_S, BLOCK_N) / (M * D) + norm_eps)
    z = _summed(partial, t, M + o, ok, T, SPLITS, BLOCK_S, BLOCK_N) * rho * tl.load(scale + 1).to(tl.float32)
    z += tl.load(base + M + o).to(tl.float32)
    tl.store(post + t * M + o, 2.0 * tl.sigmoid(z), mask=ok)

    lane = tl.arange(0, TOKENS * M * M)
    t = first + (lane // (M * M)).to(tl.int64)
    o = lane % (M * M)
    ok = t < T
    rho = tl.rsqrt(_summed(partial, t, N + o * 0, ok, T, SPLITS, BLOCK_S, BLOCK_N) / (M * D) + norm_eps)
    z = _summed(partial, t, 2 * M + o, ok, T, SPLITS, BLOCK_S, BLOCK_N) * rho * tl.load(scale + 2).to(tl.float32)
    z = tl.reshape(z + tl.load(base + 2 * M + o).to(tl.float32), (TOKENS, M, M))
    c = tl.exp(z - tl.max(z, axis=2, keep_dims=True))
    c = c / tl.sum(c, axis=2, keep_dims=True) + eps
    c = c / (tl.sum(c, axis=1, keep_dims=True) + eps)
    for _ in range(1, ITERS):
        c = c / (tl.sum(c, axis=2, keep_dims=True) + eps)
        c = c / (tl.sum(c, axis=1, keep_dims=True) + eps)
    tl.store(comb + t * (M * M) + o, tl.reshape(c, (TOKENS * M * M,)), mask=ok)


@triton.jit
def _collapse(
    streams, partial, base, scale, gain, x, kept, t, T, D, eps, norm_eps,
    M: tl.constexpr, N: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr, GAIN: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """The weighted sum of the streams of token t, normalised where GAIN. KEEP stores raw * rho | rho."""
    lane = tl.arange(0, BLOCK_N)
    raw = _summed(partial, t + lane * 0, lane, lane <= N, T, SPLITS, BLOCK_S, BLOCK_N)
    rho = tl.rsqrt(tl.sum(tl.where(lane == N, raw, 0.0)) / (M * D) + norm_eps)
    if KEEP:
        tl.store(kept + t * BLOCK_N + lane, tl.where(lane == N, rho, raw * rho), mask=lane <= N)
    z = raw * rho * tl.load(scale).to(tl.float32) + tl.load(base + lane, mask=lane < M, other=0.0).to(tl.float32)
    pre = tl.sigmoid(z) + eps
    d = tl.arange(0, BLOCK_D)
    there = d < D
    total = tl.zeros((BLOCK_D,), tl.float32)
    for j in tl.static_range(M):
        h = tl.load(streams + t * (M * D) + j * D + d, mask=there, other=0.0).to(tl.float32)
        total += tl.sum(tl.where(lane == j, pre, 0.0)) * h
    total = total.to(x.dtype.element_ty).to(tl.float32)
    if GAIN:
        total = total * tl.rsqrt(tl.sum(total * total) / D + norm_eps)
        total = total * tl.load(gain + d, mask=there, other=0.0).to(tl.float32)
    tl.store(x + t * D + d, total.to(x.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["T", "combs"])
def _begin(
    streams, partial, base, scale, gain, x, post, comb, kept, T, D, eps, norm_eps, combs,
    M: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    TOKENS: tl.constexpr, ITERS: tl.constexpr, MIX: tl.constexpr, GAIN: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    N: tl.constexpr = M * (2 + M) if MIX else M
    if MIX:
        if pid < combs:  # first, since 20 rounds in sequence take the longest
            first = pid.to(tl.int64) * TOKENS
            _coefficients(partial, base, scale, post, comb, first, T, D, eps, norm_eps, M, SPLITS, BLOCK_S, BLOCK_N,
                          TOKENS, ITERS)  # fmt: skip
        else:
            _collapse(streams, partial, base, scale, gain, x, kept, (pid - combs).to(tl.int64), T, D, eps, norm_eps, M,
                      N, SPLITS, BLOCK_S, BLOCK_N, BLOCK_D, GAIN, KEEP)  # fmt: skip
    else:
        _collapse(streams, partial, base, scale, gain, x, kept, pid.to(tl.int64), T, D, eps, norm_eps, M, N, SPLITS,
                  BLOCK_S, BLOCK_N, BLOCK_D, GAIN, KEEP)  # fmt: skip


def enter(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *, iters: int, eps: float, norm_eps: float,
    config: Config | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """streams [T, M, D], fn [M (2 + M), M D], base [M (2 + M)], scale [3], gain [D] -> x [T, D] in the streams' dtype,
    post [T, M] and comb [T, M, M] FP32: how a sublayer begins. `config` overrides the table, for tuning; ValueError for
    a wrong shape or dtype."""
    x, post, comb, _ = begin(
        streams, None, fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps, config=config, keep=False
    )[1:]
    return x, post, comb


def cross(
    streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor, *,
    iters: int, eps: float, norm_eps: float, config: Config | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`write` and then `enter` of what was written -> (streams, x, post, comb)."""
    after, x, post, comb, _ = begin(
        streams, (y, post, comb), fn, base, scale, gain, iters=iters, eps=eps, norm_eps=norm_eps, config=config,
        keep=False,
    )  # fmt: skip
    return after, x, post, comb


def merge(
    streams: Tensor, fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, *, eps: float, norm_eps: float,
    config: Config | None = None,
) -> Tensor:  # fmt: skip
    """The head's weighted sum with fn [M, M D], base [M], scale [1], normalised if there is a gain [D] -> [T, D]."""
    return begin(
        streams, None, fn, base, scale, gain, iters=0, eps=eps, norm_eps=norm_eps, config=config, keep=False
    )[1]


def write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor, *, config: Config | None = None) -> Tensor:
    """post_k y + sum_j comb[j, k] h_j, rounded once -> [T, M, D] in the streams' dtype."""
    T, M, D = check_streams(streams)
    check_write(streams, y, post, comb)
    after = torch.empty_like(streams)
    if T and config is None and triton_many.serves(streams):
        triton_many.project(streams, (y, post, comb), None, after, post, N=0, rows=16)
    elif T:
        config = config or config_of(T, D)
        _launch_project(streams, (y, post, comb), None, after, post, config, N=0, block_n=16)
    return after


def begin(
    streams: Tensor, written: tuple[Tensor, Tensor, Tensor] | None, fn: Tensor, base: Tensor, scale: Tensor,
    gain: Tensor | None, *, iters: int, eps: float, norm_eps: float, config: Config | None, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """-> (streams, x, post, comb, kept): `written` is (y, post, comb) of a write that comes first; iters 0 is `merge`,
    whose post and comb are empty. kept FP32 [T, BLOCK_N] is raw * rho of N outputs | rho, empty unless `keep`."""
    T, M, D = check_streams(streams)
    N = M * (2 + M) if iters else M
    _check_weights(fn, base, scale, gain, M, D, N, scales=3 if iters else 1)
    after = streams
    if written is not None:
        check_write(streams, *written)
        after = torch.empty_like(streams)
    block_n = columns(N)
    made = iters > 0
    x = streams.new_empty((T, D))
    post = streams.new_empty((T, M) if made else (0,), dtype=torch.float32)
    comb = streams.new_empty((T, M, M) if made else (0,), dtype=torch.float32)
    kept = streams.new_empty((T, block_n) if keep else (0,), dtype=torch.float32)
    if T == 0:
        return after, x, post, comb, kept
    many = config is None and triton_many.serves(streams)
    config = config or config_of(T, D)
    splits = 1 if many else _shares(config, D)[1]
    partial = streams.new_empty((splits, T, block_n), dtype=torch.float32)
    if many:
        triton_many.project(streams, written, fn, after, partial, N=N, rows=block_n)
    else:
        _launch_project(streams, written, fn, after, partial, config, N=N, block_n=block_n)
    combs = triton.cdiv(T, config.tokens) if made else 0
    block_d = triton.next_power_of_2(D)
    _begin[(combs + T,)](
        after, partial, base, scale, base if gain is None else gain, x, post, comb, kept, T, D, eps, norm_eps, combs,
        M=M, SPLITS=splits, BLOCK_S=triton.next_power_of_2(splits), BLOCK_N=block_n, BLOCK_D=block_d,
        TOKENS=config.tokens, ITERS=iters, MIX=made, GAIN=gain is not None, KEEP=keep,
        num_warps=warps_for(block_d),
    )  # fmt: skip
    return after, x, post, comb, kept


def columns(N: int) -> int:
    """Columns of a row of sums: N outputs, the sum of squares, and what a product's tile needs."""
    return max(16, triton.next_power_of_2(N + 1))


def warps_for(block: int) -> int:
    """Warps for a row of `block` values held in registers."""
    return min(16, max(1, block // 512))


def _shares(config: Config, D: int) -> tuple[int, int]:
    """Channels that a split takes, and the number of splits."""
    chunk = triton.cdiv(triton.cdiv(D, config.block_d), config.splits) * config.block_d
    return chunk, triton.cdiv(D, chunk)


def _launch_project(
    streams: Tensor, written: tuple[Tensor, Tensor, Tensor] | None, fn: Tensor | None, after: Tensor, partial: Tensor,
    config: Config, *, N: int, block_n: int,
) -> None:  # fmt: skip
    T, M, D = streams.shape
    y, post, comb = (streams, partial, partial) if written is None else written
    chunk, splits = _shares(config, D)
    _project[(triton.cdiv(T, config.block_t), splits)](
        streams, y, post, comb, partial if fn is None else fn, after, partial, T, D, chunk,
        M=M, N=N, WRITE=written is not None, PROJECT=fn is not None, BLOCK_T=config.block_t, BLOCK_D=config.block_d,
        BLOCK_N=block_n, NATIVE=streams.is_cuda, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip


def check_streams(streams: Tensor) -> tuple[int, int, int]:
    """T, M and D of streams that the kernels take."""
    T, M, D = streams.shape
    if M not in (1, 2, 4) or not 1 <= D <= _WIDEST:
        raise ValueError(f"streams are {M} of {D} channels; 1, 2 or 4 of 1 to {_WIDEST} are possible")
    require("streams", streams, (T, M, D), _FLOATS)
    return T, M, D


def check_write(streams: Tensor, y: Tensor, post: Tensor, comb: Tensor) -> None:
    """ValueError for what a write would read wrongly."""
    T, M, D = streams.shape
    require("y", y, (T, D), _FLOATS)
    require("post", post, (T, M), (torch.float32,))
    require("comb", comb, (T, M, M), (torch.float32,))


def _check_weights(
    fn: Tensor, base: Tensor, scale: Tensor, gain: Tensor | None, M: int, D: int, N: int, *, scales: int
) -> None:
    require("fn", fn, (N, M * D), _FLOATS)
    require("base", base, (N,), _FLOATS)
    require("scale", scale, (scales,), _FLOATS)
    if gain is not None:
        require("gain", gain, (D,), _FLOATS)


def require(name: str, x: Tensor, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> None:
    """ValueError unless x is contiguous and of this shape and one of these dtypes."""
    if tuple(x.shape) != shape or x.dtype not in dtypes or not x.is_contiguous():
        raise ValueError(
            f"{name} is {x.dtype} {tuple(x.shape)}{'' if x.is_contiguous() else ' with gaps'}; "
            f"it must be contiguous, {' or '.join(map(str, dtypes))} of shape {shape}"
        )
