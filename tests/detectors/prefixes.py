"""What a stream relies on when it lets text go before the rest of it is there."""

from guardrail.detectors.detector import Detector
from guardrail.detectors.pii_context import REACH


def assert_held(detector: Detector, text: str) -> None:
    """No beginning of the text lets a part of a match go, nor does the text without its front lose one.

    A stream holds ``held`` characters, or for an unbroken detector at least the word that goes on, and
    it reads ``REACH`` characters of what has left.
    """
    spans = detector.find(text)
    assert spans, text
    for start, end in spans:
        assert end - start <= detector.longest
        assert not detector.unbroken or not any(c.isspace() for c in text[start:end])
        for cut in range(start + 1, len(text) + 1):
            is_covered = any(first <= start < last for first, last in detector.find(text[:cut]))
            is_word = detector.unbroken and not any(c.isspace() for c in text[start:cut])
            assert is_covered or cut - start < detector.held or is_word, text[:cut]
        front = max(0, start - REACH)
        assert (start - front, end - front) in detector.find(text[front:])


def embedded(example: str) -> str:
    """The example in a text that is longer than what is held, on either side."""
    return "So it was written down at the time: " * 6 + example + ". And nothing else was said." * 10
