"""Writing results: sizes, one-line cuts, JSON."""

import json

import pytest

from octavo.cli.output import one_line, put, put_json, size


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234, "1.23 kB"), (999_600, "1 MB"), (3.69e9, "3.69 GB"),
     (5.28e9, "5.28 GB"), (2.5e12, "2.5 TB")],
)  # fmt: skip
def test_size(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text


def test_one_line_folds_white_space_and_cuts_at_the_width() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    cut = one_line("x" * 200, width=10)
    assert cut == "x" * 9 + "…"


def test_json_is_one_line_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"answer": "Zoë\nand 李"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "李" in out
    assert json.loads(out) == {"answer": "Zoë\nand 李"}


def test_lines_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    put("a", "b")
    assert capsys.readouterr() == ("a\nb\n", "")
