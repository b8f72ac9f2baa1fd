"""The parts of the state: 128-bit sums, hashes, and the rows and entities that are let go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import FeatureEngine, build_catalog, wide
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.features.keys import KEY, combine, hash_texts
from fraudstream.sections import FeatureGroup
from tests.features.drawn import tx
from tests.oracles import siphash_1_3, text_hash
from tests.strategies import START_MS, Drawn, amounts, batch_of, bounds, card_event, fillers

WORD = 2**64
# What CPython 3.11 says of b"a" to b"a" * 39 with PYTHONHASHSEED=0: SipHash-1-3 with a key of zeros.
PYTHONS_HASHES = [
    0x407448d2b89b1813, 0x7910e0436ed8d1de, 0xf752893a6c769652, 0x8b02350718d87164, 0x092a991474c7eef2,
    0xf0ab815a640277cc, 0x33f3c6d7dbc82c0d, 0xc501b12e18428c92, 0x121a17216b5c59d4, 0x018830860ed8c593,
    0x7ac56b00d2a601b0, 0xc76b1cb6702bc579, 0x5c449acb7bb19126, 0xadbcb2d8b65a2fbe, 0x76d1b50a21e83cd0,
    0x39ab461cd32beb06, 0xf8aa007d04465697, 0x5ff92ab598ecdfa1, 0xa6f32de4cb924024, 0x2dade7d8830c81f2,
    0x6e30fba1611119e6, 0xd5ee1014edef67d7, 0xc6b2872714c982d1, 0x9de20260815ee62e, 0x4c9a69a8d43550ad,
    0x0c7ebbc5e056e6eb, 0x158a3a784c631754, 0x59a5e92eaa850b69, 0x1770b6a24c6e830a, 0xf5cf92c8d6b53c8d,
    0xac40d3b694b7b309, 0x17e818417c7f3e04, 0xb4361b13d2872600, 0x2574e994286f5ffd, 0x652b372a231bc0e3,
    0x2b1e9444f6f056ac, 0x1cac29422250bb7f, 0xbd85e255aee2754b, 0x9d7d1bad707121a8,
]  # fmt: skip
UNTRACKED = next(bit for bit, name in FLAG_NAMES.items() if name == "untracked")
HASH_KEY = (int(KEY[0]), int(KEY[1]))


def words() -> st.SearchStrategy[int]:
    """Draw 64-bit words, often with a carry to make."""
    return st.one_of(
        st.integers(0, WORD - 1),
        st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, WORD - 1]),
        st.builds(lambda bit, off: (2**bit + off) % WORD, st.integers(0, 63), st.integers(-2, 2)),
    )


def wide_ints() -> st.SearchStrategy[int]:
    return st.builds(lambda high, low: high * WORD + low, words(), words())


def split(value: int) -> tuple[np.uint64, np.uint64]:
    return np.uint64(value // WORD), np.uint64(value % WORD)


def joined(halves: tuple[np.uint64, np.uint64]) -> int:
    return int(halves[0]) * WORD + int(halves[1])


@given(words(), words())
def test_a_product_of_two_words_is_exact_in_128_bits(a: int, b: int) -> None:
    assert joined(wide.multiply(np.uint64(a), np.uint64(b))) == a * b


@given(wide_ints(), wide_ints())
def test_sums_and_differences_are_exact_modulo_two_to_the_128(a: int, b: int) -> None:
    assert joined(wide.add(*split(a), *split(b))) == (a + b) % WORD**2
    assert joined(wide.subtract(*split(a), *split(b))) == (a - b) % WORD**2


@given(wide_ints())
def test_the_float_of_a_wide_integer_is_the_nearest_one(value: int) -> None:
    assert wide.to_float(*split(value)) == float(value)


@pytest.mark.parametrize("bit", range(53, 128))
def test_ties_between_two_floats_go_to_the_even_one_at_every_size(bit: int) -> None:
    ulp = 2 ** max(bit - 52, 0)
    for value in (2**bit + ulp // 2, 2**bit + 3 * ulp // 2, 2**bit + ulp // 2 + 1, 2**bit + ulp // 2 - 1):
        if value < WORD**2:
            assert wide.to_float(*split(value)) == float(value)


@given(st.lists(amounts(), max_size=50), st.booleans(), st.integers(1, 1300))
def test_the_spread_of_values_is_exact_before_its_one_rounding(
    values: list[int], negative: bool, times: int
) -> None:
    """Also where squares of 65,000 of the largest amounts add up."""
    n, total, squares = len(values) * times, sum(values) * times, sum(v * v for v in values) * times
    signed = -total if negative else total
    assert wide.spread(n, signed, *split(squares)) == float(n * squares - total * total)


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), min_size=1, max_size=30))
def test_the_hash_of_a_text_is_its_siphash_1_3(texts: list[str | None]) -> None:
    assert hash_texts(texts).tolist() == [text_hash(text, HASH_KEY) for text in texts]


def test_texts_of_every_length_and_script_have_their_siphash() -> None:
    texts = ["x" * length for length in range(70)] + [
        "é" * 9,
        "😀" * 70,
        "\x00",
        "مرحبا",
        "a\x00b",
        "ǆ" * 200,
    ]
    assert hash_texts(texts).tolist() == [text_hash(text, HASH_KEY) for text in texts]


def test_no_text_hashes_to_zero_and_a_column_without_any_text_to_zeros() -> None:
    assert hash_texts([None]).tolist() == [0]
    assert hash_texts([None, None, None]).tolist() == [0, 0, 0]
    assert hash_texts(["", None])[0] != 0
    assert hash_texts([]).tolist() == []


def test_the_siphash_oracle_agrees_with_pythons_own_hash() -> None:
    assert [siphash_1_3(b"a" * length, (0, 0)) for length in range(1, 40)] == PYTHONS_HASHES


def test_the_hash_key_of_the_state_never_changes() -> None:
    assert HASH_KEY == (0x6672617564737472, 0x65616D2D6B657931)


@given(st.lists(words(), min_size=2, max_size=4), st.data())
def test_a_pair_with_a_missing_value_is_missing(parts: list[int], data: st.DataObject) -> None:
    given = [np.array([part or 1], np.uint64) for part in parts]
    assert combine(given)[0] != 0
    given[data.draw(st.integers(0, len(parts) - 1))][0] = 0
    assert combine(given)[0] == 0


@given(words(), words())
def test_the_hash_of_a_pair_depends_on_the_order_of_its_fields(a: int, b: int) -> None:
    first, second = (np.array([word or 1], np.uint64) for word in (a, b))
    assert (combine([first, second])[0] == combine([second, first])[0]) == (first[0] == second[0])


def test_pairs_that_share_their_letters_are_different_entities() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("c", "ab"), ("ab", "ab"), ("ab", "d")]
    hashes = combine([hash_texts([left for left, _ in pairs]), hash_texts([right for _, right in pairs])])
    assert len(set(hashes.tolist())) == len(pairs)


def test_the_hash_of_a_single_field_is_the_hash_of_its_text() -> None:
    assert combine([hash_texts(["card", None])]).tolist() == hash_texts(["card", None]).tolist()


def counting(entities_max: int = 1_000_000, rows_max: int = 4096, lateness: str = "0s") -> FeatureEngine:
    groups = [FeatureGroup(entity="card", aggregates=["count"], windows=["10s"])]
    return FeatureEngine(build_catalog(groups, card_event()), bounds(lateness, rows_max, entities_max))


def test_entities_that_no_row_can_see_are_let_go_however_long_the_stream() -> None:
    engine = counting()
    for second in range(2000):
        engine.observe(batch_of(fillers(50, START_MS + second * 1000, f"s{second}")))
    assert engine.entities()["card"] <= 11 * 50 + 1024
    assert engine.bytes_used() < 1_000_000


def test_one_row_batches_let_idle_entities_go_too() -> None:
    engine = counting()
    for second in range(3000):
        engine.observe(batch_of(fillers(1, START_MS + second * 1000, f"s{second}")))
    assert engine.entities()["card"] <= 256


def test_beyond_entities_max_a_new_card_is_flagged_and_has_no_history_but_known_ones_go_on() -> None:
    engine = counting(entities_max=3)
    engine.observe(batch_of(fillers(3, START_MS, "known")))
    again = engine.observe(batch_of([*fillers(3, START_MS, "known"), *fillers(2, START_MS, "new")]))
    assert again.X[:, 0].tolist()[:3] == [1, 1, 1]
    assert np.isnan(again.X[3:, 0]).all()
    assert again.flags.tolist() == [0, 0, 0, UNTRACKED, UNTRACKED]
    assert engine.entities() == {"card": 3}


def test_at_entities_max_idle_cards_make_room_for_new_ones() -> None:
    engine = counting(entities_max=3)
    engine.observe(batch_of(fillers(3, START_MS, "old")))
    full = engine.observe(batch_of(fillers(1, START_MS + 5_000, "waiting")))
    engine.observe(batch_of(fillers(1, START_MS + 20_000, "clock")))
    free = engine.observe(batch_of(fillers(2, START_MS + 20_000, "new")))
    assert full.flags.tolist() == [UNTRACKED]
    assert free.flags.tolist() == [0, 0]


def test_a_hot_card_keeps_rows_max_rows_and_no_more_memory_than_that() -> None:
    engine = counting(rows_max=100)
    measures: dict[str, int | None] = {"amount": 1, "tip": None, "items": 1, "recurring": None}
    texts: dict[str, str | None] = {"card_id": "hot", "merchant_id": "m", "device_id": None, "channel": None}
    rows = [Drawn(START_MS + i, measures, texts) for i in range(5000)]
    observed = engine.observe(batch_of(rows))
    (kept,) = engine.dump()["card"].values()
    assert [row[0] for row in kept] == list(range(START_MS + 4900, START_MS + 5000))
    assert observed.X[:, 0].tolist() == [min(i, 100) for i in range(5000)]
    assert engine.bytes_used() < 1_000_000


def test_cards_that_come_back_after_they_were_let_go_start_anew() -> None:
    engine = counting()
    first = engine.observe(batch_of(fillers(400, START_MS, "card")))
    engine.observe(batch_of(fillers(400, START_MS + 60_000, "other")))
    back = engine.observe(batch_of(fillers(400, START_MS + 120_000, "card") * 2))
    assert first.X[:, 0].tolist() == [0] * 400
    assert back.X[:, 0].tolist() == [0] * 400 + [1] * 400


@pytest.mark.parametrize(("ahead_ms", "seen"), [(15_000, 1), (15_001, 0)])
def test_a_sweep_lets_go_of_exactly_the_entities_that_no_row_in_time_can_see(
    ahead_ms: int, seen: int
) -> None:
    """A window of 10 s and a lateness of 5 s reach back 15 s; a batch of 2,000 rows sweeps all headers."""
    engine = counting(lateness="5s")
    for round_ in range(3):
        engine.observe(batch_of(fillers(400, START_MS, f"old{round_}")))
    engine.observe(batch_of(fillers(400, START_MS + ahead_ms, "new")))
    engine.observe(batch_of(fillers(2000, START_MS + ahead_ms, "more")))
    assert engine.entities()["card"] == 2400 + seen * 1200
    back = engine.observe(batch_of(fillers(400, START_MS + 5_001, "old0")))
    assert back.X[:, 0].tolist() == [seen] * 400


def test_a_repeat_moves_no_time_so_that_one_far_ahead_makes_no_id_forgotten() -> None:
    #  2h30   3h24         2h36   2h42   2h48     ids are kept for 1h, in generations that begin with the hour
    #  b      b, again     b      c      b
    catalog = build_catalog([FeatureGroup(entity="card", aggregates=["count"], windows=["1h"])], card_event())
    engine = FeatureEngine(catalog, bounds(repeat_horizon="1h"))
    hour_ms = START_MS // 3_600_000 * 3_600_000

    def repeated(*rows: tuple[str, float]) -> list[int]:
        batch = batch_of([tx(3600 * hours, origin_ms=hour_ms, transaction_id=name) for name, hours in rows])
        told = engine.recognise(batch)
        engine.observe(told.fresh_of(batch))
        return told.again.tolist()

    assert repeated(("b", 2.5)) == []
    assert repeated(("b", 3.4)) == [0]
    assert repeated(("b", 2.6), ("c", 2.7), ("b", 2.8)) == [0, 2]
