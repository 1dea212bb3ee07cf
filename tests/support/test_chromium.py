"""Fetching the browser of the page's tests: digests, what is kept, and what is said where there is none.

The registry is a program called npm that hands out one archive; the real one is asked by `make browser`.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.chromium import NotFetched, Package, fetch

ROOT = Path(__file__).resolve().parents[2]
COMPRESS = "process.stdout.write(require('zlib').brotliCompressSync(require('fs').readFileSync(0)))"


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def registry(folder: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An npm, first on the path, whose every package is this archive."""
    (folder / "kept.tgz").write_bytes(archive)
    npm = folder / "npm"
    npm.write_text(f'#!/bin/sh\ncp "{folder}/kept.tgz" "$4/some-thing-1.0.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def package(archive: bytes) -> Package:
    return Package(name="@some/thing", version="1.0", sha256=hashlib.sha256(archive).hexdigest())


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed({"package/a.js": b"1;"})
    registry(tmp_path, archive, monkeypatch)
    folder = fetch(package(archive), tmp_path / "kept")
    assert (folder / "a.js").read_bytes() == b"1;"
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    assert fetch(package(archive), tmp_path / "kept") == folder
    assert list((tmp_path / "kept").iterdir()) == [folder]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_what_is_compressed_inside_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brotli(content: bytes) -> bytes:
        return subprocess.run(["node", "-e", COMPRESS], input=content, capture_output=True, check=True).stdout

    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as libraries:
        member = tarfile.TarInfo("lib/one.so")
        member.size = 3
        libraries.addfile(member, io.BytesIO(b"ELF"))
    archive = packed(
        {"package/bin/program.br": brotli(b"#!/bin/sh\n"), "package/bin/more.tar.br": brotli(inner.getvalue())}
    )
    registry(tmp_path, archive, monkeypatch)
    folder = fetch(package(archive), tmp_path / "kept") / "bin"
    assert sorted(path.name for path in folder.iterdir()) == ["lib", "program"]
    assert os.access(folder / "program", os.X_OK)
    assert (folder / "lib" / "one.so").read_bytes() == b"ELF"


def test_an_altered_archive_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed({"package/a.js": b"1;"})
    registry(tmp_path, archive + b"\0", monkeypatch)
    with pytest.raises(NotFetched, match=r"some-thing-1.0.tgz has SHA-256 \w+, not "):
        fetch(package(archive), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_registry_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(tmp_path, b"", monkeypatch)
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(NotFetched, match="npm did not bring @some/thing 1.0"):
        fetch(package(b""), tmp_path / "kept")


def asked(kept: Path, *more: str, **variables: str) -> tuple[int, list[str]]:
    """The exit status and the lines of the command on a machine without any program."""
    command = [sys.executable, "-m", "tests.support.chromium", "--kept", str(kept), *more]
    told = subprocess.run(command, cwd=ROOT, env={"PATH": str(kept)} | variables, capture_output=True, text=True)
    assert told.stderr == ""
    return told.returncode, told.stdout.splitlines()


def test_a_machine_without_any_hears_it_in_a_line(tmp_path: Path) -> None:
    status, (line,) = asked(tmp_path)
    assert status == 0
    assert "browser tests will be skipped; they need `make browser` with npm, " in line
    assert "npm is not installed" in line
    assert asked(tmp_path, "--required") == (1, [line])


def test_one_that_does_not_start_is_said(tmp_path: Path) -> None:
    status, (line,) = asked(tmp_path, "--required", OCTAVO_CHROMIUM=str(tmp_path / "none"))
    assert status == 1
    assert line.startswith("browser tests will fail: ")
    assert str(tmp_path / "none") in line
