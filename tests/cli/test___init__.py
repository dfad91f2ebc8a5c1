"""The twin of guardrail/cli/__init__.py: the command itself, its exit codes, its quick start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import guardrail.cli as command_line
from guardrail.errors import ConfigError

GUARDRAIL = Path(sys.executable).with_name("guardrail")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GUARDRAIL, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("surprise",),
            ("--surprise",),
            ("check",),
            ("check", "--stage", "sideways", "text"),
            ("check", "one", "two"),
            ("config",),
            ("config", "surprise"),
            ("serve", "--port", "70000"),
            ("serve", "extra"),
            ("demo", "--port", "x"),
        ],
    )
    def test_wrong_usage_is_64_on_standard_error_and_no_verdict(
        self,
        arguments: tuple[str, ...],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(sys, "argv", ["guardrail", *arguments])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        assert caught.value.code == 64
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Usage: " in shown.err

    def test_the_console_script_says_so_too(self):
        done = run("surprise")
        assert (done.returncode, done.stdout) == (64, "")
        assert "No such command 'surprise'" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "arguments", [("--help",), ("check", "--help"), ("config", "--help"), ("--version",)]
    )
    def test_help_and_version_are_0(
        self,
        arguments: tuple[str, ...],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(sys, "argv", ["guardrail", *arguments])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        assert caught.value.code == 0
        assert capsys.readouterr().out

    def test_every_command_is_listed_with_its_own_summary(self):
        context = click.Context(command_line.cli)
        text = command_line.cli.get_help(context)
        names = command_line.cli.list_commands(context)
        assert names == sorted(names)
        for name in names:
            command = command_line.cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert f"  {name} " in text
            assert " ".join(text.split()).count(command.get_short_help_str(200)) == 1, name
        assert command_line.cli.get_command(context, "surprise") is None

    def test_help_imports_no_command(self):
        """The reason why commands are imported when they are called."""
        code = (
            "import json, sys, click; from guardrail.cli import cli; cli.get_help(click.Context(cli));"
            "print(json.dumps(sorted(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        imported = set(json.loads(done.stdout))
        assert [name for name in imported if name.startswith("guardrail.cli.")] == []
        assert imported & {"openai", "rich", "uvicorn", "aiohttp"} == set()


class TestOtherEnds:
    """What is not a verdict never ends with the code of one (0 to 3)."""

    @pytest.mark.parametrize(
        ("error", "code", "shown"),
        [
            (
                ConfigError("guardrail.yaml: key: wrong; put it right"),
                78,
                "guardrail: guardrail.yaml: key: wrong",
            ),
            (click.exceptions.Abort(), 130, ""),
            (KeyboardInterrupt(), 130, ""),
            (ZeroDivisionError("a bug"), 70, "ZeroDivisionError"),
        ],
    )
    def test_each_error_has_its_own_code(
        self,
        error: BaseException,
        code: int,
        shown: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ):
        @click.command("fails")
        def fails() -> None:
            raise error

        monkeypatch.setattr(command_line, "cli", fails)
        monkeypatch.setattr(sys, "argv", ["guardrail"])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        assert caught.value.code == code
        output = capsys.readouterr()
        assert output.out == ""
        assert shown in output.err

    def test_a_configuration_that_cannot_be_used_is_78_on_one_line(self, tmp_path: Path):
        (tmp_path / "guardrail.yaml").write_text("version: 1\npolicies: {input: [nobody]}\nsurprise: 1\n")
        for arguments in (
            ("serve",),
            ("config", "check"),
            ("check", "-c", "guardrail.yaml", "Hello"),
        ):
            done = run(*arguments, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (78, "")
            assert done.stderr == (
                "guardrail: guardrail.yaml: surprise: unknown key; remove it or check its spelling\n"
            )
