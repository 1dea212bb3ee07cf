"""The folder of states: the same logits after a restart, damage never used, the bound kept, nothing wrongly shared."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo.cache.document import DocumentHeader
from octavo.cache.state import SequenceState
from octavo.config.errors import DocumentError, LimitError, MissingError, UsageError
from octavo.engine.llm import LLM
from octavo.engine.serving.shelf import Shelf
from tests.support.tiny_llm import tiny_llm

CHUNK = 64
IDS = np.random.default_rng(0).integers(3, 60, 1100).astype(np.int32)
PLENTY = 1 << 30


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    made = tiny_llm(tmp_path_factory.mktemp("model"), chunk=CHUNK)
    made.pool.first_slab()
    return made


@pytest.fixture(scope="module")
def header(llm: LLM) -> DocumentHeader:
    return DocumentHeader(
        model_name=llm.name, model_fingerprint=llm.fingerprint,
        tokenizer_fingerprint=llm.tokenizer.fingerprint, layout=llm.pool.layout,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shelf"


@pytest.fixture
def shelf(folder: Path, header: DocumentHeader) -> Iterator[Shelf]:
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as made:
        yield made


def read(llm: LLM, ids: np.ndarray) -> SequenceState:
    state = llm.new_state()
    llm.runner.read(ids, state)
    return state


def put(llm: LLM, shelf: Shelf, ids: np.ndarray, root: str = "", base: int = 0) -> bool:
    with closing(read(llm, ids)) as state:
        return shelf.put(root, state, base=base)


def go_on(llm: LLM, state: SequenceState, ids: np.ndarray = IDS) -> Tensor:
    """Logits of the last row and of some decoded tokens behind it."""
    rows = [llm.runner.read_last(ids[state.length :], state).logits.clone()]
    for _ in range(5):
        rows.append(llm.runner.step(np.array([int(rows[-1].argmax())]), state).logits.clone())
    return torch.cat(rows)


@pytest.fixture(scope="module")
def cold(llm: LLM) -> Tensor:
    with closing(llm.new_state()) as state:
        return go_on(llm, state)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def only(folder: Path, pattern: str = "prefix-*.octavo") -> Path:
    (path,) = folder.glob(pattern)
    return path


# -- beginnings --------------------------------------------------------------------------------------------------------


def test_after_a_restart_the_state_goes_on_bit_by_bit(
    llm: LLM, folder: Path, header: DocumentHeader, cold: Tensor
) -> None:
    free = llm.pool.allocator.free
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert put(llm, shelf, IDS[:256])
        assert put(llm, shelf, IDS[:1024])
        assert not put(llm, shelf, IDS[:1024])
        shelf.check_integrity()
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert (shelf.files, shelf.damaged, shelf.foreign) == (2, 0, 0)
        shelf.check_integrity()
        for most, length in ((1099, 1024), (1023, 256)):
            found = shelf.find("", IDS, most=most)
            assert found is not None
            assert found.length == length
            state = shelf.load(found, llm.new_state())
            assert state is not None
            with closing(state):
                assert state.length == length
                state.check_integrity()
                with closing(state.fork()) as twin:
                    assert torch.equal(go_on(llm, twin), cold)
                assert torch.equal(go_on(llm, state), cold)
        assert shelf.find("", IDS, most=255) is None
        assert shelf.hits == 2
    assert llm.pool.allocator.free == free
    assert llm.pool.adopted_bytes == 0


def test_a_rollback_of_a_loaded_state_is_exact(llm: LLM, shelf: Shelf) -> None:
    with closing(read(llm, IDS[:512])) as original:
        assert shelf.put("", original)
        for n in (3, 200):
            state = shelf.fetch("", IDS, most=1000, new_state=llm.new_state)
            assert state is not None
            with closing(state), closing(original.fork()) as twin:
                for each in (state, twin):
                    each.rollback(n)
                assert state.length == 512 - n
                assert torch.equal(go_on(llm, state), go_on(llm, twin))


def test_a_document_in_front_is_not_written_again(llm: LLM, shelf: Shelf, folder: Path, cold: Tensor) -> None:
    free = llm.pool.allocator.free
    with closing(read(llm, IDS[:667])) as document, closing(document.fork()) as first:
        with closing(document.fork()) as again:
            wanted = go_on(llm, again)
        llm.runner.read(IDS[667:1024], first)
        assert shelf.put("book", first, base=667)
        assert shelf.bytes == only(folder).stat().st_size < 3 * llm.pool.layout.page_bytes + 400_000
        for root, base in (("book", 0), ("", 667), ("book", 666)):
            assert shelf.find(root, IDS, base=base, most=1099) is None
        state = shelf.fetch("book", IDS, base=667, most=1099, new_state=llm.new_state, document=document)
        assert state is not None
        with closing(state):
            state.check_integrity()
            assert state.pages[:2] == document.pages[:2]
            assert np.array_equal(state.tokens, IDS[:1024])
            assert torch.equal(go_on(llm, state), wanted)
        found = shelf.find("book", IDS, base=667, most=1099)
        assert found is not None
        with closing(llm.new_state()) as empty, pytest.raises(ValueError, match="a document of 667 tokens"):
            shelf.load(found, empty)
    assert llm.pool.allocator.free == free


def test_nothing_is_shared_across_roots(llm: LLM, shelf: Shelf) -> None:
    assert put(llm, shelf, IDS[:256], root="alice")
    assert shelf.find("bob", IDS, most=1000) is None
    assert put(llm, shelf, IDS[:256], root="bob")
    assert shelf.files == 2


def test_only_multiples_of_the_chunk_are_kept(llm: LLM, shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="has 200 tokens; a multiple of 256 above 0"):
        put(llm, shelf, IDS[:200])


def test_folder_and_files_are_for_the_owner_alone(llm: LLM, shelf: Shelf, folder: Path) -> None:
    put(llm, shelf, IDS[:256])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only(folder).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_may_read_is_refused(folder: Path, header: DocumentHeader) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(UsageError, match="open to other users"):
        Shelf(folder, header, max_bytes=PLENTY)


def test_a_folder_in_use_is_refused(shelf: Shelf, folder: Path, header: DocumentHeader) -> None:
    with pytest.raises(UsageError, match="another process is using it"):
        Shelf(folder, header, max_bytes=PLENTY)
    shelf.close()
    Shelf(folder, header, max_bytes=PLENTY).close()


# -- damage ------------------------------------------------------------------------------------------------------------


def places(path: Path) -> dict[str, int]:
    """A byte of every part of a file."""
    data = path.read_bytes()
    records = [at for at in range(0, len(data), 64) if data[at : at + 8] == b"\x89OCTREC\n"]
    assert len(records) == 2  # SOURCES, PAGES
    return {
        "magic": 0, "head": 20, "config": 100, "sources prefix": records[0] + 20, "sources table": records[0] + 80,
        "ids": records[1] - 400, "pages prefix": records[1] + 20, "pages table": records[1] + 90,
        "rows": records[1] + (len(data) - records[1]) // 3, "tails": len(data) - 700,
    }  # fmt: skip


PARTS = (
    "magic", "head", "config", "sources prefix", "sources table", "ids", "pages prefix", "pages table", "rows", "tails",
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(llm: LLM, header: DocumentHeader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with beginnings of 256 and 512 tokens, to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        put(llm, shelf, IDS[:256])
        put(llm, shelf, IDS[:512])
    return folder


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_an_altered_byte_is_never_used(
    llm: LLM, filled: Path, folder: Path, header: DocumentHeader, cold: Tensor, part: str, restart: bool
) -> None:
    shutil.copytree(filled, folder)
    path = max(folder.glob("*.octavo"), key=lambda path: path.stat().st_size)
    shelf = None if restart else Shelf(folder, header, max_bytes=PLENTY)
    flip(path, places(path)[part])
    with closing(shelf or Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        state = shelf.fetch("", IDS, most=1000, new_state=llm.new_state)
        assert state is not None
        with closing(state):
            assert state.length == 256  # the next shorter one, and the rest is read again
            assert torch.equal(go_on(llm, state), cold)
        assert (shelf.damaged, shelf.files) == (1, 1)
        shelf.check_integrity()


def test_what_was_damaged_can_be_written_and_found_again(
    llm: LLM, filled: Path, folder: Path, header: DocumentHeader
) -> None:
    shutil.copytree(filled, folder)
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        path = max(folder.glob("*.octavo"), key=lambda path: path.stat().st_size)
        flip(path, places(path)["rows"])
        for length in (256, 512):
            state = shelf.fetch("", IDS, most=1000, new_state=llm.new_state)
            assert state is not None
            assert state.length == length
            state.close()
            assert put(llm, shelf, IDS[:512]) == (length == 256)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_file_cut_short_is_never_used(
    llm: LLM, folder: Path, header: DocumentHeader, kept: float, restart: bool
) -> None:
    shelf = Shelf(folder, header, max_bytes=PLENTY)
    put(llm, shelf, IDS[:256])
    path = only(folder)
    os.truncate(path, int(kept * path.stat().st_size))
    if restart:
        shelf.close()
        shelf = Shelf(folder, header, max_bytes=PLENTY)
    with closing(shelf), closing(llm.new_state()) as empty:
        found = shelf.find("", IDS, most=1000)
        assert (found is None) == restart
        if found is not None:
            assert shelf.load(found, empty) is None
            assert shelf.load(found, empty) is None
            assert empty.length == len(empty.pages) == 0
        assert (shelf.damaged, shelf.files, shelf.bytes) == (1, 0, 0)
        assert not path.exists()


def test_bytes_behind_the_end_are_damage(llm: LLM, shelf: Shelf, folder: Path) -> None:
    put(llm, shelf, IDS[:256])
    with only(folder).open("ab") as file:
        file.write(b"more")
    assert shelf.fetch("", IDS, most=1000, new_state=llm.new_state) is None
    assert shelf.damaged == 1


def test_a_file_under_anothers_name_is_not_used(
    llm: LLM, folder: Path, header: DocumentHeader, caplog: pytest.LogCaptureFixture
) -> None:
    other = IDS[::-1].copy()
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        put(llm, shelf, IDS[:256])
        mine = only(folder)
        put(llm, shelf, other[:256])
        (theirs,) = set(folder.glob("*.octavo")) - {mine}
        theirs.write_bytes(mine.read_bytes())  # whole, but of other tokens
        with caplog.at_level(logging.WARNING):
            assert shelf.fetch("", other, most=1000, new_state=llm.new_state) is None
        assert "holds other tokens than its name says" in caplog.text
        theirs.write_bytes(mine.read_bytes())
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert (shelf.files, shelf.damaged) == (1, 1)


def test_a_file_that_disappears_is_not_found_and_not_retried(llm: LLM, shelf: Shelf, folder: Path) -> None:
    put(llm, shelf, IDS[:256])
    only(folder).unlink()
    assert shelf.fetch("", IDS, most=1000, new_state=llm.new_state) is None
    assert shelf.find("", IDS, most=1000) is None


def test_killed_before_the_file_has_its_name(llm: LLM, folder: Path, header: DocumentHeader) -> None:
    """A real kill, between the last byte and the rename."""
    Shelf(folder, header, max_bytes=PLENTY).close()
    code = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from tests.support.documents import empty_state, header
        from tests.support.sequences import fake_read
        from octavo.engine.serving.shelf import Shelf
        state = empty_state()
        fake_read(state, 256, step=256)
        shelf = Shelf({str(folder)!r}, header(), max_bytes=1 << 30)
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        shelf.put("", state)
    """)
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert only(folder, "*.part").stat().st_size > 0
    assert not list(folder.glob("*.octavo"))
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert (shelf.files, shelf.bytes, shelf.damaged) == (0, 0, 0)
        assert not list(folder.glob("*.part"))
        assert put(llm, shelf, IDS[:256])


