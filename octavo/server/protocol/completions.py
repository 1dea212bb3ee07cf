"""The OpenAI completions protocol: POST /v1/completions.

Covers: the request, several prompts and answers at once, an answer as one body or as a stream. Does not cover: one
answer on its way (`completion_choice`), suffixes, conversations (`chat`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from octavo.config.errors import LimitError
from octavo.engine.serving.events import Reading
from octavo.engine.serving.job import Job
from octavo.server.bridge import Submission
from octavo.server.context import Context
from octavo.server.errors import FieldError, Shape, as_event
from octavo.server.protocol.common import (
    Checked,
    Sampling,
    attended,
    check_count,
    check_neutral,
    check_prompt_logprobs,
    grammar_of,
    parsed,
    sampling_request,
    usage,
)
from octavo.server.protocol.completion_choice import Choice
from octavo.server.protocol.described import described
from octavo.server.refusal import request_id
from octavo.server.stream import DONE, data, reading, sse
from octavo.server.turn import merged
from octavo.text.plain import check_unicode
from octavo.text.special import Special

MAX_LOGPROBS = 5
DEFAULT_TOKENS = 16  # the protocol's own, for want of a number


class CompletionBody(Sampling):
    """A whole request. `prompt`: a text, token ids, or several of either."""

    prompt: (
        str
        | Annotated[list[str], Checked]
        | Annotated[list[int], Checked]
        | Annotated[list[Annotated[list[int], Checked]], Checked]
    )
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The ids to go on from, how many of them were put in front of the client's, and the text of the others."""

    ids: tuple[int, ...]
    text: str
    added: int = 0


def prompts_of(asked: CompletionBody, context: Context) -> list[Prompt]:
    """The prompts; a text begins with BOS unless it follows a document, ids are taken as they are. Blocking."""
    tokenizer = context.service.llm.tokenizer
    given = asked.prompt
    several: Sequence[str | list[int]]
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        several = [given]  # type: ignore[list-item]
    else:
        several = given  # type: ignore[assignment]
    if not several:
        raise FieldError("prompt is an empty list; at least one prompt is needed", param="prompt")
    check_count(asked, context, len(several))
    bos = () if asked.document is not None else (tokenizer.special(Special.BOS),)
    found: list[Prompt] = []
    for place, one in enumerate(several):
        where = "prompt" if several[0] is given else f"prompt[{place}]"
        if isinstance(one, str):
            check_unicode(one, name=where)
            found.append(Prompt(ids=(*bos, *tokenizer.encode(one)), text=one, added=len(bos)))
            continue
        wrong = next((rank for rank, id in enumerate(one) if not 0 <= id < tokenizer.vocab_size), None)
        if wrong is not None:
            limit = f"ids of this model are 0 to {tokenizer.vocab_size - 1}"
            raise LimitError(f"{where}[{wrong}] is {one[wrong]}; {limit}")
        if not one:
            raise FieldError(f"{where} is an empty list of ids; at least one is needed", param=where)
        found.append(Prompt(ids=tuple(one), text=tokenizer.decode(one) if asked.echo else ""))
    return found


