"""A spaCy pipeline of rules for the tests of Presidio: a few names by heart, and no model.

Presidio is an extra of some 380 MB. Where it is missing its tests are skipped.
``GUARDRAIL_PRESIDIO=required`` has them run all the same, and fail: a CI that means to run these tests must
not lose them in silence.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

LONG_NAME = " ".join(["Ana"] * 60)  # 239 code points
NAMES = {"Jane Doe": "PERSON", "Zoë": "PERSON", LONG_NAME: "PERSON", "Lisbon": "GPE", "five euros": "MONEY"}

needs_presidio = pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None
    and os.environ.get("GUARDRAIL_PRESIDIO") != "required",
    reason="the extra guardrail[presidio] is not installed",
)


def write_pipeline(folder: Path, names: dict[str, str] = NAMES) -> str:
    """Write one that knows ``names`` and the lemma of a word that Presidio looks for; say where it is."""
    import spacy

    nlp = spacy.blank("en")
    lemmas = nlp.add_pipe("attribute_ruler")
    lemmas.add([[{"LOWER": "passport"}]], {"LEMMA": "passport"})
    nlp.add_pipe("entity_ruler").add_patterns(
        [
            {"label": label, "pattern": [{"TEXT": word} for word in name.split()]}
            for name, label in names.items()
        ]
    )
    nlp.to_disk(folder)
    return str(folder)
