"""One safetensors file: agreement with the safetensors library both ways, and every kind of damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.config.errors import CheckpointError
from octavo.model.checkpoint.formats import DTYPES
from octavo.model.checkpoint.shard import Maps, Unit, read_header, write_shard


def values() -> dict[str, torch.Tensor]:
    """One tensor of every stored dtype, among them an empty one and odd sizes."""
    out = {tag: (torch.randn(3, 5) * 8).to(dtype) for tag, dtype in DTYPES.items() if tag != "F8_E8M0"}
    return out | {"F8_E8M0": torch.tensor([[120, 127, 130]], dtype=torch.uint8).view(torch.float8_e8m0fnu),
                  "empty": torch.zeros(0, 4), "üñ": torch.arange(7)}  # fmt: skip


def tags(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Safetensors tags of `tensors`."""
    back = {dtype: tag for tag, dtype in DTYPES.items()}
    return {name: back[value.dtype] for name, value in tensors.items()}


def as_units(tensors: dict[str, torch.Tensor]) -> list[Unit]:
    """A unit per tensor."""
    return [
        Unit(tensors=((name, tag, tuple(tensors[name].shape)),), make=lambda v=tensors[name]: (v,))
        for name, tag in tags(tensors).items()
    ]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in dtype, shape and bytes."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.view(-1).view(torch.uint8).tolist() == b.view(-1).view(torch.uint8).tolist()
    )


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors = values()
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "a.safetensors")
    assert {name: entry.tag for name, entry in header.items()} == tags(tensors)
    with Maps(limit=1) as maps:
        for name, entry in header.items():
            out = torch.empty(entry.shape, dtype=DTYPES[entry.tag])
            maps.copy(entry, 0, out)
            assert same(out, tensors[name])
        tail = torch.empty(1, 5)
        maps.copy(header["F32"], 2 * 5 * 4, tail)
        assert torch.equal(tail, tensors["F32"][2:])


def test_the_library_reads_what_we_write_and_tensors_are_aligned(tmp_path: Path) -> None:
    tensors = values()
    write_shard(tmp_path / "b.safetensors", as_units(tensors))
    theirs = load_file(tmp_path / "b.safetensors")
    assert set(theirs) == set(tensors)
    assert all(same(theirs[name], tensors[name]) for name in tensors)
    for entry in read_header(tmp_path / "b.safetensors").values():
        assert entry.offset % DTYPES[entry.tag].itemsize == 0
    write_shard(tmp_path / "c.safetensors", as_units(tensors))
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_unaligned_tensors_are_read(tmp_path: Path) -> None:
    write_raw(tmp_path / "x", {"odd": ("U8", [1], 0, 1), "wide": ("F32", [2], 1, 9)},
              b"\x07" + torch.tensor([1.5, -2.0]).numpy().tobytes())  # fmt: skip
    out = torch.empty(2)
    with Maps() as maps:
        maps.copy(read_header(tmp_path / "x")["wide"], 0, out)
    assert out.tolist() == [1.5, -2.0]


def write_raw(path: Path, fields: dict[str, tuple[str, list[int], int, int]], data: bytes) -> None:
    """A file with a header as given."""
    table = {n: {"dtype": t, "shape": s, "data_offsets": [a, b]} for n, (t, s, a, b) in fields.items()}
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("cut", [1, 100, 239])
def test_a_truncated_file_names_the_tensor_it_lost(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"first": torch.zeros(10), "second": torch.zeros(50)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    lost = "first" if cut > 200 else "second"
    with pytest.raises(CheckpointError, match=rf"cut\.safetensors: truncated, tensor '{lost}' ends at byte"):
        read_header(path)


@pytest.mark.parametrize("length", [0, 5, 8, 20])
def test_a_file_cut_inside_its_header_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"first": torch.zeros(10)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: damaged header, it claims"):
        read_header(path)


@pytest.mark.parametrize(
    ("fields", "data", "message"),
    [
        ({"a": ("F32", [2], 0, 4)}, 4, r"tensor 'a' \[2\] F32 needs 8 bytes and has 4"),
        ({"a": ("F32", [1], 0, 4), "b": ("F32", [1], 2, 6)}, 6, "tensor 'b' is at"),
        ({"a": ("F32", [1], 0, 4), "b": ("F32", [1], 8, 12)}, 12, "tensor 'b' is at"),
        ({"a": ("F32", [-1], 0, 4)}, 4, "tensor 'a' lacks a dtype, a shape or its place"),
        ({"a": (None, [1], 0, 4)}, 4, "tensor 'a' lacks a dtype"),
        ({"a": ("F32", [1], 0, 4)}, 9, "damaged, its tensors end at byte"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, fields: dict, data: int, message: str) -> None:
    write_raw(tmp_path / "x.safetensors", fields, bytes(data))
    with pytest.raises(CheckpointError, match=message):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", [b"[1, 2]", b"{\xff}", b"nonsense", b'{"a": 3}'])
def test_a_header_that_is_no_table_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: damaged header"):
        read_header(tmp_path / "x.safetensors")


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*gone: No such file"):
        read_header(tmp_path / "gone")
