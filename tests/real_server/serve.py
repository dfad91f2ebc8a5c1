"""llama.cpp's HTTP server, from the wheel xllamacpp, as a process of its own.

    python tests/real_server/serve.py tiny.gguf --port 0

Says on standard output, as one line of JSON, where it listens, and ends when its standard input does:
so it never outlives the one who started it. A bug in the server's C++ kills this process and no other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # some tests make it crash; leave no core file
    started = time.perf_counter()
    options = _options()
    server = _server(options)
    listening = {"url": server.listening_address, "boot_s": round(time.perf_counter() - started, 3)}
    sys.stdout.write(json.dumps(listening) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # nothing to save, and shutting the server down would wait for its open connections


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--context", type=int, default=16_384, help="tokens of one request")
    parser.add_argument("--slots", type=int, default=2, help="requests at once")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _server(options: argparse.Namespace) -> object:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = options.model
    params.port = options.port
    params.n_ctx = options.context * options.slots  # the server divides it among the slots
    params.n_parallel = options.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.warmup = False
    params.offline = True
    params.endpoint_metrics = True
    return Server(params)


if __name__ == "__main__":
    main()
