"""Writes the pages of docs/ that are made from the code: commands.md.

`--check` writes nothing and fails if a page is stale.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from octavo.cli.main import VERBS, main

PAGE = Path(__file__).resolve().parent / "commands.md"
HEAD = """# Commands

Made by `make docs` from the code. Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed,
2 bad usage, 130 interrupted.
"""


def commands() -> str:
    """The help of every verb, as one page."""
    return "\n".join([HEAD, *(f"## octavo {verb}\n\n```text\n{_help(verb)}\n```\n" for verb in VERBS)])


def _help(verb: str) -> str:
    page = io.StringIO()
    with redirect_stdout(page):
        code = main([verb, "--help"])
    if code != 0:
        raise SystemExit(f"octavo {verb} --help exits with {code}")
    return "\n".join(line.rstrip() for line in page.getvalue().strip().splitlines())


if __name__ == "__main__":
    os.environ["COLUMNS"], os.environ["NO_COLOR"] = "100", "1"  # the page must not depend on the terminal
    text = commands()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit(f"docs/{PAGE.name} is stale: run `make docs`")
