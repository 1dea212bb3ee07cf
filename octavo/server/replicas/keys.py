"""What a request is about, as keys that requests about the same have in common.

Covers: the stored response, the document and the beginning of the prompt of every protocol's requests. Does not cover:
who knows what (`directory`), forms (`forms`), whether a request is valid: what is not understood has no key.

A prompt's beginning has a key for each of its lengths: at the end of each message, and at every 2,048 characters up to
32 Ki, then at doublings. So the second turn of a conversation finds the first, and prompts that share a long text find
each other. Beginnings of less than 256 characters have none: they fill no page of the cache, and the system line that
all clients of an application share would tie all of them to one replica.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

MIN_CHARACTERS = 256
STEP = 2048
EVEN_UP_TO = 32_768
MAX_KEYS = 96
_DOCUMENTS = "/v1/documents/"
_RESPONSES = "/v1/responses/"


def keys_of(path: str, body: bytes) -> tuple[str, ...]:
    """Keys of a request, the strongest first: response, document, then beginnings, the longest first. `body` is JSON;
    anything else has no keys. Takes about 10 ms a MiB."""
    if path.startswith(_DOCUMENTS):
        return (document_key(unquote(path.removeprefix(_DOCUMENTS).split("/")[0])),)
    if path.startswith(_RESPONSES) and path != f"{_RESPONSES}input_tokens":
        return (response_key(path.removeprefix(_RESPONSES).split("/")[0]),)
    given = _object(body)
    if given is None:
        return ()
    named = given.get("name" if path == "/v1/documents" else "document")
    before = given.get("previous_response_id")
    strong = [response_key(before)] if isinstance(before, str) else []
    strong += [document_key(named)] if isinstance(named, str) else []
    return (*strong, *_beginnings(_root(given), list(_messages(given))))


def document_key(name: str) -> str:
    """The key of a document."""
    return f"document:{name[:200]}"


def response_key(id: str) -> str:
    """The key of a stored response."""
    return f"response:{id[:200]}"


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _root(given: dict[str, Any]) -> str:
    """What stands before a prompt, or keeps its cache apart. Prompts of different roots share nothing."""
    return _canonical([given.get(name) for name in ("cache_salt", "document", "tools")])


def _messages(given: dict[str, Any]) -> Iterator[str]:
    """The prompt in pieces that later requests repeat; in the order in which the protocols put them."""
    for name in ("system", "instructions", "prompt", "input", "messages"):
        value = given.get(name)
        if isinstance(value, list) and name in ("input", "messages"):
            yield from map(_canonical, value)
        elif value is not None:
            yield value if isinstance(value, str) else _canonical(value)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _beginnings(root: str, messages: list[str]) -> list[str]:
    digest, length, keys = hashlib.blake2b(root.encode("utf-8", "surrogatepass"), digest_size=16), 0, list[str]()
    for message in messages:
        at = 0
        for stop in _stops(length, length + len(message)):
            digest.update(message[at : stop - length].encode("utf-8", "surrogatepass"))
            at = stop - length
            if stop >= MIN_CHARACTERS:
                keys.append(f"prompt:{digest.hexdigest()}")
        length += len(message)
        digest.update(b"\0")
    return keys[-MAX_KEYS:][::-1]


def _stops(start: int, end: int) -> Iterable[int]:
    """Where keys are made in characters start .. end of a prompt: at even steps, doublings, and the end."""
    stop = min((start // STEP + 1) * STEP, EVEN_UP_TO)
    while stop < end:
        if stop > start:
            yield stop
        stop = stop + STEP if stop < EVEN_UP_TO else stop * 2
    if end > start:
        yield end
