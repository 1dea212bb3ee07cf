"""FlashMLA's form of a case: attention in plain torch that reads it as FlashMLA does gives the reference's output."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.bench import flash_mla
from octavo.bench.cases.sparse_attention import _inputs, _plain
from octavo.config.errors import UsageError
from octavo.kernels.quant import decode_rows_fp8


def inputs(starts: list[int], counts: list[int], *, ratio: int, k: int) -> dict[str, Any]:
    shape = {"H": 64, "K": 512, "rope": 64, "form": "fp8", "window": 16, "ring": 32, "dtype": torch.float32}
    return _inputs(torch.device("cpu"), starts=starts, counts=counts, ratio=ratio, k=k, **shape)


def row_of(blocks: Tensor, slot: int) -> Tensor:
    """The 584 bytes of a row, from a block whose rows' values come first and whose rows' scales come then."""
    size = blocks.shape[1]
    flat, at = blocks[slot // size].flatten(), slot % size
    return torch.cat((flat[at * 576 : (at + 1) * 576], flat[size * 576 + at * 8 : size * 576 + (at + 1) * 8]))


def attention(q: Tensor, keys: list[Tensor], sink: Tensor) -> Tensor:
    """Each query [H, K] over its own keys [n, K], with a sink."""
    out = []
    for one, own in zip(q, keys, strict=True):
        logits = torch.cat((one @ own.T * 512**-0.5, sink.unsqueeze(1)), dim=1)
        out.append(logits.softmax(1)[:, :-1] @ own)
    return torch.stack(out)


def decoding(wrong: float = 0.0) -> SimpleNamespace:
    """FlashMLA's functions in plain torch; with `wrong`, off by that much."""

    def with_kvcache(
        q: Tensor, near: Tensor, _table: None, _lengths: None, width: int, plan: object, _splits: None, scale: float,
        causal: bool, fp8: bool, *, attn_sink: Tensor, extra_k_cache: Tensor, indices: Tensor,
        extra_indices_in_kvcache: Tensor,
    ) -> tuple[Tensor, None]:  # fmt: skip
        assert (width, causal, fp8) == (512, False, True)
        assert scale == 512**-0.5
        keys = []
        for b in range(len(q)):
            rows = [row_of(near, int(i)) for i in indices[b, 0] if i >= 0]
            rows += [row_of(extra_k_cache, int(i)) for i in extra_indices_in_kvcache[b, 0] if i >= 0]
            keys.append(decode_rows_fp8(torch.stack(rows), 512, 64))
        return attention(q.squeeze(1), keys, attn_sink).unsqueeze(1) * (1 + wrong), None

    def sparse_fwd(q: Tensor, kv: Tensor, lists: Tensor, scale: float, width: int, sink: Tensor) -> tuple[Tensor]:
        assert (scale, width, lists.shape[2] % 128) == (512**-0.5, 512, 0)
        keys = [kv[lists[t, 0][lists[t, 0] >= 0].long(), 0].float() for t in range(len(q))]
        return (attention(q, keys, sink) * (1 + wrong),)

    return SimpleNamespace(
        get_mla_metadata=lambda: ("plan", None), flash_mla_with_kvcache=with_kvcache, flash_mla_sparse_fwd=sparse_fwd
    )


@pytest.mark.parametrize(("ratio", "k"), [(4, 8), (128, 0)], ids=["picks", "all"])
@pytest.mark.parametrize(
    ("starts", "counts"), [([5, 300], [1, 1]), ([299], [1]), ([290], [12])], ids=["batch", "one", "chunk"]
)
def test_flash_mla_is_given_the_same_attention(
    monkeypatch: pytest.MonkeyPatch, starts: list[int], counts: list[int], ratio: int, k: int
) -> None:
    monkeypatch.setitem(sys.modules, "flash_mla", decoding())
    made = inputs(starts, counts, ratio=ratio, k=k)
    peer = flash_mla.FlashMLA(_plain)
    limit = 1e-5 if len(counts) == len(starts) and counts[0] == 1 else 5e-3  # a chunk's rows are BF16
    for _ in range(2):  # brought into form, and again from it
        got = peer(**made)
        assert float((got - _plain(**made)).norm() / _plain(**made).norm()) < limit


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_mla", decoding(wrong=0.02))
    with pytest.raises(UsageError, match=r"FlashMLA's output is 0\.02 from the plain one; the limit is 0\.01"):
        flash_mla.FlashMLA(_plain)(**inputs([40], [1], ratio=4, k=4))


def test_blocks_begin_at_multiples_of_576_bytes() -> None:
    rows = torch.randint(0, 256, (12, 584), dtype=torch.uint8)
    blocks = flash_mla.blocks_of(rows, 4)
    assert tuple(blocks.shape) == (3, 4, 1, 584)
    assert blocks.stride(0) % 576 == 0
    assert all(torch.equal(row_of(blocks, i), rows[i]) for i in range(12))
