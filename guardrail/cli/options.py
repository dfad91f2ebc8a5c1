"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

__all__ = ["config_file"]

config_file: Final = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="guardrail.yaml",
    show_default=True,
    help="The configuration file.",
)
