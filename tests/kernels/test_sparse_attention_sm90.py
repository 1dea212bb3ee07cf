"""The compiled attention for Hopper GPUs: sizes of work everywhere, results on such a GPU against FP32 and Triton."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from octavo.kernels.paged import PagedStore, Places, Ring
from octavo.kernels.quant import encode_rows_fp8
from octavo.kernels.sparse_attention import sm90
from octavo.kernels.sparse_attention.triton import Config, attend

HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0) and sm90.LIBRARY.is_file()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WINDOW, RING = 128, 256
TRITON = Config(64, 32, 1, 1, 8, 1)


def test_one_query_is_cut_into_parts_and_many_are_not() -> None:
    assert sm90.splits_of(4096, 64, 640, 132) == (1, False)
    assert sm90.splits_of(32, 64, 8320, 132) == (4, False)
    assert 8 <= sm90.splits_of(1, 64, 640, 132)[0] <= 14
    assert sm90.splits_of(1, 64, 1, 132) == (1, False)
    assert sm90.splits_of(1, 128, 10**6, 132) == (32, False)


def test_parts_are_joined_by_clusters_where_that_takes_few_rounds() -> None:
    clusters = {2: 66, 4: 30, 8: 15}  # as an H200 says
    assert sm90.splits_of(32, 64, 640, 132, clusters) == (2, True)
    assert sm90.splits_of(30, 64, 640, 132, clusters) == (4, True)
    assert sm90.splits_of(8, 64, 640, 132, clusters) == sm90.splits_of(1, 64, 640, 132, clusters) == (8, True)
    assert sm90.splits_of(64, 64, 640, 132, clusters) == sm90.splits_of(32, 128, 640, 132, clusters) == (2, True)
    assert sm90.splits_of(32, 64, 1152, 132, clusters) == (2, True)
    assert sm90.splits_of(32, 64, 640, 132, {**clusters, 3: 40}) == (3, True)
    assert sm90.splits_of(4096, 64, 640, 132, clusters) == (1, False)
    assert sm90.splits_of(1, 64, 10**6, 132, clusters)[0] == 32
    assert sm90.splits_of(8, 64, 640, 132, {8: 0})[1] is False


def test_little_work_is_left_to_triton() -> None:
    assert not sm90.pays(1, 64, 640)
    assert sm90.pays(8, 64, 640)
    assert sm90.pays(1, 64, 8320)


def test_other_devices_are_not_served() -> None:
    assert not sm90.serves(torch.zeros(1, 64, 512, dtype=torch.bfloat16), "fp8", 64)
    assert "Triton" in sm90.running(torch.device("cpu"))


def test_the_call_is_passed_as_the_compiled_side_reads_it() -> None:
    source = sm90.LIBRARY.with_name("attend_rows.cuh").read_text(encoding="utf-8")
    struct = source[source.index("struct OctavoAttend {") :].split("};")[0]
    names = re.findall(r"(\w+)[,;]", re.sub(r"//.*", "", struct))
    assert names == [field[0] for field in sm90._Attend._fields_]
    assert ctypes.sizeof(sm90._Attend) == 11 * 8 + 12 * 4 + 4 + 4  # to a multiple of 8


class Step:
    """The next tokens of sequences in Flash's geometry, rows of `size` times normal numbers."""

    def __init__(
        self, starts: list[int], counts: list[int], *, ratio: int, k: int = 0, H: int = 64, size: float = 1.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:  # fmt: skip
        self.places = Places.of(starts, counts, DEVICE)
        T, B = len(self.places.position), len(starts)
        pages = -(-max(s + n for s, n in zip(starts, counts, strict=True)) // 256)
        table = torch.randperm(B * pages, device=DEVICE).view(B, pages).int()
        self.store = PagedStore(self.rows(B * pages * 256 // ratio, size), table, ratio, 512, "fp8", 64)
        self.ring = Ring(self.rows(B * RING, size).view(B, RING, -1))
        self.q = torch.randn(T, H, 512, device=DEVICE).to(dtype)
        self.sink = torch.randn(H, device=DEVICE)
        self.picks = None
        if k:
            self.picks = torch.full((T, k), -1, dtype=torch.int32, device=DEVICE)
            for t in range(T):
                visible = (int(self.places.position[t]) + 1) // ratio
                chosen = torch.randperm(visible, device=DEVICE)[:k].int()
                self.picks[t, torch.randperm(k, device=DEVICE)[: len(chosen)]] = chosen
        self.offset: Tensor | None = None

    @staticmethod
    def rows(count: int, size: float) -> Tensor:
        return encode_rows_fp8(size * torch.randn(count, 512, device=DEVICE), 64)

    def compiled(self, parts: tuple[int, bool] | None = None, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(self.q) if out is None else out
        lse = sm90.attend(
            self.q, self.ring, self.sink, self.store, self.places, picks=self.picks, window=WINDOW, scale=0.044,
            offset=self.offset, out=out, parts=parts,
        )  # fmt: skip
        return out, lse

    def triton(self) -> Tensor:
        """In FP32, by the kernel that is tested against the reference."""
        return attend(
            self.q.float(), self.ring, self.sink, self.store, self.places, picks=self.picks, window=WINDOW,
            scale=0.044, offset=self.offset, config=Config(16, 16, 1, 1, 4, 1),
        )[0]  # fmt: skip


def off(got: Tensor, wanted: Tensor) -> float:
    return float((got.float() - wanted).norm() / wanted.norm())


needs_hopper = pytest.mark.skipif(not HOPPER, reason="needs a Hopper GPU and the compiled attention")


@needs_hopper
@pytest.mark.parametrize("parts", [(1, False), (2, False), (5, False), *((n, True) for n in (2, 3, 4, 8)), None])
@pytest.mark.parametrize(
    ("starts", "counts", "ratio", "k", "H"),
    [
        ([5], [1], 128, 0, 64),  # one tile, less than full
        ([40, 3, 700], [3, 1, 2], 128, 0, 64),  # items of one tile and of many in turn
        ([3000, 300], [2, 3], 128, 0, 64),
        ([5000, 700, 9], [2, 3, 1], 4, 512, 64),
        ([6000], [300], 4, 512, 64),  # several items a block
        ([900], [3], 4, 64, 128),
    ],
)
def test_equals_fp32(
    starts: list[int], counts: list[int], ratio: int, k: int, H: int, parts: tuple[int, bool] | None
) -> None:
    step = Step(starts, counts, ratio=ratio, k=k, H=H)
    out, lse = step.compiled(parts)
    assert off(out, step.triton()) < 3e-3
    assert off(lse, step.compiled((1, False))[1]) < 1e-3


@needs_hopper
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("parts", [(1, False), (3, True), (4, True)])
def test_results_of_other_types(parts: tuple[int, bool], dtype: torch.dtype) -> None:
    step = Step([5000, 130, 9], [1, 1, 1], ratio=4, k=64, H=128)  # windows that are full, just full, and not
    assert off(step.compiled(parts, torch.empty_like(step.q, dtype=dtype))[0], step.triton()) < 3e-3


@needs_hopper
def test_results_go_to_any_address() -> None:
    step = Step([5000], [2], ratio=4, k=64)
    out = step.q.new_empty(step.q.numel() + 1)[1:].view_as(step.q)
    assert torch.equal(step.compiled(out=out)[0], step.compiled()[0])


@needs_hopper
@pytest.mark.parametrize("size", [1e-4, 1e-2, 40.0])
def test_scales_of_any_size(size: float) -> None:
    step = Step([3000], [2], ratio=128, size=size, dtype=torch.float16)
    assert off(step.compiled()[0], step.triton()) < 3e-3


@needs_hopper
def test_padding_offsets_and_masses() -> None:
    step = Step([3000, 3000], [2, 2], ratio=128)
    step.offset = torch.tensor([1.5, -2.0], device=DEVICE)
    step.places.position[1] = -1
    out, _ = step.compiled()
    assert off(out, step.triton()) < 3e-3
    assert not out[1].any()
    step.places.position[1] = 3001
    given = {"window": WINDOW, "scale": 0.044, "offset": step.offset, "mass": True}
    places = [step.q, step.ring, step.sink, step.store, step.places]
    got, wanted = (attend(*places, **given, config=config)[1] for config in (None, TRITON))
    assert got is not None
    assert wanted is not None
    assert off(got, wanted.float()) < 2e-2


@needs_hopper
def test_a_captured_call_follows_its_inputs() -> None:
    step = Step([3000] * 8, [1] * 8, ratio=4, k=512)
    out, _ = step.compiled()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, _ = step.compiled()
    step.q.copy_(torch.randn_like(step.q))
    graph.replay()
    assert off(out, step.triton()) < 3e-3
