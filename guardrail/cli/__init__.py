"""The ``guardrail`` command; one file a subcommand, imported when it is called.

Exit codes besides a command's own: 64 for wrong usage, 70 for a bug of ours, 78 for a configuration
that cannot be used (sysexits.h), so that they are never taken for a verdict of ``guardrail check``.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Final

import click

from guardrail.errors import ConfigError

__all__ = ["cli", "main"]

EXIT_USAGE: Final = 64
EXIT_CRASH: Final = 70
EXIT_CONFIG: Final = 78

_COMMANDS: Final = {  # with the first sentence of their help, which --help shows
    "check": "Judge TEXT (- for standard input).",
    "config": "Check a configuration file or print its schema.",
    "demo": "Play a tour of guarded conversations on this machine, then stay up to be tried.",
    "doctor": "Ask the configured judge what it really does.",
    "serve": "Serve the guarded proxy.",
    "simulate": "Serve a simulated judge: no model, measured latencies and each server's quirks.",
}


class _Lazy(click.Group):
    """Imports a command's module only when that command runs: ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"guardrail.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(package_name="guardrail")
def cli() -> None:
    """Input and output guardrails for chat models, by your own written policies."""


def main() -> None:
    """The console script."""
    try:
        sys.exit(cli(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except ConfigError as error:
        click.echo(f"guardrail: {error}", err=True)
        sys.exit(EXIT_CONFIG)
    except Exception:  # Python's own code for a crash is 1: a flag or a redaction
        traceback.print_exc()
        sys.exit(EXIT_CRASH)
