"""The document a verb works on: an `.octavo` file is opened, texts are read first. Covers the choice, not the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.cli.progress import Meter
from octavo.config.errors import UsageError

if TYPE_CHECKING:
    from octavo.engine.document import Document
    from octavo.engine.llm import LLM

SUFFIX = ".octavo"


def check_files(files: Sequence[str]) -> None:
    """Raise UsageError unless `files` are one document or one or more texts; called before a model is loaded."""
    folded = [file for file in files if file.endswith(SUFFIX)]
    if folded and len(files) > 1:
        raise UsageError(f"{folded[0]} is a folded document: it stands alone, without other files")


def open_or_read(model: LLM, files: Sequence[str]) -> Document:
    """The document of `files`, which `check_files` passed; reading shows its progress on stderr."""
    if files[0].endswith(SUFFIX):
        return model.open(files[0])
    with Meter("reading") as meter:
        return model.read([Path(file) for file in files], progress=meter)
