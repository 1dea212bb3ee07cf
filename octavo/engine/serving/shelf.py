"""States on disk: beginnings of prompts that outlive the process, and jobs that had to make room.

Covers: a folder of bounded size, what is written into it and read from it, what is removed first. Does not cover: what
a file holds (`stored`), which states are worth it (`prefixes`, `service`), documents (`library`).

**The files hold text: token ids of prompts and answers, readable with the tokenizer.** The folder has mode 0700, files
have 0600; whoever may read them may read what users wrote. Nothing in them is encrypted.

    prefix-DIGEST.octavo   written under another name, flushed, then renamed: a file is whole or not there
    job-DIGEST.octavo      void when the process ends, so not flushed; removed when the folder is opened
    *.part                 was being written when the process died; removed when the folder is opened

Every byte of a file that is used is compared with its checksum (CRC-32: against damage, not forgery) before the state
is made; a damaged file is removed at once, counted, and as good as never written. Value and clock are those of
`prefixes`, with bytes of the file as size; after a restart the order of last use is that of the files' times.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from octavo.cache.document import DocumentHeader, DocumentReader
from octavo.cache.document.reader import load_file
from octavo.cache.layout import PAGE_TOKENS
from octavo.cache.state import SequenceState
from octavo.config.errors import DocumentError, LimitError, MissingError, UsageError
from octavo.engine.serving.prefixes import DIGEST_BYTES, Key, Trail, worth
from octavo.engine.serving.stored import Stored, fill, most_bytes, named, read_stored, unlink, write_stored

_log = logging.getLogger(__name__)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A beginning that is on the shelf: `length` tokens, `ids` the sequence it was asked for."""

    root: str
    base: int
    key: Key
    ids: np.ndarray

    @property
    def length(self) -> int:
        """Tokens of it, those before `base` included."""
        return self.key[0]


@dataclass(eq=False, slots=True)
class _File:
    path: Path
    nbytes: int
    family: tuple[str, int]
    key: Key
    trail: Trail
    clock: float = 0.0
    hits: int = 0
    used: int = 0  # order of last use


