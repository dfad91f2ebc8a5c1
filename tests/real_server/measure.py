"""Prints what the documentation says about the real server; see vllm.md for vLLM's figures.

    python -m tests.real_server.measure

Starts llama.cpp's server with the tiny model and asks it what guardrail's judge client asks. The times
are those of a toy on the machine at hand; what carries over is how many tokens need no computing.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import anyio
import httpx

from guardrail.backends.policy_files import load_policies
from guardrail.core.policy import Policy
from guardrail.core.prompt import prefix, user_message
from tests.real_server.asking import judging, prompt, tokens
from tests.real_server.processes import POLICIES, JudgeServer
from tests.real_server.tiny_gpt_oss import write_gguf

CALLS = 40


def main() -> None:
    policy = load_policies(POLICIES)["arms"]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_gguf(model)
        say(f"model: {model.stat().st_size / 1e6:.2f} MB")
        server = JudgeServer(model, Path(folder) / "server.log")
        boots = []
        for _ in range(5):
            server.start()
            boots.append(server.boot_s)
            server.kill()
        say(f"boot: {min(boots):.2f} to {max(boots):.2f} s, process start to answering")
        server.start()
        try:
            layouts(server, policy)
            anyio.run(throughput, server, policy)
            say(f"memory: {peak_rss_mb(server.pid):.0f} MB at most")
        finally:
            server.kill()


def layouts(server: JudgeServer, policy: Policy) -> None:
    """The policy first, against something new before it in each call."""
    with httpx.Client(base_url=server.root, timeout=60) as client:
        say(f"policy: {len(tokens(client, policy.body))} tokens")
        for name, head in (
            ("stable policy first", ""),
            ("an id above the policy", "Request {} of today\n"),
        ):
            rows = [
                call(client, head.format(f"{number * 7919:08d}"[::-1]) + prefix(policy), policy, number)
                for number in range(CALLS)
            ]
            total, cached, ms = (median(column) for column in zip(*rows[1:], strict=True))
            say(f"{name}: {total:.0f} prompt tokens, {cached:.0f} cached, prompt_ms {ms:.1f}")


def call(client: httpx.Client, system: str, policy: Policy, number: int) -> tuple[int, int, float]:
    user = user_message(policy, prompt(f"Question {number}: how do I descale a kettle?"), f"{number:024x}")
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 100}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    usage, timings = answer["usage"], answer["timings"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], timings["prompt_ms"]


async def throughput(server: JudgeServer, policy: Policy) -> None:
    """Verdicts a second through the judge client."""
    async with judging(server.url) as judge:
        for workers in (1, 2, 4):
            times: list[float] = []

            async def work(worker: int, times: list[float]) -> None:
                for number in range(CALLS):
                    started = time.perf_counter()
                    await judge.classify(policy, prompt(f"Question {worker}.{number}?"))
                    times.append((time.perf_counter() - started) * 1e3)

            started = time.perf_counter()
            async with anyio.create_task_group() as group:
                for worker in range(workers):
                    group.start_soon(partial(work, worker, times))
            rate = len(times) / (time.perf_counter() - started)
            say(f"{workers} at once: {rate:.0f} verdicts/s, median {median(times):.0f} ms")


def peak_rss_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
