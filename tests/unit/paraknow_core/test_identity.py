"""What of a config is in the key."""

from pydantic import Field

from paraknow_core.settings import Settings, execution, identity_of, later


class Inner(Settings):
    rank: int = 4
    batch: int = execution(8)


class Old(Settings):
    rate: float = 0.1
    inner: Inner = Field(Inner())
    names: tuple[str, ...] = ("q", "k")


class New(Old):
    gap: float = later(0.5)


def test_defaults_are_written_out_and_execution_is_left_out() -> None:
    assert identity_of(Old()) == {"rate": 0.1, "inner": {"rank": 4}, "names": ["q", "k"]}
    assert identity_of(Old(inner=Inner(batch=1))) == identity_of(Old())
    assert identity_of(Old(inner=Inner(rank=5))) != identity_of(Old())


def test_a_field_added_later_keeps_old_results_valid_until_it_is_used() -> None:
    assert identity_of(New()) == identity_of(Old())
    assert identity_of(New(gap=0.6)) == identity_of(Old()) | {"gap": 0.6}
