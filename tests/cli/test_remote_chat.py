"""Conversations with a running server: what is said and answered, documents that are sent, interrupts."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import pytest

from octavo.cli.remote import Remote, RemoteError
from octavo.cli.remote_chat import RemoteConversation, converse, document_name, served_document
from octavo.config.errors import LimitError, TextError, UsageError
from octavo.engine.answer import Finish, Prefix, Source
from octavo.engine.serving.events import Cancelled
from octavo.engine.serving.service import Service
from octavo.text.completion import ContentDelta, Event, ReasoningDelta
from tests.support.listening import Running, running, tiny_service
from tests.support.scripted_http import SECONDS, saying, scripted
from tests.support.serving import Overheard
from tests.support.tiny_llm import STORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="module")
def service(folder: Path) -> Overheard:
    return Overheard(tiny_service(folder, folder / "kept"))


@pytest.fixture(scope="module")
def server(service: Overheard) -> Iterator[Running]:
    with running(cast("Service", service)) as found:
        yield found


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "A story.txt"
    path.write_text("\n".join(STORY.replace("heron", f"heron{n}") for n in range(4)), encoding="utf-8")
    return path


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One of an answer, as the protocol has it."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None} | more]}


def stream(*chunks: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in chunks) + end


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
}


class Terminal(io.StringIO):
    """Takes what a terminal would show."""

    def isatty(self) -> bool:
        return True


class Heard:
    """A scripted server of one answer, and the bodies that it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.bodies = answer, list[dict[str, Any]]()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.bodies.append(json.loads(handler.body))  # type: ignore[attr-defined]
        saying(self.answer)(handler)


def test_turns_are_those_of_a_local_conversation(server: Running) -> None:
    options: dict[str, Any] = {"system": "Be brief.", "max_tokens": 6, "thinking": True}
    said: list[Event] = []
    with converse(server.url, **options) as talk:
        found = [talk.say("Hello.", on_event=said.append), talk.say("Who are you?")]
    with server.service.llm.converse(**options) as talk:
        heard: list[Event] = []
        expected = [talk.say("Hello.", on_event=heard.append), talk.say("Who are you?")]
    assert [one.completion.reasoning for one in found] == [one.completion.reasoning for one in expected]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.finish for one in found] == [one.finish for one in expected]
    assert [one.usage.answer_tokens for one in found] == [one.usage.answer_tokens for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.usage.reused_tokens + one.usage.question_tokens == (
            other.usage.reused_tokens + other.usage.question_tokens
        )
        assert one.usage.seconds > 0
    assert found[0].completion.reasoning != ""
    assert "".join(one.text for one in said if isinstance(one, ReasoningDelta)) == found[0].completion.reasoning


def test_a_local_text_is_read_once_and_answers_as_it_would_here(server: Running, story: Path) -> None:
    server.client.delete("/v1/documents/A-story")
    with converse(server.url, doc=str(story), max_tokens=6) as talk:
        found = [talk.say("Which word?"), talk.say("And which date?")]
    with server.service.llm.read([story]) as document, document.converse(max_tokens=6) as talk:
        expected = [talk.say("Which word?"), talk.say("And which date?")]
    assert [one.text for one in found] == [one.text for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [(s.start, s.end, s.text) for s in one.sources] == [(s.start, s.end, s.text) for s in other.sources]
        assert {source.file for source in one.sources} == {"A story.txt"}
    assert found[0].usage.reused_tokens > 100
    assert found[0].usage.prefix is Prefix.MEMORY

    info = server.client.get("/v1/documents/A-story").json()
    (story.parent / "elsewhere").mkdir()
    again = story.rename(story.parent / "elsewhere" / story.name)
    assert served_document(Remote(server.url), str(again)) == "A-story"
    assert server.client.get("/v1/documents/A-story").json() == info
    assert served_document(Remote(server.url), "A-story") == "A-story"


@pytest.mark.parametrize(
    "change", [lambda s: s + "x", lambda s: s[:-1], lambda s: "x" + s[1:], lambda s: s[:-2] + "xx"]
)
def test_another_text_of_the_same_name_is_refused(server: Running, story: Path, change: Any) -> None:
    remote = Remote(server.url)
    assert served_document(remote, str(story)) == "A-story"
    text = story.read_text(encoding="utf-8")
    assert change(text) != text
    story.write_text(change(text), encoding="utf-8")
    with pytest.raises(RemoteError, match="another text has the name 'A-story' there; delete that, or rename "):
        served_document(remote, str(story))


def test_a_long_text_is_compared_at_both_ends(server: Running, tmp_path: Path) -> None:
    parts: list[str] = []
    text = "é" * 70_000
    info = {"state": "ready", "files": ["long.txt"]}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "/text?" not in handler.path:
            return saying(json.dumps(info).encode())(handler)
        parts.append(handler.path.partition("?")[2])
        start, end = (int(part.partition("=")[2]) for part in parts[-1].split("&"))
        saying(json.dumps({"text": text[start:end]}).encode())(handler)

    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    with scripted(answer) as url:
        assert served_document(Remote(url), str(path)) == "long"
        assert parts == ["start=0&end=65536", "start=4465&end=70001"]
        info["files"] = ["other.txt"]
        with pytest.raises(RemoteError, match="another text has the name 'long'"):
            served_document(Remote(url), str(path))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("nothing", RemoteError, "there is no document 'nothing', and no file of that name here"),
        ("nothing.txt", RemoteError, "there is no document 'nothing.txt', and no file of that name here"),
        ("no/such.txt", UsageError, "document name 'no/such.txt' is not possible"),
        ("-", UsageError, "document name '-' is not possible"),
        ("雪.txt", UsageError, "nothing of its name can name a document"),
        ("empty.txt", TextError, "the file is empty"),
        ("binary.txt", TextError, "byte 1 is NUL"),
        ("book.octavo", UsageError, "folded documents are not sent"),
    ],
)
def test_documents_that_cannot_be(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, kind: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in {"雪.txt": b"x", "empty.txt": b"", "binary.txt": b"a\0", "book.octavo": b"x"}.items():
        Path(name).write_bytes(data)
    before = server.service.library.names()
    with pytest.raises(kind, match=message):
        converse(server.url, doc=given)
    assert server.service.library.names() == before


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("moby.txt", "moby"), ("Moby Dick (1851).txt", "Moby-Dick-1851"), ("a.tar.gz", "a.tar"),
        (".hidden.txt", "hidden"), ("über.txt", "ber"),
        ("x" * 200 + ".md", "x" * 100), ("-_.7.txt", "7"), ("story", "story"),
    ],
)  # fmt: skip
def test_names_of_files_as_names_of_documents(file: str, name: str) -> None:
    assert document_name(Path("some where") / file) == name


