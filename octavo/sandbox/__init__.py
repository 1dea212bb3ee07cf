"""Running JavaScript that nobody vouches for: `run` for one program, `Sandbox` for many.

    with Sandbox(Limits(seconds=1)) as sandbox:
        sandbox.run("console.log(6 * 7); [1, 2].map((x) => x + 1)").result  # "[2,3]"

A program is a script in a V8 of its own (package mini-racer, extra `javascript`), in a child process with limits of
time, memory and output, which is killed when it does not end. It finds the ECMAScript built-ins and `console`: no
files, network, modules, timers, WebAssembly or environment. Does not cover: other languages, modules (`import`),
systems without POSIX process groups.
"""

from octavo.sandbox.outcome import Outcome, Status
from octavo.sandbox.worker import Limits, Sandbox, run

__all__ = ["Limits", "Outcome", "Sandbox", "Status", "run"]
