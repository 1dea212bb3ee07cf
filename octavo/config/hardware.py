"""Machines that a plan is made for. Covers: memory, bandwidths and arithmetic rates. Not here: measuring them.

Rates are what good kernels reach, not data-sheet peaks. Bytes and rates are decimal unless a name says GiB.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from octavo.config.errors import ConfigError

GIB = 2**30


class HardwareKind(StrEnum):
    """Where the arithmetic is done."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """`devices` equal devices, each with its memory (bytes), bandwidth (bytes/s) and rates (FLOP/s).

    `wide_flops` holds for FP32 on a CPU and BF16 on a GPU; `fp8_flops` equals it where FP8 brings nothing.
    `disk_bandwidth`: bytes/s read from the disk that weights lie on, in pieces of a few MB.
    `reserve_bytes` of each device are left to the system, the library and fragmentation.
    """

    name: str
    kind: HardwareKind
    memory_bytes: int
    reserve_bytes: int
    bandwidth: float
    wide_flops: float
    fp8_flops: float
    disk_bandwidth: float
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "bandwidth", "wide_flops", "fp8_flops", "disk_bandwidth", "devices"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"hardware {name} is {getattr(self, name)!r}; it must be above 0")
        if not 0 <= self.reserve_bytes < self.memory_bytes:
            raise ConfigError(
                f"hardware reserve_bytes is {self.reserve_bytes}; it must be from 0 to below {self.memory_bytes}"
            )

    @property
    def usable_bytes(self) -> int:
        """Bytes for weights, cache and buffers over all devices."""
        return self.devices * (self.memory_bytes - self.reserve_bytes)


_CPU2 = Hardware(
    name="cpu2",
    kind=HardwareKind.CPU,
    memory_bytes=24 * GIB,
    reserve_bytes=2 * GIB,
    bandwidth=20e9,
    wide_flops=150e9,
    fp8_flops=150e9,
    disk_bandwidth=1e9,
)
_LAPTOP = replace(
    _CPU2,
    name="laptop",
    memory_bytes=16 * GIB,
    reserve_bytes=4 * GIB,
    bandwidth=60e9,
    wide_flops=500e9,
    fp8_flops=500e9,
    disk_bandwidth=3e9,
)
_H100 = Hardware(
    name="h100",
    kind=HardwareKind.GPU,
    memory_bytes=80_000_000_000,
    reserve_bytes=6_000_000_000,
    bandwidth=3.0e12,
    wide_flops=800e12,
    fp8_flops=1400e12,
    disk_bandwidth=5e9,
)
_H200 = replace(_H100, name="h200", memory_bytes=141_000_000_000, bandwidth=4.2e12)
_BASES = (_CPU2, _LAPTOP, _H100, _H200)
HARDWARE: dict[str, Hardware] = {machine.name: machine for machine in _BASES} | {
    f"{machine.name}x{count}": replace(machine, name=f"{machine.name}x{count}", devices=count)
    for machine in (_H100, _H200)
    for count in (2, 4, 8)
}


def hardware(name: str) -> Hardware:
    """The machine called `name`; ConfigError lists the known ones."""
    key = name.lower().replace("-", "")
    if key not in HARDWARE:
        raise ConfigError(f"unknown hardware {name!r}; known are {', '.join(HARDWARE)}")
    return HARDWARE[key]
