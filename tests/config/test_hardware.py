"""Machines: the known ones, and limits."""

from dataclasses import replace

import pytest

from octavo.config.errors import ConfigError
from octavo.config.hardware import HARDWARE, HardwareKind, hardware


def test_multiples_have_the_memory_of_all_devices() -> None:
    assert hardware("h100x8").usable_bytes == 8 * hardware("h100").usable_bytes == 8 * 74_000_000_000
    assert hardware("H200-x4").devices == 4


def test_cpu2_is_the_machine_of_the_published_bounds() -> None:
    machine = hardware("cpu2")
    assert (machine.kind, machine.bandwidth, machine.wide_flops) == (HardwareKind.CPU, 20e9, 150e9)
    assert machine.memory_bytes == 24 * 2**30


@pytest.mark.parametrize("name", HARDWARE)
def test_names_are_keys(name: str) -> None:
    assert hardware(name).name == name


def test_unknown_machines_list_the_known() -> None:
    with pytest.raises(ConfigError, match="unknown hardware 'abacus'; known are cpu2, laptop, h100"):
        hardware("abacus")


@pytest.mark.parametrize(
    ("field", "value"), [("memory_bytes", 0), ("bandwidth", -1.0), ("disk_bandwidth", 0), ("devices", 0)]
)
def test_sizes_are_positive(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"hardware {field} is {value}; it must be above 0"):
        replace(hardware("cpu2"), **{field: value})


def test_the_reserve_leaves_something() -> None:
    machine = hardware("cpu2")
    with pytest.raises(ConfigError, match="reserve_bytes"):
        replace(machine, reserve_bytes=machine.memory_bytes)
