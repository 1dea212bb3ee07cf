"""The commands of the data package, run as a user runs them, on a tiny corpus."""

import json
import subprocess
import sys

import pytest

from octavo.data.corpus import write_shard
from octavo.data.mix import MIXES
from octavo.data.pack import PackedText


def data(*arguments):
    return subprocess.run([sys.executable, "-m", "octavo.data", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("mix", ["xs", "s"])
def test_tokenizer_then_pack(tmp_path, mix):
    for name in MIXES[mix]:
        write_shard(
            [{"id": "1", "text": f"A text of {name}, so that there is something to learn. " * 9}],
            tmp_path / f"{name}.jsonl.gz",
        )
    trained = data("tokenizer", "--corpus", tmp_path, "--out", tmp_path / "tok", "--mix", mix, "--vocab-size", 300)
    assert trained.returncode == 0, trained.stderr
    packed = data(
        "pack", "--corpus", tmp_path, "--tokenizer", tmp_path / "tok" / "tokenizer.json", "--out", tmp_path / "pack",
        "--mix", mix,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    summary = json.loads(packed.stdout)
    assert summary["documents"] == len(MIXES[mix])
    assert summary["tokens"] == len(PackedText(tmp_path / "pack").tokens)


def test_an_error_is_one_line(tmp_path):
    done = data("tokenizer", "--corpus", tmp_path, "--out", tmp_path / "tok")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: corpus '{tmp_path}' has no source 'books'"]


def test_a_mix_needs_the_files_that_no_registry_has(tmp_path):
    (tmp_path / "books.jsonl").write_text("")
    done = data("corpus", "--out", tmp_path / "a", "--books", tmp_path / "books.jsonl", "--cache", tmp_path / "cache",
                "--mix", "s", "--only", "gsm8k")  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: source 'gsm8k' is a file: give its path"]
