"""What a window with a filter, a lag, tiles or labels means, each case drawn above its assertion."""

from __future__ import annotations

import math

from tests.features.drawn import MEASURED, column, engine_of, flagged, group, known, seen, tx
from tests.strategies import batch_of, bounds

AGAINST = [
    "time_since_last", "time_since_first", "others_since_last", "others_since_first", "in_a_row", "time_since_other",
]  # fmt: skip


def test_a_filter_is_about_the_earlier_rows_and_not_about_the_row_itself() -> None:
    #  1s   2s      3s      4s    5s
    #  pos  online  online  pos   -      each sees the online rows before it, whatever it is itself
    engine = engine_of(
        group("card", ["count", "rate", "time_since_last"], ["1m"], where='channel = "online"'),
        group("card", ["sum"], ["1m"], "amount", where='channel = "online"'),
    )
    channels = ["pos", "online", "online", "pos", None]
    rows = seen(engine, *[tx(1 + i, 10 * (i + 1), channel=channel) for i, channel in enumerate(channels)])
    assert [x["card_channel_online_count_1m"] for x in rows] == [0, 0, 1, 2, 2]
    assert [x["card_channel_online_rate_1m"] for x in rows[1:]] == [0, 1 / 2, 2 / 3, 2 / 4]
    assert math.isnan(rows[0]["card_channel_online_rate_1m"])
    assert [x["card_channel_online_amount_sum_1m"] for x in rows] == [0, 0, 0.2, 0.5, 0.5]
    assert [x["card_channel_online_time_since_last_1m"] for x in rows[2:]] == [1, 1, 2]


def test_a_row_whose_field_is_missing_fulfils_no_condition_on_it() -> None:
    #  device   d1   d2   -      tip   -  5  -      neither = nor != nor < holds where there is nothing
    engine = engine_of(
        group("card", ["count"], ["1m"], where='device_id = "d1"'),
        group("card", ["count"], ["1m"], where='device_id != "d1"'),
        group("card", ["count"], ["1m"], where="tip < 100"),
        group("card", ["count"], ["1m"], where="recurring != true"),
    )
    rows = [tx(1, device_id="d1"), tx(2, device_id="d2", tip=5), tx(3, recurring=0), tx(4)]
    last = list(seen(engine, *rows)[-1].values())
    assert last == [1, 1, 1, 1]


def test_the_conditions_of_a_filter_are_all_to_be_fulfilled_and_numbers_are_in_the_declared_unit() -> None:
    #  1.49 online   1.50 online   1.50 pos   2.00 online
    engine = engine_of(group("card", ["count"], ["1m"], where='channel = "online" and amount >= 1.5'))
    amounts = [(149, "online"), (150, "online"), (150, "pos"), (200, "online"), (1, "pos")]
    rows = [tx(i, amount, channel=channel) for i, (amount, channel) in enumerate(amounts)]
    name = "card_channel_online_and_amount_ge_1_5_count_1m"
    assert column(engine, name, *rows) == [0, 0, 1, 1, 2]


def test_with_a_filter_a_share_is_of_the_rows_that_fulfil_it() -> None:
    #  m online   m pos   n online   n online   then m sees 1 of the 3 that are online
    engine = engine_of(
        group("card", ["share", "distinct", "same_count"], ["1m"], "merchant_id", where='channel = "online"')
    )
    places = [("m", "online"), ("m", "pos"), ("n", "online"), ("n", "online"), ("m", "pos")]
    rows = [tx(i, merchant_id=merchant, channel=channel) for i, (merchant, channel) in enumerate(places)]
    assert list(seen(engine, *rows)[-1].values()) == [1 / 3, 2, 1]


def test_a_lag_ends_the_window_before_the_row() -> None:
    #  2s   2.001s         7s   7.001s   10s
    #  a    b              c    d        e
    #  (------ 5s of e ----]             3s of lag: b and c inside, d too young
    engine = engine_of(
        group("card", ["count", "time_since_last"], ["5s"], lag="3s"),
        group("card", ["sum"], ["5s"], "amount", lag="3s"),
    )
    last = seen(engine, tx(2, 1), tx(2.001, 20), tx(7, 300), tx(7.001, 4000), tx(10))[-1]
    assert last["card_count_5s_lag3s"] == 2
    assert last["card_amount_sum_5s_lag3s"] == 3.2
    assert last["card_time_since_last_5s_lag3s"] == 3  # counted from the row, not from the window's end


