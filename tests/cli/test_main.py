"""The entry: help, unknown verbs, exit codes, one-line errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import import_module

import pytest

from octavo.cli import main
from octavo.cli.main import VERBS
from octavo.config.errors import DocumentError, UsageError
from octavo.version import __version__

# A new flag is a decision: it is written down here as well, twelve a verb at most beside what it is about.
FLAGS = {
    "read": "files output model weights offload_experts json",
    "ask": "line model weights offload_experts max_tokens temperature seed quote no_quote draft json",
    "chat": "url doc system model weights offload_experts thinking max_tokens temperature seed draft json",
    "generate": "prompt model weights max_tokens temperature top_p top_k min_p seed stop draft json",
    "serve": "model host port api_key_file served_name documents cache max_running device weights settings ray json",
    "plan": "model context hardware main index weights offload_experts json",
    "inspect": "path verify fold model json",
    "eval": "task kinds text lengths count controls index_topk model device main out json",
    "bench": "task ops cases size device seconds check_only results out json",
    "train": "recipe pack tokenizer out weights init_from minutes device workers micro_batches parallel json",
}


@pytest.mark.parametrize("line", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb_on_stdout(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"octavo {verb} " in out for verb in VERBS)


def test_nothing_said_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: octavo")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"octavo {__version__}\n"


@pytest.mark.parametrize(("verb", "hint"), [("aks", "did you mean 'ask'?"), ("zzz", "it is one of read, ask")])
def test_unknown_verb(verb: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"octavo: error: unknown command {verb!r}: ")
    assert hint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_verb_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"octavo {verb}" in out
    assert "--json" in out
    assert err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_flag_is_bad_usage(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--no-such-flag"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err != ""


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_frozen(verb: str) -> None:
    fields = dataclasses.fields(import_module(f"octavo.cli.{verb}").Command)
    assert [field.name for field in fields] == FLAGS[verb].split()
    assert sum("Positional" not in str(field.type) for field in fields) <= 12


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DocumentError("record 3\nis damaged"), 1, "record 3 is damaged"),
        (UsageError("two inputs"), 2, "two inputs"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), 1, "No such file or directory: a.txt"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (UnicodeEncodeError("ascii", "so…", 2, 3, ""), 1, "output: character '\\u2026' cannot be written in ascii"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failure_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("octavo.cli.plan.Command.run", fail)
    assert main(["plan", "flash"]) == code
    assert capsys.readouterr() == ("", f"octavo: error: {line}\n")


def test_interrupt_while_importing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "tyro":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "tyro", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert main(["plan", "flash"]) == 130
    assert capsys.readouterr() == ("", "octavo: error: interrupted\n")


def test_module_runs_as_the_script_does() -> None:
    run = subprocess.run([sys.executable, "-m", "octavo", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"octavo {__version__}\n"


def test_closed_pipe_is_not_a_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "octavo", "plan", "flash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""
