"""Locks, and fetching through a fake client on PATH that only copies files."""

import stat

import pytest

from octavo.config.errors import ConfigError, UsageError
from octavo.data.archives import Pin, Registry, fetch, fetch_npm, file_sha256, read_lock, write_lock


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A client `npm` whose registry is one folder of files; it logs every package asked for."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\nshift 2\nfor spec; do echo "$spec" >> {tmp_path}/calls\n'
        'name=$(echo "$spec" | sed "s/^@//" | tr @/ --)\n'
        f'for f in {shelf}/"$name"*.tgz; do [ -e "$f" ] || {{ echo "no $spec" >&2; exit 1; }}; cp "$f" .; done; done\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    (shelf / "tiny-1.2.0.tgz").write_bytes(b"first")
    (shelf / "scope-small-0.1.0-beta.tgz").write_bytes(b"second")
    return tmp_path


def get(npm, pins, **options):
    return fetch(Registry.NPM, "tiny", npm / "cache", pins, **options)


def test_fetch_pins_what_it_finds_and_downloads_once(npm):
    pins: dict[str, Pin] = {}
    path, pin = get(npm, pins)
    assert path.read_bytes() == b"first"
    assert pins == {"npm:tiny": Pin(version="1.2.0", file="tiny-1.2.0.tgz", sha256=file_sha256(path))}
    assert get(npm, pins) == (path, pin)
    assert (npm / "calls").read_text().split() == ["tiny"]
    write_lock(pins, npm / "lock.json")
    assert read_lock(npm / "lock.json") == pins


def test_a_pinned_version_is_asked_for_and_other_bytes_are_refused(npm):
    pins = {"npm:tiny": Pin(version="1.2.0", file="tiny-1.2.0.tgz", sha256="0" * 64)}
    with pytest.raises(ConfigError, match="sha256"):
        get(npm, pins)
    assert (npm / "calls").read_text().split() == ["tiny@1.2.0"]


def test_a_version_that_is_gone_says_so_and_update_takes_the_new_one(npm):
    pins = {"npm:tiny": Pin(version="1.1.0", file="tiny-1.1.0.tgz", sha256="0" * 64)}
    with pytest.raises(ConfigError, match=r"tiny@1\.1\.0 could not be downloaded"):
        get(npm, pins)
    assert get(npm, pins, update=True)[1].version == "1.2.0"


def test_a_file_is_not_fetched(npm):
    with pytest.raises(UsageError, match="path"):
        fetch(Registry.FILE, "books", npm / "cache", {})
    assert not (npm / "calls").exists()


def test_many_packages_are_fetched_in_one_call_and_only_what_is_missing(npm):
    pins: dict[str, Pin] = {}
    get(npm, pins)
    found = fetch_npm(["tiny", "@scope/small"], npm / "cache", pins)
    assert [found[name].read_bytes() for name in ("tiny", "@scope/small")] == [b"first", b"second"]
    assert pins["npm:@scope/small"].version == "0.1.0-beta"
    assert (npm / "calls").read_text().split() == ["tiny", "@scope/small"]
    found["tiny"].write_bytes(b"changed")
    with pytest.raises(ConfigError, match="npm:tiny"):
        fetch_npm(["tiny"], npm / "cache", pins)
    found["tiny"].unlink()
    assert fetch_npm(["tiny", "@scope/small"], npm / "cache", pins) == found
    assert (npm / "calls").read_text().split() == ["tiny", "@scope/small", "tiny@1.2.0"]
