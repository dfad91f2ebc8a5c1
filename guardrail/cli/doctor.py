"""``guardrail doctor``: what the configured judge really does, and how often it is talked out of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from guardrail.build import Judges, build_judges
from guardrail.cli.options import config_file
from guardrail.config import Config, load_config
from guardrail.doctor.attack import FlipRate, attack
from guardrail.doctor.cases import violating_cases
from guardrail.doctor.probes import Grade, Probes, Seen

__all__ = ["command"]

_COLOURS = {Grade.OK: "green", Grade.UNKNOWN: "cyan", Grade.WARN: "yellow", Grade.UNSAFE: "bold red"}
_UNSAFE = 1
_UNREACHABLE = 3


@click.command("doctor")
@config_file
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--attack", "attacked", is_flag=True, help="Also try to talk the judge out of its verdicts.")
@click.option("--cases", type=click.IntRange(1), default=3, show_default=True, help="Per policy, attacked.")
@click.option(
    "--max-flip-rate",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="A policy above this is unsafe.",
)
def command(path: Path, as_json: bool, attacked: bool, cases: int, max_flip_rate: float) -> None:
    """Ask the configured judge what it really does.

    Exit code: 0 safe, 1 unsafe, 3 a judge cannot be reached.
    """
    config = load_config(path)
    judges = build_judges(config)
    if not judges.judges:
        click.echo("there is no judge over HTTP to be asked: classifier.kind is " + config.classifier.kind)
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        seen, rates = anyio.run(_examine, config, judges, cases if attacked else 0, progress)
    if as_json:
        told = {"judges": {name: [asdict(one) for one in found] for name, found in seen.items()}}
        click.echo(json.dumps(told | {"attack": [_rate(rate) for rate in rates]}))
    else:
        _print(seen, rates)
    sys.exit(_exit_code(seen, rates, max_flip_rate))


async def _examine(
    config: Config, judges: Judges, cases: int, progress: Progress
) -> tuple[dict[str, list[Seen]], list[FlipRate]]:
    seen: dict[str, list[Seen]] = {}
    rates: list[FlipRate] = []
    try:
        for judge in judges.judges:
            name = judge.name if judge.name not in seen else f"{judge.name} #{len(seen) + 1}"
            task = progress.add_task(name, total=None)
            probes = Probes(judge, judges.used, config.classifier.timeout_s)
            seen[name] = await probes.run(
                lambda probe, task=task, name=name: progress.update(  # type: ignore[misc]
                    task, description=f"{name}: {probe}"
                )
            )
            progress.remove_task(task)
        if cases and len(seen[judges.judges[0].name]) > 1:
            task = progress.add_task("attack", total=None)
            rates = await attack(
                judges.judges[0],
                judges.used,
                cases=violating_cases(config.policies.directory, judges.used, cases),
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    finally:
        await judges.aclose()
    return seen, rates


def _exit_code(seen: dict[str, list[Seen]], rates: Sequence[FlipRate], most: float) -> int:
    if any(len(found) == 1 for found in seen.values()):  # nobody answered the first probe
        return _UNREACHABLE
    unsafe = any(one.grade is Grade.UNSAFE for found in seen.values() for one in found)
    flips = any(rate.family is None and (rate.rate or 0.0) > most for rate in rates)
    return _UNSAFE if unsafe or flips else 0


def _rate(rate: FlipRate) -> dict[str, object]:
    return asdict(rate) | {"rate": rate.rate, "interval": rate.interval}


def _print(seen: dict[str, list[Seen]], rates: Sequence[FlipRate]) -> None:
    console = Console()
    for name, found in seen.items():
        table = Table("probe", "grade", "seen", "what to do", title=name, title_justify="left")
        for one in found:
            table.add_row(one.probe, f"[{_COLOURS[one.grade]}]{one.grade}[/]", one.seen, one.remedy)
        console.print(table)
    if rates:
        table = Table("policy", "family", "asked", "flipped", "failed", "rate", "95 %", title="attack")
        for rate in rates:
            shown = "–" if rate.rate is None else f"{rate.rate:.1%}"  # noqa: RUF001
            low, high = rate.interval
            table.add_row(
                rate.policy,
                rate.family or "all",
                str(rate.asked),
                str(rate.flipped),
                str(rate.failed),
                shown,
                f"{low:.1%} to {high:.1%}",
            )
        console.print(table)
