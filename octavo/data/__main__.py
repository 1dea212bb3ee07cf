"""Commands of the data package: `python -m octavo.data corpus|tokenizer|pack`.

Covers: arguments and a printed summary. Does not cover: the work itself (corpus, train_tokenizer, pack).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from octavo.config.errors import OctavoError


def corpus(
    *,
    out: Path,
    books: Path,
    cache: Path,
    held_out: tuple[Path, ...] = (),
    only: tuple[str, ...] = (),
    update_lock: bool = False,
) -> None:
    """Download the pinned packages and write cleaned documents and a manifest into a folder."""
    from octavo.data.corpus import build

    build(out=out, books=books, cache=cache, held_out=held_out, only=only, update_lock=update_lock)


def tokenizer(*, corpus: Path, out: Path, vocab_size: int = 4096) -> None:
    """Train the tokenizer on the mix of a built corpus."""
    from octavo.data.mix import chosen_documents
    from octavo.data.train_tokenizer import save, train

    save(train((d.text for d in chosen_documents(corpus)), vocab_size=vocab_size), out)


def pack(*, corpus: Path, tokenizer: Path, out: Path) -> None:
    """Tokenise the mix of a built corpus and pack it."""
    from tokenizers import Tokenizer

    from octavo.data.mix import chosen_documents
    from octavo.data.pack import write_pack

    loaded = Tokenizer.from_file(str(tokenizer))
    print(json.dumps(asdict(write_pack(chosen_documents(corpus), tokenizer=loaded, folder=out)), indent=1))


def main() -> int:
    """Run the command that the arguments name; 2 after an error that is explained in one line."""
    import tyro

    try:
        tyro.extras.subcommand_cli_from_dict({"corpus": corpus, "tokenizer": tokenizer, "pack": pack})
    except OctavoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
