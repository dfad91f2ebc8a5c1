"""From samples to one table: medians, ratios against the bare pass-through, budgets met or missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Final

from benchmarks.load import Sample
from benchmarks.mock import CHUNK_CHARS, CHUNKS
from benchmarks.plan import JUDGE_MS, MEAN_PAUSE_MS, PAUSE_MS, RELEASES, UPSTREAM_MS, Results
from benchmarks.table import at_most, markdown
from guardrail.core.release import StreamRules

_HEAD: Final = (
    "per request or stream",
    "at once",
    "bare",
    "guardrail",
    "ratio, or added",
    "budget (stretch)",
    "",
)

# Upper bounds: (budget, stretch).
_RATIOS: Final = {"unguarded": (1.25, 1.1), "cached": (1.6, 1.25), "judged": (3.2, 2.5)}
_STREAM_RATIO: Final = (2.2, 1.5)
_STREAM_END_MS: Final = (1.2 * JUDGE_MS, 1.05 * JUDGE_MS)
_RULES: Final = StreamRules()
# From the first chunk's arrival to that of the chunk that fills the first window.
_FILLING_MS: Final = (
    ceil((_RULES.overlap + (_RULES.first or _RULES.window)) / CHUNK_CHARS) - 1
) * MEAN_PAUSE_MS
_FIRST_TOKEN_MS: Final = {
    "window": (_FILLING_MS + 1.2 * JUDGE_MS, _FILLING_MS + 1.05 * JUDGE_MS),
    "live": (5.0, 2.0),
}
_UNARY_MS: Final = max(0, JUDGE_MS - UPSTREAM_MS) + JUDGE_MS + 5
_RSS_MB: Final = (90.0, 60.0)
_START_S: Final = (1.5, 0.8)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    at_once: int | None
    bare: str
    ours: str
    against: str = ""
    budget: str = ""
    outcome: str = ""

    @property
    def cells(self) -> tuple[object, ...]:
        return (
            self.what,
            self.at_once or "",
            self.bare,
            self.ours,
            self.against,
            self.budget,
            self.outcome,
        )


class Pair:
    """The samples of one candidate beside those of the bare pass-through, round by round."""

    def __init__(self, results: Results, series: str, ours: str, at_once: int) -> None:
        by_name = results.samples[series]
        self.at_once = at_once
        self.bare = by_name["bare"][at_once]
        self.ours = by_name[ours][at_once]

    def middles(self, name: str) -> tuple[float, float]:
        """The medians of both."""
        bare, ours = (median([getattr(s, name) for s in runs]) for runs in (self.bare, self.ours))
        return bare, ours

    def ratio(self, name: str) -> float:
        """The median of the rounds' own ratios: what drifts over the run cancels."""
        return median([getattr(a, name) / getattr(b, name) for a, b in self._rounds()])

    def added(self, name: str) -> float:
        """The median of the rounds' own differences."""
        return median([getattr(a, name) - getattr(b, name) for a, b in self._rounds()])

    def _rounds(self) -> list[tuple[Sample, Sample]]:
        return list(zip(self.ours, self.bare, strict=True))


def _unary_rows(results: Results, name: str, what: str) -> Iterator[Row]:
    budget, stretch = _RATIOS[name]
    pairs = [Pair(results, "unary", name, n) for n in results.samples["unary"][name]]
    for pair in pairs:
        bare, ours = pair.middles("cpu_ms")
        ratio = pair.ratio("cpu_ms")
        limit, outcome = f"≤ {budget}x ({stretch}x)", at_most(ratio, budget, stretch)
        yield Row(
            f"{what}: CPU ms", pair.at_once, f"{bare:.3f}", f"{ours:.3f}", f"{ratio:.2f}x", limit, outcome
        )
    for pair in pairs:
        bare, ours = pair.middles("rps")
        yield Row(
            f"{what}: requests/s", pair.at_once, f"{bare:,.0f}", f"{ours:,.0f}", f"{pair.ratio('rps'):.2f}x"
        )


