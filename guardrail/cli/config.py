"""``guardrail config``: validate a configuration, or print its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from guardrail.build import build_guard
from guardrail.config import Config, load_config

__all__ = ["command"]


@click.group("config")
def command() -> None:
    """Check a configuration file or print its schema."""


@command.command("check")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="guardrail.yaml")
def check(path: Path) -> None:
    """Validate PATH and the policies it names, without serving."""
    config = load_config(path)
    build_guard(config.model_copy(update={"audit": config.audit.model_copy(update={"sinks": []})}))
    stages = (("input", config.policies.input), ("output", config.policies.output))
    named = "; ".join(f"{stage}: {', '.join(ids) or 'none'}" for stage, ids in stages)
    click.echo(f"{path} is valid ({named})")


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of guardrail.yaml, for editors."""
    click.echo(json.dumps(Config.model_json_schema(), indent=2))