class Shelf:
    """The folder; see the module docstring. One process at a time may have it open (UsageError).

    Looking up, counting and removing are safe from several threads, and files are written and checked without the lock,
    so `put` of a fork and `read` may run beside the model. Filling a state touches the pool: the caller's lock.

    `bytes`, `files` (now); `hits`, `damaged`, `foreign` (removed: another model's), `evicted`, `failed` (writes) and
    `lost` (jobs whose file was damaged or gone) are totals.
    """

    def __init__(self, folder: str | Path, header: DocumentHeader, *, max_bytes: int, chunk: int = 256) -> None:
        self.folder, self.header, self.max_bytes, self.chunk = Path(folder), header, max_bytes, chunk
        self.hits = self.damaged = self.foreign = self.evicted = self.failed = self.lost = 0
        self._families: dict[tuple[str, int], dict[Key, _File]] = {}
        self._jobs: dict[str, int] = {}
        self._clock, self._uses, self._coming = 0.0, 0, 0
        self._lock = threading.RLock()
        self._lock_file = _open_folder(self.folder)
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the folder. States that were filled from files stay valid."""
        file, self._lock_file = self._lock_file, -1
        if file >= 0:
            os.close(file)

    @property
    def bytes(self) -> int:
        """Bytes of all files, and of those being written at most."""
        with self._lock:
            return sum(file.nbytes for file in self._all()) + sum(self._jobs.values()) + self._coming

    @property
    def files(self) -> int:
        """Files, of beginnings and of jobs."""
        with self._lock:
            return len(self._all()) + len(self._jobs)

    # -- beginnings --------------------------------------------------------------------------------------------------

    def put(self, root: str, state: SequenceState, *, base: int = 0) -> bool:
        """Write a state whose length is a multiple of `chunk` above `base` (ValueError otherwise).

        False when it is there already, larger than fits, or could not be written (logged).
        """
        if state.length <= base or state.length % self.chunk:
            raise ValueError(f"the state has {state.length} tokens; a multiple of {self.chunk} above {base} is needed")
        trail = Trail.of(root, state.tokens, base=base, chunk=self.chunk)
        key, most = next(iter(trail)), most_bytes(state, root, base)
        with self._lock:
            known = self._families.get((root, base), {}).get(key)
            if known is not None:
                self._use(known)
                return False
            if not self._make_room(most):
                return False
            self._coming += most
        path = self._path("prefix", key[1])
        try:
            nbytes = write_stored(path, self._part(path), self.header, root, base, state, flush=True)
        except OSError as error:
            self.failed += 1
            _log.warning("%s: writing failed: %s", path, error.strerror or error)
            return False
        finally:
            with self._lock:
                self._coming -= most
        with self._lock:
            self._keep(_File(path, nbytes, (root, base), key, trail))
        return True

    def find(self, root: str, ids: np.ndarray, *, base: int = 0, most: int) -> Found | None:
        """The longest beginning of `ids` (the whole sequence's) here, of at most `most` tokens. Reads no file."""
        with self._lock:
            family = self._families.get((root, base))
            if family is None:
                return None
            ids = np.asarray(ids[: max(most, 0)])
            for key in Trail.of(root, ids, base=base, chunk=self.chunk):
                if key in family:
                    return Found(root=root, base=base, key=key, ids=ids[: key[0]])
            return None

    def read(self, found: Found) -> Stored | None:
        """The checked content of what was found; None where the file is gone, or damaged and removed now."""
        with self._lock:
            file = self._families.get((found.root, found.base), {}).get(found.key)
        if file is None:
            return None
        try:
            stored = read_stored(file.path, self.header)
            first = found.base // PAGE_TOKENS * PAGE_TOKENS
            if (stored.root, stored.base) != file.family or not np.array_equal(stored.tokens, found.ids[first:]):
                raise DocumentError(f"{file.path}: holds other tokens than its name says")
        except DocumentError as error:
            with self._lock:
                self.damaged += 1
                self._drop(file)
            _log.warning("removed a damaged file: %s", error)
            return None
        with self._lock:
            self.hits += 1
            file.hits += 1
            self._use(file)
        return stored

    def load(
        self, found: Found, state: SequenceState, *, document: SequenceState | None = None
    ) -> SequenceState | None:
        """`read`, and into the empty `state` with it; None leaves that empty. See `fill`."""
        stored = self.read(found)
        return None if stored is None else fill(stored, state, document=document)

    def fetch(
        self, root: str, ids: np.ndarray, *, most: int, new_state: Callable[[], SequenceState], base: int = 0,
        document: SequenceState | None = None,
    ) -> SequenceState | None:  # fmt: skip
        """`find` and `load` in one, into a state that `new_state` makes; where a file is damaged, the next shorter one.
        """
        while (found := self.find(root, ids, base=base, most=most)) is not None:
            stored = self.read(found)
            if stored is not None:
                return fill(stored, new_state(), document=document)
        return None

    # -- jobs --------------------------------------------------------------------------------------------------------

    def save_job(self, id: str, state: SequenceState, *, base: int = 0) -> None:
        """Write a job's state, of any length; the state stays as it is. An earlier one of the same id is replaced.

        Raises LimitError when it does not fit even without beginnings, DocumentError when writing fails.
        """
        self.drop_job(id)
        most = most_bytes(state, id, base)
        with self._lock:
            if not self._make_room(most):
                raise LimitError(
                    f"shelf: job {id} takes up to {most:,} bytes, and jobs hold {self.bytes:,} of {self.max_bytes:,}"
                )
            self._coming += most
        path = self._job_path(id)
        try:
            nbytes = write_stored(path, self._part(path), self.header, id, base, state, flush=False)
        except OSError as error:
            self.failed += 1
            raise DocumentError(f"{path}: writing a job failed: {error.strerror or error}") from error
        finally:
            with self._lock:
                self._coming -= most
        with self._lock:
            self._jobs[id] = nbytes

    def restore_job(
        self, id: str, state: SequenceState, *, document: SequenceState | None = None
    ) -> SequenceState:
        """The saved state in the empty `state`, in pages of the pool: the file is not needed afterwards, but stays.

        MissingError for an unknown id; DocumentError for a damaged file, which is removed: the job must read again.
        LimitError when the pool has no pages left. The state stays empty then.
        """
        with self._lock:
            if id not in self._jobs:
                raise MissingError(f"shelf: no job {id} is saved")
        try:
            stored = read_stored(self._job_path(id), self.header)
            if stored.root != id:
                raise DocumentError(f"{self._job_path(id)}: holds another job")
        except DocumentError as error:
            with self._lock:
                self.damaged += 1
                self.lost += 1
            self.drop_job(id)
            _log.warning("what job %s had read is lost: %s", id, error)
            raise DocumentError(f"job {id} cannot be taken up again: {error}") from error
        return fill(stored, state, document=document, copied=True)

    def drop_job(self, id: str) -> None:
        """Remove what was saved for a job; unknown ids are ignored."""
        with self._lock:
            if self._jobs.pop(id, None) is not None:
                unlink(self._job_path(id))

    def check_integrity(self) -> None:
        """The folder holds exactly the files that are counted, of the bytes that are counted, within the bound."""
        with self._lock:
            counted = {file.path: file.nbytes for file in self._all()}
            counted |= {self._job_path(id): nbytes for id, nbytes in self._jobs.items()}
            there = {path: path.stat().st_size for path in self._ours()}
            assert there == counted, f"the folder holds {sorted(there)}, counted are {sorted(counted)}"
            assert self.bytes <= self.max_bytes, "the folder is larger than its bound"

    # -- files -------------------------------------------------------------------------------------------------------

    def _path(self, kind: str, digest: bytes) -> Path:
        return self.folder / f"{kind}-{digest.hex()}.octavo"

    def _part(self, path: Path) -> Path:
        """Where the file is written first; another place each time, should two threads write the same one."""
        with self._lock:
            self._uses += 1
            return path.with_name(f"{path.name}.{self._uses}.part")

    def _job_path(self, id: str) -> Path:
        return self._path("job", blake2b(id.encode(), digest_size=DIGEST_BYTES).digest())

    def _ours(self) -> list[Path]:
        return [path for kind in ("prefix", "job") for path in self.folder.glob(f"{kind}-*.octavo*")]

    def _scan(self) -> None:
        """Take up the beginnings that are whole and of this model; remove our other files. Strangers' files stay."""
        found = []
        for path in self._ours():
            if path.name.startswith("job-") or path.suffix == ".part":
                unlink(path)
                continue
            with contextlib.suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(found):
            try:
                data, header, catalog = load_file(path)
                reader = DocumentReader(path, data, header, catalog)
            except DocumentError as error:
                self.damaged += 1
                _log.warning("removed a damaged file: %s", error)
                unlink(path)
                continue
            try:
                header.require(self.header, path)
                header.require_reading(self.header, path)
            except DocumentError as error:
                self.foreign += 1
                _log.info("removed a file that is of no use here: %s", error)
                unlink(path)
                continue
            self._take_up(path, reader)
        with self._lock:
            self._make_room(0)

    def _take_up(self, path: Path, reader: DocumentReader) -> None:
        """Count a file that is whole as far as opening tells."""
        try:
            root, base = named(reader)
            before = np.zeros(base // PAGE_TOKENS * PAGE_TOKENS, dtype=np.int32)  # not looked at
            trail = Trail.of(root, np.concatenate((before, reader.tokens)), base=base, chunk=self.chunk)
            key = next(iter(trail), None)
            length = len(before) + reader.length
            if reader.dropped_bytes or key is None or key[0] != length or self._path("prefix", key[1]) != path:
                raise DocumentError(f"{path}: is not whole, or not what its name says")
        except DocumentError as error:
            self.damaged += 1
            _log.warning("removed a damaged file: %s", error)
            unlink(path)
            return
        self._keep(_File(path, path.stat().st_size, (root, base), key, trail))

    # -- what stays --------------------------------------------------------------------------------------------------

    def _all(self) -> list[_File]:
        return [file for family in self._families.values() for file in family.values()]

    def _keep(self, file: _File) -> None:
        self._families.setdefault(file.family, {})[file.key] = file
        self._uses += 1
        file.clock, file.used = self._clock, self._uses

    def _use(self, file: _File) -> None:
        self._uses += 1
        file.clock, file.used = self._clock, self._uses
        with contextlib.suppress(OSError):
            os.utime(file.path)

    def _drop(self, file: _File) -> None:
        family = self._families.get(file.family, {})
        if family.get(file.key) is file:
            del family[file.key]
            if not family:
                del self._families[file.family]
            unlink(file.path)

    def _value(self, file: _File) -> float:
        family = self._families[file.family]
        shorter = (key[0] for key in file.trail if key[0] < file.key[0] and key in family)
        cost = file.key[0] - next(shorter, file.family[1])
        return worth(file.clock, file.hits, cost, file.nbytes / _MIB)

    def _make_room(self, nbytes: int) -> bool:
        """Remove the least valuable beginnings until `nbytes` more fit; False, and none removed, if they cannot."""
        if sum(self._jobs.values()) + self._coming + nbytes > self.max_bytes:
            return False
        while self.bytes + nbytes > self.max_bytes:
            value, _, file = min((self._value(file), file.used, file) for file in self._all())
            self._clock = max(self._clock, value)
            self.evicted += 1
            self._drop(file)
        return True


def _open_folder(folder: Path) -> int:
    """Make the folder, or refuse one that others may read; its lock. UsageError names what is wrong."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise UsageError(f"shelf {folder}: is open to other users; it will hold users' text: give it mode 700")
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"shelf {folder}: cannot be used: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UsageError(f"shelf {folder}: another process is using it") from error
    return lock
