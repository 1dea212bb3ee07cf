"""Programs that behave, and every way in which one may not: each with its outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.config.errors import LimitError, SandboxError, UsageError
from octavo.sandbox.outcome import Outcome, Status
from octavo.sandbox.worker import Limits, Sandbox, run

SMALL = 8 << 20


@pytest.fixture(scope="module")
def patient() -> Iterator[Sandbox]:
    """A sandbox with time for any program that ends, on a busy machine too."""
    limits = Limits(seconds=30, memory_bytes=SMALL, output_chars=1000, result_chars=1000)
    with Sandbox(limits) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def hasty() -> Iterator[Sandbox]:
    """A sandbox for programs that do not end."""
    with Sandbox(Limits(seconds=0.2, memory_bytes=SMALL, output_chars=1000)) as sandbox:
        yield sandbox


def test_value_of_the_last_statement_and_console(patient: Sandbox) -> None:
    done = patient.run("let x = 1;\nconsole.log('hi', {a: [x]}, 2, null, undefined); console.error('e');\n[x, 'two']")
    assert done == Outcome(status=Status.OK, output='hi {"a":[1]} 2 null undefined\ne\n', result='[1,"two"]')
    assert done.value == [1, "two"]


def test_what_json_has_no_word_for(patient: Sandbox) -> None:
    done = patient.run("({a: undefined, b: NaN, c: -1/0, d: 12n, e: () => 1, f: Symbol('s'), g: [,1]})")
    undefined = {"$": "undefined"}
    assert done.value == {
        "a": undefined, "b": {"$": "NaN"}, "c": {"$": "-Infinity"}, "d": {"$": "bigint", "value": "12"},
        "e": {"$": "function"}, "f": {"$": "symbol"}, "g": [undefined, 1],
    }  # fmt: skip
    assert patient.run("").value == undefined


def test_unicode_nul_and_lone_surrogates(patient: Sandbox) -> None:
    done = patient.run("console.log('é😀\\ud800'); ['é😀', 'a\0b', '\\u0000', '\\ud800']")
    assert done.output == "é😀\ufffd\n"
    assert done.value == ["é😀", "a\0b", "\0", "\ud800"]
    assert patient.run("throw '\\udfff'").error == "thrown: \ufffd"


def test_promises_settle_before_the_report(patient: Sandbox) -> None:
    done = patient.run("(async () => { await 0; console.log('later'); return 5 })()")
    assert (done.status, done.output, done.result) == (Status.OK, "later\n", "5")
    refused = patient.run("(async () => {\n await 0;\n throw new Error('no') })()")
    assert (refused.status, refused.error, refused.line) == (Status.ERROR, "Error: no", 3)
    never = patient.run("new Promise(() => {})")
    assert never.error == "the promise that the program ended with never settles"


def test_assertions_are_counted_and_stop_nothing(patient: Sandbox) -> None:
    done = patient.run("console.assert(1 < 2); console.assert(2 < 1, 'said'); console.assert(); 7")
    assert (done.status, done.result, done.asserted, done.failed, done.output) == (Status.OK, "7", 3, 2, "")


@pytest.mark.parametrize(
    ("source", "error", "line"),
    [
        ("let a = 1;\nlet b = ;", "SyntaxError: Unexpected token ';'", 2),
        ("return 5", "SyntaxError: Illegal return statement", 1),
        ("function f() {\n", "SyntaxError: Unexpected end of input", 2),
        ("\nJSON.parse('{')", "SyntaxError: Expected property name or '}' in JSON at position 1", 2),
        ("1;\nfoo()", "ReferenceError: foo is not defined", 2),
        ("function f(){ return f() + 1 }\nf()", "RangeError: Maximum call stack size exceeded", 1),
        ("[" * 50_000, "RangeError: Maximum call stack size exceeded", None),
        ("let d = []; for (let i = 0; i < 1e5; i++) d = [d]; d", "RangeError: Maximum call stack size exceeded", None),
        ("let c = {}; c.c = c; c", "TypeError: Converting circular structure to JSON", None),
        ("throw {a: 1}", 'thrown: {"a":1}', None),
        ("throw null", "thrown: null", None),
        ("throw 'words'", "thrown: words", None),
        ("throw Symbol('s')", "thrown: Symbol(s)", None),
        ("throw {get message() { throw 1 }}", "thrown: a value that cannot be shown", None),
        ("throw Object.create(null, {toJSON: {get() { throw 1 }}})", "thrown: a value that cannot be shown", None),
        ("const e = new Error('x'); e.stack = 5; throw e", "Error: x", None),
        ("import('fs')", "Error: Not supported", 1),
        ("import fs from 'fs'", "SyntaxError: Cannot use import statement outside a module", 1),
        ("require('fs')", "ReferenceError: require is not defined", 1),
        ("\nprocess.exit(0)", "ReferenceError: process is not defined", 2),
        ("fetch('http://127.0.0.1')", "ReferenceError: fetch is not defined", 1),
    ],
)
def test_errors_say_what_and_where(patient: Sandbox, source: str, error: str, line: int | None) -> None:
    done = patient.run(source)
    assert done.status is Status.ERROR
    assert (done.error or "").startswith(error)
    assert (done.line, done.result) == (line, None)


def test_error_keeps_what_was_written_before(patient: Sandbox) -> None:
    assert patient.run("console.log('first'); null.x").output == "first\n"


@pytest.mark.parametrize(
    "source",
    [
        "for (;;);",
        "/^(a+)+$/.test('a'.repeat(40) + 'b')",
        "let n = 3n; for (;;) n = n * n % 10n ** 900n",
        "throw new Proxy({}, {get() { for (;;); }})",
        "({toJSON() { for (;;); }})",
        "for (;;) try { console.log('more and more') } catch (e) {}",
    ],
)
def test_endless_is_stopped_and_the_child_goes_on(hasty: Sandbox, source: str) -> None:
    hasty.run("1")
    starts = hasty.starts
    assert hasty.run(source) == Outcome(status=Status.TIMEOUT, error="stopped after 0.2 s")
    assert hasty.starts == starts


@pytest.mark.parametrize(
    "source", ["(function f() { Promise.resolve().then(f) })()", "(async () => { for (;;) await 0 })()"]
)
def test_endless_microtasks_are_killed(hasty: Sandbox, source: str) -> None:
    hasty.run("1")
    killed = hasty.pid
    started = time.monotonic()
    assert hasty.run(source).status is Status.TIMEOUT
    assert time.monotonic() - started < 20
    assert hasty.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(killed or 0, 0)


@pytest.mark.parametrize(
    "source",
    [
        "const a = []; for (;;) a.push(new Array(1000).fill(1.5))",
        "const a = {}; for (let i = 0; ; i++) a['key' + i] = i",
        "let s = 'x'; for (;;) { s += s; s.charCodeAt(5) }",
        "const a = []; for (;;) a.push(new Uint8Array(1 << 22).fill(1))",
        "new ArrayBuffer(2 ** 32)",
    ],
)
def test_allocation_bombs_meet_the_memory_limit(patient: Sandbox, source: str) -> None:
    done = patient.run(source)
    assert (done.status, done.error) == (Status.MEMORY, "stopped: more than 8,388,608 bytes of memory")
    assert patient.run("6 * 7").result == "42"


def test_too_long_a_string_is_the_programs_own_error(patient: Sandbox) -> None:
    assert patient.run("'x'.repeat(2 ** 30)").error == "RangeError: Invalid string length"


@pytest.mark.parametrize("source", ["for (;;) console.log('more')", "'x'.repeat(1000)", "new Array(600).fill(0)"])
def test_output_and_results_have_a_limit(patient: Sandbox, source: str) -> None:
    done = patient.run(source)
    assert (done.status, done.result) == (Status.OUTPUT, None)
    assert done.error == "stopped: more than 1,000 characters of output or 1,000 of the result"
    assert len(done.output) <= 1000


def test_there_are_no_host_objects(patient: Sandbox) -> None:
    names = (
        "require process fetch XMLHttpRequest WebSocket Deno Bun module exports window self document setTimeout "
        "setInterval clearTimeout __timer_manager WebAssembly SharedArrayBuffer Atomics print load read quit gc"
    )
    assert patient.run(f"'{names}'.split(' ').filter((name) => typeof globalThis[name] !== 'undefined')").value == []
    known = set(patient.run("Object.getOwnPropertyNames(globalThis)").value)
    assert {"Object", "JSON", "console", "Intl", "Temporal", "eval"} <= known
    assert not {name for name in known if name.startswith("octavo") or "sandbox" in name.lower()}


def test_console_and_json_stay_what_they_are(patient: Sandbox) -> None:
    done = patient.run("console = 0; JSON = 0; JSON.stringify = () => 'x'; console.assert = () => {};"
                       "console.assert(false); JSON.stringify(1)")  # fmt: skip
    assert (done.result, done.asserted, done.failed) == ('"1"', 1, 1)


def test_replaced_built_ins_do_not_change_the_report(patient: Sandbox) -> None:
    spoil = (
        "Array.prototype.push = String.prototype.toWellFormed = String.prototype.slice = () => 'spoilt';"
        "RegExp.prototype.exec = Promise.prototype.then = Reflect.apply = String = eval = null;"
        "Object.defineProperty(Array.prototype, 0, {get() { return 'spoilt' }, set() { throw 1 }});"
        "Object.defineProperty(Object.prototype, 'status', {get() { return 'spoilt' }, set() { throw 1 }});"
    )
    done = patient.run(spoil + "console.log('x', 5); (async () => 7)()")
    assert done == Outcome(status=Status.OK, output="x 5\n", result="7")


def test_programs_leave_nothing_to_the_next(patient: Sandbox) -> None:
    spoil = "Array.prototype.map = () => 'mine'; Object.prototype.x = 1; globalThis.y = 2; var z = 3;"
    first = patient.run(spoil + "[].map()")
    assert first.result == '"mine"'
    done = patient.run("[[1].map((x) => x + 1), ({}).x, typeof y, typeof z]")
    assert done.value == [[2], {"$": "undefined"}, "undefined", "undefined"]


def test_equal_programs_draw_equal_numbers(patient: Sandbox) -> None:
    drawn = [patient.run("[Math.random(), Math.random()]").result for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_environment_and_files_stay_with_the_parent(patient: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_SECRET", "hidden")
    patient.close()
    patient.run("1")
    process = Path(f"/proc/{patient.pid}")
    if not process.is_dir():
        pytest.skip("no /proc to look into")
    assert process.joinpath("environ").read_bytes().rstrip(b"\0").split(b"\0")[0] == b"TZ=UTC"
    assert b"hidden" not in process.joinpath("environ").read_bytes()
    opened = [os.readlink(file) for file in process.joinpath("fd").iterdir()]
    assert not [name for name in opened if not name.startswith(("pipe:", "socket:", "anon_inode:"))]
    assert "Max open files            0                    0" in process.joinpath("limits").read_text()
    assert os.getsid(patient.pid or 0) == patient.pid


def test_a_child_killed_from_outside_costs_nothing(patient: Sandbox) -> None:
    patient.run("1")
    starts, pid = patient.starts, patient.pid
    os.kill(pid or 0, signal.SIGKILL)
    assert patient.run("6 * 7").result == "42"
    assert patient.starts == starts + 1


def test_a_thousand_programs_do_not_make_the_child_grow(patient: Sandbox) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{patient.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    patient.run("1")
    starts = patient.starts
    for number in range(1000):
        assert patient.run(f"const a = new Array(1000).fill({number}); a[999]").result == str(number)
        if number == 99 and Path("/proc/self/statm").exists():
            before = resident()
    assert patient.starts == starts
    if Path("/proc/self/statm").exists():
        assert resident() < before + (4 << 20)


def test_run_starts_a_child_of_its_own() -> None:
    assert run("[1, 2].length", limits=Limits(seconds=30)).result == "2"


def test_close_kills_and_a_later_program_starts_again() -> None:
    with Sandbox(Limits(seconds=30)) as sandbox:
        assert sandbox.pid is None
        sandbox.run("1")
        pid = sandbox.pid
        sandbox.close()
        sandbox.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid or 0, 0)
        assert sandbox.run("2").result == "2"
        assert sandbox.starts == 2


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("seconds", 0, "seconds is 0; it must be a number from 0.01 to 3600"),
        ("seconds", float("nan"), "seconds is nan"),
        ("memory_bytes", 1 << 20, "memory_bytes is 1048576; it must be an integer from 8388608 to 4294967296"),
        ("output_chars", -1, "output_chars is -1"),
        ("result_chars", True, "result_chars is True"),
        ("memory_bytes", 1e8, "memory_bytes is 100000000.0; it must be an integer"),
    ],
)
def test_limits_are_checked(field: str, value: object, limit: str) -> None:
    with pytest.raises(LimitError, match=limit):
        Limits(**{field: value})  # type: ignore[arg-type]


def test_bad_sources_are_named_before_anything_runs() -> None:
    with Sandbox() as sandbox:
        with pytest.raises(UsageError, match="lone surrogate at character 2"):
            sandbox.run("ab\ud800")
        with pytest.raises(LimitError, match="1,048,577 characters; at most 1,048,576"):
            sandbox.run(" " * (2**20 + 1))
        assert sandbox.starts == 0


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"mini-racer, which is not installed: pip install 'octavo\[javascript\]'"):
        Sandbox()


def test_a_child_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()
    monkeypatch.setattr(sandbox, "_command", [*sandbox._command[:3], "many", "few"])
    with pytest.raises(SandboxError, match="did not start: ValueError: invalid literal for int"):
        sandbox.run("1")


def test_the_child_of_a_killed_parent_ends_in_the_middle_of_a_program() -> None:
    program = (
        "import sys; from octavo.sandbox import Limits, Sandbox\n"
        "box = Sandbox(Limits(seconds=600)); box.run('1'); print(box.pid, flush=True)\n"
        "box.run('const again = () => Promise.resolve().then(again); again()')"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
