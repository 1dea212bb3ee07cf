"""The table, the licence gate, and fetching through a fake client on PATH that only copies files."""

import dataclasses
import stat

import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data.sources import (
    PERMISSIVE,
    SOURCES,
    Pin,
    Registry,
    Source,
    check_licence,
    fetch,
    file_sha256,
    read_lock,
    write_lock,
)

TINY = Source(name="tiny", registry=Registry.NPM, package="tiny", licence="MIT", read=lambda path: iter(()))


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A client `npm` whose registry is one folder of files; it logs every call."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$3" >> {tmp_path}/calls\nname=$(echo "$3" | tr @ -)\n'
        f'for f in {shelf}/"$name"*.tgz; do [ -e "$f" ] || {{ echo "no $3" >&2; exit 1; }}; cp "$f" .; done\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    (shelf / "tiny-1.2.0.tgz").write_bytes(b"first")
    return tmp_path


def test_names_are_unique_and_every_licence_is_permissive():
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        check_licence(source)
    assert not {"GPL-3.0", "CC BY-SA 4.0"} & PERMISSIVE
    with pytest.raises(ConfigError, match="GPL-3.0"):
        check_licence(dataclasses.replace(TINY, licence="GPL-3.0"))


def test_every_package_is_pinned():
    pins = read_lock()
    for source in SOURCES:
        if source.registry is not Registry.FILE:
            pin = pins[f"{source.registry}:{source.package}"]
            assert len(pin.sha256) == 64
            assert pin.version
    assert len(pins) == sum(source.registry is not Registry.FILE for source in SOURCES)


def test_fetch_pins_what_it_finds_and_downloads_once(npm):
    pins: dict[str, Pin] = {}
    path, pin = fetch(TINY, npm / "cache", pins)
    assert path.read_bytes() == b"first"
    assert pins == {"npm:tiny": Pin(version="1.2.0", file="tiny-1.2.0.tgz", sha256=file_sha256(path))}
    assert fetch(TINY, npm / "cache", pins) == (path, pin)
    assert (npm / "calls").read_text().split() == ["tiny"]
    write_lock(pins, npm / "lock.json")
    assert read_lock(npm / "lock.json") == pins


def test_a_pinned_version_is_asked_for_and_other_bytes_are_refused(npm):
    pins = {"npm:tiny": Pin(version="1.2.0", file="tiny-1.2.0.tgz", sha256="0" * 64)}
    with pytest.raises(ConfigError, match="sha256"):
        fetch(TINY, npm / "cache", pins)
    assert (npm / "calls").read_text().split() == ["tiny@1.2.0"]


def test_a_version_that_is_gone_says_so_and_update_takes_the_new_one(npm):
    pins = {"npm:tiny": Pin(version="1.1.0", file="tiny-1.1.0.tgz", sha256="0" * 64)}
    with pytest.raises(ConfigError, match=r"tiny@1\.1\.0 could not be downloaded"):
        fetch(TINY, npm / "cache", pins)
    assert fetch(TINY, npm / "cache", pins, update=True)[1].version == "1.2.0"


def test_bad_licences_and_files_are_not_fetched(npm):
    with pytest.raises(ConfigError, match="licence"):
        fetch(dataclasses.replace(TINY, licence="CC BY-NC 4.0"), npm / "cache", {})
    with pytest.raises(UsageError, match="path"):
        fetch(dataclasses.replace(TINY, registry=Registry.FILE), npm / "cache", {})
    assert not (npm / "calls").exists()
