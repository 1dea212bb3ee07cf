"""One protocol of the server on its own, for tests of what official clients see.

Covers: an application of one router with request ids and errors as the server has them, services that give scripted
answers over a real tokenizer. Does not cover: keys, rates and other layers (tests of `app`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo.config.errors import OctavoError
from octavo.engine.answer import Finish
from octavo.engine.serving.events import Ended, JobUsage
from octavo.server.context import Context
from octavo.server.logs import LogMiddleware
from octavo.server.refusal import answer
from tests.support.serving import Scripted, context_over, said

if TYPE_CHECKING:
    from octavo.engine.llm import LLM
    from octavo.engine.serving.service import Service


def small_app(*routers: APIRouter) -> FastAPI:
    """An application of these routers alone."""
    app = FastAPI()
    app.add_middleware(LogMiddleware)
    for router in routers:
        app.include_router(router)

    async def told(request: Request, error: Exception) -> JSONResponse:
        return answer(error, request.scope)

    app.add_exception_handler(OctavoError, told)
    app.add_exception_handler(HTTPException, told)
    return app


def scripted(llm: LLM, *texts: str, finish: Finish = Finish.END, over: bool = True) -> tuple[Context, Scripted]:
    """A context whose every answer is `texts`; with `over` False it never ends."""
    ended = Ended(id="a", finish=finish, usage=JobUsage(prompt_tokens=50, cached_tokens=30, answer_tokens=9))
    service = Scripted(*said(*texts, tokenizer=llm.tokenizer), *([ended] if over else []), llm=llm)
    return context_over(cast("Service", service)), service
