import json
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.canonical import MAX_DEPTH, canonical_bytes, parse
from artifacts.errors import CanonicalError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def test_the_form_is_pinned():
    value = {"b": [1, 1.0, -0.0, 1e-5, 1e22, True, None], "a": 'é"\n\x01/', "Z": (), "é": {}}
    expected = '{"Z":[],"a":"é\\"\\n\\u0001/","b":[1,1.0,0.0,1e-05,1e+22,true,null],"é":{}}'
    assert canonical_bytes(value) == expected.encode()


@given(VALUES)
def test_a_value_survives_the_round_trip_and_has_one_spelling(value):
    data = canonical_bytes(value)
    assert parse(data) == value
    assert canonical_bytes(parse(data)) == data
    assert json.loads(data) == value


@given(st.dictionaries(TEXT, SCALARS, min_size=2, max_size=6), st.randoms())
def test_the_order_of_insertion_does_not_matter(value, random):
    items = list(value.items())
    random.shuffle(items)
    assert canonical_bytes(dict(items)) == canonical_bytes(value)


def test_integers_floats_and_booleans_are_three_different_values():
    assert len({canonical_bytes(v) for v in (1, 1.0, True)}) == 3


class Colour(StrEnum):
    RED = "red"


class Half(float):
    pass


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (Colour.RED, "Colour"),
        (Half(0.5), "Half"),
        (object(), "object"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_value_without_a_form_is_refused_by_place_and_name(value, named):
    with pytest.raises(CanonicalError, match=r"value\.x\[1\]") as caught:
        canonical_bytes({"x": [0, value]})
    assert named in str(caught.value)


def test_keys_must_be_text():
    with pytest.raises(CanonicalError, match="key 1"):
        canonical_bytes({1: "a"})


def test_a_cycle_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(CanonicalError, match=f"deeper than {MAX_DEPTH}"):
        canonical_bytes(value)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1, "b":2}',
        b'{"b":2,"a":1}',
        b'{"a":1,"a":1}',
        b"[1.00]",
        b"[-0.0]",
        b"[NaN]",
        b'"\\u0041"',
        b"\xff",
        b"",
        b"[" * 5000,
        b"1" * 5000,
    ],
)
def test_any_other_spelling_is_refused(data):
    with pytest.raises(CanonicalError, match="not canonical JSON"):
        parse(data)