def test_a_failing_disk_is_no_failure_of_the_job(llm: LLM, shelf: Shelf, folder: Path) -> None:
    with closing(read(llm, IDS[:256])) as state:
        only(folder, "lock").unlink()
        folder.rmdir()
        assert not shelf.put("", state)
        with pytest.raises(DocumentError, match="writing a job failed: No such file"):
            shelf.save_job("one", state)
        assert (shelf.failed, shelf.files, shelf.bytes) == (2, 0, 0)
        folder.mkdir(mode=0o700)
        assert shelf.put("", state)


# -- other models, other files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["model_fingerprint", "tokenizer_fingerprint"])
def test_files_of_another_model_are_not_used(llm: LLM, folder: Path, header: DocumentHeader, field: str) -> None:
    values = {name: getattr(header, name) for name in DocumentHeader.__dataclass_fields__}
    other = DocumentHeader(**(values | {field: "f" * 64}))
    with closing(Shelf(folder, other, max_bytes=PLENTY)) as shelf:
        put(llm, shelf, IDS[:256])
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert (shelf.files, shelf.foreign, shelf.damaged) == (0, 1, 0)
        assert shelf.fetch("", IDS, most=1000, new_state=llm.new_state) is None


def test_strangers_files_are_left_alone(folder: Path, header: DocumentHeader) -> None:
    folder.mkdir(mode=0o700)
    names = ("book.octavo", "notes.txt", "x.part")
    for name in names:
        (folder / name).write_text("mine")
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert (shelf.files, shelf.damaged) == (0, 0)
    assert all((folder / name).read_text() == "mine" for name in names)


