"""One rank's share of a model, and the sequences over it.

Covers: `build`, which loads the share, `SequentialRunner`, which runs chunks one after the other, and `digest`, by
which ranks compare what they hold. Does not cover: what other ranks do meanwhile (`crew`, `worker`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo.cache.layout import PAGE_TOKENS, CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.view import Controls
from octavo.engine.runner import Runner
from octavo.engine.spread.layers import SpreadTransformer
from octavo.engine.spread.orders import Setup
from octavo.engine.spread.team import Team
from octavo.model.checkpoint import DTYPES, load_weights

if TYPE_CHECKING:
    from octavo.model.stretch import Stretch


def build(setup: Setup) -> tuple[SpreadTransformer, PagePool]:
    """Join the others and load this rank's share. Collective. Raises CheckpointError and UsageError as `load`."""
    device = torch.device(setup.own_device)
    team = Team(setup.store, setup.rank, setup.count, device=device, seconds=setup.seconds)
    with torch.device("meta"):
        net = SpreadTransformer(setup.config, team)
    load_weights(net, setup.folder, DTYPES[setup.dtype], cuts=net.cuts)
    net = net.to(device).eval().requires_grad_(False)
    layout = CacheLayout(setup.config, main=setup.main, index=setup.index)
    return net, PagePool(layout, capacity_tokens=setup.capacity_tokens, device=device)


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of the weights that this process holds, tied ones once."""
    held = {id(tensor): tensor.nbytes for tensor in model.state_dict(keep_vars=True).values()}
    return sum(held.values())


class SequentialRunner(Runner):
    """A `Runner` whose chunks and steps follow one another as wholes: exchanges come in one order on all ranks."""

    def stretch(self, state: SequenceState, *, most: int, before: Stretch | None = None) -> Stretch | None:
        """None: steps of several sequences at a time are compiled ones."""
        return None

    def _read_parts(
        self, parts: list[np.ndarray], state: SequenceState, controls: Controls | None,
        after: Callable[[SequenceState], None] | None = None, workers: int | None = None,
    ) -> None:  # fmt: skip
        self._read_in_order(parts, state, controls, after)


def digest(state: SequenceState) -> str:
    """sha256 (hex) of all that a sequence holds: ids, tails, entries."""
    found = hashlib.sha256(state.tokens.tobytes())
    for name, tail in sorted(state.snapshot().items()):
        found.update(name.encode())
        found.update(tail.contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
    for key, rows in sorted(state.read_pages(0, len(state.pages)).items() if state.pages else ()):
        count = state.length * state.pool.specs[key].entries_per_page // PAGE_TOKENS
        found.update(repr(key).encode())
        found.update(rows[:count].contiguous().cpu().numpy().tobytes())
    return found.hexdigest()
