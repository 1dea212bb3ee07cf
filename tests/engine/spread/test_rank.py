"""What every rank has: its weights counted, its chunks in one order, what it holds compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.cache.state import SequenceState
from octavo.engine.llm import LLM
from octavo.engine.spread.rank import SequentialRunner, digest, weight_bytes
from tests.support.tiny_llm import tiny_llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return tiny_llm(tmp_path_factory.mktemp("model"))


def runner(llm: LLM) -> SequentialRunner:
    return SequentialRunner(llm.model, llm.pool, chunk=64)


def test_chunks_follow_one_another(llm: LLM) -> None:
    ids, lengths = np.arange(200) % 390 + 3, list[int]()
    state, plain = runner(llm).new_state(), llm.new_state()
    runner(llm).read(ids, state, after=lambda state: lengths.append(state.length), workers=8)
    llm.runner.read(ids, plain)
    assert lengths == [64, 128, 192, 200]
    assert digest(state) == digest(plain)
    assert runner(llm).stretch(state, most=5) is None
    state.close()
    plain.close()


def test_a_digest_is_of_all_that_counts(llm: LLM) -> None:
    def read(ids: list[int]) -> SequenceState:
        state = llm.new_state()
        llm.runner.read(np.array(ids), state)
        return state

    ids = [i % 390 + 3 for i in range(150)]
    first, again, other = read(ids), read(ids), read([*ids[:-1], 9])
    assert digest(first) == digest(again) != digest(other)
    assert digest(first) != digest(llm.new_state())
    slab, page = first.pool.locate(first.pages[0])
    rows = slab.rows((1, "main"))
    n = first.pool.specs[1, "main"].entries_per_page
    rows[page * n + 40] += 1  # behind the 37 entries of 150 tokens
    assert digest(first) == digest(again)
    rows[page * n + 36] += 1
    assert digest(first) != digest(again)
    for state in (first, again, other):
        state.close()


def test_tied_weights_count_once(tmp_path: Path) -> None:
    plain, tied = tiny_llm(tmp_path / "a"), tiny_llm(tmp_path / "b", tie_word_embeddings=True)
    assert weight_bytes(plain.model) == sum(t.nbytes for t in plain.model.state_dict().values())
    assert weight_bytes(plain.model) - weight_bytes(tied.model) == plain.model.embed.weight.nbytes
    assert weight_bytes(torch.nn.Linear(3, 2)) == 4 * (6 + 2)