def test_a_lag_makes_an_entitys_rows_stay_for_longer() -> None:
    #  0s        5s      a window of 5s that ended 10s earlier, lateness 0s
    #  a                                15s (0s, 5s] misses a     14.999s (-0.001s, 4.999s] has it
    def counts(*stream: float) -> list[float]:
        engine = engine_of(group("card", ["count"], ["5s"], lag="10s"), state=bounds("0s"))
        return column(engine, "card_count_5s_lag10s", *[tx(second) for second in stream])

    assert counts(0, 14.999) == [0, 1]
    assert counts(0, 15) == [0, 0]


def test_a_window_of_tiles_sees_whole_tiles_from_the_tails_to_the_rows_own() -> None:
    #  9.999s | 10s   19s | 20s       | 30s  35s        tiles of 10s, window 20s
    #  a      | b     c   |           | d    e          the tail of e is at 15s: b is seen with its tile
    #         |------ what e sees -----------|
    engine = engine_of(group("card", ["count"], ["20s"], resolution="10s"))
    rows = [tx(9.999), tx(10), tx(19), tx(30), tx(35)]
    assert column(engine, "card_count_20s_tiles10s", *rows) == [0, 1, 2, 2, 3]


def test_a_tile_is_seen_as_far_as_it_is_filled_even_behind_a_late_row() -> None:
    #  event time   11s   18s   12s       tiles of 10s: the row at 12s sees its whole tile, and so the one at 18s,
    #  arrival      1st   2nd   3rd       which came earlier, though it is at a later time
    engine = engine_of(group("card", ["count"], ["10s"], resolution="10s"), group("card", ["count"], ["10s"]))
    rows = seen(engine, tx(11), tx(18), tx(12))
    assert [x["card_count_10s_tiles10s"] for x in rows] == [0, 1, 2]
    assert [x["card_count_10s"] for x in rows] == [0, 1, 1]


def test_tiles_with_a_lag_see_the_tile_in_which_the_window_ends() -> None:
    #  |10s  12s | 20s  28s | 30s  36s      tiles of 10s, window 10s, lag 8s: (18s, 28s] of the row at 36s
    #  |a        | b    c   | d    e        touches the tiles of 10s and of 20s
    engine = engine_of(group("card", ["count"], ["10s"], lag="8s", resolution="10s"))
    rows = [tx(10), tx(20), tx(28), tx(30), tx(36)]
    assert column(engine, "card_count_10s_lag8s_tiles10s", *rows)[-1] == 3


def test_tiles_keep_sums_squares_and_extremes_but_no_row_of_its_own() -> None:
    #  tiles  |1.00 2.00| 6.00 |    then 12.00: as exact rows would say
    engine = engine_of(
        group("card", MEASURED, ["1m"], "amount", resolution="5s"), group("card", MEASURED, ["1m"], "amount")
    )
    x = seen(engine, tx(1, 100), tx(2, 200), tx(6, 600), tx(11, 1200))[-1]
    for aggregate in MEASURED:
        assert x[f"card_amount_{aggregate}_1m_tiles5s"] == x[f"card_amount_{aggregate}_1m"]
    assert [len(rows) for stage in engine.dump().values() for rows in stage.values()] == [3, 4]


def test_a_stage_of_tiles_is_late_by_its_tiles_and_not_by_its_rows() -> None:
    #  | 10s  19s | 20s           lateness 0s: in tiles of 10s a row at 20s is as late as its tile,
    #  |      2nd |  1st 3rd      and one at 29s leaves room for one at 20s
    engine = engine_of(group("card", ["count"], ["1m"], resolution="10s"), state=bounds("0s"))
    assert flagged(engine, tx(29), tx(19.999), tx(20), tx(21)) == [set(), {"late"}, set(), set()]
    assert column(engine, "card_count_1m_tiles10s", tx(29)) == [3]


