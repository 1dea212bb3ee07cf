"""Reading a stretch of a document again, beside the document, for what its cache does not keep.

Covers: the rows that a compressor pools, with their gate scores. Does not cover: what is made of them (`fold`).

A stretch begins with empty windows. A token's input of layer l depends, through windows, on at most (window - 1) tokens
of each layer below, and through compressed entries on everything before; the entries are taken from the document's
pages as they are stored. So after (window - 1) x layers tokens every row is what it was when the document was read, but
for the order in which sums are rounded. Nothing is written to the document.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from octavo.cache import codec
from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagedRows
from octavo.cache.state import SequenceState
from octavo.cache.view import Group, View
from octavo.kernels.rows import Rows
from octavo.model.transformer import Transformer

BORDER = 128  # groups of every ratio begin here


def first_read(layout: CacheLayout, wanted: int) -> int:
    """Where reading must begin for rows that are right from token `wanted` on; a multiple of `BORDER`."""
    config = layout.config
    back = (config.sliding_window - 1) * config.num_hidden_layers
    if config.engram is not None and layout.conv_rows:
        back += config.engram.conv_history * len(config.engram.layers)
    return max(wanted - back, 0) // BORDER * BORDER


class Rereading:
    """The past of a stretch that begins at token `begin` of a state, as a `View` takes it.

    `kept` are the raw rows (values, then scores with their position bias) of tokens `wanted` and later, by layer: the
    number of the first one, and the rows [n, 2 w] of at least FP32.
    """

    def __init__(self, state: SequenceState, *, begin: int, wanted: int) -> None:
        assert begin % BORDER == 0, "groups must begin where the stretch does"
        self._state, self._begin, self._wanted = state, begin, wanted
        self._window: dict[int, Tensor] = {}
        self._conv: dict[int, Tensor] = {}
        self._raw: dict[tuple[int, str], tuple[int, Tensor]] = {}
        self.first = begin

    @property
    def kept(self) -> dict[int, tuple[int, Tensor]]:
        """See the class."""
        return {layer: rows for (layer, kind), rows in self._raw.items() if kind == "main"}

    @torch.inference_mode()
    def read(self, model: Transformer, stop: int, *, chunk: int) -> None:
        """Read up to token `stop` in passes of `chunk` tokens."""
        ids, device = self._state.tokens, self._state.pool.device
        while self.first < stop:
            end = min(stop, self.first + chunk)
            tokens = torch.from_numpy(ids[self.first : end].astype(np.int64)).to(device)
            group = Group(start=0, rows=1, length=end - self.first, first=self.first, past=self)
            model(tokens, View(positions=torch.arange(self.first, end, device=device), groups=(group,)))
            self.first = end

    # -- what the model asks of a past ---------------------------------------------------------------------------------

    def window(self, layer: int, rows: Tensor) -> Tensor:
        """Window rows of the stretch before, and the new ones, as storage gives them back."""
        layout = self._state.layout
        new = codec.encode(rows[0], format=layout.window, kind="main", rope_dims=layout.rope_dims)
        old = self._window.get(layer)
        stored = new if old is None else torch.cat((old, new))
        self._window[layer] = stored[max(len(stored) - layout.config.sliding_window + 1, 0) :]
        width = layout.config.head_dim
        made = codec.decode(stored, format=layout.window, kind="main", width=width, rope_dims=layout.rope_dims)
        return made.unsqueeze(0).to(rows.dtype)

    def raw(self, layer: int, kind: str, rows: Tensor, *, since: int | None) -> Tensor | None:
        """Keep the new rows; all from token `since` on. Rows from before the stretch are zeros: the entry that they
        would belong to is taken from the pages."""
        first, old = self._raw.get((layer, kind), (self.first, rows[0, :0]))
        both = torch.cat((old, rows[0]))
        used = None
        if since is not None:
            missing = max(first - since, 0)
            used = torch.cat((both.new_zeros(missing, both.shape[1]), both[max(since - first, 0) :])).unsqueeze(0)
        needed = (first + len(both)) // BORDER * BORDER - BORDER  # the open group, and the one before it
        if kind == "main":
            needed = min(needed, self._wanted)
        drop = min(max(needed - first, 0), len(both))
        self._raw[layer, kind] = first + drop, both[drop:]
        return used

    def entries(self, layer: int, kind: str, first: int, values: Tensor) -> Rows:
        """The entries of the document so far; the new ones are not written."""
        return PagedRows(self._state.pool, self._state.runs, (layer, kind), first + values.shape[1])

    def entry_positions(self, first: int, stop: int, ratio: int) -> Tensor:
        """Positions of entries first .. stop - 1, [1, n]."""
        return torch.arange(first, stop, device=self._state.pool.device).unsqueeze(0) * ratio

    def conv(self, layer: int, rows: Tensor) -> Tensor:
        """Convolution rows of the stretch before, and the new ones."""
        old = self._conv.get(layer)
        both = rows if old is None else torch.cat((old, rows), dim=1)
        self._conv[layer] = both[:, max(both.shape[1] - self._state.layout.conv_rows, 0) :]
        return both

    def ids_before(self, count: int) -> Tensor:
        """Up to `count` token ids before the stretch's next one, [1, n]."""
        past = self._state.tokens[max(0, self.first - count) : self.first].astype(np.int64)
        return torch.from_numpy(past).to(self._state.pool.device).unsqueeze(0)
