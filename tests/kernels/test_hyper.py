"""Hyper-connections: Sinkhorn's sums, the neutral point, orientation of the mix, merge, rounding, empty input,
gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from octavo.kernels.hyper import merge, mix, read, ref, write
from octavo.kernels.hyper.ref import sinkhorn

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"iters": 20, "eps": 1e-6, "norm_eps": 1e-6}


def parameters(M: int, D: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    outputs = M * (2 + M)
    return (
        torch.randn(outputs, M * D, dtype=dtype) * (M * D) ** -0.5,
        torch.randn(outputs, dtype=dtype),
        torch.rand(3, dtype=dtype) + 0.5,
    )


def test_columns_sum_to_one_and_rows_nearly() -> None:
    comb = sinkhorn(torch.randn(200, 4, 4), iters=20, eps=1e-6)
    assert (comb > 0).all()
    assert (comb.sum(1) - 1).abs().max() < 1e-5
    assert (comb.sum(2) - 1).abs().max() < 1e-2


def test_sinkhorn_is_the_loop_that_ends_with_columns() -> None:
    logits = torch.randn(3, 4, 4, dtype=torch.float64)
    for t in range(3):
        c = [[float(v) for v in row] for row in (logits[t].softmax(dim=1) + 1e-6)]
        for step in range(5):
            if step:
                c = [[v / (sum(row) + 1e-6) for v in row] for row in c]
            sums = [sum(row[k] for row in c) for k in range(4)]
            c = [[v / (sums[k] + 1e-6) for k, v in enumerate(row)] for row in c]
        expected = torch.tensor(c, dtype=torch.float64)
        torch.testing.assert_close(sinkhorn(logits, iters=5, eps=1e-6)[t], expected, rtol=0, atol=1e-14)


def test_neutral_parameters_average_the_streams() -> None:
    streams, fn = torch.randn(6, 4, 8), torch.randn(24, 32)
    pre, post, comb = mix(streams, fn, torch.zeros(24), torch.zeros(3), **OPTIONS)
    torch.testing.assert_close(pre, torch.full((6, 4), 0.5 + 1e-6), rtol=0, atol=1e-7)
    torch.testing.assert_close(post, torch.ones(6, 4), rtol=0, atol=0)
    torch.testing.assert_close(comb, torch.full((6, 4, 4), 0.25), rtol=0, atol=1e-6)


def test_coefficients_do_not_depend_on_the_streams_length() -> None:
    streams = torch.randn(5, 4, 16)
    fn, base, scale = parameters(4, 16)
    for one, other in zip(
        mix(streams, fn, base, scale, **OPTIONS), mix(100 * streams, fn, base, scale, **OPTIONS), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_read_and_write_by_hand() -> None:
    streams, y = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    pre, post, comb = mix(streams, *parameters(4, 5, torch.float64), **OPTIONS)
    torch.testing.assert_close(read(streams, pre), sum(pre[:, j, None] * streams[:, j] for j in range(4)))
    written = write(streams, y, post, comb)
    for k in range(4):
        kept = sum(comb[:, j, k, None] * streams[:, j] for j in range(4))
        torch.testing.assert_close(written[:, k], post[:, k, None] * y + kept)


def test_merge_is_a_read_with_its_own_weights() -> None:
    streams, fn, base, scale = torch.randn(4, 2, 6), torch.randn(2, 12), torch.randn(2), torch.rand(1)
    flat = streams.flatten(1)
    logits = flat @ fn.T / (flat.square().mean(1, keepdim=True) + 1e-6).sqrt() * scale + base
    expected = read(streams, torch.sigmoid(logits) + 1e-6)
    torch.testing.assert_close(merge(streams, fn, base, scale, eps=1e-6, norm_eps=1e-6), expected)


def test_narrow_streams_are_mixed_in_single_and_rounded_once() -> None:
    streams, y = torch.randn(3, 4, 8).bfloat16(), torch.randn(3, 8).bfloat16()
    pre, post, comb = mix(streams, *parameters(4, 8), **OPTIONS)
    assert pre.dtype == post.dtype == comb.dtype == torch.float32
    assert torch.equal(read(streams, pre), read(streams.float(), pre).bfloat16())
    assert torch.equal(write(streams, y, post, comb), write(streams.float(), y.float(), post, comb).bfloat16())


def test_empty_input() -> None:
    streams = torch.zeros(0, 4, 8)
    pre, post, comb = mix(streams, *parameters(4, 8), **OPTIONS)
    assert (pre.shape, post.shape, comb.shape) == ((0, 4), (0, 4), (0, 4, 4))
    assert read(streams, pre).shape == (0, 8)
    assert write(streams, torch.zeros(0, 8), post, comb).shape == (0, 4, 8)


def test_gradient() -> None:
    def through(streams: Tensor, y: Tensor, fn: Tensor, base: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        pre, post, comb = mix(streams, fn, base, scale, iters=4, eps=1e-6, norm_eps=1e-6)
        return read(streams, pre), write(streams, y, post, comb)

    inputs = [torch.randn(2, 2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)]
    inputs += list(parameters(2, 3, torch.float64))
    assert torch.autograd.gradcheck(through, [x.requires_grad_() for x in inputs])


def test_stream_by_stream_form_is_the_same_sum() -> None:
    streams, y = torch.randn(9, 4, 6, requires_grad=True), torch.randn(9, 6, requires_grad=True)
    pre, post, comb = torch.rand(9, 4), torch.rand(9, 4), torch.rand(9, 4, 4)
    torch.testing.assert_close(ref._read_by_stream(streams, pre), read(streams, pre))
    made, expected = ref._write_by_stream(streams, y, post, comb), write(streams, y, post, comb)
    torch.testing.assert_close(made, expected)
    weight = torch.randn_like(made)
    for found, wanted in zip(
        torch.autograd.grad((made * weight).sum(), (streams, y)),
        torch.autograd.grad((expected * weight).sum(), (streams, y)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_sinkhorn_kernel_and_its_gradient_in_the_interpreter() -> None:
    """Against the plain iterations in FP64, in a process of its own: the interpreter is chosen at import."""
    command = [sys.executable, "-m", "tests.support.sinkhorn_run"]
    run = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "1"}, cwd=ROOT, capture_output=True, text=True, check=True
    )
    value, gradient, scale = map(float, run.stdout.split())
    assert value < 1e-6
    assert gradient < 1e-5 * max(scale, 1.0)
    assert scale > 0.01
