"""Answers that stream over HTTP, as a client of /v1/completions sees them.

Covers: a crowd of streams that ask one prompt after the other, times of every event, figures of them all. Events are
parsed once an answer is over, to leave the cores to the server; every request has a connection of its own. Does not
cover: starting servers (`serve_vs_llamacpp`), conversations.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One answer as the client saw it. Times are of `perf_counter`; `times`: of every event that had text."""

    sent: float
    times: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    answer_bytes: int


def heard(sent: float, blocks: Sequence[tuple[float, bytes]]) -> Heard:
    """An answer from the blocks of its stream. RuntimeError for an error in it, no text, no usage."""
    times, size, used = [], 0, None
    for at, block in blocks:
        value = block.removeprefix(b"data:").strip()
        if not block.startswith(b"data:") or value == b"[DONE]":  # comments
            continue
        event = json.loads(value)
        if "error" in event:
            raise RuntimeError(f"a stream ended with an error: {event['error']}")
        text = "".join(choice["text"] for choice in event["choices"])
        if text:
            times.append(at)
            size += len(text.encode())
        used = event.get("usage") or used
    if used is None or not times:
        raise RuntimeError(f"a stream of {len(blocks)} events has no {'usage' if times else 'text'}")
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Heard(
        sent=sent, times=tuple(times), prompt_tokens=used["prompt_tokens"], cached_tokens=cached,
        tokens=used["completion_tokens"], answer_bytes=size,
    )  # fmt: skip


async def ask(client: httpx.AsyncClient, model: str, prompt: str, tokens: int, salt: str) -> Heard:
    """One answer; nothing is taken from a cache, and no end mark ends it where the server can do so."""
    body = {
        "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, "cache_salt": salt, "cache_prompt": False, "ignore_eos": True,
    }  # fmt: skip
    blocks: list[tuple[float, bytes]] = []
    rest = b""
    sent = time.perf_counter()
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{client.base_url} answers {response.status_code}: {(await response.aread())[:300]!r}")
        async for part in response.aiter_raw():
            now = time.perf_counter()
            *whole, rest = (rest + part).split(b"\n\n")
            blocks += [(now, block) for block in whole]
    return heard(sent, blocks)


async def crowd(url: str, model: str, prompts: Sequence[str], streams: int, tokens: int) -> dict[str, Any]:
    """Figures of `prompts`, `streams` at a time: each stream asks the next one as soon as its answer is over."""
    waiting = iter(enumerate(prompts))
    mark = time.time_ns()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # neither side closes one too soon
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False) as client:

        async def stream() -> list[Heard]:
            return [await ask(client, model, prompt, tokens, f"{mark}-{number}") for number, prompt in waiting]

        worked, begun = time.process_time(), time.perf_counter()
        found = await asyncio.gather(*(stream() for _ in range(streams)))
        seconds = time.perf_counter() - begun
        worked = time.process_time() - worked
    made = figures([one for part in found for one in part], seconds, tokens)
    return made | {"client_share_of_cores": worked / seconds / (os.cpu_count() or 1)}


def figures(answers: Sequence[Heard], seconds: float, tokens: int) -> dict[str, Any]:
    """What a turn of `seconds` showed. A gap is an answer's mean time between tokens (median over answers) or the time
    between two events, which have one token each unless a character takes several (p95 over all)."""
    first = [one.times[0] - one.sent for one in answers]
    mean = [(one.times[-1] - one.times[0]) / (one.tokens - 1) for one in answers if one.tokens > 1]
    gaps = [b - a for one in answers for a, b in zip(one.times[:-1], one.times[1:], strict=True)]
    read = [one.prompt_tokens for one in answers]
    return {
        "requests": len(answers), "seconds": seconds, "prompt_tokens": [min(read), max(read)],
        "cached_tokens": sum(one.cached_tokens for one in answers),
        "answers_ended_early": sum(one.tokens < tokens for one in answers),
        "first_token_median_seconds": statistics.median(first),
        "first_token_p95_seconds": float(np.quantile(first, 0.95)),
        "gap_median_seconds": statistics.median(mean) if mean else None,
        "gap_p95_seconds": float(np.quantile(gaps, 0.95)) if gaps else None,
        "tokens_per_second": sum(one.tokens for one in answers) / seconds,
        "answer_bytes_per_second": sum(one.answer_bytes for one in answers) / seconds,
        "requests_per_second": len(answers) / seconds,
        "prompt_tokens_per_second": statistics.median(n / t for n, t in zip(read, first, strict=True)),
    }  # fmt: skip
