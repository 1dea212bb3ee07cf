"""The service under load: nothing lost or mixed up, gaps between tokens, throughput, documents that many ask.

Covers, with a shipped model, one part after the other, each a ratio or a count of one run:

- crowd: many requests at a time, prompts of a few tokens up to 128K, some given up at random moments. Every answer must
  be the one that its prompt gets alone, every request must end, no page may stay behind.
- gaps: the time between tokens of a running answer while a long prompt arrives, and the same tokens with nothing beside
  them, which is what the machine does by itself; what the longest went to.
- streams: tokens a second of 1, 8 and 32 answers at a time, against one at a time.
- flat: memory over thousands of small requests, none like another.
- document: questions on one long document that is read once: time to the first token of each.
- drafts: where the model has an MTP block, answers with drafts and without, which must be the same, and what they gain.

On a GPU (BF16) a step of many answers rounds otherwise than a step of one, so an answer may leave the one alone where
two tokens are about as likely; how far they are the same is told. Streams run once before they are measured there,
since kernels are compiled and steps captured as they are met. The record is written anew behind every part.

Does not cover: HTTP (tests/server), what the answers say.

    python -m benchmarks.service_load [--model octavo-xs] [--device cuda] [--parts crowd gaps streams document]
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import octavo
from benchmarks.service_gaps import gaps
from benchmarks.service_jobs import Heard, ended, started
from octavo.bench.record import write_json
from octavo.bench.surroundings import RESULTS, surroundings
from octavo.engine.llm import LLM
from octavo.engine.plan import parse_context
from octavo.engine.request import Request
from octavo.engine.serving.events import Cancelled, Ended, Failed
from octavo.engine.serving.job import Job
from octavo.engine.serving.settings import CHUNK, GPU_CHUNK, ServiceSettings
from octavo.engine.texts import Text
from octavo.evals.texts import SHAKESPEARE, filler

PARTS = ("crowd", "flat", "gaps", "streams", "document", "drafts")
LENGTHS = (*range(20, 1500, 61), *[3000, 6000, 9000, 15000, 24000, 32768, 65536, 131072])


def loaded(options: argparse.Namespace) -> LLM:
    if options.device == "cpu":
        return octavo.load(options.model, chunk=options.chunk or CHUNK)
    chunk = options.chunk or GPU_CHUNK
    llm = octavo.load(options.model, "bfloat16", device=options.device, chunk=chunk, capacity_tokens=options.capacity)
    llm.runner.seat(ServiceSettings().max_running)
    began = time.perf_counter()
    made = llm.runner.warm(options.warm)
    print(f"{made} steps were made ready in {time.perf_counter() - began:.1f} s", flush=True)
    return llm


def crowd(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """`--requests` jobs, `--streams` at a time, one in five given up."""
    draw = random.Random(11)
    weights = [1.0 if n < 2000 else 0.2 if n < 20000 else 0.04 for n in LENGTHS]
    lengths = [n for n in LENGTHS if n <= options.longest]
    starts = {length: draw.randrange(1, len(ids) - length) for length in lengths}

    def job(id: str, length: int) -> Job:
        prompt = tuple(ids[starts[length] : starts[length] + length].tolist())
        return Job(id=id, prompt=prompt, request=Request(max_tokens=8 + length % 40))

    service = started(llm)
    alone = {}
    for length in lengths:
        alone[length] = ended(service, job(f"alone-{length}", length)).tokens
        service.hits.forget()
    free = threading.Semaphore(options.streams)
    heard: dict[str, tuple[int, Heard]] = {}
    gone: set[str] = set()
    before = memory()
    begun = time.perf_counter()
    for number in range(options.requests):
        free.acquire()
        length = draw.choices(lengths, weights[: len(lengths)])[0]
        one = job(f"r{number}", length)
        heard[one.id] = length, Heard(free.release)
        service.submit(one, heard[one.id][1])
        if number % 5 == 4:
            victim = draw.choice(list(heard)[-options.streams :])
            if not heard[victim][1].over.is_set():
                gone.add(victim)
                service.cancel(victim)
    for _, each in heard.values():
        each.over.wait()
    seconds = time.perf_counter() - begun
    lasts = [each.last for _, each in heard.values()]
    over = [(each.tokens, alone[length]) for length, each in heard.values() if isinstance(each.last, Ended)]
    same = sum(alike(tokens, expected) for tokens, expected in over)
    service.check_integrity()
    status = service.status()
    service.hits.forget()
    left = llm.pool.allocator.used
    service.close()
    made = sum(len(each.tokens) for _, each in heard.values())
    cancelled = sum(isinstance(last, Cancelled) for last in lasts)
    first = [e.times[0] for _, e in heard.values() if e.times]
    return {
        "requests": options.requests, "streams": options.streams, "longest_prompt": max(lengths),
        "ended": sum(isinstance(last, Ended) for last in lasts), "cancelled": cancelled,
        "failed": sum(isinstance(last, Failed) for last in lasts), "lost": sum(last is None for last in lasts),
        "answers_unlike_alone": sum(tokens != expected for tokens, expected in over),
        "tokens_before_a_difference": same / max(1, sum(len(tokens) for tokens, _ in over)),
        "pages_left": left, "swaps": status.swaps, "seconds": seconds,
        "answer_tokens": made, "cached_share": status.cached_tokens / max(1, status.prompt_tokens),
        "resident_growth_bytes": memory() - before, "first_tokens": len(first),
    }  # fmt: skip


def alike(tokens: list[int], expected: list[int]) -> int:
    """How many tokens are the same from the beginning on."""
    pairs = list(zip(tokens, expected, strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))


def flat(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """`--small` requests of 24 tokens and two to answer, sixteen at a time; resident bytes behind a fifth and all."""
    service = started(llm)
    draw, free = np.random.default_rng(5), threading.Semaphore(16)
    lasts: list[Heard] = []
    seen: dict[str, int] = {}
    begun = time.perf_counter()
    for number in range(options.small):
        free.acquire()
        prompt = tuple(draw.integers(3, llm.config.vocab_size, 24).tolist())
        lasts = [*lasts[-16:], Heard(free.release)]
        service.submit(Job(id=f"f{number}", prompt=prompt, request=Request(max_tokens=2)), lasts[-1])
        if number == options.small // 5:
            seen["a_fifth"] = memory()
    for each in lasts:
        each.over.wait()
    seen["all"] = memory()
    status = service.status()
    service.check_integrity()
    service.close()
    return {
        "requests": options.small, "ended": status.ended, "seconds": time.perf_counter() - begun,
        "resident_bytes": seen, "growth_bytes": seen["all"] - seen["a_fifth"], "pages_left": llm.pool.allocator.used,
    }  # fmt: skip


def streams(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Answers of `--tokens` tokens behind 512, many at a time."""
    rates: dict[str, float] = {}
    turns = (1, 8, 32) if options.device == "cpu" else (1, 8, 32, 1, 8, 32)
    for count in turns:
        service = started(llm)
        starts = [i * 600 % (len(ids) - 512) for i in range(count)]
        jobs = [
            Job(id=f"s{i}", prompt=tuple(ids[at : at + 512].tolist()), request=Request(max_tokens=options.tokens))
            for i, at in enumerate(starts)
        ]
        heard = [Heard() for _ in jobs]
        for job, each in zip(jobs, heard, strict=True):
            service.submit(job, each)
        for each in heard:
            each.over.wait()
        begun, ends = max(each.times[0] for each in heard), sorted(each.times[-1] for each in heard)
        stop = ends[0] if ends[0] > begun else ends[count // 10]  # one in ten may end before the last one begins
        service.close()
        if begun >= stop:
            raise SystemExit(f"--tokens is {options.tokens}: of {count} answers some ended before the last one began")
        made = sum(sum(begun < at <= stop for at in each.times) for each in heard)
        rates[str(count)] = made / (stop - begun)
        print(f"  {count} streams: {made / (stop - begun):.0f} tokens/s", flush=True)
    return {"tokens_per_second": rates, **{f"{n}_over_1": rates[n] / rates["1"] for n in ("8", "32")}}


def document(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """`--questions` on one document of `--document` tokens."""
    service = started(llm)
    text = llm.tokenizer.decode(ids[1 : options.document].tolist())
    reading = Heard()
    begun = time.perf_counter()
    service.read("read", "book", [Text(name="book", text=text)], reading)
    reading.over.wait()
    read = time.perf_counter() - begun
    first = []
    for number in range(options.questions):
        asked = tuple(llm.question_ids(f"Who speaks of the number {number}?"))
        heard = ended(service, Job(id=f"q{number}", prompt=asked, request=Request(max_tokens=12), document="book"))
        assert isinstance(heard.last, Ended)
        first.append(heard.last.usage.first_token_seconds)
    service.close()
    return {
        "tokens": service.library.info("book").tokens, "read_seconds": read, "questions": options.questions,
        "first_token_seconds": {
            "first": first[0], "second": first[1], "median": statistics.median(first), "longest": max(first),
        },
        "read_over_median_first_token": read / statistics.median(first),
    }  # fmt: skip


def drafts(llm: LLM, ids: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Answers of an eighth of `--tokens` tokens behind 512, with the usual number of drafts and with none; one at a
    time and eight. On a GPU all of them twice, and what the second turn took counts."""
    usual = llm.runner.draft_count(None)
    if not usual:
        return {"draft": 0, "why": f"{options.model} has no multi-token predictor"}
    found: dict[str, Any] = {"draft": usual}
    for count in (1, 8):
        rates, told = {}, {}
        for draft in (0, usual) if options.device == "cpu" else (0, usual, 0, usual):
            service, heard = started(llm), [Heard() for _ in range(count)]
            for i, each in enumerate(heard):
                at = i * 600 % (len(ids) - 512)
                prompt = tuple(ids[at : at + 512].tolist())
                request = Request(max_tokens=options.tokens // 8, draft=draft)
                service.submit(Job(id=f"d{i}", prompt=prompt, request=request), each)
            for each in heard:
                each.over.wait()
            begun, end = min(each.times[0] for each in heard), max(each.times[-1] for each in heard)
            rates[draft] = sum(len(each.tokens) - 1 for each in heard) / (end - begun)
            told[draft], status = [each.tokens for each in heard], service.status()
            service.close()
        found[str(count)] = {
            "plain_tokens_per_second": rates[0], "drafted_tokens_per_second": rates[usual],
            "drafted_over_plain": rates[usual] / rates[0], "answers_unlike_plain": sum(
                one != other for one, other in zip(told[0], told[usual], strict=True)
            ),
            "acceptance": status.accepted_tokens / max(1, status.drafted_tokens),
        }  # fmt: skip
    return found


def memory() -> int:
    """Resident bytes now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main(arguments: list[str] | None = None) -> None:
    """Run the parts, print, write a record."""
    parser = argparse.ArgumentParser(description="The service under load.")
    parser.add_argument("--model", default="octavo-xs", help="shipped model, folder or hub id")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--chunk", type=int, default=None, help="tokens read at a time; left out: as octavo serve")
    parser.add_argument("--capacity", type=parse_context, default=4 << 20, help="tokens of the cache, on a GPU")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds for making a GPU's steps ready beforehand")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--requests", type=int, default=1000, help="of the crowd")
    parser.add_argument("--small", type=int, default=10_000, help="requests of the part that looks at memory")
    parser.add_argument("--streams", type=int, default=64, help="requests at a time")
    parser.add_argument("--tokens", type=int, default=1024, help="of each answer, where streams are counted")
    parser.add_argument("--longest", type=parse_context, default=131072, help="longest prompt of the crowd, in tokens")
    parser.add_argument("--arriving", type=parse_context, default=262144, help="prompt that arrives beside an answer")
    parser.add_argument("--document", type=parse_context, default=262144, help="tokens of the document")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None, help="the record; left out: docs/results")
    options = parser.parse_args(arguments)
    llm = loaded(options)
    print(llm.path, flush=True)
    most = max(options.longest, options.arriving, options.document) + 1
    ids = np.array(llm.tokenizer.encode(filler(SHAKESPEARE)), dtype=np.int32)[:most]
    makers = {"crowd": crowd, "flat": flat, "gaps": gaps, "streams": streams, "document": document, "drafts": drafts}
    about = surroundings() | {"chunk": llm.runner.chunk, "path": llm.path}
    if options.device != "cpu":
        about["device"] = torch.cuda.get_device_name()
    record: dict[str, Any] = {"benchmark": "service_load", "model": options.model, "about": about}
    named = f"{options.model.rsplit('/', 1)[-1].replace('-', '_')}{'' if options.device == 'cpu' else '_gpu'}"
    out = options.out or RESULTS / f"service_load_{named}.json"
    wrong = []
    for name in options.parts:
        try:
            record[name] = makers[name](llm, ids, options)
        except SystemExit as why:  # the other parts are of use all the same
            record[name] = {"why_not": str(why)}
            wrong.append(name)
        print(name, record[name], flush=True)
        write_json(out, record)
    print(f"written to {out}", file=sys.stderr)
    if wrong:
        raise SystemExit(f"failed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