def _stream_rows(results: Results, series: str, what: str) -> Iterator[Row]:
    budget, stretch = _STREAM_RATIO
    pairs = [Pair(results, series, "instant", n) for n in results.samples[series]["instant"]]
    for pair in pairs:
        bare, ours = pair.middles("cpu_ms")
        ratio = pair.ratio("cpu_ms")
        limit, outcome = f"≤ {budget}x ({stretch}x)", at_most(ratio, budget, stretch)
        yield Row(
            f"{what}: CPU ms", pair.at_once, f"{bare:.2f}", f"{ours:.2f}", f"{ratio:.2f}x", limit, outcome
        )
    for pair in pairs:
        bare, ours = (value * 1e3 / CHUNKS for value in pair.middles("cpu_ms"))
        added = pair.added("cpu_ms") * 1e3 / CHUNKS
        yield Row(f"{what}: CPU µs a chunk", pair.at_once, f"{bare:.1f}", f"{ours:.1f}", f"+{added:.1f}")
    if series == "burst":
        for pair in pairs:
            bare, ours = pair.middles("rps")
            yield Row(
                f"{what}: streams/s",
                pair.at_once,
                f"{bare:,.0f}",
                f"{ours:,.0f}",
                f"{pair.ratio('rps'):.2f}x",
            )


def _wait_row(what: str, pair: Pair, field: str, budget: float = 0.0, stretch: float | None = None) -> Row:
    """Wall time, and what is added to the bare pass-through's, in milliseconds."""
    bare, ours = (f"{value:.0f}" for value in pair.middles(field))
    added = pair.added(field)
    if not budget:
        return Row(what, pair.at_once, bare, ours, f"+{added:.0f}")
    limit = f"≤ +{budget:.0f}" + (f" (+{stretch:.0f})" if stretch else "")
    return Row(what, pair.at_once, bare, ours, f"+{added:.0f}", limit, at_most(added, budget, stretch))


def _wait_rows(results: Results) -> Iterator[Row]:
    judge = f"judge {JUDGE_MS} ms"
    unary = Pair(results, "slow unary", "slow", 4)
    beside = Pair(results, "slow unary", "slow beside", 4)
    stream = Pair(results, "slow stream", "slow", 4)
    for at_once in results.samples["paced"]["instant"]:
        pair = Pair(results, "paced", "instant", at_once)
        yield _wait_row("first token, checks of no cost: ms", pair, "first_ms")
    yield _wait_row(f"first token, input and output, {judge}: ms", stream, "first_ms")
    yield _wait_row(f"answer of {UPSTREAM_MS} ms, {judge}: ms", unary, "total_ms")
    what = f"answer of {UPSTREAM_MS} ms, {judge}, input check beside it: ms"
    yield _wait_row(what, beside, "total_ms", _UNARY_MS)
    yield _wait_row(f"whole stream, input and output, {judge}: ms", stream, "total_ms")
    for release in RELEASES:
        yield from _release_rows(results, release)


def _release_rows(results: Results, release: str) -> Iterator[Row]:
    """What a reader waits for, and how often the judge is asked, when only the answer is judged."""
    pair = Pair(results, "slow stream", release, 4)
    what = f"release {release}, output only, judge {JUDGE_MS} ms"
    yield _wait_row(f"{what}: ms to the first token", pair, "first_ms", *_FIRST_TOKEN_MS.get(release, ()))
    yield _wait_row(f"{what}: ms to the end", pair, "total_ms", *_STREAM_END_MS)
    calls = results.judge_calls[f"slow stream/{release}"]
    most = pair.middles("total_ms")[0] / JUDGE_MS + 2
    yield Row(f"{what}: judge calls", 4, "", f"{calls:.1f}", "", f"≤ {most:.1f}", at_most(calls, most))


def _own_row(what: str, value: float, form: str, budget: float, stretch: float) -> Row:
    """A figure that has no counterpart."""
    limit, outcome = f"≤ {budget:g} ({stretch:g})", at_most(value, budget, stretch)
    return Row(what, None, "", f"{value:{form}}", budget=limit, outcome=outcome)


def rows(results: Results) -> list[Row]:
    """The whole table."""
    return [
        *_unary_rows(results, "unguarded", "unguarded path"),
        *_unary_rows(results, "cached", "two cached verdicts"),
        *_unary_rows(results, "judged", "two judge calls"),
        *_stream_rows(results, "burst", "stream at full speed"),
        *_stream_rows(results, "paced", f"stream, {PAUSE_MS} ms a chunk"),
        *_wait_rows(results),
        _own_row("memory after load: MB", results.rss_mb, ".0f", *_RSS_MB),
        _own_row("start to first answer: s", results.start_s, ".2f", *_START_S),
    ]


def table(results: Results) -> str:
    """Markdown."""
    return markdown(_HEAD, [row.cells for row in rows(results)])
