"""The twin of guardrail/backends/presidio.py: Presidio itself, with a spaCy pipeline of rules made here.

No model is needed: the pipeline knows a few names by heart and the lemmas of the words that Presidio looks
for, and is loaded from its folder like any other. Presidio is an extra of some 380 MB; where it is missing
this file is skipped, save for what holds without it. To run it: ``pip install 'guardrail[presidio]'``.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.detectors import DETECTORS
from guardrail.errors import ClassifierError, ConfigError

if TYPE_CHECKING:
    from guardrail.backends.presidio import PresidioDetectors

HERE = importlib.util.find_spec("presidio_analyzer") is not None
needs_presidio = pytest.mark.skipif(not HERE, reason="the extra guardrail[presidio] is not installed")

PERSON, LOCATION, PASSPORT = "presidio.person", "presidio.location", "presidio.us_passport"
LONG_NAME = " ".join(["Ana"] * 60)  # 239 code points
NAMES = {"Jane Doe": "PERSON", "Zoë": "PERSON", LONG_NAME: "PERSON", "Lisbon": "GPE", "five euros": "MONEY"}


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
    import spacy

    from guardrail.backends.presidio import PresidioDetectors

    nlp = spacy.blank("en")
    lemmas = nlp.add_pipe("attribute_ruler")
    lemmas.add([[{"LOWER": "passport"}]], {"LEMMA": "passport"})
    nlp.add_pipe("entity_ruler").add_patterns(
        [
            {"label": label, "pattern": [{"TEXT": word} for word in name.split()]}
            for name, label in NAMES.items()
        ]
    )
    folder = tmp_path_factory.mktemp("model")
    nlp.to_disk(folder)
    return PresidioDetectors(str(folder))


@needs_presidio
class TestDetectors:
    def test_there_is_one_for_each_entity_that_the_model_or_a_recognizer_knows(
        self, presidio: PresidioDetectors
    ) -> None:
        names = set(presidio.detectors)
        assert {PERSON, LOCATION, PASSPORT, "presidio.us_driver_license"} <= names
        assert names.isdisjoint({"presidio.nrp", "presidio.organization", "presidio.money"})
        assert names.isdisjoint(DETECTORS)
        assert all(one.name == name for name, one in presidio.detectors.items())
        assert not any(one.inside or one.unbroken for one in presidio.detectors.values())

    def test_what_goes_online_or_can_be_stalled_is_left_out(self, presidio: PresidioDetectors) -> None:
        left_out = {"presidio.email_address", "presidio.url", "presidio.phone_number"}
        assert left_out.isdisjoint(presidio.detectors)

    @pytest.mark.parametrize(
        ("language", "found", "expected"),
        [
            ("en", "presidio.uk_nhs", "401 023 2137"),
            ("es", "presidio.es_nif", "12345678Z"),
        ],
    )
    def test_a_model_without_names_leaves_the_recognizers_of_its_language(
        self, tmp_path: Path, language: str, found: str, expected: str
    ) -> None:
        import spacy

        from guardrail.backends.presidio import PresidioDetectors

        spacy.blank(language).to_disk(tmp_path / "model")
        bare = PresidioDetectors(str(tmp_path / "model"))
        assert PERSON not in bare.detectors
        assert bare.detectors[found].find(f"n {expected}") == [(2, 2 + len(expected))]

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
    def test_find_all(
        self, presidio: PresidioDetectors, names: list[str], text: str, expected: list[str]
    ) -> None:
        assert [text[start:end] for _, start, end in presidio.find_all(names, text)] == expected

    def test_names_say_what_was_found(self, presidio: PresidioDetectors) -> None:
        found = presidio.find_all([PERSON, LOCATION], "Jane Doe of Lisbon")
        assert found == [(PERSON, 0, 8), (LOCATION, 12, 18)]
        assert presidio.detectors[LOCATION].find("Jane Doe of Lisbon") == [(12, 18)]

    def test_all_names_share_one_pass(
        self, presidio: PresidioDetectors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        analyze = presidio._analyze
        monkeypatch.setattr(
            presidio,
            "_analyze",
            lambda text, entities: (asked.append(entities), analyze(text, entities))[1],
        )
        presidio.find_all([PERSON, LOCATION, PASSPORT], "Jane Doe")
        assert asked == [["PERSON", "LOCATION", "US_PASSPORT"]]

    def test_an_unknown_name_is_told_with_those_there_are(self, presidio: PresidioDetectors) -> None:
        with pytest.raises(ConfigError, match=r"presidio\.nonsense.*presidio\.person"):
            presidio.find_all(["presidio.nonsense"], "text")

    @pytest.mark.parametrize("at", [0, 1_861, 1_865, 1_871, 1_872, 1_880, 1_995, 1_999, 2_000, 3_740])
    def test_a_name_is_found_wherever_it_stands_in_a_long_text(
        self, presidio: PresidioDetectors, at: int
    ) -> None:
        text = " ".join([*["a"] * (at // 2), "Jane Doe", *["a"] * 1_000])
        start = text.index("Jane Doe")
        assert presidio.find_all([PERSON], text) == [(PERSON, start, start + 8)]

    def test_a_span_that_is_too_long_becomes_several_that_touch(self, presidio: PresidioDetectors) -> None:
        found = presidio.detectors[PERSON].find(f"by {LONG_NAME}.")
        assert found == [(3, 131), (131, 242)]
        assert max(end - start for start, end in found) == presidio.detectors[PERSON].longest

    @given(
        st.lists(st.sampled_from([*NAMES, "912803456", "passport ", "\ud800", " ", "\n", "é"])).map("".join)
    )
    def test_spans_are_sorted_in_range_and_apart(self, presidio: PresidioDetectors, text: str) -> None:
        last = dict.fromkeys((PERSON, LOCATION, PASSPORT), 0)
        found = presidio.find_all(last, text)
        assert [start for _, start, _ in found] == sorted(start for _, start, _ in found)
        for name, start, end in found:
            assert last[name] <= start < end <= min(len(text), start + presidio.detectors[name].longest)
            last[name] = end

    def test_threads_may_share_it(self, presidio: PresidioDetectors) -> None:
        texts = [f"{'so ' * n}Jane Doe" for n in range(24)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda text: presidio.find_all([PERSON], text), texts))
        assert found == [[(PERSON, 3 * n, 3 * n + 8)] for n in range(24)]


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

    def test_a_failure_is_no_empty_finding_and_does_not_tell_the_text(
        self, presidio: PresidioDetectors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(text: str, _: list[str]) -> None:
            raise ValueError(f"did not find {text}")

        monkeypatch.setattr(presidio, "_analyze", fail)
        with pytest.raises(ClassifierError, match="presidio failed: ValueError") as caught:
            presidio.find_all([PERSON], "Jane Doe")
        assert "Jane" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert not presidio._lock.locked()

    def test_nothing_is_logged_and_nobody_is_asked(
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
            found = presidio.find_all(list(presidio.detectors), text)
        logging.getLogger("presidio-analyzer").setLevel(logging.NOTSET)
        assert {name for name, _, _ in found} >= {PERSON, PASSPORT, "presidio.iban_code"}
        assert caplog.text == ""
