"""What the chat and completions protocols of OpenAI share.

Covers: reading a body, the fields of sampling and of grammars, log-probabilities, usage, the watch for clients that
leave. Does not cover: conversations (`chat_request`), prompts (`completions`). Loads no torch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Request as HttpRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from octavo.engine.answer import Finish
from octavo.engine.request import Request
from octavo.engine.serving.events import Ended, Token
from octavo.engine.serving.job import MAX_TOP_LOGPROBS, Grammar, GrammarKind
from octavo.server.context import Context
from octavo.server.errors import CancelledJob, FieldError, field_path
from octavo.text.template import Effort

MAX_STOPS = 16
MAX_STOP_LEN = 1024
LEAST_LOGPROB = -9999.0  # stands for minus infinity, which JSON cannot say
EFFORTS: dict[str, Effort | None] = {
    "none": None,
    "minimal": None,
    "low": Effort.LOW,
    "medium": Effort.LOW,
    "high": Effort.HIGH,
    "xhigh": Effort.MAX,
    "max": Effort.MAX,
}
"""How long to reason, in the words of clients; None: not at all."""
_THREAD_BYTES = 1 << 20  # parsing more than this would hold up other clients
_SHOWN_LEN = 80
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


Checked = Field(fail_fast=True)
"""Marks a list of which only the first wrong item is told: a long one could be wrong everywhere."""


class Body(BaseModel):
    """A JSON object of a client: no type is bent into another, unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class StreamOptions(Body):
    """include_usage: a last event tells what the answer took."""

    include_usage: bool | None = None


class StructuredOutputs(Body):
    """What an answer is held to, in the words of vLLM."""

    json_: Any = Field(default=None, alias="json")
    regex: str | None = None
    grammar: str | None = None


class Sampling(Body):
    """The fields that both protocols have. `neutral` ones are known, and only refused where they would do something."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    prompt_logprobs: int | None = None
    stop: str | Annotated[list[str], Checked] | None = None
    n: int | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    guided_json: Any = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: str | None = None
    priority: int | None = None
    document: str | None = None
    sources: bool | None = None
    map_bins: int | None = None
    quote: bool | None = None

    @property
    def count(self) -> int:
        """Answers asked for."""
        return 1 if self.n is None else self.n

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_sources(self) -> bool:
        """Sources come with a document unless refused."""
        return self.document is not None if self.sources is None else self.sources


async def parsed(http: HttpRequest, kind: type[M], context: Context) -> M:
    """The body as `kind`; FieldError names the first field that is wrong."""
    raw = await http.body()
    return await context.bridge.run_blocking(_read, raw, kind) if len(raw) > _THREAD_BYTES else _read(raw, kind)


def _read(raw: bytes, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        # Of what the branches of a union say, the one that got furthest is meant.
        found = max(error.errors(include_url=False, include_context=False), key=lambda one: _reach(one["loc"]))
    if found["type"] == "json_invalid":
        raise FieldError(f"the body is not JSON: {found['msg']}", code="invalid_json")
    whole = from_json(raw)
    places = _real_places(whole, found["loc"], missing=found["type"] == "missing")
    param = field_path(places)
    if found["type"] == "missing":
        raise FieldError(f"{param} is missing", param=param, code="missing_required_parameter")
    value = repr(found["input"])
    shown = value if len(value) <= _SHOWN_LEN else value[:_SHOWN_LEN] + "..."
    said = found["msg"].replace("Input should be", "it must be")
    raise FieldError(f"{param or 'the body'} is {shown}; {said}", param=param or None, code="invalid_type")


def _reach(places: Sequence[int | str]) -> tuple[int, int]:
    """How far a check got that failed there: depth, then place within a list."""
    last = places[-1] if places else 0
    return len(places), last if isinstance(last, int) else 0


def _real_places(value: Any, places: Sequence[int | str], *, missing: bool) -> list[int | str]:
    """The path into the body, without the names of union branches that pydantic puts between."""
    kept: list[int | str] = []
    for rank, place in enumerate(places):
        is_missing = missing and rank == len(places) - 1
        if isinstance(value, Mapping) and isinstance(place, str) and (place in value or is_missing):
            value = value.get(place)
        elif isinstance(value, list) and isinstance(place, int) and place < len(value):
            value = value[place]
        else:
            continue
        kept.append(place)
    return kept


def check_neutral(asked: Sampling) -> None:
    """FieldError for penalties and biases that would change the answer: they are not supported."""
    neutral = {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1}
    for name, value in neutral.items():
        given = getattr(asked, name)
        if given is not None and given != value:
            raise FieldError(
                f"{name} is {given:g}; it is not supported: only {value} is accepted", param=name, code="unsupported"
            )
    if any(asked.logit_bias.values() if asked.logit_bias else ()):
        raise FieldError("logit_bias is not supported: only zeros are accepted", param="logit_bias", code="unsupported")


def check_count(asked: Sampling, context: Context, prompts: int = 1) -> None:
    """FieldError for an n out of range, or more answers together than one request may have."""
    if not 1 <= asked.count <= context.max_n:
        raise FieldError(f"n is {asked.count}; it must be from 1 to {context.max_n}", param="n")
    if asked.count * prompts > context.max_n:
        raise FieldError(
            f"prompt is {prompts} prompts with n {asked.count}; at most {context.max_n} answers are made at once",
            param="prompt",
        )


def sampling_request(asked: Sampling, max_tokens: int) -> Request:
    """How answers are to be made; the protocol's temperature is 1 unless given. LimitError, FieldError."""
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if len(stops) > MAX_STOPS:
        raise FieldError(f"stop is {len(stops)} strings; at most {MAX_STOPS} are accepted", param="stop")
    longest = max(map(len, stops), default=0)
    if longest > MAX_STOP_LEN:
        raise FieldError(f"stop is a string of {longest} characters; at most {MAX_STOP_LEN} are accepted", param="stop")
    return Request(
        max_tokens=max_tokens,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=None if asked.top_k in (None, 0, -1) else asked.top_k,  # as other servers spell "all"
        min_p=0.0 if asked.min_p is None else asked.min_p,
        seed=asked.seed,
        stop=tuple(stops),
    )