# -- the bound ---------------------------------------------------------------------------------------------------------


def sized(llm: LLM, tmp_path: Path, header: DocumentHeader, tokens: int) -> int:
    """Bytes of a file of so many tokens."""
    with closing(Shelf(tmp_path / "sized", header, max_bytes=PLENTY)) as shelf:
        put(llm, shelf, IDS[:tokens])
        return shelf.bytes


def test_the_bound_is_kept_and_the_popular_stay(llm: LLM, tmp_path: Path, header: DocumentHeader) -> None:
    bound = int(3.5 * sized(llm, tmp_path, header, 512))
    folder = tmp_path / "shelf"
    texts = [np.random.default_rng(n).integers(3, 60, 600) for n in range(5)]
    with closing(Shelf(folder, header, max_bytes=bound)) as shelf:
        put(llm, shelf, texts[0][:512])
        for _ in range(3):
            state = shelf.fetch("", texts[0], most=599, new_state=llm.new_state)
            assert state is not None
            state.close()
        for ids in texts[1:]:
            assert put(llm, shelf, ids[:512])
            assert sum(path.stat().st_size for path in folder.glob("*.octavo")) <= bound
            shelf.check_integrity()
        there = [shelf.find("", ids, most=599) is not None for ids in texts]
        assert there[0]
        assert there[-1]
        assert 0 < shelf.evicted == there.count(False)
    half = bound // 2
    with closing(Shelf(folder, header, max_bytes=half)) as shelf:
        assert 0 < shelf.bytes <= half
        shelf.check_integrity()
        shelf.max_bytes = shelf.bytes + 1000
        assert not put(llm, shelf, IDS[:1024])  # never fits, and costs nothing that is there
        assert shelf.files == 1


