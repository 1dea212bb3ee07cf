"""The entry: finds the verb, hands it the rest of the line, and turns failures into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted. A verb is a module of this package with a dataclass
`Command` (fields are the flags) whose `run()` does the work. This file imports neither tyro nor rich nor a verb before
one is called, since `octavo --help` must answer at once.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from importlib import import_module

VERBS = {
    "read": "read texts once and keep them folded in an .octavo file",
    "ask": "ask a document or a text, with the places of the answer",
    "chat": "talk, with or without a document",
    "generate": "complete a text",
    "serve": "answer clients of the OpenAI and Anthropic protocols, and show a page",
    "plan": "see what fits before loading anything",
    "inspect": "look inside a document, a checkpoint or a shipped model",
    "eval": "measure a model on tasks with known answers",
    "bench": "check and time the kernels, and draw what was recorded",
    "train": "train by a recipe; goes on where it stopped",
}


def main(args: list[str] | None = None) -> int:
    """Run one command line (`sys.argv[1:]` if `args` is None) and return the exit code."""
    if args is None:
        code = main(sys.argv[1:])
        if code == 130:  # the process only ends now: a second Ctrl-C would fill the screen on the way out
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return code
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help(), file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        print(f"octavo {import_module('octavo.version').__version__}")
        return 0
    if args[0] not in VERBS:
        near = difflib.get_close_matches(args[0], VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(VERBS)}"
        return _fail(f"unknown command {args[0]!r}: {hint}", code=2)
    try:
        return _run(args[0], args[1:])
    except KeyboardInterrupt:  # at any time, while modules are still being imported too
        return _fail("interrupted", code=130)


def _run(verb: str, args: list[str]) -> int:
    import tyro

    from octavo.config.errors import OctavoError, UsageError

    conf = tyro.conf
    switches = (conf.FlagCreatePairsOff, conf.HelptextFromCommentsOff)
    names = (conf.DisallowNone, conf.PositionalMetavarFromFieldName)
    try:
        module = import_module(f"octavo.cli.{verb}")
        tyro.cli(module.Command, args=args, prog=f"octavo {verb}", config=switches + names).run()
        sys.stdout.flush()
    except OctavoError as error:
        return _fail(str(error), code=2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output went away: nothing is left to say, nor anywhere to say it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UnicodeEncodeError as error:
        return _fail(f"output: character {error.object[error.start]!a} cannot be written in {error.encoding}", code=1)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}", code=1)
    except SystemExit as stop:  # tyro printed the help or what is wrong with the line
        return stop.code if isinstance(stop.code, int) else 2
    return 0


def _fail(message: str, code: int) -> int:
    print(f"octavo: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _help() -> str:
    rows = "\n".join(f"  octavo {verb:<9} {job}" for verb, job in VERBS.items())
    return f"usage: octavo COMMAND ...\n\nReads a long text once, folds it small, and answers from it.\n\n{rows}\n\n\
`octavo COMMAND --help` lists its options; every command has --json. `octavo --version` prints the version."
