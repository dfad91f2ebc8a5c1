"""``guardrail check``: one text, one decision, an exit code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import click

from guardrail.backends.policy_files import starter_policies
from guardrail.build import build_guard
from guardrail.config import Config, PoliciesConfig, load_config
from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Decision, Failure
from guardrail.core.policy import Action, Stage

__all__ = ["command"]

_EXIT = {Action.PASS: 0, Action.FLAG: 1, Action.REDACT: 1, Action.BLOCK: 2}
_UNAVAILABLE = 3


@click.command("check")
@click.argument("text")
@click.option("--stage", type=click.Choice([s.value for s in Stage]), default="input")
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file. Without one: the starter policies and the embedded rules.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(text: str, stage: str, path: Path | None, as_json: bool) -> None:
    """Judge TEXT (- for standard input).

    Exit code: 0 pass, 1 flag or redact, 2 block, 3 a check could not be made.
    """
    text = _text(text)
    config = load_config(path) if path else _starter()
    decision, text = anyio.run(_decide, config, text, Stage(stage))
    if as_json:
        click.echo(json.dumps(_as_json(decision, text)))
    else:
        _print(decision, text)
    failed = any(isinstance(finding, Failure) for finding in decision.findings)
    unavailable = decision.unavailable or (failed and decision.action < Action.BLOCK)
    sys.exit(_UNAVAILABLE if unavailable else _EXIT[decision.action])


def _text(argument: str) -> str:
    raw = sys.stdin.buffer.read() if argument == "-" else os.fsencode(argument)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise click.UsageError("TEXT is not UTF-8, so it cannot be judged") from None


def _starter() -> Config:
    directory = starter_policies()
    ids = sorted(folder.name for folder in directory.iterdir() if folder.is_dir())
    policies = PoliciesConfig(
        directory=directory, input=ids, output=[i for i in ids if i != "prompt-injection"]
    )
    return Config.model_validate({"version": 1, "policies": policies, "classifier": {"kind": "embedded"}})


async def _decide(config: Config, text: str, stage: Stage) -> tuple[Decision, str]:
    """The decision, and the text as it would be passed on."""
    guard = build_guard(config)
    segment = (Segment(text, ()),)
    try:
        if stage is Stage.INPUT:
            conversation = Conversation((Turn("user", segment),))
            decision = await guard.engine.check_input(conversation)
            texts = guard.engine.chat(conversation).redacted(decision.redactions)
        else:
            answer = Turn("assistant", segment)
            decision = await guard.engine.check_output(Conversation(()), answer)
            texts = guard.engine.chat(Conversation(())).delivered(answer, decision.redactions)
        return decision, texts.get((), text)
    finally:
        await guard.aclose()


def _as_json(decision: Decision, text: str) -> dict[str, object]:
    return {
        "id": decision.id,
        "stage": decision.stage.value,
        "action": decision.action.word,
        "text": text if decision.action is Action.REDACT else None,
        "degraded": list(decision.degraded),
        "findings": [
            {
                "policy": f.policy.id,
                "label": None if isinstance(f, Failure) else f.label,
                "action": f.action.word,
                "status": "unavailable" if isinstance(f, Failure) else "judged",
                "error": f.code.value if isinstance(f, Failure) else None,
            }
            for f in decision.findings
        ],
    }


def _print(decision: Decision, text: str) -> None:
    click.echo(f"{decision.stage.value}: {decision.action.word}")
    for finding in decision.findings:
        if isinstance(finding, Failure):
            click.echo(f"  {finding.policy.id}: unavailable ({finding.code.value})")
        elif finding.violation:
            click.echo(f"  {finding.policy.id}: {finding.label} -> {finding.action.word}")
    if decision.action is Action.REDACT:
        click.echo(text)
    if any(not isinstance(f, Failure) and f.reduced for f in decision.findings):
        click.echo("  (rules only: reduced coverage, nobody read the text)")
