"""/tokenize and /detokenize: there and back, limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from octavo.text.chat import encode_chat
from tests.support.listening import Running, running, tiny_service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_service(tmp_path_factory.mktemp("tokens"))) as found:
        yield found


def test_there_and_back(server: Running) -> None:
    text = "The keeper 日本 <｜User｜> wrote\n"
    body = {"prompt": text, "add_special_tokens": False, "return_token_strs": True}
    found = server.client.post("/tokenize", json=body).json()
    assert found["tokens"] == server.service.llm.tokenizer.encode(text)
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == 4096
    assert server.client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}


def test_the_beginning_mark_is_added_unless_told(server: Running) -> None:
    tokenizer = server.service.llm.tokenizer
    found = server.client.post("/tokenize", json={"prompt": "a"}).json()
    assert found["tokens"] == [tokenizer.special("BOS"), *tokenizer.encode("a")]
    assert found["token_strs"] is None


def test_a_conversation_is_encoded_as_chats_are(server: Running) -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who?"}]
    found = server.client.post("/tokenize", json={"messages": messages, "model": "octavo-tiny"}).json()
    assert found["tokens"] == encode_chat(server.service.llm.tokenizer, messages)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "a", "messages": []}, 400),
        ("/tokenize", {"prompt": 3}, 400),
        ("/tokenize", {"prompt": "a", "model": "other"}, 404),
        ("/tokenize", {"prompt": "a", "add_special_tokens": "yes"}, 400),
        ("/tokenize", {"messages": [{"role": "nobody", "content": ""}]}, 400),
        ("/tokenize", {"prompt": "a" * (8 * 2**20 + 1)}, 400),
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": [10**12]}, 400),
        ("/detokenize", {"tokens": [1.5]}, 400),
        ("/detokenize", {"tokens": ["1"]}, 400),
        ("/detokenize", {"tokens": None}, 400),
    ],
)
def test_bad_requests(server: Running, path: str, body: dict[str, Any], status: int) -> None:
    found = server.client.post(path, json=body)
    assert found.status_code == status, found.text
    assert found.json()["error"]["message"]
    assert len(found.text) < 1000


def test_the_field_at_fault_is_named(server: Running) -> None:
    error = server.client.post("/detokenize", json={"tokens": [1, -7]}).json()["error"]
    assert error["param"] == "tokens[1]"
    assert "-7" in error["message"]
