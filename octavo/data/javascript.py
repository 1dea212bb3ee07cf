"""JavaScript of npm packages: one archive to cleaned source files and a readme, if its licence field is permissive.

Covers: the licence field, which files are written by hand, cutting of licence headers, the limit a package.
Does not cover: fetching (octavo.data.archives), duplicates and held-out code (octavo.data.code_filter).
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from octavo.data.extract import Row

PACKAGE_CHARS = 2_500_000
MAX_FILE_CHARS = 120_000
MIN_FILE_CHARS, MIN_FILE_LINES = 200, 8
MAX_LINE_CHARS, MAX_MEAN_LINE_CHARS = 400, 70
MIN_TEXT_SHARE = 0.6  # letters, spaces and line ends; tables of data have fewer
MIN_README_CHARS, MAX_README_BYTES, MIN_README_ASCII = 600, 60_000, 0.97
PERMISSIVE_FIELDS = frozenset({
    "MIT", "MIT-0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "0BSD", "Unlicense", "CC0-1.0",
    "BlueOak-1.0.0", "Zlib", "Python-2.0", "BSD", "New BSD", "MIT/X11", "Apache 2.0", "Apache License, Version 2.0",
})  # fmt: skip
_NOT_SOURCE = re.compile(
    r"(?:^|/)(?:node_modules|vendor(?:ed)?|third[-_]?party|locales?|i18n|nls|msg|lang|languages?|fixtures|umd|iife|min|typings"
    r"|flow-typed|docs?|bundles?|dist(?:-[^/]+)?|cjs|build|built|output|compiled|examples?(?!/jsm))(?:/|$)|[.-](?:min|bundle|prod|umd|slim|global)\.",
    re.IGNORECASE,
)
_COMPILED = re.compile(
    r"sourceMappingURL|__esModule|_interopRequire|_classCallCheck|__awaiter\b|__extends\b|__generator\b|tslib"
    r"|regeneratorRuntime|webpack(?:Bootstrap|UniversalModule)|__commonJS\b|__toESM\b"
)
_GENERATED = re.compile(r"generated (?:by|from|file|code)|do not edit|@generated|auto-?generated", re.IGNORECASE)
_HEADER = re.compile(
    r"\A(?:#![^\n]*\n)?\s*(?:/\*(?:(?!\*/).)*?(?:copyright|licen[sc]e)(?:(?!\*/).)*\*/\s*"
    r"|(?://[^\n]*\n)*//[^\n]*(?:copyright|licen[sc]e)[^\n]*\n(?://[^\n]*\n)*\s*)",
    re.IGNORECASE | re.DOTALL,
)
_ENDINGS = (".js", ".mjs", ".cjs")
_FOLDERS = ("src/", "source/", "lib/", "es/", "esm/", "modules/")


@dataclass(frozen=True, kw_only=True)
class Package:
    """What one archive gives. `files` and `readme` are empty when the licence field is not permissive."""

    name: str
    version: str
    licence: str
    files: tuple[Row, ...]
    readme: Row | None


def licence_field(meta: Mapping) -> str:
    """The licence that a package.json states: a string, an object with `type`, or the first of the old `licenses`."""
    found = meta.get("license") or meta.get("licence") or (meta.get("licenses") or [""])[0]
    return str(found.get("type", "") if isinstance(found, Mapping) else found).strip()


def is_permissive(field: str) -> bool:
    """Whether an SPDX expression leaves a choice that consists of permissive licences only."""
    if field in PERMISSIVE_FIELDS:
        return True
    choices = re.split(r"\s+OR\s+", field.strip("() "))
    return any(all(part.strip("() ") in PERMISSIVE_FIELDS for part in re.split(r"\s+AND\s+", c)) for c in choices)


def is_written(text: str) -> bool:
    """Whether cleaned code looks written by hand: not minified, compiled, generated, nor a table of data."""
    lines = text.split("\n")
    if not MIN_FILE_CHARS <= len(text) <= MAX_FILE_CHARS or len(lines) < MIN_FILE_LINES:
        return False
    if max(map(len, lines)) > MAX_LINE_CHARS or len(text) > MAX_MEAN_LINE_CHARS * len(lines):
        return False
    if _COMPILED.search(text) or _GENERATED.search(text[:2000]):
        return False
    plain = sum(map(str.isalpha, text)) + text.count(" ") + text.count("\n")
    return plain >= MIN_TEXT_SHARE * len(text)


def clean_code(text: str) -> str:
    """Code with plain line ends, two spaces for a tab, no header that states a licence, no trailing spaces."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\t", "  ")
    for _ in range(3):
        text = _HEADER.sub("", text, count=1)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]", "", re.sub(r"[ ]+\n", "\n", text))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def clean_readme(markdown: str) -> str:
    """A readme without images, badges and HTML tags."""
    text = re.sub(r"\[?!\[[^\]\n]*\](?:\([^)\n]*\)|\[[^\]\n]*\])(?:\]\([^)\n]*\))?|<[^>\n]+>", "", markdown)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _rank(path: str) -> tuple[int, str]:
    """Order of reading: folders of sources first, so that of two forms of a file the one that was written stays."""
    return next((place for place, folder in enumerate(_FOLDERS) if path.startswith(folder)), len(_FOLDERS)), path


def _members(archive: Path) -> tuple[dict, str, dict[str, str]]:
    """package.json, readme and candidate source files by path of one npm archive."""
    meta, readme, files = {}, "", {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None:
                continue
            if path == "package.json":
                meta = json.loads(stream.read())
            elif path.lower() == "readme.md" and member.size <= MAX_README_BYTES:
                readme = stream.read().decode("utf-8", "replace")
            elif path.endswith(_ENDINGS) and member.size <= 2 * MAX_FILE_CHARS and not _NOT_SOURCE.search(path):
                files[path] = stream.read().decode("utf-8", "replace")
    return meta, readme, files


def read_package(archive: Path) -> Package:
    """Source files and readme of one npm archive, in reading order, until the limit of a package is reached.

    A file's text begins with the line `// package/path`, which is also its id.
    """
    meta, markdown, files = _members(archive)
    name, licence = str(meta.get("name", "")), licence_field(meta)
    rows, size, readme = [], 0, None
    if is_permissive(licence):
        for path in sorted(files, key=_rank):
            text = clean_code(files[path])
            if is_written(text) and size + len(text) <= PACKAGE_CHARS:
                size += len(text)
                rows.append({"id": f"{name}/{path}", "text": f"// {name}/{path}\n{text}"})
        text = clean_readme(markdown)
        if len(text) >= MIN_README_CHARS and sum(c.isascii() for c in text) >= MIN_README_ASCII * len(text):
            readme = {"id": f"{name}/readme", "text": f"# {name}\n\n{text.removeprefix(f'# {name}').strip()}"}
    return Package(name=name, version=str(meta.get("version", "")), licence=licence, files=tuple(rows), readme=readme)