@pytest.mark.parametrize(
    ("info", "message"),
    [({"state": "failed", "error": "made by\nanother model"}, "document 'd' cannot be asked: made by another model$")],
)
def test_a_document_that_failed(info: dict[str, Any], message: str) -> None:
    with scripted(saying(json.dumps(info).encode())) as url, pytest.raises(RemoteError, match=message):
        served_document(Remote(url), "d")


def test_a_document_that_was_read_in_part_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(saying(b'{"state": "part", "done": 3, "tokens": 9}')) as url:
        assert served_document(Remote(url), "d") == "d"
    assert capsys.readouterr() == ("", "octavo: note: only the beginning of d was read, 3 of 9 tokens\n")


def test_a_reading_that_fails_or_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words", encoding="utf-8")
    reading = {"done": 1, "total": 3, "cache_bytes": 10}

    def answered(sent: bytes) -> str:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            (saying(b"", 404) if handler.command == "GET" else saying(sent))(handler)

        with scripted(answer) as url, pytest.raises(RemoteError) as failed:
            served_document(Remote(url), str(tmp_path / "a.txt"))
        return str(failed.value)

    assert answered(stream(reading, end=b"")).endswith(f"the stream ended before {tmp_path / 'a.txt'} was read")
    assert answered(stream(reading, {"error": {"message": "no room"}}, end=b"")).endswith(": no room")


def test_progress_is_drawn_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("words", encoding="utf-8")
    reading = {"done": 12_345, "total": 20_000, "cache_bytes": 1000}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (saying(b"", 404) if handler.command == "GET" else saying(stream(reading, {"state": "ready"})))(handler)

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with scripted(answer) as url:
        assert served_document(Remote(url), str(tmp_path / "a.txt")) == "a"
    assert "12,345/20,000 tokens" in terminal.getvalue()


def test_which_model(server: Running) -> None:
    name = server.client.get("/v1/models").json()["data"][0]["id"]
    with converse(server.url, model=name, max_tokens=1) as talk:
        assert talk.say("Hello.").usage.answer_tokens <= 1
    with pytest.raises(RemoteError, match=f"model 'octavo-l' is not served there; it has {name}$"):
        converse(server.url, model="octavo-l")


@pytest.mark.parametrize("answer", [b'{"data": []}', b'{"data": 7}', b"{}"])
def test_servers_without_models(answer: bytes) -> None:
    with scripted(saying(answer)) as url, pytest.raises(RemoteError, match="names no model; is it an Octavo server"):
        converse(url)


