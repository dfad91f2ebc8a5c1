"""The twin of guardrail/cli/options.py."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from guardrail.cli.options import config_file


@click.command()
@config_file
def shown(path: Path) -> None:
    click.echo(repr(path))


@pytest.mark.parametrize(
    ("arguments", "path"),
    [([], "guardrail.yaml"), (["-c", "a.yaml"], "a.yaml"), (["--config", "b.yaml"], "b.yaml")],
)
def test_the_file_has_a_usual_name(arguments: list[str], path: str):
    assert CliRunner().invoke(shown, arguments).output.strip() == repr(Path(path))


def test_a_folder_is_wrong_usage(tmp_path: Path):
    assert CliRunner().invoke(shown, ["-c", str(tmp_path)]).exit_code == 2
