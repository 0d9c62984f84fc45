from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import CanonicalError, NameRefusedError
from artifacts.keys import ABSENT, KeyPayload, PayloadDifference, diff
from artifacts.names import Digest

ONE, TWO = Digest("1" * 64), Digest("2" * 64)


def payload(**changes) -> KeyPayload:
    made = {
        "step": "decompose",
        "version": 1,
        "config": {"rank": 16, "cut": {"kind": "window", "sizes": [4, 8]}},
        "inputs": {"teacher": ONE, "places": TWO},
        "seed": None,
        "numerics": {"compute": "float32", "tf32": False},
    }
    return KeyPayload(**(made | changes))


def test_one_key_is_pinned():
    """If this goes red, every result in every store has become a miss: is that meant?"""
    fixed = payload(epoch=1, key_format=1)
    assert fixed.canonical() == (
        b'{"config":{"cut":{"kind":"window","sizes":[4,8]},"rank":16},"epoch":1,"inputs":{"places":"'
        + b"2" * 64
        + b'","teacher":"'
        + b"1" * 64
        + b'"},"key_format":1,"numerics":{"compute":"float32","tf32":false},"seed":null,'
        b'"step":"decompose","version":1}'
    )
    assert fixed.key() == "9aacd41162a49eca7c821432a1f5f077e593b91586d218f8d6a9a940d8a7f60c"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"step": "svd"}, PayloadDifference("step", "decompose", "svd")),
        ({"version": 2}, PayloadDifference("version", 1, 2)),
        ({"seed": 7}, PayloadDifference("seed", None, 7)),
        ({"epoch": 2}, PayloadDifference("epoch", 1, 2)),
        ({"key_format": 2}, PayloadDifference("key_format", 1, 2)),
        (
            {"inputs": {"teacher": TWO, "places": TWO}},
            PayloadDifference("inputs.teacher", ONE, TWO),
        ),
        ({"numerics": {"compute": "float32"}}, PayloadDifference("numerics.tf32", False, ABSENT)),
        (
            {"config": {"rank": 16, "cut": {"kind": "window", "sizes": [4, 9]}}},
            PayloadDifference("config.cut.sizes[1]", 8, 9),
        ),
        (
            {"config": {"rank": 16.0, "cut": {"kind": "window", "sizes": [4, 8]}}},
            PayloadDifference("config.rank", 16, 16.0),
        ),
    ],
)
def test_every_field_bears_identity_and_is_named_by_diff(change, expected):
    a, b = payload(), payload(**change)
    assert a.key() != b.key()
    found = diff(a, b)
    assert [(d.field, repr(d.a), repr(d.b)) for d in found] == [
        (expected.field, repr(expected.a), repr(expected.b))
    ]


CONFIGS = st.dictionaries(
    st.sampled_from("abc"),
    st.integers(0, 2) | st.booleans() | st.sampled_from([0.0, 1.0, -0.0]),
    max_size=3,
)


@given(CONFIGS, CONFIGS)
def test_keys_are_equal_exactly_when_diff_is_empty(a, b):
    first, second = payload(config=a), payload(config=b)
    assert (first.key() == second.key()) == (diff(first, second) == [])


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"step": "../x"}, NameRefusedError, "../x"),
        ({"inputs": {"a/b": ONE}}, NameRefusedError, "a/b"),
        ({"inputs": {"teacher": "/models/llama"}}, CanonicalError, "/models/llama"),
        ({"version": True}, CanonicalError, "version"),
        ({"version": 0}, CanonicalError, "version"),
        ({"seed": 1.0}, CanonicalError, "seed"),
        ({"numerics": {"threads": 4}}, CanonicalError, "numerics.threads"),
        ({"config": {"path": object()}}, CanonicalError, "config.path"),
    ],
)
def test_a_payload_that_cannot_bear_identity_is_refused(change, error, named):
    with pytest.raises(error) as caught:
        payload(**change)
    assert named in str(caught.value)


def test_replacing_nothing_keeps_the_key():
    assert replace(payload()).key() == payload().key()