def check_completion(asked: CompletionBody) -> None:
    """FieldError for what is not supported or out of range."""
    check_neutral(asked)
    if asked.suffix:
        raise FieldError("suffix is not supported: the model only goes on", param="suffix", code="unsupported")
    if asked.best_of is not None and asked.best_of != asked.count:
        raise FieldError(
            f"best_of is {asked.best_of}; only n, {asked.count}, is supported", param="best_of", code="unsupported"
        )
    if asked.logprobs is not None and not 0 <= asked.logprobs <= MAX_LOGPROBS:
        raise FieldError(f"logprobs is {asked.logprobs}; it must be from 0 to {MAX_LOGPROBS}", param="logprobs")
    check_prompt_logprobs(asked)
    if asked.max_tokens == 0 and not asked.echo and asked.prompt_logprobs is None:
        why = "only with echo or prompt_logprobs it may be 0"
        raise FieldError(f"max_tokens is 0; it must be at least 1: {why}", param="max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completing:
    """A request on its way."""

    head: dict[str, Any]
    jobs: Sequence[Submission]
    choices: Sequence[Choice]
    prompts: int
    wants_usage: bool

    async def body(self) -> dict[str, Any]:
        """The whole answer."""
        async with aclosing(merged(self.jobs)) as events:
            async for place, event in events:
                self.choices[place].take(event)
        return self.head | {"choices": [choice.whole for choice in self.choices], "usage": self._usage()}

    async def stream(self, id: str) -> AsyncGenerator[str, None]:
        """The answer's encoded events; an error on the way becomes the last one."""
        nothing = {"usage": None} if self.wants_usage else {}
        try:
            for choice in self.choices:
                if choice.echoed and not choice.with_logprobs:  # else it comes with its log-probabilities
                    first = {"index": choice.index, "text": choice.echoed, "logprobs": None, "finish_reason": None}
                    yield data(self.head | {"choices": [first]} | nothing)
            async with aclosing(merged(self.jobs)) as events:
                async for place, event in events:
                    if isinstance(event, Reading):
                        yield reading(event.done, event.total)
                    made = self.choices[place].take(event)
                    if made is not None:
                        yield data(self.head | {"choices": [made]} | nothing)
            if self.wants_usage:
                yield data(self.head | {"choices": [], "usage": self._usage()})
            yield DONE
        except Exception as error:
            yield as_event(error, Shape.OPENAI, id)
        finally:
            for job in self.jobs:
                job.close()

    def _usage(self) -> dict[str, Any]:
        return usage([choice.end for choice in self.choices if choice.end is not None], prompts=self.prompts)


async def _submitted(asked: CompletionBody, prompts: list[Prompt], context: Context) -> list[Submission]:
    """A job for every answer to every prompt; all of them start, or none."""
    limit = DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens or 1  # for 0 one is made and not told
    scores = [asked.prompt_logprobs, asked.logprobs if asked.echo else None]
    most = max((one for one in scores if one is not None), default=None)
    request, grammar = sampling_request(asked, limit), grammar_of(asked)
    jobs: list[Submission] = []
    try:
        for prompt in prompts:
            for place in range(asked.count):
                job = Job(
                    id=uuid4().hex,
                    prompt=prompt.ids,
                    request=context.turns.request(request, place),
                    document=asked.document,
                    priority=asked.priority or 0,
                    salt=asked.cache_salt or "",
                    top_logprobs=asked.logprobs,
                    prompt_logprobs=most,
                    grammar=grammar,
                    sources=asked.wants_sources,
                    quote=asked.quote,
                    seconds=context.seconds,
                )
                jobs.append(await context.bridge.submit(job))
    except BaseException:
        for submission in jobs:
            submission.close()
        raise
    return jobs


def router(context: Context) -> APIRouter:
    """The route over one server's parts."""
    routes = APIRouter(tags=["completions"])

    @routes.post("/v1/completions", response_model=None, openapi_extra=described(CompletionBody))
    async def completions(http: HttpRequest) -> Response:
        """How a text goes on."""
        asked = await parsed(http, CompletionBody, context)
        context.check_model(asked.model)
        check_completion(asked)
        prompts = await context.bridge.run_blocking(prompts_of, asked, context)
        jobs = await _submitted(asked, prompts, context)
        each = [prompt for prompt in prompts for _ in range(asked.count)]
        completing = Completing(
            head={
                "id": f"cmpl-{uuid4().hex}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": asked.model,
                "system_fingerprint": context.fingerprint,
            },
            jobs=jobs,
            choices=[
                Choice(
                    index=place,
                    echoed=prompt.text if asked.echo else "",
                    added=prompt.added,
                    top=asked.logprobs,
                    prompt_top=asked.prompt_logprobs,
                    is_silent=asked.max_tokens == 0,
                )
                for place, prompt in enumerate(each)
            ],
            prompts=len(prompts),
            wants_usage=asked.wants_usage,
        )
        if asked.stream:
            return sse(completing.stream(request_id(http.scope)), keep_alive_seconds=context.keep_alive_seconds)
        return JSONResponse(await attended(http, completing.body()))

    return routes