def test_of_equal_value_what_was_used_last_outlives_a_restart(
    llm: LLM, tmp_path: Path, header: DocumentHeader
) -> None:
    folder, texts = tmp_path / "shelf", [np.random.default_rng(n).integers(3, 60, 256) for n in range(3)]
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        for ids in texts:
            put(llm, shelf, ids)
        for order, path in enumerate(sorted(folder.glob("*.octavo"), key=lambda path: path.stat().st_mtime_ns)):
            os.utime(path, ns=(order, order))
        state = shelf.fetch("", texts[0], most=256, new_state=llm.new_state)
        assert state is not None
        state.close()
        bound = shelf.bytes - 1
    with closing(Shelf(folder, header, max_bytes=bound)) as shelf:
        assert [shelf.find("", ids, most=256) is not None for ids in texts] == [True, False, True]


def test_a_mapped_file_that_is_evicted_stays_readable(
    llm: LLM, tmp_path: Path, header: DocumentHeader, cold: Tensor
) -> None:
    bound = int(1.5 * sized(llm, tmp_path, header, 512))
    with closing(Shelf(tmp_path / "shelf", header, max_bytes=bound)) as shelf:
        put(llm, shelf, IDS[:512])
        state = shelf.fetch("", IDS, most=1000, new_state=llm.new_state)
        assert state is not None
        with closing(state):
            assert put(llm, shelf, IDS[::-1][:512])
            assert shelf.find("", IDS, most=1000) is None
            assert torch.equal(go_on(llm, state), cold)


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_comes_back_in_pages_of_the_pool(llm: LLM, shelf: Shelf, folder: Path) -> None:
    free = llm.pool.allocator.free
    with closing(read(llm, IDS[:777])) as state:
        first = llm.runner.step(IDS[777:778], state).logits.clone()
        with closing(state.fork()) as twin:
            wanted = go_on(llm, twin)
        shelf.save_job("../../one", state)
    assert llm.pool.allocator.free == free
    assert only(folder, "job-*").stat().st_mode & 0o777 == 0o600
    shelf.check_integrity()
    with closing(shelf.restore_job("../../one", llm.new_state())) as state:
        assert llm.pool.adopted_bytes == 0
        assert llm.pool.allocator.free == free - 4
        shelf.drop_job("../../one")
        assert (shelf.files, shelf.bytes, list(folder.glob("job-*"))) == (0, 0, [])
        state.check_integrity()
        with closing(state.fork()) as twin:
            twin.rollback(1)
            assert torch.equal(llm.runner.step(IDS[777:778], twin).logits, first)
        assert torch.equal(go_on(llm, state), wanted)
    assert llm.pool.allocator.free == free
    with pytest.raises(MissingError, match="no job ../../one"), closing(llm.new_state()) as state:
        shelf.restore_job("../../one", state)
    shelf.drop_job("never")


