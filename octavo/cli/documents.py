"""The document a verb works on: an `.octavo` file is opened, texts are read first. Covers the choice, not the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.cli.progress import Meter
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.engine.document import Document
    from octavo.engine.llm import LLM

_SUFFIX = ".octavo"


def is_document(file: str) -> bool:
    """Whether `file` is meant as a folded document: by its ending, or by how it begins if it is there."""
    if file.endswith(_SUFFIX):
        return True
    if not Path(file).is_file():
        return False
    from octavo.cache.document.header import MAGIC

    with open(file, "rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def tokens_kept(file: str) -> int:
    """Tokens that a document whose reading was interrupted holds, as its file says; 0 where it holds none."""
    from octavo.cache.document import DocumentReader
    from octavo.config.errors import DocumentError

    try:
        return DocumentReader.open(file).length
    except DocumentError:
        return 0


def check_files(files: Sequence[str]) -> None:
    """Raise UsageError unless `files` are one document or one or more texts; called before a model is loaded."""
    folded = [file for file in files if is_document(file)]
    if folded and len(files) > 1:
        raise UsageError(f"{folded[0]} is a folded document: it stands alone, without other files")


def open_or_read(model: LLM, files: Sequence[str]) -> Document:
    """The document of `files`, which `check_files` passed; reading shows its progress on stderr.

    That only part of a document was read is said on stderr.
    """
    if is_document(files[0]):
        document = model.open(files[0])
        if document.notice is not None:
            print(f"octavo: note: {document.notice}", file=sys.stderr)
        return document
    with Meter("reading") as meter:
        return model.read([Path(file) for file in files], progress=meter)
