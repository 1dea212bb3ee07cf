"""Which model is served, under which names: /v1/models in the OpenAI shape, with the context that vLLM's clients read.

Does not cover: choosing one; a server has one model.
"""

from __future__ import annotations

import time

from fastapi import APIRouter
from pydantic import BaseModel

from octavo.server.context import Context


class ModelCard(BaseModel):
    """One name of the model. `root` is the name it is an alias of; max_model_len: tokens of prompt and answer."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    max_model_len: int


class ModelList(BaseModel):
    """All names, the served one first."""

    object: str = "list"
    data: list[ModelCard]


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["models"])
    created = int(time.time())

    def card(name: str) -> ModelCard:
        length = context.service.llm.config.max_position_embeddings
        return ModelCard(id=name, created=created, root=context.model, max_model_len=length)

    @routes.get("/v1/models")
    async def models() -> ModelList:
        """Every name the model answers to."""
        return ModelList(data=[card(name) for name in dict.fromkeys((context.model, *context.aliases))])

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> ModelCard:
        """One name; 404 for any other."""
        context.check_model(name)
        return card(name)

    return routes
