"""Commands of the data package: `python -m octavo.data corpus|tokenizer|pack|javascript`.

Covers: arguments and a printed summary. Does not cover: the work itself (corpus, train_tokenizer, pack).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from octavo.config.errors import OctavoError

MixName = Literal["xs", "s"]
JavaScriptKind = Literal["write", "repair", "predict"]


def corpus(
    *,
    out: Path,
    books: Path,
    cache: Path,
    gsm8k: Path | None = None,
    taskmaster: Path | None = None,
    held_out: tuple[Path, ...] = (),
    mix: MixName = "xs",
    only: tuple[str, ...] = (),
    update_lock: bool = False,
) -> None:
    """Download the pinned packages of a mix and write cleaned documents and a manifest into a folder."""
    from octavo.data.corpus import build
    from octavo.data.mix import MIXES

    given = {"books": books, "gsm8k": gsm8k, "taskmaster": taskmaster}
    files = {name: path for name, path in given.items() if path is not None}
    chosen = only or tuple(MIXES[mix])
    build(out=out, files=files, cache=cache, held_out=held_out, only=chosen, update_lock=update_lock)


def tokenizer(*, corpus: Path, out: Path, mix: MixName = "xs", vocab_size: int = 4096) -> None:
    """Train the tokenizer on the mix of a built corpus."""
    from octavo.data.mix import MIXES, chosen_documents
    from octavo.data.train_tokenizer import save, train

    save(train((d.text for d in chosen_documents(corpus, MIXES[mix])), vocab_size=vocab_size), out)


def pack(*, corpus: Path, tokenizer: Path, out: Path, mix: MixName = "xs") -> None:
    """Tokenise the mix of a built corpus and pack it."""
    from tokenizers import Tokenizer

    from octavo.data.mix import MIXES, chosen_documents
    from octavo.data.pack import write_pack

    loaded = Tokenizer.from_file(str(tokenizer))
    summary = write_pack(chosen_documents(corpus, MIXES[mix]), tokenizer=loaded, folder=out)
    print(json.dumps(asdict(summary), indent=1))


def javascript(
    *, out: Path, count: int, seed_from: int = 0, kinds: tuple[JavaScriptKind, ...] = ("write",), workers: int = 1,
    composed: int = 0, held_out: tuple[Path, ...] = (),
) -> None:  # fmt: skip
    """Write verified JavaScript tasks as JSON lines; seeds below 10^9 are for training, from 2 * 10^9 for tests.

    Args:
        composed: so many composed programs behind the `count` tasks of families, from the same seed on.
        held_out: files of problems whose names and wordings composed programs must not have.
    """
    from itertools import chain

    from octavo.data.programs.write import Tally
    from octavo.data.programs.write import composed as composed_tasks
    from octavo.data.tasks.javascript.write import tasks, write_tasks

    tally = Tally()
    made = tasks(range(seed_from, seed_from + count), kinds=kinds, workers=workers)
    more = composed_tasks(composed, seed_from=seed_from, problems=held_out, tally=tally) if composed else ()
    told: dict[str, object] = {"tasks": write_tasks(out, chain(made, more))}
    if composed:
        told |= {"structures": len(tally.structures), "left_out": tally.left_out, "near_held_out": tally.near}
    print(json.dumps(told))


def main() -> int:
    """Run the command that the arguments name; 2 after an error that is explained in one line."""
    import tyro

    try:
        commands = {"corpus": corpus, "tokenizer": tokenizer, "pack": pack, "javascript": javascript}
        tyro.extras.subcommand_cli_from_dict(commands)
    except OctavoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
