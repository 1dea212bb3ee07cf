"""Drafts in the service: answers are those without, whatever answers beside them, by both runners.

The fused kernels run in Triton's interpreter where there is no GPU, so the model is as small as can be; on the plain
path drafts also meet restarts, prefixes and swaps: tests/server/test_sameness.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.config.errors import UsageError
from octavo.engine.llm import LLM
from octavo.engine.request import Request
from octavo.engine.serving.job import Job
from octavo.engine.serving.service import Service
from octavo.engine.serving.settings import ServiceSettings
from tests.engine.serving.test_service import Heard, prompt, run
from tests.support.tiny import tiny_engram
from tests.support.tiny_llm import tiny_llm

FIELDS: dict[str, Any] = {"num_hidden_layers": 1, "compress_ratios": (4,), "engram": tiny_engram("v41", (0,))}
DRAFTS = (0, 2)


@pytest.fixture(scope="module", params=["plain", "fused"])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LLM:
    folder, fields = tmp_path_factory.mktemp("model"), FIELDS | {"num_nextn_predict_layers": 1}
    if request.param == "plain":
        return tiny_llm(folder, chunk=256, **fields)
    pytest.importorskip("triton")
    from tests.support.gpu_world import gpu_llm

    return gpu_llm(folder, tokens=16 * 256, **fields)


def drafted(id: str, ids: tuple[int, ...], draft: int | None, most: int = 5) -> Job:
    return Job(id=id, prompt=ids, request=Request(max_tokens=most, draft=draft))


def test_answers_with_drafts_are_those_without_alone_and_in_a_crowd(llm: LLM) -> None:
    prompts = [prompt(seed, 5 + seed, llm) for seed in range(1 if llm.pool.fixed else 3)]
    service = Service(llm)
    service.start()
    try:
        alone = [run(service, drafted(f"a{at}", ids, 0)).ids for at, ids in enumerate(prompts)]
        heard: dict[tuple[int, int], Heard] = {}
        for at, ids in enumerate(prompts):
            for draft in DRAFTS:
                heard[at, draft] = each = Heard()
                service.submit(drafted(f"d{at}-{draft}", ids, draft), each)
        for (at, draft), each in heard.items():
            usage = each.ended.usage
            assert each.ids == alone[at], f"prompt {at} with {draft} drafts"
            assert (usage.drafted_tokens > 0) is (draft > 0)
            assert usage.accepted_tokens <= min(usage.drafted_tokens, usage.answer_tokens)
        assert service.status().drafted_tokens == sum(each.ended.usage.drafted_tokens for each in heard.values())
        service.hits.forget()
        service.check_integrity()
    finally:
        service.close()
    assert llm.pool.allocator.used == 0, "rows of drafts leaked"


def test_a_model_without_a_predictor_says_so_before_anything_runs(tmp_path: Path) -> None:
    service = Service(tiny_llm(tmp_path / "model", chunk=256, **FIELDS), ServiceSettings(lanes=1))
    try:
        with pytest.raises(UsageError, match="draft is 2"):
            service.submit(drafted("a", (5, 6, 7), 2), Heard())
        assert service.status().waiting == 0
    finally:
        service.close()
