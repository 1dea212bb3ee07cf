"""The stand-in is the attention it stands for; each change does what it says; looks add up."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.cache.view import Controls
from octavo.config.errors import UsageError
from octavo.engine.llm import LLM
from octavo.evals.anatomy_probe import EvidencePicks, LayerLook, Repair, Watch, entry_range, watched
from octavo.kernels.selection import Picked
from octavo.model.attention import Attention
from octavo.model.indexer import Indexer
from tests.support.tiny_llm import tiny_llm

TOKENS, ASKED = 700, 9
SPANS = ((100, 109), (403, 404))


@pytest.fixture
def llm(tmp_path: Path) -> LLM:
    return tiny_llm(tmp_path, index_topk=16)


def ids(count: int = TOKENS + ASKED) -> np.ndarray:
    return np.random.default_rng(3).integers(3, 400, size=count)


def asked(llm: LLM, watch: Watch | None, *, tokens: int = TOKENS, **options: Any) -> Tensor:
    """Logits of some tokens behind a text that is read without a stand-in."""
    given = ids(tokens + ASKED)
    with closing(llm.new_state()) as state:
        llm.runner.read(given[:tokens], state)
        if watch is None:
            return llm.runner.step(given[tokens:], state, all_rows=True, **options).logits
        with watched(llm, watch):
            return llm.runner.step(given[tokens:], state, all_rows=True, **options).logits


def wanted(span: tuple[int, int]) -> list[int]:
    """Entries of ratio 4 pooled from a token of the span."""
    return [w for w in range(TOKENS // 4) if 4 * w - 4 < span[1] and 4 * w + 4 > span[0]]


def test_entries_that_hold_a_span() -> None:
    assert entry_range((100, 109), 4, 1000) == (25, 29)  # 25 .. 27 and the one pooled from 27's tokens too
    assert list(range(*entry_range((100, 109), 4, 1000))) == wanted((100, 109))
    assert list(range(*entry_range((403, 404), 4, 1000))) == wanted((403, 404)) == [100, 101]
    assert entry_range((127, 129), 128, 1000) == (0, 2)
    assert entry_range((127, 129), 128, 1) == (0, 1)
    assert entry_range((500, 510), 128, 3) == (3, 3)  # not complete yet


@pytest.mark.parametrize("controls", [None, Controls(hca=False), Controls(index_topk=1000)])
def test_without_a_change_it_is_the_model(llm: LLM, controls: Controls | None) -> None:
    kept = [block.attn for block in llm.model.layers]  # pyright: ignore[reportAttributeAccessIssue]
    plain = asked(llm, None, controls=controls)
    torch.testing.assert_close(asked(llm, Watch(spans=SPANS), controls=controls), plain, atol=1e-4, rtol=0)
    assert all(block.attn is one for block, one in zip(llm.model.layers, kept, strict=True))  # pyright: ignore


def test_hca_off_is_the_control_of_that_name(llm: LLM) -> None:
    plain = asked(llm, None)
    off = asked(llm, Watch(repair=Repair(hca=False)))
    assert (off - plain).abs().max() > 1e-3
    torch.testing.assert_close(off, asked(llm, None, controls=Controls(hca=False)), atol=1e-4, rtol=0)


def test_fewer_picks_are_a_smaller_index(llm: LLM) -> None:
    found = asked(llm, Watch(repair=Repair(fewer=True)))
    torch.testing.assert_close(found, asked(llm, None, controls=Controls(index_topk=4)), atol=1e-4, rtol=0)
    least = asked(llm, Watch(repair=Repair(fewer=True)), controls=Controls(index_topk=3))
    torch.testing.assert_close(least, asked(llm, None, controls=Controls(index_topk=1)), atol=1e-4, rtol=0)


def test_picks_are_those_that_the_change_names(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = asked(llm, None)
    made = {picks: asked(llm, Watch(spans=SPANS, repair=Repair(picks=picks))) for picks in EvidencePicks}
    evidence = sorted({entry for span in SPANS for entry in wanted(span)})
    select = Indexer.select

    def changed(picks: EvidencePicks, self: Indexer, queries: Any, keys: Any, group: Any, controls: Controls) -> Picked:
        chosen = select(self, queries, keys, group, controls)
        assert isinstance(chosen, Picked)
        S, rows = chosen.index.shape[1], []
        for s in range(S):
            own = [e for e in chosen.index[0, s].tolist() if e >= 0]
            if picks is EvidencePicks.THINNED:
                own = [e for e in own if e * 48_271 % (2**31 - 1) % 4 == 0]
            rows.append(sorted({*evidence, *([] if picks is EvidencePicks.ALONE else own)}))
        index = torch.full((1, S, max(map(len, rows))), -1)
        for s, row in enumerate(rows):
            index[0, s, : len(row)] = torch.tensor(row)
        return Picked(index)

    given = ids()
    for picks, found in made.items():
        with closing(llm.new_state()) as state:
            llm.runner.read(given[:TOKENS], state)
            with monkeypatch.context() as patch, watched(llm, Watch()):  # steps run layer by layer, so select is asked
                patch.setattr(Indexer, "select", lambda *given, picks=picks: changed(picks, *given))
                expected = llm.runner.step(given[TOKENS:], state, all_rows=True).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert (found - plain).abs().max() > 1e-4


def test_sharper_logits_grow_with_the_logarithm_of_the_length(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, compress_ratios=(128, 4, 0, 4, 128))
    looks: list[LayerLook] = []
    for repair in (Repair(), Repair(sharpened=True)):
        watch = Watch(spans=((130, 140), (600, 610)), repair=repair, noting=True)
        asked(llm, watch, tokens=3000)
        looks.append(watch.looks[0])  # of the first layer, whose queries no change reaches
    usual, sharp = [(look.spans[..., 0] / look.spans[..., 1]).log() for look in looks]
    torch.testing.assert_close(sharp, usual * math.log(3000) / math.log(2048), atol=1e-3, rtol=1e-3)
    assert Repair(sharpened=True).factor(1000) == Repair().factor(10**6) == 1.0


def test_looks_tell_where_all_probability_went(llm: LLM) -> None:
    watch = Watch(spans=SPANS, noting=True)
    asked(llm, watch)
    assert [look.ratio for look in watch.looks] == [0, 4, 128, 4, 128]
    for look in watch.looks:
        total = look.spans.sum(-1) + look.others + look.window + look.sink
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
        assert look.spans.shape == (ASKED, 4, 2)
        assert (look.picked is None) == (look.rank is None) == (look.ratio != 4)
        assert (look.entropy > 0).all() if look.ratio else (look.entropy == 0).all()


def test_rank_and_picks_are_those_of_the_index(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    select = Indexer.select

    def noted(self: Indexer, queries: Any, keys: Any, group: Any, controls: Controls) -> Any:
        chosen = select(self, queries, keys, group, controls)
        if isinstance(chosen, Picked):
            seen.append(chosen.index[0])
        return chosen

    monkeypatch.setattr(Indexer, "select", noted)
    watch = Watch(spans=SPANS, noting=True)
    asked(llm, watch)
    layers = [look for look in watch.looks if look.ratio == 4]
    for look, index in zip(layers, seen[-len(layers) :], strict=True):
        assert look.picked is not None
        assert look.rank is not None
        for s in range(ASKED):
            for p, span in enumerate(SPANS):
                held = wanted(span)
                inside = len(set(held) & set(index[s].tolist()))
                assert look.picked[s, p] == pytest.approx(inside / len(held))
                assert (look.rank[s, p] <= 16) == (inside > 0)


def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    llm = tiny_llm(tmp_path, quant_sim=True)
    with pytest.raises(UsageError, match="rounds nothing on the way"), watched(llm, Watch()):
        pass
    assert all(type(block.attn) is Attention for block in llm.model.layers)  # pyright: ignore


def test_a_model_that_fused_kernels_run_is_watched_on_its_own_states(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    from tests.support.gpu_world import PLAIN, close, gpu_llm

    llm = gpu_llm(tmp_path)
    runner, given = llm.runner, ids(TOKENS + ASKED)
    with closing(llm.new_state()) as state:
        llm.runner.read(given[:TOKENS], state, controls=PLAIN)
        with closing(state.fork()) as fork:
            plain = llm.runner.step(given[TOKENS:], fork, controls=PLAIN, all_rows=True).logits
        watch = Watch(spans=SPANS, noting=True)
        with watched(llm, watch), closing(state.fork()) as fork:
            assert llm.runner is not runner
            close(llm.runner.step(given[TOKENS:], fork, all_rows=True).logits, plain)
            assert fork.length == TOKENS + ASKED
        assert [look.ratio for look in watch.looks] == [0, 4, 128]
    assert llm.runner is runner
    assert llm.pool.allocator.free == llm.pool.allocator.total


def test_bfloat16_is_watched_in_float32(tmp_path: Path) -> None:
    looks: dict[str, list[LayerLook]] = {}
    for dtype in ("float32", "bfloat16"):
        watch = Watch(spans=SPANS, noting=True)
        logits = asked(tiny_llm(tmp_path / dtype, dtype=dtype, index_topk=16), watch)
        assert logits.isfinite().all()
        looks[dtype] = watch.looks
    for wide, narrow in zip(looks["float32"], looks["bfloat16"], strict=True):
        assert narrow.window.dtype == torch.float32
        total = narrow.spans.sum(-1) + narrow.others + narrow.window + narrow.sink
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)
        torch.testing.assert_close(narrow.sink, wide.sink, atol=0.1, rtol=0)
