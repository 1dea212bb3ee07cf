"""Window rows of a draft stage, for as long as one answer is made.

Covers: `DraftRows`, rows of neighbouring tokens that grow, and are cut where drafts were wrong. Does not cover: what
the sequence keeps (`state`): nothing of the model's own results depends on drafts, so neither snapshots nor documents
hold these rows, and an answer begins with those of its prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.cache import codec
from octavo.cache.layout import CacheLayout

_ROOM = 3  # windows that fit before the newest rows are moved to the front


class DraftRows:
    """Rows of the tokens before number `end`, without a gap; they are stored as the cache stores window rows."""

    def __init__(self, layout: CacheLayout, device: torch.device | str = "cpu") -> None:
        self._layout = layout
        size = _ROOM * layout.window_rows, layout.window_row_bytes
        self._room = torch.empty(size, dtype=torch.uint8, device=device)
        self._count, self.end = 0, 0

    def __len__(self) -> int:
        """Rows held."""
        return self._count

    def window(self, layer: int, rows: Tensor) -> Tensor:
        """[1, S, K] of the tokens end .. end + S - 1 (S at most the window) -> past and new rows [1, N, K], each as the
        storage format gives it back."""
        layout, new, past = self._layout, rows.shape[1], self._layout.config.sliding_window - 1
        assert new <= past + 1, f"{new} rows are more than the window"
        if self._count + new > len(self._room):
            kept = min(self._count, layout.window_rows)
            self._room[:kept] = self._room[self._count - kept : self._count].clone()
            self._count = kept
        stop = self._count + new
        self._room[self._count : stop] = codec.encode(
            rows[0], format=layout.window, kind="main", rope_dims=layout.rope_dims
        )
        used = self._room[max(self._count - past, 0) : stop]
        self._count, self.end = stop, self.end + new
        return codec.decode(
            used, format=layout.window, kind="main", width=layout.config.head_dim, rope_dims=layout.rope_dims
        ).unsqueeze(0).to(rows.dtype)

    def cut(self, end: int) -> None:
        """Forget the rows of the tokens from number `end` on; all of them where those before `end` are not held."""
        held = self._count - (self.end - end)
        self._count, self.end = held if end <= self.end and held > 0 else 0, end
