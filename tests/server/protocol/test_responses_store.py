"""Kept responses: bounds, conversations, cancelling, deleting."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.config.errors import MissingError, UsageError
from octavo.server.protocol.responses_store import ResponseStore


def response(id: str, status: str = "completed", text: str = "") -> dict[str, Any]:
    return {"id": id, "status": status, "output": [{"text": text}]}


def put(store: ResponseStore, id: str, text: str = "", status: str = "completed") -> None:
    store.begin(response(id, "in_progress"), lambda: response(id, "cancelled"), store=True)
    store.end(response(id, status, text), [{"role": "user", "content": text}])
    store.check_integrity()


def test_a_response_is_there_from_its_beginning_and_with_its_conversation_at_its_end() -> None:
    store = ResponseStore()
    store.begin(response("a", "in_progress"), lambda: response("a"), store=True)
    assert store.find("a").response["status"] == "in_progress"
    with pytest.raises(UsageError, match="'a', which is in_progress"):
        store.conversation("a")
    store.end(response("a", text="hi"), [{"role": "user", "content": "hello"}])
    assert store.conversation("a") == ({"role": "user", "content": "hello"},)
    store.check_integrity()


def test_the_least_recently_used_goes_first() -> None:
    store = ResponseStore(most=2)
    put(store, "a")
    put(store, "b")
    store.find("a")
    put(store, "c")
    with pytest.raises(MissingError, match="response 'b' is not stored"):
        store.find("b")
    assert store.find("a")
    assert store.find("c")


def test_characters_are_bounded_and_one_that_is_too_large_stays_alone_until_the_next() -> None:
    store = ResponseStore(most_characters=1000)
    put(store, "a", "x" * 200)
    put(store, "b", "x" * 900)
    assert store.find("b")
    with pytest.raises(MissingError):
        store.find("a")
    put(store, "c", "x")
    assert store.find("c")
    with pytest.raises(MissingError):
        store.find("b")


def test_those_under_way_are_never_dropped() -> None:
    store = ResponseStore(most=1)
    for id in "abc":
        store.begin(response(id, "in_progress"), dict, store=True)
        store.check_integrity()
    for id in "abc":
        assert store.find(id)
        store.end(response(id), [])
        store.check_integrity()
    assert store.find("c")


def test_those_under_way_drive_nobody_out() -> None:
    """They are bounded by how many run at a time, and each may be as long as a context."""
    store = ResponseStore(most=2, most_characters=1000)
    put(store, "a", "x" * 100)
    long = [{"role": "user", "content": "x" * 5000}]
    for id in "bcd":
        store.begin(response(id, "in_progress"), dict, store=True, history=long)
        store.check_integrity()
    assert store.conversation("a")
    store.delete("b")
    store.end(response("b"), long)
    assert store.conversation("a"), "what was deleted meanwhile does not count either"
    store.check_integrity()


def test_what_a_running_one_goes_on_from_stays_until_that_is_over() -> None:
    store = ResponseStore(most=1)
    put(store, "a")
    store.begin(response("b", "in_progress") | {"previous_response_id": "a"}, dict, store=False)
    for id in "cd":
        put(store, id)
    assert store.conversation("a")
    with pytest.raises(MissingError):
        store.find("c")
    store.end(response("b", "failed"), [])
    store.check_integrity()
    with pytest.raises(MissingError):
        store.find("d")
    put(store, "e")
    with pytest.raises(MissingError):
        store.find("a")


def test_cancel_calls_only_those_under_way() -> None:
    store, called = ResponseStore(), []

    def cancel() -> dict[str, Any]:
        called.append("a")
        return response("a", "cancelled")

    store.begin(response("a", "in_progress"), cancel, store=False)
    assert store.under_way() == ("a",)
    assert store.cancel("a")["status"] == "cancelled"
    assert called == ["a"]
    with pytest.raises(MissingError):
        store.find("a")
    store.end(response("a", "cancelled"), [])
    assert store.under_way() == ()
    with pytest.raises(MissingError):
        store.cancel("a")
    put(store, "b")
    with pytest.raises(UsageError, match="response 'b' is completed"):
        store.cancel("b")
    assert called == ["a"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_nothing_goes_on_from_what_did_not_end_well(status: str) -> None:
    store = ResponseStore()
    put(store, "a", status=status)
    with pytest.raises(UsageError, match=f"which is {status}"):
        store.conversation("a")


def test_what_is_deleted_meanwhile_does_not_come_back() -> None:
    store = ResponseStore()
    store.begin(response("a", "in_progress"), dict, store=True)
    store.delete("a")
    store.end(response("a"), [])
    for act in (store.find, store.delete, store.conversation):
        with pytest.raises(MissingError):
            act("a")
    store.check_integrity()
