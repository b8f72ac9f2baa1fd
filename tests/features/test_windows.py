"""What a window means, each case drawn above its assertion. Time runs to the right; a figure is an amount."""

from __future__ import annotations

import math

import pytest

from fraudstream.batch import MISSING
from fraudstream.event import FIXED_POINT_MAX
from fraudstream.features.engine import FLAG_NAMES
from fraudstream.sections import FeatureGroup
from tests.features.drawn import MEASURED, column, engine_of, flagged, group, seen, tx
from tests.strategies import START_MS, batch_of, bounds

MONDAY_MS = 1_699_833_600_000  # 2023-11-13T00:00Z
HOUR_MS = 3_600_000


def test_a_window_is_open_at_its_start_and_closed_at_its_end() -> None:
    #  0s     0.001s            10s
    #  a      b                 c
    #  (-------- 10s of c ------]      a is just outside, b inside
    counts = column(engine_of(group("card", ["count"], ["10s"])), "card_count_10s", tx(0), tx(0.001), tx(10))
    assert counts == [0, 1, 1]


def test_a_row_sees_rows_of_its_own_time_that_stand_earlier_in_the_log_but_never_itself() -> None:
    #  5s   5s   5s
    #  a    b    c     a sees none, b sees a, c sees a and b
    assert column(engine_of(group("card", ["count"], ["10s"])), "card_count_10s", tx(5), tx(5), tx(5)) == [
        0, 1, 2,
    ]  # fmt: skip


def test_a_late_row_reads_the_window_at_its_own_time_and_is_then_seen_by_later_ones() -> None:
    #  event time   0s    4s    6s    8s
    #  arrival      1st   3rd   2nd   4th
    #                     |     the late row sees only the one at 0s
    engine = engine_of(
        group("card", ["count", "time_since_last"], ["10s"]), group("card", ["sum"], ["10s"], "amount")
    )
    first, at_6, late, at_8 = seen(engine, tx(0, 1), tx(6, 20), tx(4, 300), tx(8, 0))
    assert [first["card_count_10s"], at_6["card_count_10s"]] == [0, 1]
    assert (late["card_count_10s"], late["card_amount_sum_10s"], late["card_time_since_last_10s"]) == (
        1,
        0.01,
        4,
    )
    assert (at_8["card_count_10s"], at_8["card_amount_sum_10s"], at_8["card_time_since_last_10s"]) == (
        3,
        3.21,
        2,
    )


def test_a_row_just_inside_the_lateness_is_kept_and_one_beyond_is_flagged_and_leaves_nothing() -> None:
    #  0s         9.999s 10s            20s
    #             late   |<- lateness ->|
    #             flagged kept
    engine = engine_of(group("card", ["count"], ["1m"]))
    assert flagged(engine, tx(20), tx(10), tx(9.999)) == [set(), set(), {"late"}]
    assert column(engine, "card_count_1m", tx(21)) == [2]


def test_lateness_is_counted_for_each_entity_by_itself() -> None:
    #  card c   0s                                  20s
    #  card d        1s          nothing newer of d, so in time
    engine = engine_of(group("card", ["count"], ["1m"]))
    assert flagged(engine, tx(0), tx(20), tx(1, card_id="d"), tx(2, card_id="d")) == [set()] * 4
    assert column(engine, "card_count_1m", tx(3, card_id="d")) == [2]


def test_a_row_behind_the_streams_newest_by_window_and_lateness_is_late_whatever_its_entity() -> None:
    #  card d  0s                            the stream has forgotten what a row at 20s - (5s + 10s) can see
    #  card c             20s
    engine = engine_of(group("card", ["count"], ["5s"]))
    rows = [tx(20), tx(4.999, card_id="d"), tx(4.999, card_id="d"), tx(5, card_id="d"), tx(5, card_id="d")]
    served = [engine.observe(batch_of([row])) for row in rows]
    assert [int(one.flags[0]) for one in served] == [0, 1, 1, 0, 0]
    assert [float(one.X[0, 0]) for one in served] == [0, 0, 0, 0, 1]


