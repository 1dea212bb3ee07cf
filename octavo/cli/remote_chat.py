"""A conversation with a model that a running server holds, over the OpenAI chat protocol.

Covers: turns and answers in the form of `octavo.engine.conversation`, a local text that becomes a document of the
server. What was said is kept here, and each turn sends all of it. Does not cover: the connection (`remote`), tools.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from octavo.cli.progress import Meter
from octavo.cli.remote import KEY, Remote, RemoteError, shown
from octavo.config.errors import UsageError
from octavo.engine.answer import Finish, Prefix, Reply, Source, Usage
from octavo.engine.request import Request
from octavo.engine.serving.library import check_name
from octavo.text.completion import Completion, ContentDelta, Event, ReasoningDelta
from octavo.text.plain import plain_text

MAX_PART = 65_536  # characters of a document's text at a time
MAX_LABEL = 200  # of the name that a document's sources bear
_DOCUMENTS, _CHAT = "/v1/documents", "/v1/chat/completions"


class RemoteConversation:
    """Turns of one conversation; `messages` is what was said, in the OpenAI shape. Use it in a `with` block, as the
    local one; there is nothing to close between turns."""

    def __init__(
        self, remote: Remote, *, model: str, document: str | None = None, system: str | None = None,
        thinking: bool = False, max_tokens: int = 256, temperature: float = 0.0, seed: int | None = None,
    ) -> None:  # fmt: skip
        """`document`: a name that the server knows. The rest is as of `LLM.converse`, for every turn. LimitError."""
        request = Request(max_tokens=max_tokens, temperature=temperature, seed=seed)
        self.remote, self._max_tokens = remote, max_tokens
        self.messages: list[Mapping[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        self._body |= {"thinking": {"type": "enabled" if thinking else "disabled"}}
        self._body |= {"max_tokens": request.max_tokens, "temperature": request.temperature}
        self._body |= {} if request.seed is None else {"seed": request.seed}
        if document is not None:  # a conversation's own words, as without a server: only `ask` quotes
            self._body |= {"document": document, "sources": True, "quote": False}

    def __enter__(self) -> RemoteConversation:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def say(self, text: str, *, on_event: Callable[[Event], None] | None = None) -> Reply:
        """Add what the user says and give the answer to it; after an error or an interrupt nothing was said, and the
        server makes no more of it. RemoteError."""
        every = [*self.messages, {"role": "user", "content": text}]
        answer = _Answer(self.remote.url, self._max_tokens)
        with closing(self.remote.events(_CHAT, self._body | {"messages": every})) as chunks:
            for chunk in chunks:
                for event in answer.take(chunk):
                    if on_event is not None:
                        on_event(event)
        reply = answer.reply()
        self.messages = [*every, reply.completion.message()]
        return reply


class _Answer:
    """An answer while its chunks arrive."""

    def __init__(self, url: str, max_tokens: int) -> None:
        self._url, self._max_tokens, self._started = url, max_tokens, time.perf_counter()
        self._events: list[ReasoningDelta | ContentDelta] = []
        self._finish: str | None = None
        self._sources: tuple[Source, ...] = ()
        self._usage = Usage()

    def take(self, chunk: Mapping[str, Any]) -> list[ReasoningDelta | ContentDelta]:
        """What came with it, none of it empty. RemoteError for what is no chunk of an answer."""
        try:
            return self._taken(chunk)
        except (AttributeError, KeyError, TypeError, ValueError):
            said = json.dumps(chunk, ensure_ascii=False)
            raise RemoteError(f"{self._url}: this is no part of an answer: {shown(said)}") from None

    def _taken(self, chunk: Mapping[str, Any]) -> list[ReasoningDelta | ContentDelta]:
        if chunk.get("usage"):
            self._usage = _usage(chunk["usage"])
        found: list[ReasoningDelta | ContentDelta] = []
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                found.append(ReasoningDelta("" + thought))
            if said := delta.get("content"):
                found.append(ContentDelta("" + said))
            if choice.get("sources"):
                self._sources = tuple(_source(given) for given in choice["sources"])
            self._finish = choice.get("finish_reason") or self._finish
        self._events += found
        return found

    def reply(self) -> Reply:
        """The whole; RemoteError where it has no end."""
        if self._finish is None:
            raise RemoteError(f"{self._url}: the stream ended before the answer did")
        texts = {
            kind: "".join(event.text for event in self._events if isinstance(event, kind))
            for kind in (ReasoningDelta, ContentDelta)
        }
        finish = Finish.END  # no stop strings are sent
        if self._finish == "length":  # the protocol's word for the end of the context as well
            finish = Finish.CONTEXT if 0 < self._usage.answer_tokens < self._max_tokens else Finish.LENGTH
        completion = Completion(
            reasoning=texts[ReasoningDelta], content=texts[ContentDelta], tool_calls=(),
            finished=finish is Finish.END, truncated=None, problems=(),
        )  # fmt: skip
        usage = replace(self._usage, seconds=time.perf_counter() - self._started)
        return Reply(completion=completion, sources=self._sources, usage=usage, finish=finish)


def converse(
    url: str, *, model: str | None = None, doc: str | None = None, here: Mapping[str, Any] | None = None, **options: Any
) -> RemoteConversation:
    """A conversation with the server at `url`, which must be there, with the key of OCTAVO_API_KEY; `options` as of
    RemoteConversation. `here`: flags that only a model loaded in this process could follow; UsageError names those
    that are not None. Raises what `served_model` and `served_document` do, LimitError for bad options before that."""
    if given := [f"--{name.replace('_', '-')}" for name, value in (here or {}).items() if value is not None]:
        raise UsageError(f"{', '.join(given)} beside --url: that is chosen where the server is started")
    remote = Remote(url, os.environ.get(KEY, "").strip())
    RemoteConversation(remote, model=model or "", **options)
    served = served_model(remote, model)
    document = None if doc is None else served_document(remote, doc)
    return RemoteConversation(remote, model=served, document=document, **options)


def served_model(remote: Remote, name: str | None) -> str:
    """`name`, or the first that the server has; RemoteError where it does not serve that."""
    listed = remote.get("/v1/models").get("data")
    names = [one["id"] for one in listed if "id" in one] if isinstance(listed, list) else []
    if not names:
        raise RemoteError(f"{remote.url}: it names no model; is it an Octavo server?")
    if name is not None and name not in names:
        raise RemoteError(f"{remote.url}: model {name!r} is not served there; it has {shown(', '.join(names))}")
    return name or names[0]


def served_document(remote: Remote, given: str) -> str:
    """The name of the server's document that `given` is: one of its names, or a local text, which it reads unless it
    has done so. Progress is shown on stderr.

    A text counts as the same if its file's name, its length and its first and last 65,536 characters are. RemoteError,
    TextError for what is no text, UsageError for what has no possible name.
    """
    path = Path(given)
    if path.is_file():
        return _uploaded(remote, path)
    info = _info(remote, check_name(given))
    if info is None:
        raise RemoteError(f"{remote.url}: there is no document {given!r}, and no file of that name here", status=404)
    if info.get("state") == "failed":
        raise RemoteError(f"{remote.url}: document {given!r} cannot be asked: {shown(info.get('error'))}")
    if info.get("state") == "part":
        part = shown(f"{info.get('done')} of {info.get('tokens')} tokens")
        print(f"octavo: note: only the beginning of {given} was read, {part}", file=sys.stderr)
    return given


def document_name(path: Path) -> str:
    """A name that a document may have, made from a file's: `Moby Dick.txt` is Moby-Dick. UsageError for none."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100].rstrip("-")
    if not name:
        raise UsageError(f"{path}: nothing of its name can name a document: it needs a letter or a digit of ASCII")
    return check_name(name)


