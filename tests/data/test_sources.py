"""The table of sources, the licence gate, and that everything is pinned."""

import pytest

from octavo.config.errors import ConfigError
from octavo.data.archives import JAVASCRIPT_LOCK, Registry, read_lock
from octavo.data.facts_real import PACKAGES
from octavo.data.sources import PERMISSIVE, SOURCES, check_licence


def test_names_are_unique_and_every_licence_is_permissive():
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        check_licence(source.name, source.licence)
    assert not {"GPL-3.0", "CC BY-SA 4.0", "CC BY-NC 4.0"} & PERMISSIVE
    with pytest.raises(ConfigError, match=r"'tiny'.*GPL-3\.0"):
        check_licence("tiny", "GPL-3.0")


def test_every_package_is_pinned_and_no_other():
    pins = read_lock()
    packages = {(source.registry, source.package) for source in SOURCES if source.registry is not Registry.FILE}
    assert set(pins) == {f"{registry}:{package}" for registry, package in packages | set(PACKAGES)}
    assert all(len(pin.sha256) == 64 and pin.version for pin in pins.values())


def test_javascript_packages_are_pinned():
    pins = read_lock(JAVASCRIPT_LOCK)
    assert 250 <= len(pins) <= 440
    assert all(key.startswith("npm:") for key in pins)
    assert all(len(pin.sha256) == 64 and pin.version in pin.file for pin in pins.values())
