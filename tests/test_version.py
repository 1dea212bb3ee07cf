"""The version is written once, and the installed package carries it."""

from importlib.metadata import version

from octavo.version import __version__


def test_installed_package_has_this_version() -> None:
    assert version("octavo") == __version__
