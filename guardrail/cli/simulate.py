"""``guardrail simulate``: a judge without a model, for trying things out."""

from __future__ import annotations

import click
import uvicorn

from guardrail.backends.presets import PRESETS
from guardrail.simulator import MEASURED_ODD_SHARE, JudgeSimulator, Rule

__all__ = ["command"]


@click.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="vllm", show_default=True)
@click.option("--speed", type=click.FloatRange(0), default=1.0, help="0 at once, 1 (default) as measured.")
@click.option(
    "--odd-share",
    type=click.FloatRange(0, 1),
    default=MEASURED_ODD_SHARE,
    show_default=True,
    help="Of answers in an odd form.",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same draws.")
@click.option("--context", type=click.IntRange(256), help="The window in tokens; the preset's by default.")
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="TEXT=ANSWER",
    help="What is said about a text that contains TEXT; everything else passes.",
)
def command(
    host: str,
    port: int,
    preset: str,
    speed: float,
    odd_share: float,
    seed: int,
    context: int | None,
    rules: tuple[str, ...],
) -> None:
    """Serve a simulated judge: no model, measured latencies and each server's quirks."""
    parsed = [Rule(*rule.split("=", 1)) for rule in rules if "=" in rule]
    if len(parsed) < len(rules):
        raise click.UsageError("--rule needs TEXT=ANSWER")
    simulator = JudgeSimulator(
        preset, rules=parsed, context_tokens=context, odd_share=odd_share, speed=speed, seed=seed
    )
    path = "" if PRESETS[preset].native else "/v1"
    click.echo(
        f"classifier: {{preset: {preset}, base_url: 'http://{host}:{port}{path}', model: simulated}}"
    )
    uvicorn.run(simulator, host=host, port=port, log_level="warning", access_log=False, lifespan="off")
