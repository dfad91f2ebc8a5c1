"""What the pages say of the code, where it can be compared: tables, pictures, links."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardrail.core.conversation import Segment
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Stage, Strategy
from guardrail.core.redaction import Span, apply
from guardrail.core.release import Check, Command, Release, StreamRules
from guardrail.core.stream import StreamGuard
from guardrail.core.vault import Vault
from guardrail.frontends import streaming

ROOT = Path(__file__).parents[1]
STREAMING = (ROOT / "docs" / "streaming.md").read_text()
REDACTION = (ROOT / "docs" / "redaction.md").read_text()
PICTURE = (ROOT / "docs" / "images" / "streaming.svg").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[!.]*/README.md")])


def marked(page: str, name: str) -> str:
    """What stands between the two markers of this name."""
    between = re.search(rf"<!-- {name}:[^\n]*-->\n(.*?)<!-- end of {name} -->", page, re.DOTALL)
    assert between is not None, f"the page has no part marked {name}"
    return between[1]


def test_the_races_are_those_of_the_docstring():
    docstring = (streaming.__doc__ or "").replace("``", "`")
    table = [line for line in docstring.splitlines() if line.startswith("|")]
    assert len(table) > 5
    assert marked(STREAMING, "races").splitlines() == table


Played = tuple[list[tuple[float, float, int, int]], list[tuple[float, int, int]]]


def played() -> Played:
    """The answer of the timeline: checks as (from, until, start, end), releases as (at, start, end).

    A calm sentence of 50 characters again and again, 1,400 in 50 chunks of 28, one every 0.03 s. The
    judge takes 0.3 s.
    """
    text = ("One calm sentence after the other, of forty-five. " * 28)[:1400]
    guard = StreamGuard(StreamRules())
    number = itertools.count()
    coming: list[tuple[float, int, str | Check | None]] = [
        (round(0.03 * (place + 1), 3), next(number), text[28 * place : 28 * place + 28])
        for place in range(50)
    ]
    coming.append((1.5, next(number), None))
    checks, releases, released = [], [], 0
    while coming:
        now, _, event = heapq.heappop(coming)
        commands: list[Command]
        if isinstance(event, Check):
            commands = guard.settle(event, Decision(Stage.OUTPUT, Action.PASS))
        else:
            commands = guard.close() if event is None else guard.push(event)
        for command in commands:
            if isinstance(command, Check):
                heapq.heappush(coming, (round(now + 0.3, 3), next(number), command))
                checks.append((now, round(now + 0.3, 3), command.start, command.start + len(command.text)))
            elif isinstance(command, Release):
                releases.append((now, released, released + len(command.original)))
                released += len(command.original)
    assert guard.finished
    return checks, releases


class TestTimeline:
    def test_in_characters(self):
        lines = marked(STREAMING, "timeline")
        number = r"([0-9.]+)"
        checks = re.findall(rf"^check .*? {number}-{number}, at {number}-{number} s$", lines, re.MULTILINE)
        releases = re.findall(rf"^leaves .*? {number}-{number}, at {number} s$", lines, re.MULTILINE)
        told = (
            [(float(a), float(b), int(start), int(end)) for start, end, a, b in checks],
            [(float(at), int(start), int(end)) for start, end, at in releases],
        )
        assert told == played()

    def test_as_a_picture(self):
        """In the upper half; the scale stands there in a comment."""
        scale = re.search(r"x = (\d+) \+ (\d+) per second, y = (\d+) - ([\d.]+) per character", PICTURE)
        assert scale is not None
        left, second, bottom, letter = map(float, scale.groups())
        found = re.findall(r'class="check" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', PICTURE)
        boxes = [
            (
                round((x - left) / second, 2),
                round((x + wide - left) / second, 2),
                round((bottom - y - high) / letter),
                round((bottom - y) / letter),
            )
            for x, y, wide, high in [tuple(map(float, box)) for box in found]
            if y < bottom
        ]
        checks, releases = played()
        assert boxes == checks
        line = re.search(r'class="leaves" d="M\S+ (\S+)"', PICTURE)
        assert line is not None
        steps = [float(step) for step in re.findall(r"[HV]([\d.]+)", line[1])]
        corners = [round((x - left) / second, 2) for x in steps[0:-1:2]]
        heights = [round((bottom - y) / letter) for y in steps[1::2]]
        assert (corners, heights) == ([at for at, _, _ in releases], [end for _, _, end in releases])


def test_the_strategies_give_what_the_page_shows():
    cell = r"`([^`]*)`"
    rows = re.findall(rf"^\| {cell} \| {cell} \| {cell} \|", marked(REDACTION, "strategies"), re.MULTILINE)
    vault = Vault(b"a secret of at least 16 characters")
    texts = ("kim.doe@example.com", "email", "PII2"), ("4111 1111 1111 1111", "card", "PII3")
    given = []
    for strategy in Strategy:
        row = [strategy.value]
        for text, kind, label in texts:
            segment = Segment(text, ())
            span = Span(0, len(text), label, kind, strategy)
            row.append(apply(text, vault.redactions(segment, [span])))
        given.append(tuple(row))
    assert rows == given


def test_the_spellings_that_the_page_shows_are_turned_back():
    table = REDACTION.partition("| the model writes |")[2].partition("\n\n")[0]
    survives, stays = table.splitlines()[2:-1], table.splitlines()[-1]
    vault = Vault(b"a secret of at least 16 characters")
    mail = "kim.doe@example.com"
    segment = Segment(mail, ())
    vault.redactions(segment, [Span(0, len(mail), "PII2", "email", Strategy.PLACEHOLDER)])

    def restored(text: str) -> str:
        return apply(text, vault.answer(Segment(text, ()), ()))

    for row in survives:
        for written in re.findall("`([^`]*)`", row.split(" | ")[0]):
            assert mail in restored(written), written
            assert "JZMWHJSX" not in restored(written).upper(), written
    assert len(survives) == 4
    for written in re.findall("`([^`]*)`", stays.split(" | ")[0]):
        assert restored(written) == written


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    for file, anchor in links(page):
        assert file.exists(), f"{page.name} links to {file}, which is not there"
        assert not anchor or anchor in anchors(file), f"{page.name}: {file.name} has no #{anchor}"


def test_the_readme_leads_to_every_page():
    linked = {file for file, _ in links(ROOT / "README.md")}
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.resolve() not in linked] == []
