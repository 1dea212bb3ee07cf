"""The Anthropic example against a real server of a tiny model, and against answers that are known."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from octavo.engine.serving.events import Ended
from octavo.server.protocol.anthropic import router
from tests.support.protocols import scripted, small_app
from tests.support.serving import listening, running, said, serving, tiny_service

PATH = Path(__file__).resolve().parents[2] / "examples" / "anthropic_client.py"
CALL = ('\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Oslo'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>")  # fmt: skip


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("anthropic_client", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as (url, _):
        assert example.main(["--url", url, "--model", "tiny", "Hi there"]) == 0
    out = capsys.readouterr().out
    assert "-- a stream of tiny\n  " in out
    assert " from the cache, " in out
    assert "-- with a tool" in out


def test_the_tool_is_called_and_its_result_told(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tiny_service(tmp_path)) as service:
        context, jobs = scripted(service.llm, CALL)
        told = jobs.submit

        def submit(job: object, tell: object) -> None:
            if jobs.jobs:  # after the first answer the model has the result
                jobs.events = (*said("Sunny.", tokenizer=service.llm.tokenizer), jobs.events[-1])
            assert isinstance(jobs.events[-1], Ended)
            told(job, tell)  # type: ignore[arg-type]

        jobs.submit = submit  # type: ignore[method-assign]
        with listening(small_app(router(context))) as url, example.Anthropic(base_url=url, api_key="none") as client:
            assert example.with_tool(client, "tiny", "Weather?") == "Sunny."
        assert "<tool_result>Sunny, 21 degrees.</tool_result>" in service.llm.tokenizer.decode(
            list(jobs.jobs[1].prompt)
        )
    assert capsys.readouterr().out == "  weather of {'city': 'Oslo'}\n"
