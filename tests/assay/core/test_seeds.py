import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from assay.core.seeds import derived_seed, generator, keyed_uniform

KEYS = st.lists(st.text(max_size=20), min_size=1, max_size=30, unique=True)


def test_seeds_of_two_purposes_differ_and_stay() -> None:
    # The values are a contract: rows would move between splits if they changed.
    assert derived_seed(1, "split") == 8951804370257830229
    assert derived_seed(1, "split") != derived_seed(1, "augment")
    assert derived_seed(1, "ab", "c") != derived_seed(1, "a", "bc")
    assert generator(1, "a").integers(1000) == generator(1, "a").integers(1000)


@given(KEYS, KEYS)
def test_a_key_keeps_its_draw_among_others(keys: list[str], others: list[str]) -> None:
    alone = dict(zip(keys, keyed_uniform(pl.Series("id", keys, pl.String), 5, "split"), strict=True))
    mixed = [*others, *keys]
    among = dict(zip(mixed, keyed_uniform(pl.Series("id", mixed, pl.String), 5, "split"), strict=True))
    assert alone == {key: among[key] for key in keys}


def test_draws_are_uniform_and_depend_on_the_purpose() -> None:
    keys = pl.Series("id", [str(number) for number in range(20_000)])
    draws = keyed_uniform(keys, 1, "split")
    assert draws.min() >= 0  # type: ignore[operator]
    assert draws.max() < 1  # type: ignore[operator]
    counts = (draws * 10).cast(pl.Int64).value_counts()["count"].to_list()
    assert max(abs(count - 2000) for count in counts) < 200
    assert (draws != keyed_uniform(keys, 1, "augment")).all()