def test_a_job_behind_a_document_shares_its_pages_again(llm: LLM, shelf: Shelf) -> None:
    free = llm.pool.allocator.free
    with closing(read(llm, IDS[:600])) as document:
        with closing(document.fork()) as state:
            llm.runner.read(IDS[600:900], state)
            shelf.save_job("one", state, base=600)
            wanted = go_on(llm, state)
        taken = free - llm.pool.allocator.free
        with closing(shelf.restore_job("one", llm.new_state(), document=document)) as state:
            assert free - llm.pool.allocator.free - taken == 2
            assert state.pages[:2] == document.pages[:2]
            assert torch.equal(go_on(llm, state), wanted)
    assert llm.pool.allocator.free == free


def test_a_damaged_job_must_read_again(llm: LLM, shelf: Shelf, folder: Path) -> None:
    with closing(read(llm, IDS[:300])) as state:
        shelf.save_job("one", state)
    path = only(folder, "job-*")
    flip(path, path.stat().st_size // 2)
    with closing(llm.new_state()) as state:
        with pytest.raises(DocumentError, match="job one cannot be taken up again"):
            shelf.restore_job("one", state)
        assert state.length == len(state.pages) == 0
    assert (shelf.damaged, shelf.files) == (1, 0)


def test_jobs_of_a_dead_process_are_removed(llm: LLM, folder: Path, header: DocumentHeader) -> None:
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf, closing(read(llm, IDS[:300])) as state:
        shelf.save_job("one", state)
    with closing(Shelf(folder, header, max_bytes=PLENTY)) as shelf:
        assert shelf.files == 0
        assert not list(folder.glob("job-*"))


def test_jobs_drive_out_beginnings_and_are_never_driven_out(llm: LLM, tmp_path: Path, header: DocumentHeader) -> None:
    bound = int(1.5 * sized(llm, tmp_path, header, 512))
    with closing(Shelf(tmp_path / "shelf", header, max_bytes=bound)) as shelf, closing(read(llm, IDS[:512])) as state:
        assert shelf.put("", state)
        shelf.save_job("one", state)
        assert (shelf.files, shelf.evicted) == (1, 1)
        assert not shelf.put("", state)
        with pytest.raises(LimitError, match="job two takes up to"):
            shelf.save_job("two", state)
        shelf.save_job("one", state)  # in its own place
        shelf.check_integrity()
        shelf.restore_job("one", llm.new_state()).close()
