"""Archives of packages: pinned versions, downloads with each registry's own client, a cache checked by sha256.

Covers: the lock files beside this module, fetching with pip, npm and apt-get, many npm packages at once.
Does not cover: licences and names of sources (octavo.data.sources), what is inside an archive (octavo.data.extract).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from octavo.config.errors import ConfigError, UsageError

LOCK_FILE = Path(__file__).with_name("sources.lock.json")
JAVASCRIPT_LOCK = Path(__file__).with_name("javascript.lock.json")
BATCH, CLIENTS = 20, 3  # npm packages a call, calls at once


class Registry(StrEnum):
    """Where an archive comes from; FILE is a path that the caller gives."""

    PYPI = "pypi"
    NPM = "npm"
    DEBIAN = "deb"
    FILE = "file"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A locked archive: version as the registry spells it, file name, sha256 in hex."""

    version: str
    file: str
    sha256: str


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_lock(path: Path = LOCK_FILE) -> dict[str, Pin]:
    """Pins by `registry:package`."""
    return {key: Pin(**pin) for key, pin in json.loads(path.read_text("utf-8")).items()} if path.exists() else {}


def write_lock(pins: dict[str, Pin], path: Path = LOCK_FILE) -> None:
    """Write the pins, sorted by name, one a line."""
    lines = [f"{json.dumps(key)}: {json.dumps(asdict(pins[key]))}" for key in sorted(pins)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def _spec(registry: Registry, package: str, pin: Pin | None) -> str:
    joint = {Registry.PYPI: "==", Registry.NPM: "@", Registry.DEBIAN: "="}[registry]
    return f"{package}{joint}{pin.version}" if pin else package


def _download(registry: Registry, specs: Sequence[str], folder: Path) -> None:
    """Put archives into `folder` with the registry's own client."""
    command = {
        Registry.PYPI: [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"],
        Registry.NPM: ["npm", "pack", "--silent"],
        Registry.DEBIAN: ["apt-get", "download", "-q"],
    }[registry]
    done = subprocess.run([*command, *specs], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ConfigError(
            f"{', '.join(specs)} could not be downloaded ({reason[0]}); "
            "Debian keeps only newest versions: update the lock"
        )


def _version(registry: Registry, package: str, file: str) -> str:
    """The version that an archive's file name carries."""
    if registry is Registry.NPM:
        return file.removeprefix(f"{_npm_stem(package)}-").removesuffix(".tgz")
    return file.split("-" if registry is Registry.PYPI else "_")[1].replace("%3a", ":")


def _npm_stem(package: str) -> str:
    return package.removeprefix("@").replace("/", "-")


def _folder(registry: Registry, package: str, cache: Path) -> Path:
    return cache / registry / package.replace("/", "__")


def _checked(registry: Registry, package: str, cache: Path, pin: Pin | None) -> tuple[Path, Pin]:
    """The cached archive and its pin. Raises ConfigError if it is missing or not what `pin` says."""
    key, folder = f"{registry}:{package}", _folder(registry, package, cache)
    archive = folder / pin.file if pin else next(folder.iterdir())
    if not archive.exists():
        raise ConfigError(f"{key} gave no file {archive.name!r}")
    found = Pin(version=_version(registry, package, archive.name), file=archive.name, sha256=file_sha256(archive))
    if pin is not None and found.sha256 != pin.sha256:
        raise ConfigError(f"{key} {pin.version} has sha256 {found.sha256[:12]}, the lock says {pin.sha256[:12]}")
    return archive, found


def _emptied(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    return folder


def fetch(
    registry: Registry, package: str, cache: Path, pins: dict[str, Pin], *, update: bool = False
) -> tuple[Path, Pin]:
    """The archive of a package, downloaded into `cache` if it is not there, and its pin.

    A package without a pin, or any package with `update`, is pinned as found (`pins` gets the entry). Raises
    ConfigError when the pinned version cannot be had or the bytes differ from the pinned sha256, UsageError for a
    file that no registry has.
    """
    if registry is Registry.FILE:
        raise UsageError(f"{package!r} is a file: give its path")
    key = f"{registry}:{package}"
    pin = None if update else pins.get(key)
    folder = _folder(registry, package, cache)
    if pin is None or not (folder / pin.file).exists():
        _download(registry, [_spec(registry, package, pin)], _emptied(folder))
    archive, pins[key] = _checked(registry, package, cache, pin)
    return archive, pins[key]


def fetch_npm(packages: Sequence[str], cache: Path, pins: dict[str, Pin], *, update: bool = False) -> dict[str, Path]:
    """Archives of many npm packages by name, as `fetch` would give them, twenty to a call and three calls at once."""
    chosen = {package: None if update else pins.get(f"npm:{package}") for package in packages}
    missing = [
        package for package, pin in chosen.items()
        if pin is None or not (_folder(Registry.NPM, package, cache) / pin.file).exists()
    ]  # fmt: skip
    cache.mkdir(parents=True, exist_ok=True)

    def get(batch: Sequence[str]) -> None:
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _download(Registry.NPM, [_spec(Registry.NPM, package, chosen[package]) for package in batch], Path(scratch))
            for package in batch:
                folder = _emptied(_folder(Registry.NPM, package, cache))
                for archive in Path(scratch).glob(f"{_npm_stem(package)}-[0-9]*.tgz"):
                    archive.rename(folder / archive.name)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(get, (missing[start : start + BATCH] for start in range(0, len(missing), BATCH))))
    archives = {}
    for package, pin in chosen.items():
        archives[package], pins[f"npm:{package}"] = _checked(Registry.NPM, package, cache, pin)
    return archives
