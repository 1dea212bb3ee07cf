"""The error classes form one family, so that one `except` catches whatever Octavo raises on purpose."""

import inspect

import pytest

from octavo.config import errors

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_an_octavo_error_and_nothing_broader(error: type[Exception]) -> None:
    assert error is errors.OctavoError or error.__bases__ == (errors.OctavoError,)
    assert errors.OctavoError.__bases__ == (Exception,)


def test_the_family_is_complete() -> None:
    expected = {"Octavo", "Config", "Checkpoint", "Document", "Text", "Limit", "Training", "Sandbox", "Usage"}
    expected |= {"Busy", "Missing", "Worker"}
    assert {error.__name__.removesuffix("Error") for error in CLASSES} == expected