def test_tiles_are_never_capped() -> None:
    #  rows_max = 4: five rows of one tile are one tile
    engine = engine_of(group("card", ["count"], ["10s"], resolution="10s"), state=bounds("0s", rows_max=4))
    assert flagged(engine, *[tx(second) for second in range(6)]) == [set()] * 6
    assert column(engine, "card_count_10s_tiles10s", tx(7)) == [6]


def test_a_label_counts_from_the_moment_at_which_stream_time_reaches_it_and_its_grace() -> None:
    #  1s        2s           known_at 4s   + 3s of grace = 7s
    #  a fraud   b legit      |             6.999s sees none, 7s sees a
    engine = engine_of(group("card", ["count", "rate"], ["1m"], lag="1s", label="fraud"), grace_ms=3000)
    seen(engine, tx(1, transaction_id="a"), tx(2, transaction_id="b"))
    engine.learn([known("a", "fraud", 4), known("b", "legit", 4)])
    rows = seen(engine, tx(6.999, transaction_id="c"), tx(7, transaction_id="d"))
    assert [x["card_fraud_count_1m_lag1s"] for x in rows] == [0, 1]
    assert [x["card_fraud_rate_1m_lag1s"] for x in rows] == [0, 1 / 2]


def test_stream_time_and_not_the_rows_own_decides_whether_a_label_is_seen() -> None:
    #  card c   1s fraud, known at 5s                   4s (late)
    #  card d                           6s              the stream is at 6s: the late row may know
    engine = engine_of(group("card", ["count"], ["1m"], lag="1s", label="fraud"))
    engine.learn([known("a", "fraud", 5)])
    rows = [tx(1, transaction_id="a"), tx(4, transaction_id="b")]
    assert column(engine, "card_fraud_count_1m_lag1s", *rows) == [0, 0]
    late = [tx(6, card_id="d", transaction_id="c"), tx(4, transaction_id="d")]
    assert column(engine, "card_fraud_count_1m_lag1s", *late) == [0, 1]


def test_the_label_that_was_known_last_counts_whenever_it_is_learned() -> None:
    #  known at   3s fraud   5s legit          then   4s fraud, learned last, is older than the reversal
    engine = engine_of(group("card", ["count"], ["1m"], lag="1s", label="fraud"))
    name = "card_fraud_count_1m_lag1s"
    engine.learn([known("a", "fraud", 3), known("a", "legit", 5)])
    assert column(engine, name, *[tx(t, transaction_id=i) for t, i in ((1, "a"), (3, "b"), (5, "c"))]) == [
        0,
        1,
        0,
    ]
    engine.learn([known("a", "fraud", 4)])
    assert column(engine, name, tx(6, transaction_id="d")) == [0]
    engine.learn([known("a", "fraud", 5)])  # as late as the reversal, and learned after it
    assert column(engine, name, tx(7, transaction_id="e")) == [1]


def test_a_label_waits_for_its_transaction() -> None:
    #  learned   1s (another card)   2s fraud      its label was there before it
    engine = engine_of(group("card", ["count"], ["1m"], lag="1s", label="fraud"))
    engine.learn([known("b", "fraud", 0)])
    rows = [tx(1, card_id="d", transaction_id="a"), tx(2, transaction_id="b"), tx(3, transaction_id="c")]
    assert column(engine, "card_fraud_count_1m_lag1s", *rows) == [0, 0, 1]


def test_a_window_without_a_row_is_the_first_sight() -> None:
    #  1s   2s         12.001s      window 10s
    #  yes  no         yes
    engine = engine_of(group("card_merchant", ["first_seen"], ["10s"]))
    rows = [tx(1), tx(2), tx(2, merchant_id="n"), tx(12.001)]
    assert column(engine, "card_merchant_first_seen_10s", *rows) == [1, 0, 1, 1]


