"""A stretch read again: the raw rows are those of the first reading, whatever is stored, and the document stays."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.layout import RowFormat
from octavo.cache.view import StateRows, View
from octavo.engine.llm import LLM, load
from octavo.engine.reread import BORDER, Rereading, first_read
from tests.support.tiny import tiny_config, tiny_engram, write_tiny_model


class Watching(StateRows):
    """The usual past; what compressors hand over is written down."""

    def raw(self, layer: int, kind: str, rows: torch.Tensor, *, since: int | None) -> torch.Tensor | None:
        if kind == "main":
            self.seen[layer] = rows[0].clone()
        return super().raw(layer, kind, rows, since=since)

    seen: dict[int, torch.Tensor]


def first_reading(llm: LLM, ids: np.ndarray, *, chunk: int) -> tuple[object, dict[int, torch.Tensor]]:
    """A state that has read `ids`, and every token's raw rows by layer."""
    state, parts = llm.new_state(), []
    with torch.inference_mode():
        for at in range(0, len(ids), chunk):
            part = torch.from_numpy(ids[at : at + chunk])
            view = View.step([state], [len(part)])
            group = view.groups[0]
            past = Watching(state, len(part))
            past.seen = {}
            object.__setattr__(group, "past", past)
            llm.model(part, view)
            view.commit(part)
            parts.append(past.seen)
    return state, {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}


@pytest.mark.parametrize(
    ("dtype", "main", "engram", "tolerance"),
    [
        ("float64", None, None, 1e-10),
        ("float64", None, "v1", 1e-10),
        ("float64", None, "v41", 1e-10),
        ("float32", RowFormat.FP8, None, 1e-3),
    ],
)
def test_rows_are_those_of_the_first_reading(
    tmp_path: Path, dtype: str, main: RowFormat | None, engram: str | None, tolerance: float
) -> None:
    memory = None if engram is None else tiny_engram(engram)
    config = tiny_config(max_position_embeddings=4096, engram=memory)
    llm = load(write_tiny_model(tmp_path, config, 3), dtype, main=main)
    ids = torch.randint(16, 380, (1100,), generator=torch.Generator().manual_seed(1)).numpy()
    state, rows = first_reading(llm, ids, chunk=256)
    with closing(state):
        wanted, stop = 800, 1000
        begin = first_read(state.layout, wanted)
        assert begin % BORDER == 0
        assert begin <= wanted - 31 * 5
        assert begin > 0, "the stretch must not be all of the document"
        pages = {key: value.clone() for key, value in state.read_pages(0, 4).items()}
        past = Rereading(state, begin=begin, wanted=wanted)
        past.read(llm.model, stop, chunk=100)
        assert set(past.kept) == set(rows) == {1, 2, 3, 4}
        for layer, (first, again) in past.kept.items():
            assert first <= wanted
            assert first + len(again) == stop
            torch.testing.assert_close(
                again[wanted - first :], rows[layer][wanted:stop], rtol=tolerance, atol=tolerance
            )
        assert all(torch.equal(value, pages[key]) for key, value in state.read_pages(0, 4).items())
        state.check_integrity()


def test_a_stretch_without_a_run_up_is_wrong(tmp_path: Path) -> None:
    """The run-up is needed: begun at the place itself, rows of the upper layers are others."""
    llm = load(write_tiny_model(tmp_path, tiny_config(max_position_embeddings=4096), 3), "float64")
    ids = torch.randint(16, 380, (600,), generator=torch.Generator().manual_seed(1)).numpy()
    state, rows = first_reading(llm, ids, chunk=256)
    with closing(state):
        past = Rereading(state, begin=512, wanted=512)
        past.read(llm.model, 600, chunk=100)
        first, again = past.kept[4]
        assert not torch.allclose(again, rows[4][first:600], atol=1e-3)


def test_near_the_beginning_nothing_is_left_out(tmp_path: Path) -> None:
    llm = load(write_tiny_model(tmp_path, tiny_config(max_position_embeddings=4096), 3), "float64")
    with closing(llm.new_state()) as state:
        assert first_read(state.layout, 0) == 0
        assert first_read(state.layout, 31 * 5 + 100) == 0
