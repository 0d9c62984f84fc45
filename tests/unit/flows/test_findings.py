"""The page of findings is what its command prints from the committed items."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.findings import FOLDER, gaps, largest_p, must, page, shares, spread, stored


def test_the_page_is_what_the_command_prints() -> None:
    written = (FOLDER.parent / "findings.md").read_text(encoding="utf-8")
    assert page() == written, "run `python -m benchmarks.findings > docs/findings.md`"


def test_the_readme_says_the_same() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    found = stored(FOLDER / "findings.parquet")
    gains = gaps(found, "plain", "novel-tokens")
    owed = shares(found, "novel-tokens", ["novel-random", "novel-shuffled", "novel-untrained"])
    assert f"by {min(gains):.2f} to {max(gains):.2f} nats a token" in readme
    real = stored(FOLDER / "smollm2.parquet")
    assert spread(real) < 0.006
    assert "all end within 0.006 nats" in readme
    longer = stored(FOLDER / "distillation.parquet")
    assert max(gaps(longer, "novel-tokens", "milora-distilled")) < 0
    assert max(gaps(longer, "plain-6-epochs", "novel-tokens")) < 0
    behind = sum(gap < 0 for gap in gaps(longer, "novel-6-epochs", "milora-6-epochs"))
    assert (behind, len(longer.pairs)) == (2, 3)
    assert "is behind it in two families of three and ahead in one" in readme
    assert f"{100 * min(owed):.0f} to {100 * max(owed):.0f} % of that gain" in readme


def pair(**means: float) -> Any:
    scores = [SimpleNamespace(method=name, mean=mean) for name, mean in means.items()]
    contrasts = [
        SimpleNamespace(headline=True, p_holm=0.004),
        SimpleNamespace(headline=False, p_holm=0.5),
    ]
    return SimpleNamespace(name="a pair", scores=scores, contrasts=contrasts)


def test_shares_of_a_gain_are_those_that_no_control_has() -> None:
    losses = pair(plain=2.0, novel=1.0, random=1.75, shuffled=1.5, worse=2.5)
    better = pair(plain=0.5, novel=0.75, random=0.5, shuffled=0.6, worse=0.25)
    both: Any = SimpleNamespace(pairs=(losses, better))
    assert gaps(both, "novel", "plain") == [-1.0, 0.25]
    assert shares(both, "novel", ["random", "shuffled"]) == pytest.approx([0.5, 0.6])
    assert shares(both, "novel", ["worse"]) == [1.0, 1.0]
    assert largest_p(both) == 0.004
    assert spread(both) == 1.5
    with pytest.raises(LookupError, match="no mean of pissa"):
        gaps(both, "pissa", "plain")


def test_words_that_are_not_true_of_the_numbers_are_not_printed() -> None:
    assert must(True, "something") == ""
    with pytest.raises(ValueError, match="do not say this any more: something"):
        must(False, "something")