def test_beyond_rows_max_the_oldest_go_and_rows_that_could_see_them_are_flagged() -> None:
    #  1s  2s  3s  4s       11s      12s       rows_max = 2, longest window 10s
    #  a   b   c   d        e        f         a goes when c comes, b with d, c with e, d with f
    engine = engine_of(group("card", ["count"], ["10s"]), state=bounds("0s", rows_max=2))
    assert flagged(engine, tx(1), tx(2), tx(3), tx(4)) == [set(), set(), set(), {"rows_capped"}]
    assert flagged(engine, tx(11), tx(12)) == [{"rows_capped"}, {"rows_capped"}]
    #  d went last, with time 4s: (4s, 14s] does not reach it
    assert flagged(engine, tx(14), tx(20.999), tx(21)) == [set(), {"rows_capped"}, {"rows_capped"}]


def test_a_late_row_older_than_all_kept_does_not_push_out_a_newer_one() -> None:
    #  event time   1s    5s   6s    7s     rows_max = 2
    #  arrival      3rd   1st  2nd   4th    the row at 1s finds no room; the last sees 5s and 6s
    engine = engine_of(group("card", ["sum"], ["10s"], "amount"), state=bounds("10s", rows_max=2))
    assert column(engine, "card_amount_sum_10s", tx(5, 500), tx(6, 600), tx(1, 100)) == [0, 5, 0]
    last = engine.observe(batch_of([tx(7, 0)]))
    assert (float(last.X[0, 0]), FLAG_NAMES[int(last.flags[0])]) == (11, "rows_capped")


def test_a_row_is_kept_until_no_late_row_can_see_it() -> None:
    #  event time   1s    1.001s  6s    11s     window 5s, lateness 5s: the last row that may come after 11s
    #  arrival      1st   2nd     4th   3rd     is at 6s and sees (1s, 6s], so 1.001s stays and 1s goes
    engine = engine_of(group("card", ["count"], ["5s"]), state=bounds("5s"))
    assert column(engine, "card_count_5s", tx(1), tx(1.001), tx(11), tx(6)) == [0, 1, 0, 1]
    kept = [row[0] for row in engine.dump()["card"].popitem()[1]]
    assert kept == [START_MS + 1001, START_MS + 6000, START_MS + 11_000]


def test_an_entity_that_no_row_in_time_can_see_is_empty_from_that_moment_on() -> None:
    #  card d   0s                                      window 10s, lateness 5s
    #  card c              15s      15.001s             the stream is ahead of d by 15s: in reach of a row at 0s
    #  card d        0s             0.001s  5s          15.001s: out of reach, and d is new at 5s
    def counts(*stream: float) -> list[float]:
        engine = engine_of(group("card", ["count"], ["10s"]), state=bounds("5s"))
        served = seen(engine, tx(0, card_id="d"), *[tx(second) for second in stream], tx(5, card_id="d"))
        return [x["card_count_10s"] for x in served]

    assert counts(15)[-1] == 1
    assert counts(15.001)[-1] == 0


def test_an_empty_window_has_count_and_sum_zero_and_everything_else_missing() -> None:
    engine = engine_of(
        group("card", ["count", "velocity", "time_since_last", "hour_habit"], ["1m"], baseline="1h"),
        group("card", MEASURED, ["1m"], "amount"),
        group("card", ["distinct", "share"], ["1m"], "merchant_id"),
    )
    (x,) = seen(engine, tx(0))
    zero = {name for name, value in x.items() if value == 0}
    assert zero == {"card_count_1m", "card_amount_sum_1m", "card_merchant_id_distinct_1m"}
    assert all(math.isnan(value) for name, value in x.items() if name not in zero)


