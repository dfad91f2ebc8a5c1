"""The twin of guardrail/backends/presidio.py: Presidio itself, with a spaCy pipeline of rules.

Skipped without the extra, save for what holds without it. To run it: ``pip install 'guardrail[presidio]'``.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors import DETECTORS, LONGEST_ELSEWHERE
from guardrail.errors import ClassifierError, ConfigError
from tests.presidio_pipeline import LONG_NAME, NAMES, needs_presidio, write_pipeline

if TYPE_CHECKING:
    from guardrail.backends.presidio import PresidioDetectors

pytestmark = pytest.mark.anyio

BOUND_S = 30
PERSON, LOCATION, PASSPORT = "presidio.person", "presidio.location", "presidio.us_passport"


def test_without_the_extra_its_name_is_told() -> None:
    code = (
        "import sys\nsys.modules['presidio_analyzer'] = None\nfrom guardrail.errors import ConfigError\n"
        "try:\n    import guardrail.backends.presidio\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'guardrail[presidio]'" in told.stdout, told.stderr


@pytest.fixture(scope="module")
def presidio(tmp_path_factory: pytest.TempPathFactory) -> PresidioDetectors:
    from guardrail.backends.presidio import PresidioDetectors

    return PresidioDetectors(write_pipeline(tmp_path_factory.mktemp("model")))


@needs_presidio
class TestDetectors:
    def test_there_is_one_for_each_entity_that_the_model_or_a_recognizer_knows(
        self, presidio: PresidioDetectors
    ) -> None:
        names = set(presidio.names)
        assert {PERSON, LOCATION, PASSPORT, "presidio.us_driver_license"} <= names
        assert names.isdisjoint({"presidio.nrp", "presidio.organization", "presidio.money"})
        assert names.isdisjoint(DETECTORS)

    def test_what_goes_online_or_can_be_stalled_is_left_out(self, presidio: PresidioDetectors) -> None:
        left_out = {"presidio.email_address", "presidio.url", "presidio.phone_number"}
        assert left_out.isdisjoint(presidio.names)

    def test_its_identity_is_the_pipeline_and_its_version(self, presidio: PresidioDetectors) -> None:
        assert presidio.identity == "en_pipeline-0.0.0"

    @pytest.mark.parametrize(
        ("language", "found", "expected"),
        [
            ("en", "presidio.uk_nhs", "401 023 2137"),
            ("es", "presidio.es_nif", "12345678Z"),
        ],
    )
    async def test_a_model_without_names_leaves_the_recognizers_of_its_language(
        self, tmp_path: Path, language: str, found: str, expected: str
    ) -> None:
        import spacy

        from guardrail.backends.presidio import PresidioDetectors

        spacy.blank(language).to_disk(tmp_path / "model")
        bare = PresidioDetectors(str(tmp_path / "model"))
        assert PERSON not in bare.names
        assert await bare.find_all([found], f"n {expected}") == [(found, 2, 2 + len(expected))]

    @pytest.mark.parametrize(
        ("names", "text", "expected"),
        [
            ([], "Jane Doe", []),
            ([PERSON], "", []),
            ([PERSON], "nobody in particular", []),
            ([PERSON], "Jane Doe of Lisbon", ["Jane Doe"]),
            ([PERSON, LOCATION], "Jane Doe of Lisbon", ["Jane Doe", "Lisbon"]),
            ([LOCATION, PERSON, PERSON], "Lisbon, says Jane Doe", ["Lisbon", "Jane Doe"]),
            ([PERSON], "\U0001f600 Zoë \ud800 Jane Doe", ["Zoë", "Jane Doe"]),
            ([PASSPORT], "the passport 912803456", ["912803456"]),
            ([PASSPORT], "the number 912803456", []),  # too weak a pattern without a word beside it
        ],
    )
    async def test_find_all(
        self, presidio: PresidioDetectors, names: list[str], text: str, expected: list[str]
    ) -> None:
        assert [text[start:end] for _, start, end in await presidio.find_all(names, text)] == expected

    async def test_names_say_what_was_found(self, presidio: PresidioDetectors) -> None:
        found = await presidio.find_all([PERSON, LOCATION], "Jane Doe of Lisbon")
        assert found == [(PERSON, 0, 8), (LOCATION, 12, 18)]

    async def test_all_names_share_one_pass(
        self, presidio: PresidioDetectors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        analyze = presidio._analyze
        monkeypatch.setattr(
            presidio,
            "_analyze",
            lambda text, entities: (asked.append(entities), analyze(text, entities))[1],
        )
        await presidio.find_all([PERSON, LOCATION, PASSPORT], "Jane Doe")
        assert asked == [["PERSON", "LOCATION", "US_PASSPORT"]]

    @pytest.mark.parametrize("at", [0, 1_861, 1_865, 1_871, 1_872, 1_880, 1_995, 1_999, 2_000, 3_740])
    async def test_a_name_is_found_wherever_it_stands_in_a_long_text(
        self, presidio: PresidioDetectors, at: int
    ) -> None:
        text = " ".join([*["a"] * (at // 2), "Jane Doe", *["a"] * 1_000])
        start = text.index("Jane Doe")
        assert await presidio.find_all([PERSON], text) == [(PERSON, start, start + 8)]

    async def test_a_span_that_is_too_long_becomes_several_that_touch(
        self, presidio: PresidioDetectors
    ) -> None:
        found = await presidio.find_all([PERSON], f"by {LONG_NAME}.")
        assert found == [(PERSON, 3, 131), (PERSON, 131, 242)]
        assert max(end - start for _, start, end in found) == LONGEST_ELSEWHERE

    @given(
        st.lists(st.sampled_from([*NAMES, "912803456", "passport ", "\ud800", " ", "\n", "é"])).map("".join)
    )
    async def test_spans_are_sorted_in_range_and_apart(
        self, presidio: PresidioDetectors, text: str
    ) -> None:
        last = dict.fromkeys((PERSON, LOCATION, PASSPORT), 0)
        found = await presidio.find_all(last, text)
        assert [start for _, start, _ in found] == sorted(start for _, start, _ in found)
        for name, start, end in found:
            assert last[name] <= start < end <= min(len(text), start + LONGEST_ELSEWHERE)
            last[name] = end


@needs_presidio
class TestPieces:
    RUNS = st.tuples(st.sampled_from(["a", ":", " ", "\n", "é", "\ud800", "ab "]), st.integers(0, 2_500))

    @given(st.lists(RUNS, max_size=5).map(lambda runs: "".join(part * count for part, count in runs)))
    def test_whatever_is_no_longer_than_a_span_stands_whole_in_one(self, text: str) -> None:
        from guardrail.backends.presidio import _pieces

        end = 0
        for offset, piece in _pieces(text):
            assert offset == max(end - LONGEST_ELSEWHERE, 0)
            assert piece == text[offset : offset + len(piece)].replace("\ud800", "?")
            assert end < offset + len(piece)
            end = offset + len(piece)
        assert end == len(text)

    @given(st.lists(RUNS, max_size=5).map(lambda runs: "".join(part * count for part, count in runs)))
    def test_none_is_long_and_no_run_in_it_can_stall_the_tokenizer(self, text: str) -> None:
        from guardrail.backends.presidio import _pieces

        for _, piece in _pieces(text):
            assert len(piece) <= 2_000
            assert max(map(len, piece.split()), default=0) <= 256

    def test_prose_is_cut_as_seldom_as_can_be(self) -> None:
        from guardrail.backends.presidio import _pieces

        assert [len(piece) for _, piece in _pieces("prose " * 1_000)] == [2_000, 2_000, 2_000, 384]


class Gate:
    """In the place of Presidio's ``analyze``: each piece waits until it is let through."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.threads: set[int] = set()
        self.began = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, text: str, _: list[str]) -> list[Any]:
        self.pieces.append(text)
        self.threads.add(threading.get_ident())
        self.began.release()
        assert self.let.acquire(timeout=BOUND_S)
        return []

    async def until_it_begins(self) -> None:
        """The next piece; the event loop goes on."""
        assert await anyio.to_thread.run_sync(self.began.acquire, True, BOUND_S)