def test_rows_of_the_same_value_are_counted_and_the_newest_of_them_timed() -> None:
    #  1s d1   2s d2   4s d1   then at 7s: d1 twice, 3s ago; d2 once, 5s ago; none has no value; d3 never
    engine = engine_of(group("card", ["same_count", "time_since_same"], ["1m"], "device_id"))
    before = [tx(1, device_id="d1"), tx(2, device_id="d2"), tx(4, device_id="d1")]
    seen(engine, *before)
    after = seen(engine, *[tx(7, device_id=device) for device in ("d1", "d2", None, "d3")])
    counts = [x["card_device_id_same_count_1m"] for x in after]
    since = [x["card_device_id_time_since_same_1m"] for x in after]
    assert (counts[:2], since[:2]) == ([2, 1], [3, 5])
    assert math.isnan(counts[2])
    assert math.isnan(since[2])
    assert counts[3] == 0
    assert math.isnan(since[3])


def test_a_window_that_reaches_back_before_the_known_history_has_no_value() -> None:
    #  10s is the first row, so that nothing is known before
    #  10s          19.999s    20s      (10s - 1ms, ...] is not known whole, (10s, 20s] is
    engine = engine_of(group("card", ["count"], ["10s"]), state=bounds("10s", complete_from=""))
    counts = column(engine, "card_count_10s", tx(10), tx(19.999), tx(20))
    assert math.isnan(counts[0])
    assert math.isnan(counts[1])
    assert counts[2] == 1


def test_a_label_of_a_late_row_marks_nothing_though_the_ids_turn_over_within_its_batch() -> None:
    #  51s   100s   | one batch: 52s (too late: not kept)   130s   160s
    #  a     c      |            b                          d      e sees the tile of a, and b's label
    # Ids are kept in generations of 120s (window, lag and tile), one of which begins at 160s.
    fed = group("card", ["count"], ["50s"], lag="60s", label="fraud", resolution="10s")
    engine = engine_of(fed, state=bounds("0s"))
    engine.observe(batch_of([tx(51, transaction_id="a"), tx(100, transaction_id="c")]))
    engine.learn([known("b", "fraud", 155)])
    rows = [tx(52, transaction_id="b"), tx(130, transaction_id="d"), tx(160, transaction_id="e")]
    served = engine.observe(batch_of(rows))
    assert served.flags.tolist() == [1, 0, 0]
    assert served.X[:, 0].tolist() == [0, 0, 0]


def test_the_first_and_the_last_that_fulfil_a_filter_stand_against_the_others() -> None:
    #  0s   1s      2s   3s      3s   4s   5s
    #  pos  online  pos  online  pos  pos  -      of 3s one stands by chance before the other: none is since it
    engine = engine_of(group("card", AGAINST, ["1m"], where='channel = "online"'))
    stream = [(0, "pos"), (1, "online"), (2, "pos"), (3, "online"), (3, "pos"), (4, "pos"), (5, None)]
    rows = seen(engine, *[tx(second, channel=channel) for second, channel in stream])
    assert all(math.isnan(value) for value in list(rows[1].values())[:4])
    assert list(rows[-1].values()) == [2, 4, 1, 3, 0, 1]
    assert [row["card_channel_online_in_a_row_1m"] for row in rows] == [0, 0, 1, 0, 1, 0, 0]


def test_what_came_since_the_last_known_fraud_is_told_in_the_window_and_moves_when_a_label_is_taken_back() -> (
    None
):
    #  1s a: fraud   2s b: fraud, taken back at 14s   3s c   4s d   each label known after 5s, a lag of 6s
    engine = engine_of(group("card", AGAINST, ["1m"], lag="6s", label="fraud"))
    engine.learn([known("a", "fraud", 6), known("b", "fraud", 7), known("b", "legit", 14)])
    stream = [tx(second, transaction_id=name) for name, second in zip("abcd", (1, 2, 3, 4), strict=True)]
    rows = seen(engine, *stream, tx(12), tx(15))
    assert all(math.isnan(value) for value in list(rows[3].values())[:4])
    assert [list(row.values()) for row in rows[4:]] == [[10, 11, 2, 2, 0, 8], [14, 14, 3, 3, 0, 11]]
