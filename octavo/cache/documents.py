"""Rows that hold several documents, one behind the other, none of which sees another.

Covers: where each token's document begins, and the compressed entries of such rows: blocks are counted anew in every
document, so that its entries are those that it would have alone; what is left of it behind its last whole block gives
none. Entries of a row lie in order, without gaps; a row has room for as many as it would have as one document. Does not
cover: who looks at them (`octavo.model`), positions that begin anew (they are the view's).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo.kernels.selection import Bounds


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Entries of rows [B, C], C being room for all: `token`, int64, the place of an entry's first token in its row;
    `fresh`, bool, whether it is its document's first. Places behind a row's last entry repeat its first tokens, and
    nothing sees them. `bounds`: which entries each token sees."""

    token: Tensor
    fresh: Tensor
    bounds: Bounds


class Documents:
    """Documents of B rows of S tokens. `document` int [B, S] numbers the document of every token, equal within it and
    another in the next one; `positions` [B, S] are those of the rotary embedding. `begin` int32 [B, S] is the place in
    the row of the first token of each token's document."""

    def __init__(self, document: Tensor, positions: Tensor) -> None:
        S = document.shape[1]
        place = torch.arange(S, device=document.device)
        new = torch.ones_like(document, dtype=torch.bool)
        new[:, 1:] = document[:, 1:] != document[:, :-1]
        self._place, self._positions = place, positions
        self._first = torch.where(new, place, 0).cummax(1).values
        self.begin = self._first.to(torch.int32)
        self._entries: dict[int, Entries] = {}

    def entries(self, ratio: int) -> Entries:
        """Entries of blocks of `ratio` tokens; made once."""
        if ratio not in self._entries:
            self._entries[ratio] = self._made(ratio)
        return self._entries[ratio]

    def blocks(self, rows: Tensor, ratio: int) -> Tensor:
        """The rows [B, S, n] of the tokens of each entry, one behind the other, [B, C * ratio, n]; differentiable."""
        B, S, n = rows.shape
        token = self.entries(ratio).token
        every = (token.unsqueeze(-1) + torch.arange(ratio, device=token.device)).view(B, -1)
        flat = every + torch.arange(B, device=token.device).unsqueeze(1) * S
        return rows.reshape(B * S, n).index_select(0, flat.flatten()).view(B, -1, n)

    def entry_positions(self, ratio: int) -> Tensor:
        """The position of each entry, [B, C]: that of its first token."""
        return self._positions.gather(1, self.entries(ratio).token)

    def seen(self, reach: int) -> Tensor:
        """Whether the token `reach` places before belongs to the same document, bool [B, S]."""
        return self._place - reach >= self._first

    def _made(self, ratio: int) -> Entries:
        B, S = self._first.shape
        count = S // ratio
        inside = self._place - self._first
        ends = (inside + 1) % ratio == 0
        stop = ends.cumsum(1)
        first = torch.nn.functional.pad(stop, (1, 0)).gather(1, self._first)
        # A token that ends no block writes behind the last place, which is cut off.
        to = torch.where(ends, stop - 1, count)
        token = torch.zeros(B, count + 1, dtype=torch.int64, device=to.device)
        token.scatter_(1, to, (self._place - (ratio - 1)).clamp_min(0).expand(B, S))
        token = token[:, :count]
        fresh = self._first.gather(1, token) == token
        return Entries(token=token, fresh=fresh, bounds=Bounds(first.to(torch.int32), stop.to(torch.int32)))