def test_a_row_without_the_entity_has_no_value_for_any_of_its_features_and_leaves_nothing() -> None:
    engine = engine_of(
        group("device", ["count"], ["1m"]),
        group("device", ["sum"], ["1m"], "amount"),
        group("card_device", ["count"], ["1m"]),
        group("card", ["count"], ["1m"]),
    )
    rows = seen(engine, tx(0), tx(1), tx(2, device_id="d"), tx(3, device_id="d", channel="pos"))
    assert [math.isnan(x["device_count_1m"]) for x in rows] == [True, True, False, False]
    assert [math.isnan(x["device_amount_sum_1m"]) for x in rows] == [True, True, False, False]
    assert [math.isnan(x["card_device_count_1m"]) for x in rows] == [True, True, True, False]
    assert [x["card_count_1m"] for x in rows] == [0, 1, 2, 3]
    assert rows[3]["device_count_1m"] == 1
    assert engine.entities() == {"device": 1, "card_device": 1, "card": 1}


def test_aggregates_of_an_amount_are_in_major_units() -> None:
    #  1s     2s     3s     4s
    #  1.00   2.00   6.00   12.00 looks back: n 3, sum 9, mean 3, deviations -2 -1 3, variance 14 / 2
    engine = engine_of(group("card", MEASURED, ["1m"], "amount"))
    x = seen(engine, tx(1, 100), tx(2, 200), tx(3, 600), tx(4, 1200))[-1]
    assert x["card_amount_sum_1m"] == 9
    assert x["card_amount_mean_1m"] == 3
    assert x["card_amount_min_1m"] == 1
    assert x["card_amount_max_1m"] == 6
    assert x["card_amount_ratio_1m"] == 4
    assert x["card_amount_std_1m"] == pytest.approx(math.sqrt(7), rel=1e-15)
    assert x["card_amount_zscore_1m"] == pytest.approx(9 / math.sqrt(7), rel=1e-15)


def test_one_earlier_amount_has_a_mean_but_no_deviation() -> None:
    engine = engine_of(group("card", MEASURED, ["1m"], "amount"))
    x = seen(engine, tx(1, 100), tx(2, 300))[-1]
    assert (x["card_amount_mean_1m"], x["card_amount_ratio_1m"]) == (1, 3)
    assert math.isnan(x["card_amount_std_1m"])
    assert math.isnan(x["card_amount_zscore_1m"])


def test_equal_amounts_deviate_by_zero_and_leave_no_zscore() -> None:
    engine = engine_of(group("card", MEASURED, ["1m"], "amount"))
    x = seen(engine, tx(1, 7), tx(2, 7), tx(3, 7), tx(4, 9))[-1]
    assert x["card_amount_std_1m"] == 0
    assert math.isnan(x["card_amount_zscore_1m"])


def test_amounts_of_zero_have_a_mean_of_zero_and_no_ratio_to_it() -> None:
    engine = engine_of(group("card", MEASURED, ["1m"], "amount"))
    x = seen(engine, tx(1, 0), tx(2, 5))[-1]
    assert x["card_amount_mean_1m"] == 0
    assert math.isnan(x["card_amount_ratio_1m"])


def test_a_missing_value_counts_as_no_value_and_not_as_zero() -> None:
    #  tip   1s    2s   3s        4s
    #        10    -    30        -      mean of the two that are there; the row's own is missing
    engine = engine_of(group("card", MEASURED, ["1m"], "tip"), group("card", ["count"], ["1m"]))
    rows = [tx(1, tip=100_000), tx(2), tx(3, tip=300_000), tx(4)]
    x = seen(engine, *rows)[-1]
    assert x["card_count_1m"] == 3
    assert (x["card_tip_sum_1m"], x["card_tip_mean_1m"]) == (40, 20)
    assert (x["card_tip_min_1m"], x["card_tip_max_1m"]) == (10, 30)
    assert x["card_tip_std_1m"] == pytest.approx(math.sqrt(200), rel=1e-15)
    assert math.isnan(x["card_tip_zscore_1m"])
    assert math.isnan(x["card_tip_ratio_1m"])


