"""The process in which programs run: nothing of Octavo, of the parent's environment or of its files is in it.

Covers: one request after another on stdin, each answered on stdout; both are a length (4 bytes, big-endian) and JSON.
    {"source", "seconds", "output_chars", "result_chars"}
    -> what prelude.js reports, or {"status": "timeout" | "memory"}
Each program gets a V8 of its own: heap, globals and built-ins are new. V8 runs without its compiler, so all executable
memory of the process was loaded from files. After the start no file or socket can be opened: the limit of open files is
set to none. Does not cover: the hard kill, which is the parent's (`worker`), systems without POSIX limits.

    python -I child.py HEAP_MIB DATA_BYTES
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import py_mini_racer

_LINE = re.compile(r"^<anonymous>:(\d+):")
_NO_BUFFER = "RangeError: Array buffer allocation failed"
# No compiler, one thread, the same Math.random in every program.
_FLAGS = ("--single-threaded", "--jitless", "--random-seed=1")


async def run_program(prelude: str, request: dict[str, Any], memory_bytes: int) -> dict[str, Any]:
    """The report of one program in a fresh V8."""
    with py_mini_racer.mini_racer() as engine:
        engine.set_hard_memory_limit(memory_bytes)
        try:
            async with asyncio.timeout(request["seconds"]):
                given = ", ".join(json.dumps(request[name]) for name in ("source", "output_chars", "result_chars"))
                end: Any = await engine.eval_cancelable(f"{prelude}({given})")
                report = json.loads(await end.cancelable()())
                if report["error"] == _NO_BUFFER:
                    report["status"] = "memory"
                if report.pop("early"):
                    report["line"] = await _line_of_syntax_error(engine, request["source"])
                return report
        except TimeoutError:
            return {"status": "timeout"}
        except py_mini_racer.JSOOMException:
            return {"status": "memory"}
        except py_mini_racer.JSEvalException as error:  # the report itself could not be made
            return {"status": "error", "error": str(error).splitlines()[0][:2000]}


async def _line_of_syntax_error(engine: py_mini_racer.MiniRacer, source: str) -> int | None:
    """Where a source that does not parse is wrong; V8 tells it of a script only, and runs none of this one."""
    try:
        await engine.eval_cancelable(source)
    except py_mini_racer.JSParseException as error:
        place = _LINE.match(str(error))
        return int(place[1]) if place else None
    return None


def _read(count: int) -> bytes:
    """`count` bytes of stdin, fewer at its end."""
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _write(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    view = memoryview(len(data).to_bytes(4, "big") + data)
    while view:
        view = view[os.write(1, view) :]


def data_bytes() -> int:
    """Private writable memory of this process, as RLIMIT_DATA counts it; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return 0
    found = re.search(r"^VmData:\s+(\d+) kB$", status, re.M)
    return int(found[1]) * 1024 if found else 0


def _confine(extra_bytes: int) -> None:
    """No more memory than `extra_bytes` beside today's, no new file or socket, no core dump."""
    today = data_bytes()
    if today:
        resource.setrlimit(resource.RLIMIT_DATA, (today + extra_bytes, today + extra_bytes))
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (0, 0))


def _end_with_parent(parent: int) -> None:
    """End this process within a second of its parent's end, whatever a program is doing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


async def serve(heap_mib: int, extra_bytes: int) -> None:
    """Answer requests until stdin ends or the parent is gone."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    # V8 ends the process at its own limit; below it the program alone is ended.
    py_mini_racer.init_mini_racer(flags=(*_FLAGS, f"--max-heap-size={heap_mib + heap_mib // 4 + 16}"))
    prelude = Path(__file__).with_name("prelude.js").read_text("utf-8").strip()
    warm: dict[str, Any] = {"source": "1", "seconds": 60, "output_chars": 1, "result_chars": 9}
    await run_program(prelude, warm, heap_mib << 20)
    _confine(extra_bytes)
    _write({"ready": True})
    while len(head := _read(4)) == 4:
        request = json.loads(_read(int.from_bytes(head, "big")))
        _write(await run_program(prelude, request, heap_mib << 20))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
