"""`octavo train`: the tiny recipe on a tiny pack, stopped by time and gone on with, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import octavo
from octavo.cli import main
from octavo.data.mix import Chosen
from octavo.data.pack import write_pack
from octavo.train.recipes import recipe

TOKENIZER = Path(__file__).resolve().parents[2] / "weights" / "octavo-xs"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few thousand tokens of made-up prose, packed."""
    folder = tmp_path_factory.mktemp("pack")
    sentence = "The keeper of house {n} wrote the date at the head of page {i}, and the sea brought a crate of oranges."
    documents = [
        Chosen(source="books", id=f"b{n}", text="\n\n".join(sentence.format(n=n, i=i) for i in range(120)))
        for n in range(4)
    ]
    write_pack(documents, tokenizer=Tokenizer.from_file(str(TOKENIZER / "tokenizer.json")), folder=folder)
    return folder


def train(pack: Path, out: Path, *more: str) -> int:
    return main(["train", "tiny", "--pack", str(pack), "--tokenizer", str(TOKENIZER), "--out", str(out), *more])


def test_run_stops_in_time_and_the_same_line_goes_on(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = recipe("tiny").schedule.steps
    assert train(pack, tmp_path / "run", "--minutes", "0", "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert 0 < first["steps"] < steps
    assert first["finished"] is False
    assert train(pack, tmp_path / "run", "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["steps"], second["finished"]) == (steps, True)
    assert second["last"]["loss"] > 0
    assert (tmp_path / "run" / "log.jsonl").is_file()


def test_weights_are_written_as_reading_takes_them(pack: Path, tmp_path: Path) -> None:
    assert train(pack, tmp_path / "run", "--minutes", "0", "--weights", str(tmp_path / "weights")) == 0
    model = octavo.load(tmp_path / "weights")
    assert model.logits([3, 4, 5]).shape == (3, 4096)
    assert (tmp_path / "weights" / "tokenizer.json").read_bytes() == (TOKENIZER / "tokenizer.json").read_bytes()


def test_page_for_people(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(pack, tmp_path / "run", "--minutes", "0") == 0
    assert "steps, saved in" in capsys.readouterr().out


def test_unknown_recipe_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "huge", "--pack", "a", "--tokenizer", "b", "--out", "c"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("octavo: error: recipe 'huge' is not known")
    assert "tiny" in err


def test_missing_pack_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "nothing", tmp_path / "run") == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("octavo: error: ")
    assert "nothing" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fsdp=2,ep=2", "parallel: dp 1 x fsdp 2 x cp 1 x ep 2 are 4 ranks; 1 were started"),
        ("cp=4", "parallel cp is 4; rows of 256 tokens are no multiple of cp x 128 tokens"),
        ("ep=5", "parallel ep is 5; it must divide n_routed_experts"),
        ("tp=2", "'tp' is not one of dp, fsdp, cp, ep"),
    ],
)
def test_a_layout_for_other_ranks_is_bad_usage(
    words: str, message: str, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(pack, tmp_path / "out", "--parallel", words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
