"""`octavo inspect`: what a document, a folder of weights or a shipped model holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from octavo.cli.documents import is_document
from octavo.cli.output import put, put_json, size


@dataclass(frozen=True, kw_only=True)
class Command:
    """Look inside a document, a checkpoint or a shipped model, without loading it (--fold alone loads the model)."""

    path: Positional[str]
    """An .octavo document, a model folder, a shipped model's name or a hub id."""
    verify: bool = False
    """Check every byte of a document, not only what opening it needs."""
    fold: str | None = None
    """A place in a document: which tokens its entries kept. A character (1000, or FILE:1000), or a token (t1000)."""
    model: str | None = None
    """The model for --fold; left out: the one that the document names."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Print what is there."""
        if self.fold is not None:
            from octavo.cli.folded import fold_lines, fold_of

            found = fold_of(self.path, self.fold, model=self.model)
            return put_json([entry.to_dict() for entry in found]) if self.json else put(*fold_lines(found))
        from octavo.engine.inspection import inspect_document, inspect_model
        from octavo.engine.locate import locate

        if is_document(self.path) or Path(self.path).is_file():
            found = inspect_document(Path(self.path), verify=self.verify)
        else:
            found = inspect_model(locate(self.path))
        if self.json:
            return put_json(found)
        lines = {name.replace("_", " "): _text(name, value) for name, value in found.items() if name != "config"}
        put(*(f"{name:<20} {text}" for name, text in lines.items()))


def _text(name: str, value: Any) -> str:
    """A value for people: bytes with units, runs of equal items counted, mappings as `name value` pairs."""
    if "bytes" in name and isinstance(value, int):
        return size(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(name, inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(name, item) for item in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