def grammar_of(asked: Sampling, others: Mapping[str, Grammar | None] | None = None) -> Grammar | None:
    """What the answer is held to; FieldError for more than one. `others`: further fields that may say it."""
    both = asked.structured_outputs or StructuredOutputs()
    given = {
        "guided_json": schema_grammar(asked.guided_json),
        "guided_regex": _grammar(GrammarKind.REGEX, asked.guided_regex),
        "guided_grammar": _grammar(GrammarKind.LARK, asked.guided_grammar),
        "grammar": _grammar(GrammarKind.LARK, asked.grammar),
        "structured_outputs.json": schema_grammar(both.json_),
        "structured_outputs.regex": _grammar(GrammarKind.REGEX, both.regex),
        "structured_outputs.grammar": _grammar(GrammarKind.LARK, both.grammar),
    } | dict(others or {})
    found = {name: grammar for name, grammar in given.items() if grammar is not None}
    if len(found) > 1:
        raise FieldError(f"{' and '.join(found)} are given; one grammar at most is accepted", param=list(found)[1])
    return next(iter(found.values()), None)


def schema_grammar(schema: Any) -> Grammar | None:
    """The grammar of a JSON schema, which clients send as an object or as its text."""
    if schema is None:
        return None
    source = schema if isinstance(schema, str) else json.dumps(schema)
    return Grammar(kind=GrammarKind.SCHEMA, source=source)


def _grammar(kind: GrammarKind, source: str | None) -> Grammar | None:
    return None if source is None else Grammar(kind=kind, source=source)


def finish_reason(finish: Finish) -> str:
    """The protocol's word for it."""
    return "stop" if finish in (Finish.END, Finish.STOP) else "length"


def shown_token(text: bytes) -> str:
    """A token as text; bytes that are no whole characters are spelled out."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text)


def shown_logprob(value: float | None) -> float:
    """A log-probability that JSON can carry."""
    return LEAST_LOGPROB if value is None else max(value, LEAST_LOGPROB)


def token_logprob(token: Token) -> dict[str, Any]:
    """A token of the chat protocol's `logprobs.content`."""
    alternatives = [_logprob(text, value) for _, text, value in token.top]
    return _logprob(token.text, token.logprob) | {"top_logprobs": alternatives}


def _logprob(text: bytes, value: float | None) -> dict[str, Any]:
    return {"token": shown_token(text), "logprob": shown_logprob(value), "bytes": list(text)}


def prompt_logprobs(tokens: Sequence[Token]) -> list[dict[str, Any] | None]:
    """The tokens of a prompt in vLLM's words: for each its own log-probability and those of the likeliest, by id."""
    found: list[dict[str, Any] | None] = []
    for token in tokens:
        rows = [(id, text, value, place) for place, (id, text, value) in enumerate(token.top, 1)]
        rows += [] if any(id == token.id for id, *_ in rows) else [(token.id, token.text, token.logprob, token.rank)]
        told = {
            str(id): {"logprob": shown_logprob(value), "rank": rank, "decoded_token": shown_token(text)}
            for id, text, value, rank in rows
        }
        found.append(None if token.logprob is None else told)
    return found


def check_prompt_logprobs(asked: Sampling) -> None:
    """FieldError for a number out of range, or with a stream, which has no place for them."""
    given = asked.prompt_logprobs
    if given is not None and not 0 <= given <= MAX_TOP_LOGPROBS:
        limit = f"it must be from 0 to {MAX_TOP_LOGPROBS}"
        raise FieldError(f"prompt_logprobs is {given}; {limit}", param="prompt_logprobs")
    if given is not None and asked.stream:
        raise FieldError("prompt_logprobs is not supported in a stream", param="prompt_logprobs", code="unsupported")


def usage(ended: Sequence[Ended], *, prompts: int = 1, reasoning_tokens: int = 0) -> dict[str, Any]:
    """What a request took: `ended` are the answers of its first prompt, then those of its second, and so on. A prompt
    counts once, however many answers it has."""
    firsts = [one.usage for one in ended[:: max(1, len(ended) // prompts)]]
    read, cached = sum(one.prompt_tokens for one in firsts), sum(one.cached_tokens for one in firsts)
    made = sum(one.usage.answer_tokens for one in ended)
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": read - cached,
    }


async def attended(http: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, while the client waits for it: when it leaves, `work` is cancelled at once. CancelledJob."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(http))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CancelledJob("the client went away")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(http: HttpRequest) -> None:
    """Returns when the client has gone; its body was read before."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
