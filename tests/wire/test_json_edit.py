"""JSON read strictly and edited in place, against documents that the test writes itself.

The test draws a document as a tree, writes it with random spacing, escapes and number forms, and notes
where each value stands. So the expected outcome comes from the tree and never from a JSON parser.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from guardrail.core.conversation import Address
from guardrail.errors import UnreadableRequest
from guardrail.wire.json_edit import REMOVE, edit, loads_strict, value_at

NUMBERS = [
    "0",
    "-0",
    "7",
    "1e5",
    "1E+05",
    "-1.50e-7",
    "0.10000",
    "123456789012345678901234567890",
    "1e-400",
    "-" + "9" * 300,
    "0." + "3" * 300,
]
STRINGS = [
    "",
    "a",
    "b",
    "messages",
    '":',
    '" :',
    ":",
    " :x",
    '\\":',
    "a\\",
    '"',
    "\t\n",
    "é\u0085\u2028",
    "😀",
    "/",
    "a.b",
    "[0]",
    "\x00",
]
MARK = "§private"

scalars = st.one_of(
    st.sampled_from(NUMBERS).map(lambda text: ("number", text)),
    st.sampled_from(["true", "false", "null"]).map(lambda text: ("number", text)),
    st.one_of(st.sampled_from(STRINGS), st.text(max_size=4)).map(lambda text: ("string", text)),
)
keys = st.one_of(st.sampled_from(STRINGS), st.text(max_size=3))
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: ("list", items)),
        st.lists(st.tuples(keys, inner), max_size=5).map(lambda members: ("object", members)),
    ),
    max_leaves=12,
)
seeds = st.integers(0, 2**32).map(random.Random)


class Written(NamedTuple):
    text: str
    places: dict[Address, tuple[int, int]]  # where the value at each address stands

    @property
    def raw(self) -> bytes:
        return self.text.encode()


def write(tree: Any, rng: random.Random) -> Written:
    out: list[str] = []
    places: dict[Address, tuple[int, int]] = {}

    def put(text: str) -> None:
        out.append(text)

    def space() -> None:
        put("".join(rng.choices(" \t\n\r", k=rng.choice([0, 0, 0, 1, 3]))))

    def value(node: Any, at: Address) -> None:
        kind, inner = node
        start = sum(map(len, out))
        if kind == "number":
            put(inner)
        elif kind == "string":
            put(quoted(inner, rng))
        else:
            put("[{"[kind == "object"])
            space()
            for index, item in enumerate(inner):
                if index:
                    put(",")
                    space()
                step: str | int = index
                if kind == "object":
                    step, item = item
                    put(quoted(step, rng))
                    space()
                    put(":")
                    space()
                value(item, (*at, step))
                space()
            put("]}"[kind == "object"])
        places[at] = (start, sum(map(len, out)))

    space()
    value(tree, ())
    space()
    return Written("".join(out), places)


SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def quoted(text: str, rng: random.Random) -> str:
    """A JSON string; each character literally or by one of its escapes, as chance has it."""
    out = []
    for char in text:
        units = char.encode("utf-16-be").hex()
        long = "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
        forms = [long.upper().replace("\\U", "\\u"), long]
        if char in SHORT:
            forms += [SHORT[char]] * 3
        if char >= " " and char not in '"\\':
            forms += [char] * 6
        out.append(rng.choice(forms))
    return f'"{"".join(out)}"'


def plain(tree: Any) -> Any:
    kind, inner = tree
    if kind == "number":
        return orjson.loads(inner)
    if kind == "string":
        return inner
    if kind == "list":
        return [plain(item) for item in inner]
    return {key: plain(item) for key, item in inner}


def repeats(tree: Any) -> bool:
    kind, inner = tree
    if kind == "list":
        return any(map(repeats, inner))
    if kind == "object":
        names = [key for key, _ in inner]
        return len(set(names)) < len(names) or any(repeats(item) for _, item in inner)
    return False


def distinct(tree: Any) -> Any:
    """The tree without the repeated keys."""
    kind, inner = tree
    if kind == "list":
        return kind, [distinct(item) for item in inner]
    if kind == "object":
        return kind, [(key, distinct(item)) for key, item in dict(inner).items()]
    return tree


class TestLoadsStrict:
    @given(trees, seeds)
    def test_a_body_is_refused_exactly_when_an_object_in_it_repeats_a_key(
        self, tree: Any, rng: random.Random
    ):
        raw = write(tree, rng).raw
        if repeats(tree):
            with pytest.raises(UnreadableRequest, match="repeats a key"):
                loads_strict(raw)
        else:
            assert loads_strict(raw) == plain(tree)

    @given(trees, keys, scalars, scalars, seeds)
    def test_one_repeated_key_at_the_bottom_is_found(
        self, tree: Any, key: str, one: Any, other: Any, rng: random.Random
    ):
        bottom = ("object", [(key, one), ("between", distinct(tree)), (key, other)])
        assume(key != "between")
        raw = write(("list", [distinct(tree), ("object", [("deep", bottom)])]), rng).raw
        with pytest.raises(UnreadableRequest, match="repeats a key"):
            loads_strict(raw)

    @pytest.mark.parametrize(
        "raw",
        [
            rb'{"messages":1,"messages":2}',
            rb'{"messages":1,"\u006dessages":2}',
            rb'{"\u006Dessages":1,"\u006dessages":2}',
            rb'{"a\/b":1,"a/b":2}',
            '{"😀":1,"\\ud83d\\ude00":2}'.encode(),
            '{"é":1,"\\u00e9":2}'.encode(),
            b'{"a" \t\r\n :1,"a":2}',
            b'{"":1,"":2}',
            rb'{"\"":1,"\u0022":2}',
            rb'{"x":[{"y":{"a":1,"b":{},"a":1}}]}',
            # What is dropped with the first value looks like what replaces it.
            rb'{"a":"\":","a":1}',
            rb'{"a":1,"a":"\u0022:"}',
            rb'{"a":1,"a":"\":\":\":"}',
            rb'{"a":1,"b":"\u0022:","a":2}',
            rb'{"a":1,"b":"\u0022\u003a","a":2}',
            rb'{"a":1,"b":"\"\u003a","a":2}',
            rb'{"a":1,"b":"\"\u0020:","a":2}',
            rb'{"a":1,"b":"\u003a","a":2}',
            rb'{"a":1,"b":" \u003a","a":2}',
            rb'{"a":1,"b":"\u0009:","a":2}',
            rb'{"a":1,"\u003a":3,"a":2}',
            rb'{"a":{"\u0022:":1},"a":2}',
            rb'{"a":1,"b":"\\u0022:","a":2}',
        ],
    )
    def test_hidden_repetitions_are_found(self, raw: bytes):
        with pytest.raises(UnreadableRequest, match="repeats a key") as caught:
            loads_strict(raw)
        assert (caught.value.status, caught.value.param) == (400, None)

    @pytest.mark.parametrize(
        "raw",
        [
            rb'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}',
            b'{"a":1,"A":2," a":3,"a ":4}',
            rb'{"a":"\":\":\"","b":"\u0022\u003a\u0020:"}',
            rb'{"\":":"\"a\":1,\"a\":2","x":":"}',
            '{"é":1,"e\u0301":2}'.encode(),
            rb'"\u0022a\u0022:1"',
            b" [ ] ",
        ],
    )
    def test_what_only_looks_like_a_repetition_is_read(self, raw: bytes):
        assert loads_strict(raw) == orjson.loads(raw)

    @given(st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode)))
    @example(b"")
    @example(b"\xef\xbb\xbf{}")
    @example(b'"\\ud800"')
    @example(b"NaN")
    @example(b"1e999")
    @example(b'{"a":1}{"a":1}')
    def test_any_bytes_are_a_value_or_an_unreadable_request(self, raw: bytes):
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            with pytest.raises(UnreadableRequest, match="not valid JSON"):
                loads_strict(raw)
        else:
            assert loads_strict(raw) == value

    @pytest.mark.parametrize(
        "raw",
        [f'{{"{MARK}":{MARK}', f'{{"{MARK}":1,"{MARK}":"{MARK}"}}', f'"{MARK}', f'"{MARK}\\x"', f"{MARK}"],
    )
    def test_a_refusal_quotes_nothing(self, raw: str):
        with pytest.raises(UnreadableRequest) as caught:
            loads_strict(raw.encode())
        assert MARK not in repr(caught.value)
        assert MARK not in repr(caught.value.__cause__)

    @pytest.mark.parametrize("leaf", [b"1", rb'"\u00e9"'], ids=["plain", "with an escape"])
    def test_depth_has_one_limit_whatever_the_body_holds(self, leaf: bytes):
        def nested(depth: int) -> bytes:
            return b'{"a":' * depth + leaf + b"}" * depth

        assert loads_strict(nested(250)) == orjson.loads(nested(250))
        for depth in (260, 900, 100_000):
            with pytest.raises(UnreadableRequest):
                loads_strict(nested(depth))


def chosen(places: dict[Address, tuple[int, int]], rng: random.Random) -> list[Address]:
    """Some addresses, none of which lies inside another."""
    some: list[Address] = []
    for address in rng.sample(sorted(places, key=str), k=len(places)):
        apart = all(address[: len(a)] != a and a[: len(address)] != address for a in some)
        if address and apart and rng.random() < 0.6:
            some.append(address)
    return some


def without(tree: Any, removed: list[Address], at: Address = ()) -> Any:
    kind, inner = tree
    if kind == "list":
        kept = [
            without(item, removed, (*at, index))
            for index, item in enumerate(inner)
            if (*at, index) not in removed
        ]
        return kind, kept
    if kind == "object":
        return kind, [
            (key, without(item, removed, (*at, key))) for key, item in inner if (*at, key) not in removed
        ]
    return tree


def replaced(tree: Any, addresses: list[Address], new: Any, at: Address = ()) -> Any:
    kind, inner = tree
    if at in addresses:
        return new
    if kind == "list":
        return kind, [replaced(item, addresses, new, (*at, i)) for i, item in enumerate(inner)]
    if kind == "object":
        return kind, [(key, replaced(item, addresses, new, (*at, key))) for key, item in inner]
    return tree


def is_thinned(text: str, original: str) -> bool:
    """Whether ``text`` is ``original`` with some characters left out."""
    rest = iter(original)
    return all(char in rest for char in text)


class TestEdit:
    @given(trees, seeds)
    def test_only_the_bytes_of_the_addressed_values_change(self, tree: Any, rng: random.Random):
        written = write(distinct(tree), rng)
        news: dict[Address, object] = {
            at: rng.choice(['new "text"\n\u2028', "", None, 5, {"k": [1]}])
            for at in chosen(written.places, rng)
        }
        expected, position = "", 0
        for at in sorted(news, key=lambda at: written.places[at]):
            start, end = written.places[at]
            expected += written.text[position:start] + orjson.dumps(news[at]).decode()
            position = end
        assert edit(written.raw, news) == (expected + written.text[position:]).encode()

    @given(trees, seeds, st.sampled_from(STRINGS) | st.text())
    def test_it_parses_to_the_original_with_these_values_replaced(
        self, tree: Any, rng: random.Random, new: str
    ):
        tree = distinct(tree)
        written = write(tree, rng)
        some = chosen(written.places, rng)
        assert loads_strict(edit(written.raw, dict.fromkeys(some, new))) == plain(
            replaced(tree, some, ("string", new))
        )

    @given(trees, seeds)
    def test_what_is_removed_is_gone_and_everything_else_stays_in_place(
        self, tree: Any, rng: random.Random
    ):
        tree = distinct(tree)
        written = write(tree, rng)
        removed = chosen(written.places, rng)
        after = edit(written.raw, dict.fromkeys(removed, REMOVE))
        assert loads_strict(after) == plain(without(tree, removed))
        assert is_thinned(after.decode(), written.text)
        for at, (start, end) in written.places.items():
            if at and not any(at[: len(r)] == r or r[: len(at)] == at for r in removed):
                assert written.text[start:end] in after.decode()

    @given(trees, seeds)
    def test_replacing_and_removing_go_together(self, tree: Any, rng: random.Random):
        tree = distinct(tree)
        written = write(tree, rng)
        some = chosen(written.places, rng)
        removed, replaced = some[::2], some[1::2]
        both = dict.fromkeys(removed, REMOVE) | dict.fromkeys(replaced, "new")
        first = written.raw
        for at in replaced:
            first = edit(first, {at: "new"})
        assert edit(written.raw, both) == edit(first, dict.fromkeys(removed, REMOVE))

    @pytest.mark.parametrize(
        ("raw", "removed", "after"),
        [
            (b'{"x":1, "a":2, "b":3}', "x", b'{"a":2, "b":3}'),
            (b'{"a":2, "x":1, "b":3}', "x", b'{"a":2, "b":3}'),
            (b'{"a":2, "b":3, "x":1}', "x", b'{"a":2, "b":3}'),
            (b'{ "x" : 1 }', "x", b"{  }"),
            (b'{"a":1,"x":2,"y":3}', "xy", b'{"a":1}'),
            (b'{"x":1,"a":2,"y":3}', "xy", b'{"a":2}'),
            (b'{"x":1,"y":2,"a":3}', "xy", b'{"a":3}'),
            (b'{"x":1,"y":2}', "xy", b"{}"),
            (rb'{"\u0078":{"x":"}\"],{"},"a":1}', "x", b'{"a":1}'),
        ],
    )
    def test_a_comma_goes_with_what_is_removed(self, raw: bytes, removed: str, after: bytes):
        assert edit(raw, {(key,): REMOVE for key in removed}) == after

    def test_items_of_a_list_are_counted_as_they_were(self):
        assert edit(b"[0, 1, 2, 3]", {(0,): REMOVE, (2,): REMOVE, (3,): "x"}) == b'[1, "x"]'

    def test_without_changes_the_bytes_are_the_same(self):
        raw = ' {"é\u2028" : [1.0,1E5 , "\\u00e9"]}\n'.encode()
        assert edit(raw, {}) == raw

    @pytest.mark.parametrize(
        "address",
        [
            ("b",),
            ("a", 3),
            ("a", -1),
            ("a", "0"),
            (0,),
            ("a", 0, "b"),
            ("s", 0),
            ("o", "a", "b"),
            ("a", 2, 0),
        ],
    )
    def test_an_address_that_does_not_exist_is_a_key_error(self, address: Address):
        raw = b'{"a": [1, "x", null], "s": "text", "o": {"a": 1}}'
        for new in ("new", REMOVE):
            with pytest.raises(KeyError):
                edit(raw, {address: new})
            with pytest.raises(KeyError):
                edit(raw, {("o", "a"): 2, address: new} if address[0] != "o" else {("s",): 2, address: new})


def test_what_stands_at_an_address():
    body = {"a": [1, {"b": "x"}]}
    assert value_at(body, ("a", 1, "b")) == "x"
    assert value_at(body, ()) is body
    for address in (("b",), ("a", 2)):
        with pytest.raises(LookupError):
            value_at(body, address)
