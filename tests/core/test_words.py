"""Words found in a text: the longest at each place, whatever was added when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardrail.core.words import Words

SOME = st.lists(st.text("ab\U0001f600", min_size=1, max_size=6), max_size=6)


def found(words: Words, text: str) -> list[tuple[int, int]]:
    return sorted(words.find(text))


class TestWords:
    @given(st.lists(st.tuples(SOME, st.text("ab\U0001f600", max_size=20)), max_size=5))
    def test_at_each_place_the_longest_is_found_of_all_that_were_added_so_far(self, rounds):
        words, known = Words(), set[str]()
        for added, text in rounds:
            known.update(added)
            for word in added:
                words.add(word)
            longest = {
                at: max((len(word) for word in known if text.startswith(word, at)), default=0)
                for at in range(len(text))
            }
            assert found(words, text) == [(at, at + length) for at, length in longest.items() if length]

    def test_nothing_is_found_without_words_or_text(self):
        words = Words()
        assert found(words, "abc") == []
        words.add("a")
        assert found(words, "") == []

    def test_work_does_not_grow_with_words_times_text(self):
        words = Words()
        for length in range(1, 2001):
            words.add("a" * length + "b")
        text = "a" * 200_000  # each word agrees with each place but for its end
        assert found(words, text) == []
        assert found(words, text + "b")[:1] == [(198_000, 200_001)]

    def test_words_that_come_one_by_one_are_not_all_taken_in_again_each_time(self):
        words = Words()
        for number in range(3000):
            word = f"{number:05d}" * 20
            words.add(word)
            assert found(words, word)[0] == (0, 100)
        assert found(words, "00000" * 20)[0] == (0, 100)
