"""The walks of TreeSHAP: one row with a lane a quadrature point, or eight rows with a lane each; see `treeshap`.

Down a tree, each node gets the product of the factors from the root to it, at all points; a leaf's is multiplied by
its value. Up again, each node gets the sum of the leaves below it. Both walks do the same arithmetic in the same
order, so that what a row gets does not depend on whether others stand beside it.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.scoring.lanes import (
    LANES,
    VECTOR_BYTES,
    fused,
    if_at_most,
    if_equal,
    load,
    spread,
    spread_at,
    store,
    unless_above,
)
from fraudstream.scoring.trees import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    MISSING_ZERO,
    goes_left,
    has_bit,
)

# Columns of `reals`: cover of a node's edge, merged with those above of the same feature; an inner node's threshold;
# a leaf's value, 1 for others.
RATIO, THRESHOLD, VALUE = range(3)
# Columns of `links`; nodes are numbered within their tree, in preorder, so that a left child follows its parent, and
# an edge belongs to its lower end. The parent, the right child (0: a leaf), the nearest edge above with the same
# feature (0: none); the feature that an inner node looks at, and the edge's; the kind of split, and where the bits
# of a categorical one stand.
PARENT, RIGHT, ABOVE, SPLIT, EDGE, KIND, FIRST_WORD, END_WORD = range(8)


@compiled
def _constants(rules, points):  # type: ignore[no-untyped-def]
    """Return the addresses of the weights and of the points of a rule."""
    weight = rules.ctypes.data + 16 * rules.shape[2] * (points - 1)
    return weight, weight + 8 * rules.shape[2]


@compiled
def _kept(parent, n):  # type: ignore[no-untyped-def]
    """Return what is kept at a parent: nothing of its product when its right child, the first, gives its sum."""
    return spread(1.0 if n == parent + 1 else 0.0)


@compiled
def explain_by_points(X, tables, room, passed, sums):  # type: ignore[no-untyped-def]
    """Add up sums [n, features, LANES] over all trees; the sum of a feature's lanes is its part.

    Args:
        room: [nodes, vectors, LANES] for the largest tree.
        passed: [nodes] whether the row passes the tests of the edge's feature from the root to here.
    """
    reals, links, first, points, factors, first_factor, rules, words = tables
    room_at, room_bytes = room.ctypes.data, room.shape[1] * VECTOR_BYTES
    for t in range(len(first) - 1):
        begin, count = first[t], first[t + 1] - first[t]
        part_bytes = (points[t] + LANES - 1) // LANES * VECTOR_BYTES
        weight, at = _constants(rules, points[t])
        table_at = factors.ctypes.data + 8 * first_factor[t]
        for row in range(len(X)):
            row_at = sums.ctypes.data + row * sums.shape[1] * VECTOR_BYTES
            for k in range(0, part_bytes, VECTOR_BYTES):
                store(room_at + k, load(weight + k))
            for n in range(count):
                here, node, above = room_at + n * room_bytes, begin + n, links[begin + n, ABOVE]
                parent, failed = room_at + links[node, PARENT] * room_bytes, table_at + 3 * n * part_bytes
                value = spread(reals[node, VALUE])
                if above > 0:
                    inverse = table_at + (3 * above + 1 + passed[above]) * part_bytes
                    passed[n] &= passed[above]
                    o = spread(np.float64(passed[n]))
                    for k in range(0, part_bytes, VECTOR_BYTES):
                        factor = fused(o, load(at + k), load(failed + k)) * load(inverse + k)
                        store(here + k, load(parent + k) * factor * value)
                elif n > 0:
                    o = spread(np.float64(passed[n]))
                    for k in range(0, part_bytes, VECTOR_BYTES):
                        factor = fused(o, load(at + k), load(failed + k))
                        store(here + k, load(parent + k) * factor * value)
                right = links[node, RIGHT]
                if right > 0:
                    left = goes_left(
                        X[row, links[node, SPLIT]], reals[node, THRESHOLD], links[node, KIND], words,
                        links[node, FIRST_WORD], links[node, END_WORD],
                    )  # fmt: skip
                    passed[n + 1] = np.int64(left)
                    passed[right] = 1 - np.int64(left)
            for n in range(count - 1, 0, -1):
                here, node, above, o = room_at + n * room_bytes, begin + n, links[begin + n, ABOVE], passed[n]
                parent, to = (
                    room_at + links[node, PARENT] * room_bytes,
                    row_at + links[node, EDGE] * VECTOR_BYTES,
                )
                total, inverse = load(to), table_at + (3 * n + 1 + o) * part_bytes
                share, kept = spread(np.float64(o) - reals[node, RATIO]), _kept(links[node, PARENT], n)
                for k in range(0, part_bytes, VECTOR_BYTES):
                    below = load(here + k)
                    total = fused(below * load(inverse + k), share, total)
                    store(parent + k, fused(load(parent + k), kept, below))
                if above > 0:
                    inverse = table_at + (3 * above + 1 + passed[above]) * part_bytes
                    share = spread(reals[begin + above, RATIO] - np.float64(passed[above]))
                    for k in range(0, part_bytes, VECTOR_BYTES):
                        total = fused(load(here + k) * load(inverse + k), share, total)
                store(to, total)


@compiled
def _split(values, threshold, kind):  # type: ignore[no-untyped-def]
    """Return 1 in the lanes of the rows that go left at a numerical node, else 0; `goes_left` is its scalar twin.

    Args:
        values: address of the rows' values of the node's feature.
    """
    yes, no = spread(1.0), spread(0.0)
    value, limit, missing = load(values), spread(threshold), (kind >> 2) & 3
    if missing != MISSING_NAN:
        value = if_equal(value, value, value, no)  # NaN is equal to nothing
    if missing == MISSING_ZERO:
        default = yes if kind & DEFAULT_LEFT != 0 else no
        return if_equal(value, no, default, if_at_most(value, limit, yes, no))
    if kind & DEFAULT_LEFT != 0:
        return unless_above(value, limit, yes, no)
    return if_at_most(value, limit, yes, no)


@compiled
def _inverse(table, q, padded, o):  # type: ignore[no-untyped-def]
    """Return 1 / factor of an edge at a point, in each lane as the row passes it (o = 1) or not."""
    unseen, seen = spread_at(table + 8 * (padded + q)), spread_at(table + 8 * (2 * padded + q))
    return if_equal(o, spread(1.0), seen, unseen)


@compiled
def explain_by_rows(values, tables, room, passed, sums):  # type: ignore[no-untyped-def]
    """Add up sums [blocks, features, LANES points, LANES rows]; a tree for all rows, so that it stays in the cache.

    Args:
        values: [blocks, features, LANES] the rows'.
        room: [nodes, points, LANES] for the largest tree.
        passed: [nodes, LANES] whether a row passes the tests of the edge's feature from the root to here.
    """
    reals, links, first, points, factors, first_factor, rules, words = tables
    room_at, room_bytes, passed_at = room.ctypes.data, room.shape[1] * VECTOR_BYTES, passed.ctypes.data
    for t in range(len(first) - 1):
        begin, count, last = first[t], first[t + 1] - first[t], points[t]
        padded = (last + LANES - 1) // LANES * LANES
        weight, at = _constants(rules, last)
        table_at = factors.ctypes.data + 8 * first_factor[t]
        for block in range(len(values)):
            row_at = values.ctypes.data + block * values.shape[1] * VECTOR_BYTES
            sums_at = sums.ctypes.data + block * values.shape[1] * LANES * VECTOR_BYTES
            for q in range(last):
                store(room_at + q * VECTOR_BYTES, spread_at(weight + 8 * q))
            for n in range(count):
                here, node, above = room_at + n * room_bytes, begin + n, links[begin + n, ABOVE]
                parent, failed = room_at + links[node, PARENT] * room_bytes, table_at + 24 * padded * n
                o, value = load(passed_at + n * VECTOR_BYTES), spread(reals[node, VALUE])
                if above > 0:
                    over, table = load(passed_at + above * VECTOR_BYTES), table_at + 24 * padded * above
                    o = o * over
                    store(passed_at + n * VECTOR_BYTES, o)
                    for q in range(last):
                        factor = fused(o, spread_at(at + 8 * q), spread_at(failed + 8 * q))
                        factor = factor * _inverse(table, q, padded, over)
                        store(here + q * VECTOR_BYTES, load(parent + q * VECTOR_BYTES) * factor * value)
                elif n > 0:
                    for q in range(last):
                        factor = fused(o, spread_at(at + 8 * q), spread_at(failed + 8 * q))
                        store(here + q * VECTOR_BYTES, load(parent + q * VECTOR_BYTES) * factor * value)
                right, split, kind = links[node, RIGHT], links[node, SPLIT], links[node, KIND]
                if right == 0:
                    continue
                left = passed_at + (n + 1) * VECTOR_BYTES
                if kind & CATEGORICAL:
                    bits = links[node, FIRST_WORD], links[node, END_WORD]
                    for lane in range(LANES):
                        goes = has_bit(words, bits[0], bits[1], values[block, split, lane])
                        passed[n + 1, lane] = 1.0 if goes else 0.0
                else:
                    store(left, _split(row_at + split * VECTOR_BYTES, reals[node, THRESHOLD], kind))
                store(passed_at + right * VECTOR_BYTES, spread(1.0) - load(left))
            for n in range(count - 1, 0, -1):
                here, node, above = room_at + n * room_bytes, begin + n, links[begin + n, ABOVE]
                o, to = load(passed_at + n * VECTOR_BYTES), sums_at + links[node, EDGE] * LANES * VECTOR_BYTES
                table, parent = table_at + 24 * padded * n, room_at + links[node, PARENT] * room_bytes
                share, kept = o - spread(reals[node, RATIO]), _kept(links[node, PARENT], n)
                for q in range(last):
                    below, place = load(here + q * VECTOR_BYTES), parent + q * VECTOR_BYTES
                    total = to + q % LANES * VECTOR_BYTES
                    store(total, fused(below * _inverse(table, q, padded, o), share, load(total)))
                    store(place, fused(load(place), kept, below))
                if above > 0:
                    over, table = load(passed_at + above * VECTOR_BYTES), table_at + 24 * padded * above
                    share = spread(reals[begin + above, RATIO]) - over
                    for q in range(last):
                        below, total = load(here + q * VECTOR_BYTES), to + q % LANES * VECTOR_BYTES
                        store(total, fused(below * _inverse(table, q, padded, over), share, load(total)))