@needs_presidio
class TestThread:
    """It runs beside the event loop, one piece after another."""

    @pytest.fixture
    def gate(self, presidio: PresidioDetectors, monkeypatch: pytest.MonkeyPatch) -> Gate:
        gate = Gate()
        monkeypatch.setattr(presidio, "_analyze", gate)
        return gate

    async def test_the_event_loop_goes_on(self, presidio: PresidioDetectors, gate: Gate) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(presidio.find_all, [PERSON], "text")
            await gate.until_it_begins()
            gate.let.release()  # only a loop that goes on comes here
        assert gate.threads.isdisjoint({threading.get_ident()})

    async def test_a_long_text_holds_up_a_short_one_by_one_piece(
        self, presidio: PresidioDetectors, gate: Gate
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(presidio.find_all, [PERSON], "long " * 2_000)
            await gate.until_it_begins()
            group.start_soon(presidio.find_all, [PERSON], "short")
            await anyio.wait_all_tasks_blocked()
            gate.let.release(9)
        assert ([len(piece) for piece in gate.pieces], gate.pieces[1]) == (
            [2_000, 5, *[2_000] * 4, 640],
            "short",
        )
        assert len(gate.threads) == 1

    async def test_what_was_given_up_is_not_looked_at_any_more(
        self, presidio: PresidioDetectors, gate: Gate
    ) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(presidio.find_all, [PERSON], "long " * 2_000)
            await gate.until_it_begins()
            group.start_soon(presidio.find_all, [PERSON], "waits")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        gate.let.release(2)
        await presidio.find_all([PERSON], "next")
        assert [piece[:5] for piece in gate.pieces] == ["long ", "next"]

    async def test_loops_may_share_it(self, presidio: PresidioDetectors) -> None:
        found: dict[int, Any] = {}

        def one(n: int) -> None:
            found[n] = anyio.run(presidio.find_all, [PERSON], f"{'so ' * n}Jane Doe")

        async with anyio.create_task_group() as group:
            for n in range(8):
                group.start_soon(anyio.to_thread.run_sync, one, n)
        assert found == {n: [(PERSON, 3 * n, 3 * n + 8)] for n in range(8)}


@needs_presidio
class TestWhatGoesWrong:
    @pytest.mark.parametrize("model", ["", "no_such_pipeline", "en_core_web_lg_that_nobody_has"])
    def test_a_model_that_is_missing_is_not_fetched(
        self, model: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from guardrail.backends.presidio import PresidioDetectors

        monkeypatch.setattr("spacy.cli.download", lambda *_: pytest.fail("a download"))
        with pytest.raises(ConfigError, match=r"presidio\.model: .*install the pipeline"):
            PresidioDetectors(model)

    def test_a_pipeline_that_always_fails_is_found_out_at_the_start(self, tmp_path: Path) -> None:
        import spacy

        from guardrail.backends.presidio import PresidioDetectors

        nlp = spacy.blank("en")
        nlp.add_pipe("ner")  # never trained, nor told what to find
        nlp.to_disk(tmp_path / "model")
        with pytest.raises(ConfigError, match=r"presidio\.model: spaCy cannot load and run "):
            PresidioDetectors(str(tmp_path / "model"))

    async def test_a_failure_is_no_empty_finding_and_does_not_tell_the_text(
        self, presidio: PresidioDetectors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(text: str, _: list[str]) -> None:
            raise ValueError(f"did not find {text}")

        monkeypatch.setattr(presidio, "_analyze", fail)
        for _ in range(2):  # its thread lives on
            with pytest.raises(ClassifierError, match="presidio failed: ValueError") as caught:
                await presidio.find_all([PERSON], "Jane Doe")
            assert "Jane" not in str(caught.value)
            assert caught.value.__suppress_context__

    async def test_nothing_is_logged_and_nobody_is_asked(
        self,
        presidio: PresidioDetectors,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(host: str, *_: object, **__: object) -> None:
            pytest.fail(f"asks for {host}")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        text = "Jane Doe, passport 912803456, jane@example.com, IBAN GB82 WEST 1234 5698 7654 32, http://a.b.com"
        with caplog.at_level(logging.DEBUG):
            logging.getLogger("presidio-analyzer").setLevel(logging.DEBUG)
            found = await presidio.find_all(list(presidio.names), text)
        logging.getLogger("presidio-analyzer").setLevel(logging.NOTSET)
        assert {name for name, _, _ in found} >= {PERSON, PASSPORT, "presidio.iban_code"}
        assert caplog.text == ""
