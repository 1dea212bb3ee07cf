"""The child as a process: what it can no longer do once it has started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import octavo.sandbox

CHILD = Path(octavo.sandbox.__file__).with_name("child.py")


def message(content: dict[str, object]) -> bytes:
    data = json.dumps(content).encode()
    return len(data).to_bytes(4, "big") + data


def test_it_answers_in_frames_and_ends_with_stdin() -> None:
    request = {"source": "[1, 2]", "seconds": 30, "output_chars": 10, "result_chars": 10}
    done = subprocess.run(
        [sys.executable, "-I", str(CHILD), "8", str(64 << 20)], input=message(request) * 2, capture_output=True, env={}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    data, reports = done.stdout, []
    while data:
        size = int.from_bytes(data[:4], "big")
        reports.append(json.loads(data[4 : 4 + size]))
        data = data[4 + size :]
    assert reports[0] == {"ready": True}
    assert [report["result"] for report in reports[1:]] == ["[1,2]", "[1,2]"]


def test_confined_it_opens_no_file_and_no_socket() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(CHILD.parent)!r}); import child, socket\n"
        "child._confine(64 << 20)\n"
        "for attempt in (lambda: open('/etc/hostname'), socket.socket):\n"
        "    try:\n        attempt()\n        print('opened')\n"
        "    except OSError as error:\n        print(error.errno)\n"
        "try:\n    bytearray(128 << 20)\n    print('had')\nexcept MemoryError:\n    print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["24", "24"]  # EMFILE
    assert done.stdout.split()[2] == ("none" if sys.platform == "linux" else "had")


def test_it_needs_nothing_of_octavo() -> None:
    names = [line.split()[1] for line in CHILD.read_text("utf-8").splitlines() if line.startswith(("import", "from"))]
    assert "octavo" not in {name.split(".")[0] for name in names}
    assert CHILD.with_name("prelude.js").is_file()
