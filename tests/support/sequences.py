"""A tiny model with sequences in its cache, run without the engine.

Covers: `World` (new states, reading in chunks, logits with and without a cache); states filled with random rows,
without a model. Does not cover: texts, checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from octavo.cache.layout import CacheLayout
from octavo.cache.pool import PagePool
from octavo.cache.state import SequenceState
from octavo.cache.tails import LayerTail, empty_tails, raw_start
from octavo.cache.view import Controls, View
from octavo.config.model import ModelConfig
from tests.support.tiny import build_model, random_tensors, tiny_config


def small_config(**overrides: Any) -> ModelConfig:
    """Three layers, one of each kind, as narrow as the row formats allow; window 32."""
    fields: dict[str, Any] = {"compress_ratios": (0, 4, 128), "vocab_size": 64, "hidden_size": 16, "index_topk": 8}
    return tiny_config(**(fields | overrides))


def token_ids(count: int, *, seed: int = 0, vocab: int = 64) -> np.ndarray:
    """Random ids [count] int32."""
    return np.random.default_rng(seed).integers(0, vocab, count).astype(np.int32)


class World:
    """One model, one pool. `layout` fields: main, index, margin."""

    def __init__(self, config: ModelConfig | None = None, *, slab_tokens: int = 1024, **layout: Any) -> None:
        self.config = config or small_config()
        self.model = build_model(self.config, random_tensors(self.config, 0))
        self.layout = CacheLayout(self.config, **layout)
        self.pool = PagePool(self.layout, capacity_tokens=slab_tokens)

    def new_state(self, *, can_replay: bool = True) -> SequenceState:
        """An empty sequence."""
        return SequenceState(self.pool, empty_tails(self.layout), replay=self.replay if can_replay else None)

    def replay(self, ids: np.ndarray, state: SequenceState) -> None:
        """Read `ids` on, as a rollback wants it."""
        self.read(ids, state)

    @torch.inference_mode()
    def step(self, ids: np.ndarray, state: SequenceState, controls: Controls | None = None) -> Tensor:
        """Read ids in one pass; logits [T, V]."""
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64))
        view = View.step([state], [len(ids)], controls=controls)
        logits = self.model.logits(self.model(tokens, view).streams)
        view.commit(tokens)
        return logits

    def read(self, ids: np.ndarray | Sequence[int], state: SequenceState, *, chunk: int = 512) -> Tensor:
        """Read ids in passes that end at multiples of `chunk`; the last pass's logits [T, V]."""
        ids = np.asarray(ids)
        ends = list(range((state.length // chunk + 1) * chunk - state.length, len(ids), chunk))
        return [self.step(part, state) for part in np.split(ids, ends)][-1]

    @torch.inference_mode()
    def whole(self, ids: np.ndarray) -> Tensor:
        """Logits [T, V] without a cache."""
        tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64))
        return self.model.logits(self.model(tokens, View.packed([0, len(ids)])).streams)


def fake_read(state: SequenceState, count: int, *, seed: int = 0, step: int = 512) -> np.ndarray:
    """Let a state take in `count` made-up tokens with made-up rows, no model involved; their ids [count] int32.

    Steps end at multiples of `step`. Every id and row depends on `seed` and its place in the sequence only.
    """
    made = []
    while count:
        n = min(step - state.length % step, count)
        end = state.length + n
        state.reserve(n)
        for store, (key, spec) in enumerate(state.pool.specs.items()):
            first, stop = state.length // spec.ratio, end // spec.ratio
            _fill_rows(state, key, first, _noise(first, stop, spec.row_bytes, salt=seed + 10 * store))
        ids = _noise(state.length, end, 1, salt=seed + 7)[:, 0].astype(np.int32) % state.layout.config.vocab_size
        tails = tuple(_fake_tail(state, layer, end, salt=seed + 100 * layer) for layer in range(len(state.tails)))
        state.append(ids, tails)
        made.append(ids)
        count -= n
    return np.concatenate(made)


def _noise(first: int, stop: int, width: int, *, salt: int) -> np.ndarray:
    """Bytes [stop - first, width] that depend on row number, column and salt."""
    row = np.arange(first, stop, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    mixed = (row + np.arange(width, dtype=np.uint64) + np.uint64(salt << 20)) * np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(40)).astype(np.uint8)


def _fill_rows(state: SequenceState, key: tuple[int, str], first: int, rows: np.ndarray) -> None:
    n, values = state.pool.specs[key].entries_per_page, torch.from_numpy(rows)
    while len(values):
        slab, page = state.pool.locate(state.pages[first // n])
        some = min(n - first % n, len(values))
        at = page * n + first % n
        slab.rows(key)[at : at + some] = values[:some]
        first, values = first + some, values[some:]


def _fake_tail(state: SequenceState, layer: int, end: int, *, salt: int) -> LayerTail:
    layout, old = state.layout, state.tails[layer]

    def rows(first: int, like: Tensor) -> Tensor:
        made = torch.from_numpy(_noise(first, end, like.shape[1], salt=salt))
        return made if like.dtype is torch.uint8 else made.to(like.dtype) / 64

    raw_first = {kind: raw_start(layout, layer, end) for kind in old.raw}
    return LayerTail(
        window=rows(max(end - layout.window_rows, 0), old.window),
        raw={kind: rows(raw_first[kind], values) for kind, values in old.raw.items()},
        raw_first=raw_first,
        conv=None if old.conv is None else rows(max(end - layout.conv_rows, 0), old.conv),
    )


def stored(state: SequenceState) -> dict[str, Tensor]:
    """Everything a state holds that later steps can read, by name, as copies: ids, rows of closed entries, tails."""
    found = {f"tails.{name}": values.clone() for name, values in state.snapshot().items()}
    found["ids"] = torch.from_numpy(state.tokens.copy())
    if state.pages:
        for key, rows in state.read_pages(0, len(state.pages)).items():
            found[f"{key[0]}.{key[1]}"] = rows[: state.length // state.pool.specs[key].ratio]
    return found


def assert_same(a: SequenceState, b: SequenceState) -> None:
    """Both states hold the same, bit for bit."""
    left, right = stored(a), stored(b)
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert torch.equal(values, right[name]), name
