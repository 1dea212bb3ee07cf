"""The service over a pool of one slab that is short of pages: what is idle is given up before a request is refused.

The fused kernels run in Triton's interpreter where there is no GPU, so the model is as small as can be, and chunks are
read by the plain model, on the same states; what a GPU does with many streams: `test_service_gpu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("triton")

from octavo.cache.pool import PagePool
from octavo.config.errors import BusyError, LimitError
from octavo.engine.document import Document
from octavo.engine.llm import LLM
from octavo.engine.serving import service as module
from octavo.engine.serving.events import Ended, Failed
from octavo.engine.serving.library import Library
from octavo.engine.serving.service import Service
from octavo.engine.texts import Text
from tests.engine.serving.test_library import being_opened
from tests.engine.serving.test_service import Heard, job, prompt, run
from tests.support.gpu_world import PLAIN, gpu_llm
from tests.support.tiny import tiny_engram

PAGES = 6


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    fields = {"num_hidden_layers": 1, "compress_ratios": (4,), "engram": tiny_engram("v41", (0,))}
    return gpu_llm(tmp_path_factory.mktemp("model"), tokens=PAGES * 256, **fields)


@pytest.fixture
def service(llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Its library has the documents `a`, `b` and `c`, of two whole pages or so each."""
    for name in "abc":
        text = Text(name=name, text=f"The keeper of {name} wrote the date. " * 60)
        llm.read(text, output=tmp_path / f"{name}.octavo", controls=PLAIN).close()
    monkeypatch.setattr(llm.runner, "read", partial(llm.runner.read, controls=PLAIN))
    made = Service(llm, library=Library(llm, tmp_path))
    made.start()
    yield made
    made.check_integrity()
    made.close()
    assert llm.pool.allocator.used == 0, "pages leaked"


def ask(service: Service, id: str, name: str, *, most: int = 1) -> Heard:
    asked = tuple(service.llm.question_ids("Who?"))
    heard = run(service, job(id, asked, document=name, most=most))
    assert isinstance(heard.events[-1], Ended), heard.events[-1]
    return heard


def test_a_document_that_nobody_asks_makes_room_for_another(service: Service) -> None:
    size = -(-service.library.info("a").tokens // 256)
    assert 3 * size > PAGES, "the three do not fit beside each other"
    first = ask(service, "1", "a", most=2)
    ask(service, "2", "b")
    ask(service, "3", "c")
    again = ask(service, "4", "a", most=2)
    assert again.ended.usage.cached_tokens == service.library.info("a").tokens
    assert again.ids == first.ids
    service.check_integrity()


def test_a_document_that_is_larger_than_the_cache_drives_nothing_out(service: Service, tmp_path: Path) -> None:
    plain = Text(name="book", text="The keeper wrote the date. " * 600)
    whole = tiny_llm_of(service.llm).read(plain, output=tmp_path / "book.octavo")
    assert len(whole.state.pages) > PAGES
    whole.close()
    ask(service, "1", "a")
    held = service.library.pages()
    with pytest.raises(LimitError, match=rf"document 'book' takes \d+ pages; the cache has {PAGES}"):
        ask(service, "2", "book")
    assert service.library.pages() == held
    service.library.remove("book")


def test_without_room_beside_others_it_is_to_come_again(service: Service) -> None:
    pool = service.llm.pool
    taken = [pool.take() for _ in range(PAGES - 1)]
    heard = run(service, job("1", tuple(service.llm.question_ids("Who?")), document="a", most=1))
    last = heard.events[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, BusyError), "nothing is wrong with the request"
    assert "no room for the document now" in str(last.error)
    pool.release(taken)
    ask(service, "2", "a")


def test_a_document_keeps_its_key_until_its_file_is_another(service: Service, tmp_path: Path) -> None:
    library = service.library
    first, key = library.open("a")
    first.fork().close()
    assert library.idle() == {}, "somebody asks it"
    library.leave(first)
    assert len(library.idle() or ()) == library.pages() > 0
    assert library.make_room(1, rested=60) == 0, "somebody asked it just now"
    assert library.make_room(1) > 0
    assert library.pages() == 0
    again, same = library.open("a")
    assert (again is first, same) == (False, key), "prefixes behind it are hits still"
    library.leave(again)
    again.fork().close()
    assert library.make_room(1) > 0
    (tmp_path / "new").write_bytes((tmp_path / "b.octavo").read_bytes())
    opened = service.llm.open

    def replaced(path: Path) -> Document:
        (tmp_path / "new").replace(path)
        return opened(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.llm, "open", replaced)
        other, new = library.open("a")
    assert other.texts.text(other.texts.entries[0]).startswith("The keeper of b")
    assert new != key
    library.leave(other)


def test_while_a_document_is_opened_pages_are_not_counted_again(service: Service) -> None:
    ask(service, "1", "a")
    service._counted = (0, 0.0)
    counted = service._kept()
    assert counted > 0
    service._counted = (counted + 1, 0.0)
    with being_opened(service.library, "b") as threads:
        assert threads.submit(service.library.idle).result(10) is None
        assert threads.submit(service._kept).result(10) == counted + 1
    assert service._kept() == counted


def tiny_llm_of(llm: LLM) -> LLM:
    """The same model on plain operations, over a pool that grows."""
    return LLM(
        llm.model,
        llm.tokenizer,
        PagePool(llm.pool.layout, capacity_tokens=8192, device=llm.pool.device),
        chunk=256,
        name=llm.name,
    )


def test_a_prompt_takes_the_pages_of_idle_documents(service: Service) -> None:
    for name in "ab":
        ask(service, name, name)
    assert service.library.pages() > 2
    last = run(service, job("long", prompt(3, 256 * (PAGES - 2) + 9, service.llm), most=1)).events[-1]
    assert not isinstance(last, Failed), last
    assert service.status().swaps == 0


def test_prefixes_outlive_documents_that_rest(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    run(service, job("kept", prompt(4, 265, service.llm), most=1))
    held = service.hits.held()
    assert held
    monkeypatch.setattr(module, "_REST_SECONDS", 0.0)
    ask(service, "1", "a")
    ask(service, "2", "b")
    assert service.hits.held() == held, "the document that rested went first"
