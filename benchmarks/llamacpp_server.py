"""llama.cpp's own HTTP server in this process, as the package xllamacpp carries it.

Covers: a GGUF file, slots, context and threads; every prompt is read anew, nothing of an earlier one is kept. Prints
one JSON line once it listens (url, versions), then serves until it is ended. Does not cover: asking it anything
(`serve_vs_llamacpp`). Needs xllamacpp alone.

    python -m benchmarks.llamacpp_server FILE.gguf [--slots 1] [--context 8192] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import threading


def main() -> None:
    """Load, say where it listens, serve."""
    parser = argparse.ArgumentParser(description="llama.cpp's server.")
    parser.add_argument("file")
    parser.add_argument("--slots", type=int, default=1, help="answers at a time")
    parser.add_argument("--context", type=int, default=8192, help="tokens of prompt and answer, of each slot")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = given.file
    params.n_parallel, params.n_ctx = given.slots, given.slots * given.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.n_gpu_layers = 0
    params.fit_params = False  # it would choose another context where memory is short
    params.cache_prompt, params.cache_ram_mib, params.cache_idle_slots = False, 0, False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    told = {
        "url": server.listening_address,
        "xllamacpp": xllamacpp.__version__,
        "instructions": xllamacpp.get_system_info().strip(),
    }
    print(json.dumps(told), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
