"""Presidio as a source of more detectors: names, places and what else its recognizers know.

Named in policies like those of ``guardrail.detectors``, but no part of that room: a language model is
loaded from disk, what it finds depends on all the words around, and a kilobyte costs milliseconds instead
of microseconds. So ``PresidioDetectors`` is built once, where the configuration asks for it, and looks
through texts in a thread of its own.

Nothing is fetched at run time: the spaCy pipeline is one that the user has installed. Needs the extra
``guardrail[presidio]``; its import takes about a second and 100 MB.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from guardrail.detectors import LONGEST_ELSEWHERE
from guardrail.detectors.detector import tidy
from guardrail.errors import ClassifierError, ConfigError

try:
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import EmailRecognizer, PhoneRecognizer, UrlRecognizer
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider
except ImportError:
    raise ConfigError(
        "detectors presidio.* need Presidio: install it with pip install 'guardrail[presidio]'"
    ) from None

__all__ = ["PresidioDetectors"]

# Its IBAN recognizer writes text that it cannot read into this log, its context enhancer the words around.
logging.getLogger("presidio-analyzer").disabled = True

# Left out: the first fetches a list of domains from the network; the others take 0.6 and 0.1 ms a character
# of a text made for it ("a.a.a.", "1/1/1/"; Presidio 2.2.366). pii.email and pii.phone find the same.
_LEFT_OUT: Final = (EmailRecognizer, UrlRecognizer, PhoneRecognizer)
_MIN_SCORE: Final = 0.4  # what a weak pattern has with a word of context beside it, and not without
_PIECE: Final = 2_000  # Presidio's scoring takes quadratic time for many hits
# So does spaCy's tokenizer for runs without white space, and no other thread runs meanwhile: 6 ms for this.
_RUN: Final = 256
_LONG_RUN: Final = re.compile(rf"\S{{{_RUN + 1}}}")


class PresidioDetectors:
    """Every entity that Presidio finds with one spaCy pipeline, as a detector ``presidio.<entity>``.

    ``model`` is the pipeline's package (``"en_core_web_lg"``) or its folder; its language decides which of
    Presidio's recognizers take part. Raises ``ConfigError`` when it cannot be loaded, or fails at once.

    May be used from any event loop. One piece of one text is looked through at a time, in the order in
    which they come: spaCy does not promise that a pipeline may be shared, and a long text holds up the
    others by one piece only.
    """

    def __init__(self, model: str) -> None:
        try:
            nlp = spacy.load(model)
            analyze, entities = _analyzer(nlp)
            analyze("\u00e9 0", sorted(entities))
        except Exception as error:  # spaCy raises whatever a pipeline's parts raise
            raise ConfigError(
                f"presidio.model: spaCy cannot load and run {model!r} ({type(error).__name__}); "
                "install the pipeline (python -m spacy download NAME) or give its folder"
            ) from None
        self._analyze = analyze
        self._entities = {f"presidio.{entity.lower()}": entity for entity in sorted(entities)}
        self._identity = "{lang}_{name}-{version}".format_map(nlp.meta)
        self._thread = ThreadPoolExecutor(1, "guardrail-presidio")

    @property
    def names(self) -> Collection[str]:
        """All that there are."""
        return self._entities.keys()

    @property
    def identity(self) -> str:
        """The pipeline and its version."""
        return self._identity

    async def find_all(self, names: Iterable[str], text: str) -> list[tuple[str, int, int]]:
        """(detector's name, start, end) of all that the named detectors find, in the text's order.

        All names share one pass, of some milliseconds a kilobyte. Offsets are code points, no span is
        longer than ``LONGEST_ELSEWHERE``. Raises ``ClassifierError`` where Presidio fails: that a check
        could not be made is not "nothing found". Where it is cancelled, no further piece is looked at.
        """
        chosen = {self._entities[name]: name for name in names}
        if not chosen:
            return []
        spans: dict[str, list[tuple[int, int]]] = {name: [] for name in chosen.values()}
        for offset, piece in _pieces(text):
            work = self._thread.submit(self._analyzed, piece, list(chosen))
            for hit in await asyncio.wrap_future(work):
                spans[chosen[hit.entity_type]].append((offset + hit.start, offset + hit.end))
        found = [(name, *span) for name, each in spans.items() for span in tidy(each, LONGEST_ELSEWHERE)]
        return sorted(found, key=lambda hit: (hit[1], hit[2], hit[0]))

    def _analyzed(self, piece: str, entities: list[str]) -> list[Any]:
        try:
            return self._analyze(piece, entities)
        except Exception as error:  # a crash becomes a Failure; its own message may hold the text
            raise ClassifierError(f"presidio failed: {type(error).__name__}") from None


def _analyzer(nlp: Any) -> tuple[Callable[[str, list[str]], list[Any]], set[str]]:
    """A function that gives Presidio's findings in a text, and the entities that it can be asked for."""
    labels = {label for labels in nlp.pipe_labels.values() for label in labels}
    known = NerModelConfiguration().model_to_presidio_entity_mapping
    mapping = {label: entity for label, entity in known.items() if label in labels}
    # Given the loaded pipeline, the engine does not load one, nor download what it does not find.
    engine = SpacyNlpEngine(
        models=[{"lang_code": nlp.lang, "model_name": nlp.meta["name"]}],
        ner_model_configuration=NerModelConfiguration(
            model_to_presidio_entity_mapping=mapping, labels_to_ignore=labels - mapping.keys()
        ),
    )
    engine.nlp = {nlp.lang: nlp}
    registry = RecognizerRegistryProvider(
        registry_configuration={"supported_languages": [nlp.lang]}
    ).create_recognizer_registry()
    registry.recognizers = [one for one in registry.recognizers if not isinstance(one, _LEFT_OUT)]
    if mapping:
        registry.add_nlp_recognizer(engine)
    analyzer = AnalyzerEngine(registry, engine, supported_languages=[nlp.lang])

    def analyze(text: str, entities: list[str]) -> list[Any]:
        found: list[Any] = analyzer.analyze(text, nlp.lang, entities, score_threshold=_MIN_SCORE)
        return found

    return analyze, {entity for one in registry.recognizers for entity in one.supported_entities}


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Pieces that overlap by the longest span, with their offsets, as spaCy can read them.

    A lone surrogate is read as "?", one character for one. No run without white space is longer than
    ``_RUN`` in any of them.
    """
    readable = text.encode("utf-8", "replace").decode()
    offset = end = 0
    while end < len(text):
        end = min(offset + _PIECE, len(text))
        run = _LONG_RUN.search(readable, offset, end)
        if run is not None:
            end = run.start() + _RUN
        yield offset, readable[offset:end]
        offset = end - LONGEST_ELSEWHERE
