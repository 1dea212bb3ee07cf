"""The documentation follows the code: made pages are fresh, links lead somewhere, the map names every package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "weights").rglob("*.md")]


def test_made_pages_are_fresh() -> None:
    command = [sys.executable, "docs/build.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_map_names_every_package() -> None:
    named = set(re.findall(r"^\| `octavo/(\w+)/", (ROOT / "docs" / "map.md").read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.parent.name for path in (ROOT / "octavo").glob("*/__init__.py")}
    assert there == named


def test_decisions_are_numbered_without_gaps_and_complete() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        parts = ("**Question.**", "**Options.**", "**Choice.**", "**What decided.**", "**What reopens it.**")
        assert [part for part in parts if part not in text] == [], record.name