def test_the_largest_amounts_are_summed_exactly_and_do_not_drown_a_small_deviation() -> None:
    #  two of 2**40 - 1 and one a cent below: the deviation of floats would be lost in the squares
    engine = engine_of(group("card", ["sum", "std"], ["1m"], "amount"))
    top = FIXED_POINT_MAX
    x = seen(engine, tx(1, top), tx(2, top), tx(3, top - 1), tx(4))[-1]
    assert x["card_amount_sum_1m"] == (3 * top - 1) / 100
    assert x["card_amount_std_1m"] == pytest.approx(math.sqrt(1 / 3) / 100, rel=1e-15)


def test_velocity_is_the_short_rate_over_the_long_rate() -> None:
    #  0s        30s    55s 58s     60s     10s window: 2 rows; 1m window: (0s, 60s] 3 rows
    #  outside   b      c   d       e       (2 / 10s) / (3 / 60s) = 4
    engine = engine_of(group("card", ["velocity"], ["10s"], baseline="1m"))
    values = column(engine, "card_velocity_10s_1m", tx(0), tx(30), tx(55), tx(58), tx(60))
    assert math.isnan(values[0])
    assert values[1:] == [0, 0, 2, 4]


def test_distinct_counts_different_values_and_not_missing_ones() -> None:
    #  d1  d2  -  d1      four rows before, two devices
    engine = engine_of(group("card", ["distinct"], ["1m"], "device_id"))
    rows = [tx(1, device_id="d1"), tx(2, device_id="d2"), tx(3), tx(4, device_id="d1"), tx(5)]
    assert column(engine, "card_device_id_distinct_1m", *rows) == [0, 1, 2, 2, 2]


def test_share_is_of_all_rows_and_missing_when_the_row_has_no_value() -> None:
    #  pos  online  -  pos   then pos sees 2 of 4, a row without a channel sees nothing to compare
    engine = engine_of(group("card", ["share"], ["1m"], "channel"))
    rows = [
        tx(1, channel="pos"),
        tx(2, channel="online"),
        tx(3),
        tx(4, channel="pos"),
        tx(5, channel="pos"),
        tx(6),
    ]
    values = column(engine, "card_channel_share_1m", *rows)
    assert math.isnan(values[0])
    assert values[1] == 0
    assert math.isnan(values[2])
    assert values[3:5] == [1 / 3, 2 / 4]
    assert math.isnan(values[5])


def test_hour_habit_is_circular_over_midnight() -> None:
    #  Mon 22:59   Mon 23:00   Tue 00:30   Tue 01:59   Tue 02:00   | Wed 00:10 looks back 7 days
    #  no          yes         yes         yes         no          | hours 23, 0 and 1 are near
    engine = engine_of(group("card", ["hour_habit"], ["7d"]))
    at = [23 * 3600 - 60, 23 * 3600, 24.5 * 3600, 26 * 3600 - 60, 26 * 3600, 48 * 3600 + 600]
    values = column(engine, "card_hour_habit_7d", *[tx(s, origin_ms=MONDAY_MS) for s in at])
    assert values[-1] == 3 / 5


def test_a_pair_of_fields_is_an_entity_of_its_own() -> None:
    #  (c, m)  (c, n)  (d, m)  (c, m)     only the last has an earlier row
    engine = engine_of(group("card_merchant", ["count"], ["1m"]))
    rows = [tx(1), tx(2, merchant_id="n"), tx(3, card_id="d"), tx(4)]
    assert column(engine, "card_merchant_count_1m", *rows) == [0, 0, 0, 1]


