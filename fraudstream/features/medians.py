"""The median of each window that needs one, from its rows as they stand: as many steps as there are rows."""

from __future__ import annotations

from fraudstream.compiled import compiled
from fraudstream.features.access import D_SLOTS, end_at, number_of, put_sum, slot_at, values_at
from fraudstream.features.codes import A_MIDDLE
from fraudstream.features.memory import put_word, word
from fraudstream.features.rows import LEAST, part_of, row_at


@compiled
def _kth(values, n, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest (from 0) of n values at an address, which change their places.

    Source: Hoare's FIND (CACM 4, 1961), as in Numerical Recipes, 8.5.
    """
    low, high = 0, n - 1
    while low < high:
        pivot = word(values, (low + high) >> 1)
        i, j = low, high
        while i <= j:
            while word(values, i) < pivot:
                i += 1
            while word(values, j) > pivot:
                j -= 1
            if i <= j:
                left = word(values, i)
                put_word(values, i, word(values, j))
                put_word(values, j, left)
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return word(values, k)


@compiled
def put_medians(store, plan, scratch, base):  # type: ignore[no-untyped-def]
    """Fill in twice the median of each slot that needs one: the sum of the two values in the middle."""
    values = values_at(scratch)
    for s in range(number_of(plan, D_SLOTS)):
        if slot_at(plan, s, 2) == 0:
            continue
        window, n = slot_at(plan, s, 1), 0
        for i in range(end_at(scratch, window, 0), end_at(scratch, window, 1)):
            more, value, _, _, _, _ = part_of(plan, row_at(store, plan, base, i), slot_at(plan, s, 0))
            if more > 0:
                put_word(values, n, value)
                n += 1
        if n == 0:
            continue
        upper = _kth(values, n, n >> 1)
        lower = upper
        if n % 2 == 0:  # the greatest of those that now stand before it
            lower = LEAST
            for i in range(n >> 1):
                lower = max(lower, word(values, i))
        put_sum(scratch, s, A_MIDDLE, lower + upper)