def _uploaded(remote: Remote, path: Path) -> str:
    if path.suffix == ".octavo":
        raise UsageError(f"{path}: folded documents are not sent; serve its folder with --documents, and name it")
    name, text = document_name(path), plain_text(path.read_bytes(), name=str(path))
    label = path.name.encode("utf-8", "replace").decode()[:MAX_LABEL]
    info = _info(remote, name)
    if info is not None and info.get("state") == "ready":
        if info.get("files") == [label] and _is_same(remote, name, text):
            return name
        raise RemoteError(f"{remote.url}: another text has the name {name!r} there; delete that, or rename {path}")
    last: dict[str, Any] = {}
    body = {"name": name, "text": text, "file": label}
    with Meter("reading") as meter, closing(remote.events(f"{_DOCUMENTS}?stream=true", body)) as events:
        for last in events:
            if "done" in last:
                meter(last["done"], last["total"], last["cache_bytes"])
    if last.get("state") != "ready":
        raise RemoteError(f"{remote.url}: the stream ended before {path} was read")
    return name


def _info(remote: Remote, name: str) -> dict[str, Any] | None:
    try:
        return remote.get(f"{_DOCUMENTS}/{name}")
    except RemoteError as error:
        if error.status == 404:
            return None
        raise


def _is_same(remote: Remote, name: str, text: str) -> bool:
    """Looks for a character behind the last one as well, so that a longer text is another."""
    for start in dict.fromkeys((0, max(0, len(text) + 1 - MAX_PART))):
        end = min(start + MAX_PART, len(text) + 1)
        if remote.get(f"{_DOCUMENTS}/{name}/text?start={start}&end={end}").get("text") != text[start:end]:
            return False
    return True


def _usage(given: Mapping[str, Any]) -> Usage:
    """As a local turn counts. What the protocol does not tell stays 0: drafts, bytes of cache."""
    read, made = int(given["prompt_tokens"]), int(given["completion_tokens"])
    cached = int((given.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    prefix = Prefix.MEMORY if cached else Prefix.NONE
    return Usage(reused_tokens=cached, question_tokens=read - cached, answer_tokens=made, prefix=prefix)


def _source(given: Mapping[str, Any]) -> Source:
    start, end, weight = int(given["start"]), int(given["end"]), float(given["weight"])
    return Source(file=str(given["file"]), start=start, end=end, text=str(given["text"]), weight=weight)
