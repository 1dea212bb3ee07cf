"""The process that touches the device, so that a crash or an endless kernel costs one case and not the run.

Covers: the requests of `run`, one JSON object a line on stdin, each answered by one line on stdout:
    {"hello": device, "rates": bool}              -> {"device": {..}, "rates": {..} or null}
    {"case": [op, name, size], "timed": bool, "device": .., "rates": {..} or null}    -> {"outcome": {..}, "lost": bool}
`lost` says that the device no longer answers this process, which then ends. Whatever cases print goes to stderr.

    python -m octavo.bench.worker
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch

from octavo.bench.bounds import Rates, measure_rates
from octavo.bench.measure import measure, said
from octavo.bench.selection import all_cases, key


def serve(requests: Iterable[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer `requests` until they end or the device is lost."""
    cases = {key(case): case for case in all_cases()}
    for line in requests:
        request = json.loads(line)
        if "hello" in request:
            device = torch.device(request["hello"])
            rates = measure_rates(device).as_dict() if request["rates"] else None
            answer({"device": describe(device), "rates": rates})
            continue
        device = torch.device(request["device"])
        rates = None if request["rates"] is None else Rates.from_dict(request["rates"])
        outcome = measure(cases[tuple(request["case"])], device, rates, timed=request["timed"])
        why = lost(device) if outcome["status"] == "failed" else None
        if why is not None:
            outcome["message"] = f"{outcome['message']}; the device was lost to this process"
        answer({"outcome": outcome, "lost": why is not None})
        if why is not None:
            return


def describe(device: torch.device) -> dict[str, Any]:
    """Name and properties of a GPU that bounds and results depend on; nothing for the CPU."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "capability": list(torch.cuda.get_device_capability(device)),
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "cuda": torch.version.cuda,
    }


def lost(device: torch.device) -> str | None:
    """Why the device no longer answers this process, None if it does; what was left of its memory is handed back."""
    if device.type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        return said(error)
    return None


def main() -> None:
    """Answer stdin on what was stdout; prints of cases and libraries go to stderr instead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    serve(sys.stdin, answer)


if __name__ == "__main__":
    main()
