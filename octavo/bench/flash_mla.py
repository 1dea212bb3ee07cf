"""FlashMLA's kernels beside ours, where that package is installed.

Covers: the inputs of a case of `attend` (64 or 128 heads of 512 channels, FP8 rows) in the form of FlashMLA's sparse
kernels: prefill over decoded BF16 rows, decoding over the same FP8 rows with the window as its first and the entries as
its second cache. They are brought into that form once, outside any time, and the first result is held against the plain
one. Does not cover: building the package (its own README).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from octavo.config.errors import UsageError
from octavo.kernels.paged import PagedStore, Places, Ring
from octavo.kernels.quant import decode_rows_fp8

WIDTH, ROPE, HEADS = 512, 64, (64, 128)  # what its kernels for this row format are compiled for
_ROW, _SCALES = WIDTH - ROPE + 2 * ROPE, 8  # bytes of values and of scales of a row
_BLOCK_ALIGN = 576  # its blocks begin at multiples of this many bytes
_LIST_ALIGN = 128  # its lists of rows have a multiple of this many places; -1 fills them
_TOLERANCE = 1e-2

Plain = Callable[..., Tensor]


def installed() -> bool:
    """Whether its Python package can be imported."""
    return find_spec("flash_mla") is not None


class FlashMLA:
    """A peer of `attend`: called with the inputs of a case, it runs FlashMLA on them.

    `plain` gives the expected output of the same inputs. A first result that is further than 1 % from it (relative L2)
    raises UsageError, so that nothing wrong is timed.
    """

    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        self._inputs: tuple[Any, ...] = ()
        self._call: Callable[[], Tensor] | None = None

    def __call__(
        self, q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Tensor | None, window: int
    ) -> Tensor:
        inputs = q, ring, sink, store, places, picks, window
        if self._call is None or any(a is not b for a, b in zip(self._inputs, inputs, strict=True)):
            call = (_decode if len(q) == len(store.table) else _prefill)(*inputs)
            wanted, got = self._plain(*inputs).float(), call().float()
            error = float((got - wanted).norm() / wanted.norm())
            if not error <= _TOLERANCE:
                raise UsageError(f"FlashMLA's output is {error:.3g} from the plain one; the limit is {_TOLERANCE:g}")
            self._inputs, self._call = inputs, call
        return self._call()


def window_list(places: Places, ring: Ring, window: int) -> Tensor:
    """int32 [T, N]: for each query the places of its window's rows among all rings' rows, -1 where there is none."""
    token = places.position.unsqueeze(1) - torch.arange(window, device=places.position.device)
    place = places.sequence.unsqueeze(1) * ring.length + token % ring.length
    return _filled(place.where(token >= 0, -1))


def entry_list(places: Places, store: PagedStore, picks: Tensor | None) -> Tensor:
    """int32 [T, N]: for each query the slots of its picked entries, or of all that it may see; -1 where there is none.
    """
    if picks is None:
        entry = torch.arange(store.table.shape[1] * store.per_page, device=places.position.device)
        seen = ((places.position + 1) // store.ratio).unsqueeze(1)
        entry = entry.expand(len(seen), -1).where(entry < seen, -1)[:, : int(seen.max())]
    else:
        entry = picks.long()
    page = store.table[places.sequence.long().unsqueeze(1), entry.clamp_min(0) // store.per_page]
    return _filled((page * store.per_page + entry % store.per_page).where(entry >= 0, -1))


def _filled(slots: Tensor) -> Tensor:
    return torch.nn.functional.pad(slots.int(), (0, -slots.shape[1] % _LIST_ALIGN), value=-1)


def blocks_of(rows: Tensor, size: int) -> Tensor:
    """Rows uint8 [N, 584] as blocks of `size`: the values of a block's rows side by side, then their scales.

    A view [N / size, size, 1, 584] whose blocks begin at multiples of 576 bytes, as FlashMLA reads them.
    """
    count, width = len(rows) // size, _ROW + _SCALES
    held = torch.zeros(count, -(-size * width // _BLOCK_ALIGN) * _BLOCK_ALIGN, dtype=torch.uint8, device=rows.device)
    parts = rows.view(count, size, width)
    held[:, : size * _ROW] = parts[..., :_ROW].flatten(1)
    held[:, size * _ROW : size * width] = parts[..., _ROW:].flatten(1)
    return held[:, : size * width].view(count, size, 1, width)


def _prefill(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Tensor | None, window: int
) -> Callable[[], Tensor]:
    kernel = import_module("flash_mla").flash_mla_sparse_fwd
    near = ring.rows.flatten(0, 1)
    rows = torch.cat([decode_rows_fp8(part, WIDTH, ROPE).bfloat16() for part in (near, store.rows)]).unsqueeze(1)
    far = entry_list(places, store, picks)
    slots = torch.cat((window_list(places, ring, window), far.where(far < 0, far + len(near))), dim=1).unsqueeze(1)
    return lambda: kernel(q, rows, slots, WIDTH**-0.5, WIDTH, sink)[0]


def _decode(
    q: Tensor, ring: Ring, sink: Tensor, store: PagedStore, places: Places, picks: Tensor | None, window: int
) -> Callable[[], Tensor]:
    package = import_module("flash_mla")
    plan, _ = package.get_mla_metadata()
    near, far = blocks_of(ring.rows.flatten(0, 1), ring.length), blocks_of(store.rows, store.per_page)
    lists = {
        "indices": window_list(places, ring, window).unsqueeze(1),
        "extra_indices_in_kvcache": entry_list(places, store, picks).unsqueeze(1),
    }
    queries = q.unsqueeze(1)
    return lambda: package.flash_mla_with_kvcache(
        queries, near, None, None, WIDTH, plan, None, WIDTH**-0.5, False, True, attn_sink=sink, extra_k_cache=far,
        **lists,
    )[0].squeeze(1)  # fmt: skip