def test_windows_of_equal_length_say_the_same_however_they_are_written() -> None:
    engine = engine_of(group("card", ["count"], ["60s", "1m", "60000ms"]))
    rows = seen(engine, tx(0), tx(59), tx(60), tx(61))
    assert [x["card_count_60s"] for x in rows] == [0, 1, 1, 2]
    assert all(x["card_count_60s"] == x["card_count_1m"] == x["card_count_60000ms"] for x in rows)


def test_features_of_the_transaction_itself_need_no_history() -> None:
    engine = engine_of(
        group("event", ["value"], [], "amount"),
        group("event", ["value"], [], "tip"),
        group("event", ["value"], [], "recurring"),
        group("event", ["value"], [], "channel"),
        group("event", ["hour_of_day", "day_of_week"], [], "event_time"),
        FeatureGroup(entity="event", of=["merchant_id", "device_id"], aggregates=["differs"]),
    )
    sunday_last_ms = MONDAY_MS - 1
    given = seen(
        engine,
        tx(0, 1234, sunday_last_ms, tip=-5000, recurring=1, channel="online", device_id="x"),
        tx(0, 1, MONDAY_MS, channel="fax", device_id="m"),
        tx(0, 0, MONDAY_MS + 13 * HOUR_MS, recurring=0),
    )
    assert [x["amount"] for x in given] == [12.34, 0.01, 0]
    assert (given[0]["tip"], given[0]["recurring"], given[2]["recurring"]) == (-0.5, 1, 0)
    assert given[0]["channel"] == 1
    assert [(x["hour_of_day"], x["day_of_week"]) for x in given] == [(23, 6), (0, 0), (13, 0)]
    assert [given[0]["merchant_id_device_id_differs"], given[1]["merchant_id_device_id_differs"]] == [1, 0]
    missing = [
        given[1]["tip"],
        given[1]["recurring"],
        given[1]["channel"],
        given[2]["merchant_id_device_id_differs"],
    ]
    assert all(math.isnan(value) for value in missing)


def test_an_empty_batch_gives_no_rows_and_changes_nothing() -> None:
    engine = engine_of(group("card", ["count"], ["1m"]), group("event", ["value"], [], "amount"))
    column(engine, "card_count_1m", tx(0))
    before = engine.dump()
    observed = engine.observe(batch_of([]))
    engine.absorb(batch_of([]))
    assert observed.X.shape == (0, 2)
    assert observed.flags.shape == (0,)
    assert engine.dump() == before


def test_the_dump_holds_every_kept_row_with_its_own_values() -> None:
    engine = engine_of(group("card", ["std"], ["1m"], "amount"), group("card", ["sum"], ["1m"], "tip"))
    seen(engine, tx(2, 20, tip=5), tx(1, 10), tx(3, 30, tip=-7))
    (rows,) = engine.dump()["card"].values()
    assert rows == [
        (START_MS + 1000, 10, MISSING),  # time, amount, tip
        (START_MS + 2000, 20, 5),
        (START_MS + 3000, 30, -7),
    ]


def test_a_median_is_the_value_in_the_middle_or_the_mean_of_the_two() -> None:
    #  1  9  2  2   then a row of 8: nothing, 1, (1 + 9) / 2, 2, (2 + 2) / 2
    engine = engine_of(group("card", ["median", "median_ratio"], ["1m"], "items"))
    rows = seen(engine, *[tx(i, items=items) for i, items in enumerate([1, 9, 2, 2, 8])])
    medians = [row["card_items_median_1m"] for row in rows]
    assert math.isnan(medians[0])
    assert medians[1:] == [1, 5, 2, 2]
    assert rows[-1]["card_items_median_ratio_1m"] == 4


def test_nothing_is_a_multiple_of_a_median_of_zero() -> None:
    engine = engine_of(group("card", ["median_ratio"], ["1m"], "items"))
    assert math.isnan(column(engine, "card_items_median_ratio_1m", tx(1, items=0), tx(2, items=3))[-1])
