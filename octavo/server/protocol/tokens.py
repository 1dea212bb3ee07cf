"""Text to token ids and back: /tokenize and /detokenize, as vLLM's clients know them.

Covers: plain prompts and conversations, limits. Does not cover: documents, which may be longer (`documents`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo.server.context import Context
from octavo.server.errors import FieldError
from octavo.text.chat import ChatOptions, encode_chat
from octavo.text.plain import check_unicode
from octavo.text.special import Special
from octavo.text.tokenizer import Tokenizer

MAX_CHARACTERS = 8 * 2**20
MAX_IDS = 2**20


class TokenizeRequest(BaseModel):
    """Exactly one of `prompt` and `messages`. add_special_tokens: begin a prompt with the BOS token (a conversation
    always does). return_token_strs: give the text of each token as well; a part of a character shows as U+FFFD."""

    model_config = ConfigDict(strict=True)
    model: str | None = None
    prompt: Annotated[str, Field(max_length=MAX_CHARACTERS)] | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of prompt and messages")
        return self


class TokenizeAnswer(BaseModel):
    """The ids, how many, and how many fit into the context."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    """At most 1,048,576 ids of the vocabulary."""

    model_config = ConfigDict(strict=True)
    model: str | None = None
    tokens: Annotated[list[int], Field(max_length=MAX_IDS)]


class DetokenizeAnswer(BaseModel):
    """The text; bytes that are no UTF-8 show as U+FFFD."""

    prompt: str


def router(context: Context) -> APIRouter:
    """The routes. Their work is done in threads: a long text would hold up all others."""
    routes = APIRouter(tags=["tokens"])
    tokenizer = context.service.llm.tokenizer

    @routes.post("/tokenize")
    def tokenize(asked: TokenizeRequest) -> TokenizeAnswer:
        """Token ids of a text or a conversation."""
        if asked.model is not None:
            context.check_model(asked.model)
        if asked.prompt is not None:
            check_unicode(asked.prompt, name="prompt")
            ids = tokenizer.encode(asked.prompt)
            ids = [tokenizer.special(Special.BOS), *ids] if asked.add_special_tokens else ids
        else:
            ids = encode_chat(tokenizer, asked.messages or [], options=ChatOptions(), tools=asked.tools)
        length = context.service.llm.config.max_position_embeddings
        strings = [_shown(tokenizer, id) for id in ids] if asked.return_token_strs else None
        return TokenizeAnswer(tokens=ids, count=len(ids), max_model_len=length, token_strs=strings)

    @routes.post("/detokenize")
    def detokenize(asked: DetokenizeRequest) -> DetokenizeAnswer:
        """The text of token ids."""
        if asked.model is not None:
            context.check_model(asked.model)
        for place, token in enumerate(asked.tokens):
            if not 0 <= token < tokenizer.vocab_size:
                raise FieldError(
                    f"tokens[{place}] is {token}; ids go from 0 to {tokenizer.vocab_size - 1}", param=f"tokens[{place}]"
                )
        return DetokenizeAnswer(prompt=tokenizer.decode(asked.tokens))

    return routes


def _shown(tokenizer: Tokenizer, token: int) -> str:
    return tokenizer.token_bytes(token).decode("utf-8", "replace")
