"""Chunked: a classifier whose judge has a window, asked in parts about what is longer than that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from guardrail.core.chunks import Chunk, fits, halves, merged, split
from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, Policy
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError, ClassifierRejected, FailureCode
from guardrail.ports import Classifier

__all__ = ["Chunked"]

MAX_DEPTH: Final = 3  # halvings: the estimate of tokens falls short by less than a factor of four
CALLS_PER_CHUNK: Final = 4
_TOO_MUCH: Final = (FailureCode.TOO_LONG, FailureCode.TRUNCATED)


class Chunked:
    """A ``Classifier`` around another one.

    ``max_tokens_of`` says how many tokens of the window are left for the user message: the window less
    policy and answer. What fits goes to ``inner`` as it is. What does not is cut into at most
    ``max_chunks`` chunks that share ``overlap_chars`` characters with their neighbours and are judged
    side by side; any violating one decides. Where the judge's server says that a text is too long, or
    has cut it, that text is halved and asked again.
    """

    def __init__(
        self,
        inner: Classifier,
        max_tokens_of: Callable[[Policy], int],
        *,
        overlap_chars: int = 400,
        max_chunks: int = 16,
    ) -> None:
        self._inner = inner
        self._max_tokens_of = max_tokens_of
        self._overlap = overlap_chars
        self._max_chunks = max_chunks

    def identity(self, policy: Policy) -> str:
        """The inner one's: chunks are another way to ask the same."""
        return self._inner.identity(policy)

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """Raises ``ClassifierError``: where any chunk's check failed, unless another chunk blocks."""
        check = _Check(self._inner, policy, self._overlap, CALLS_PER_CHUNK * self._max_chunks)
        most = self._max_tokens_of(policy)
        if fits(subject, most):
            return await check.one(subject, 0)
        return await check.each(split(subject, most, self._overlap, self._max_chunks), 0)


@dataclass(slots=True)
class _Check:
    """One subject under one policy. ``left``: how many calls may still be made for it."""

    inner: Classifier
    policy: Policy
    overlap: int
    left: int

    async def one(self, subject: Subject, depth: int) -> Verdict:
        if not self.left:
            raise ClassifierRejected("too long for the judge in too many parts", code=FailureCode.TOO_LONG)
        self.left -= 1
        try:
            return await self.inner.classify(self.policy, subject)
        except ClassifierRejected as error:
            if error.code not in _TOO_MUCH or depth == MAX_DEPTH:
                raise
            try:
                parts = halves(subject, self.overlap)
            except ClassifierRejected:  # too short to be halved, so its length is not what is wrong
                raise error from None
        return await self.each(parts, depth + 1)

    async def each(self, chunks: Sequence[Chunk], depth: int) -> Verdict:
        found: dict[int, Verdict | ClassifierError] = {}

        async def judge(index: int, chunk: Chunk) -> None:
            try:
                verdict = found[index] = chunk.back(await self.one(chunk.subject, depth))
            except ClassifierError as error:
                found[index] = error
            else:
                if verdict.action is Action.BLOCK:  # nothing that the others say can change it
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for index, chunk in enumerate(chunks):
                group.start_soon(judge, index, chunk)
        return merged([found[index] for index in sorted(found)])
