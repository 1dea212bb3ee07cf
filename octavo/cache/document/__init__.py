"""The `.octavo` file: a read document, folded, on disk.

Covers: what it holds and how it stays whole. Does not cover: reading texts or asking (`octavo.engine`).

    file     head | record | record | ...                      append-only; every part begins at a multiple of 64 bytes
    head     magic, format version, checksum; JSON: model, tokenizer, configuration, row formats
    record   prefix (kind, number, bytes, tokens first..stop, checksums) | JSON table of sections | sections
    kinds    SOURCES  names, sha256 and compressed texts of the files, the ids of all their tokens
             PAGES    rows of up to 16 pages (4,096 tokens) by store, and the tails after them: a point to go on from
             TAIL     the last, partly filled pages and the tails where reading ended; void once PAGES cover its tokens
             INDEX    places of all records, written on closing; its end is the end of the file

Killed at any byte, a file holds everything up to its last whole PAGES or TAIL; without an INDEX the record prefixes are
walked. Checksums are CRC-32 (a guard against damage, not against forgery): of the head, the prefixes, the sources and
the last tails when a file is opened; of each store of each PAGES when its rows are first read, so that no altered byte
reaches an answer and opening takes milliseconds whatever the length; of everything by `verify`.
"""

from octavo.cache.document.header import FORMAT_VERSION, DocumentHeader
from octavo.cache.document.reader import DocumentReader
from octavo.cache.document.sources import DocumentSource, SourceText
from octavo.cache.document.writer import DocumentWriter

__all__ = ["FORMAT_VERSION", "DocumentHeader", "DocumentReader", "DocumentSource", "DocumentWriter", "SourceText"]
