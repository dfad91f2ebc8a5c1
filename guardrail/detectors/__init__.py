"""Detectors: pure, deterministic finders of spans (personal data, secrets, injection, Unicode tricks).

What was weighed (figures in docs and benchmarks; 60 patterns, clean text):

- google-re2 was taken: linear time, and a ``re2.Set`` pre-pass of 1.4 us/KB. ``re`` took 700 us/KB
  and, like ``regex``, backtracks, so a hostile text can stall it; hyperscan is as fast (5-8 us/KB)
  but a large native library without wheels for every platform.
- phonenumbers: Google's numbering plans, which no pattern can replace; asked only about candidates.
- python-stdnum: Luhn, ISO 7064, the IBAN registry and SSA's ranges, kept by others (LGPL, unmodified).
- Presidio: 1,500-2,400 us/KB and a language model in memory: too slow where every request passes,
  so it is an extra (see ``guardrail.backends.presidio``).
"""

from guardrail.detectors.catalogue import DETECTORS, find_all
from guardrail.detectors.detector import LONGEST_ELSEWHERE, Detector
from guardrail.detectors.phrases import PhraseRules
from guardrail.detectors.pii_context import REACH

__all__ = ["DETECTORS", "LONGEST_ELSEWHERE", "REACH", "Detector", "PhraseRules", "find_all"]
