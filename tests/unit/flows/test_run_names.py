"""How runs are called."""

from prefect.utilities.names import generate_slug

from flows.operation.names import differences, is_random, name_of


def test_names_that_prefect_draws_are_told_from_names_that_were_given() -> None:
    assert all(is_random(generate_slug(2)) for _ in range(50))
    assert not any(map(is_random, ("my-run", "demo", "demo rank 4", "brave otter", "nightly-7b")))


def test_a_name_says_what_differs() -> None:
    base = {"name": "demo", "lora": {"rank": 8, "alpha": 8}, "seeds": [0, 1]}
    given = {"name": "demo", "lora": {"rank": 4, "alpha": 8}, "seeds": [0, 1], "seed": 0}
    changed = dict(differences(base, given))
    assert changed == {"lora.rank": 4, "seed": 0}
    assert name_of("demo", changed) == "demo rank 4 seed 0"
    assert name_of("demo", {}) == "demo"


def test_a_name_stays_short_and_has_no_square_brackets() -> None:
    many = name_of("demo", {f"a.k{i}": i for i in range(9)} | {"name": "x"})
    assert many == "demo k0 0 k1 1 k2 2 k3 3 and 5 more"
    listed = name_of("demo", {"seeds": list(range(40))})
    assert "[" not in listed
    assert len(listed) < 40