def test_every_turn_sends_all_that_was_said() -> None:
    heard = Heard(stream(
        chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "hm", "reasoning": "hm"}),
        chunk({"content": "An"}), chunk({"content": "swer"}), chunk({}, finish_reason="stop"), USAGE,
    ))  # fmt: skip
    with scripted(heard) as url:
        talk = RemoteConversation(Remote(url), model="m", document="d", max_tokens=7, temperature=0.5, seed=3)
        said: list[Event] = []
        reply = talk.say("One?", on_event=said.append)
        talk.say("Two?")
        plain = RemoteConversation(Remote(url), model="m", system="Brief.", thinking=True)
        plain.say("Three?")
    first, second, third = heard.bodies
    assert said == [ReasoningDelta("hm"), ContentDelta("An"), ContentDelta("swer")]
    assert (reply.text, reply.completion.reasoning, reply.finish) == ("Answer", "hm", Finish.END)
    assert (reply.usage.reused_tokens, reply.usage.question_tokens, reply.usage.answer_tokens) == (4, 5, 3)
    common = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    asked = [{"role": "user", "content": "One?"}]
    assert first == common | {
        "thinking": {"type": "disabled"}, "max_tokens": 7, "temperature": 0.5, "seed": 3, "messages": asked,
        "document": "d", "sources": True, "quote": False,
    }  # fmt: skip
    answer = {"role": "assistant", "content": "Answer", "reasoning_content": "hm"}
    assert second == first | {"messages": [*asked, answer, {"role": "user", "content": "Two?"}]}
    assert third == common | {
        "thinking": {"type": "enabled"}, "max_tokens": 256, "temperature": 0.0,
        "messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Three?"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "max_tokens", "finish"),
    [
        ("stop", 9, Finish.END),
        ("tool_calls", 9, Finish.END),
        ("length", 3, Finish.LENGTH),
        ("length", 9, Finish.CONTEXT),
    ],
)
def test_why_an_answer_ended(word: str, max_tokens: int, finish: Finish) -> None:
    source = {"file": "a", "start": 1, "end": 2, "text": "x", "weight": 1, "more": None}
    with scripted(
        saying(stream(chunk({"reasoning": "r"}), chunk({}, finish_reason=word, sources=[source]), USAGE))
    ) as url:
        reply = RemoteConversation(Remote(url), model="m", max_tokens=max_tokens).say("x")
    assert (reply.finish, reply.text, reply.completion.reasoning) == (finish, "", "r")
    assert reply.sources == (Source(file="a", start=1, end=2, text="x", weight=1.0),)


def test_after_a_failure_nothing_was_said() -> None:
    heard = Heard(stream(chunk({"content": "An"}), end=b""))
    with scripted(heard) as url:
        talk = RemoteConversation(Remote(url), model="m")
        with pytest.raises(RemoteError, match="the stream ended before the answer did"):
            talk.say("One?")
        heard.answer = stream(chunk({"content": "An"}), {"error": {"message": "late"}})
        with pytest.raises(RemoteError, match=": late$"):
            talk.say("Two?")
        heard.answer = stream(chunk({}, finish_reason="stop"), end=b"")
        assert talk.say("Three?").text == ""
    assert [[one["content"] for one in body["messages"]] for body in heard.bodies] == [["One?"], ["Two?"], ["Three?"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"choices": 7}, {"choices": [7]}, chunk({"content": 7}), chunk({"reasoning": ["x"]}),
        chunk({}, sources=[{"file": "a"}]), chunk({}, sources=7), {"choices": [], "usage": {"prompt_tokens": 1}},
    ],
)  # fmt: skip
def test_chunks_that_are_none(wrong: Any) -> None:
    with scripted(saying(stream(wrong))) as url, pytest.raises(RemoteError, match="this is no part of an answer: {"):
        RemoteConversation(Remote(url), model="m").say("x")


def test_bad_options_are_refused_before_a_server_is_asked() -> None:
    with pytest.raises(LimitError, match="max_tokens is 0"):
        converse("http://no.invalid", max_tokens=0)
    with pytest.raises(UsageError, match="^--offload-experts, --draft beside --url"):
        converse("http://no.invalid", here={"weights": None, "offload_experts": "8GB", "draft": 0})


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupt_cancels_the_answer_on_the_server(
    server: Running, service: Overheard, error: type[BaseException]
) -> None:
    def interrupt(_: Event) -> None:
        raise error

    talk = converse(server.url, max_tokens=3000)
    service.forget_ends()
    with pytest.raises(error):
        talk.say("Hello.", on_event=interrupt)
    assert isinstance(service.next_end(), Cancelled)
    assert talk.messages == []


def test_ctrl_c_closes_the_connection_and_ends_with_130(tmp_path: Path) -> None:
    left = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            return saying(b'{"data": [{"id": "m"}]}')(handler)
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(stream(chunk({"content": "Well"}), end=b""))
        handler.connection.settimeout(SECONDS)
        if handler.rfile.read(1) == b"":
            left.set()

    code = (
        "import sys; from octavo.cli import main; code = main();"
        "loaded = {'torch', 'fastapi', 'httpx', 'transformers'} & set(sys.modules); sys.exit(7 if loaded else code)"
    )
    with scripted(answer) as url:
        line = [sys.executable, "-c", code, "chat", "--url", url]
        environment = {name: value for name, value in os.environ.items() if name != "OCTAVO_API_KEY"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(line, text=True, env=environment, **pipes) as process:  # type: ignore[call-overload]
            try:
                process.stdin.write("Hello.\n")
                process.stdin.flush()
                assert process.stdout.read(4) == "Well"
                process.send_signal(signal.SIGINT)
                assert left.wait(SECONDS)
                out, err = process.communicate(timeout=SECONDS)
            finally:
                process.kill()
    assert (process.returncode, out, err) == (130, "", "octavo: error: interrupted\n")
