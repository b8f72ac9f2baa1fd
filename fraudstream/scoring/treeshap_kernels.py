"""The walks of TreeSHAP, `rows_abreast` rows and LANES / `rows_abreast` quadrature points at once; see `treeshap`.

A lane is a row at a point. What a row gets does not depend on how many stand beside it: the same kernel works on all
of them, and each feature's parts are added up by point modulo LANES first.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled
from fraudstream.scoring.columns import FEATURE, value_of
from fraudstream.scoring.lanes import (
    LANES,
    VECTOR_BYTES,
    aligned,
    fused,
    if_at_most,
    load,
    spread,
    store,
)

# An inner node. Nodes are numbered within their tree, in preorder, and the leaves behind them; an edge has the number
# of its lower end. A ratio is the cover of an edge, merged with those above of the same feature: of both edges below
# the node, and of the nearest above of its feature (number 0: there is none, and the ratio is 1).
NODE = np.dtype(
    [
        ("threshold", np.float64), ("left_ratio", np.float64), ("right_ratio", np.float64),
        ("above_ratio", np.float64), ("column", np.int32), ("feature", np.int32), ("left", np.int32),
        ("right", np.int32), ("above", np.int32),
    ],
    align=True,
)  # fmt: skip


@compiled
def explain(X, tables, rules, rows_abreast, parts):  # type: ignore[no-untyped-def]
    """Fill parts [n, features]; a tree for all rows, so that it stays in the cache.

    Args:
        rules: [points, 3, steps, LANES] weights, points t and 1 - t of the rules of each size.
    """
    columns, words, nodes, first, leaf, points = tables
    points_abreast = LANES // rows_abreast
    blocks, features = (len(X) + rows_abreast - 1) // rows_abreast, parts.shape[1]
    values = aligned(blocks * len(columns) * LANES).reshape(blocks, len(columns), LANES)
    for block in range(blocks):
        for c in range(len(columns)):
            for r in range(rows_abreast):
                row = min(block * rows_abreast + r, len(X) - 1)
                values[block, c, r::rows_abreast] = value_of(X[row, columns[c, FEATURE]], c, columns, words)
    sums = aligned(blocks * features * rows_abreast * LANES).reshape(blocks, features, rows_abreast, LANES)
    sums[:] = 0.0
    slots, slot_bytes = 2 * np.diff(first).max() + 1, rules.shape[2] * VECTOR_BYTES
    room, passed = aligned(slots * rules.shape[2] * LANES), aligned(slots * LANES)
    walk = room.ctypes.data, passed.ctypes.data, slot_bytes
    for t in range(len(first) - 1):
        inner, leaves = nodes[first[t] : first[t + 1]], leaf[first[t] + t : first[t + 1] + t + 1]
        weight = rules.ctypes.data + 3 * slot_bytes * (points[t] - 1)
        end = (points[t] + points_abreast - 1) // points_abreast * VECTOR_BYTES
        rule = weight, weight + slot_bytes, weight + 2 * slot_bytes, end
        for block in range(blocks):
            _down(inner, leaves, values.ctypes.data + block * len(columns) * VECTOR_BYTES, rule, walk)
            sums_at = sums.ctypes.data + block * features * rows_abreast * VECTOR_BYTES
            _up(inner, sums_at, rows_abreast, rule, walk)
    for row in range(len(X)):
        block, r = row // rows_abreast, row % rows_abreast
        for feature in range(features):
            total = 0.0
            for q in range(LANES):
                total += sums[block, feature, q // points_abreast, q % points_abreast * rows_abreast + r]
            parts[row, feature] = total


# Both walks take
#   rule: the addresses of weights, t and 1 - t, and the bytes of each;
#   walk: the addresses of a slot for each node and leaf, of `slot_bytes`, and of a vector for each. A slot has the
#   product of the factors from the root to here, at all points, and on the way up the sum of the leaves below; the
#   vector has 1 where a row passes all tests of the edge's feature, else 0.


@compiled
def _factor(o, ratio, at, rest):  # type: ignore[no-untyped-def]
    """Return o t + ratio (1 - t)."""
    return fused(o, load(at), spread(ratio) * load(rest))


@compiled
def _down(nodes, leaves, values, rule, walk):  # type: ignore[no-untyped-def]
    """Fill the slots on the way down; those of leaves with their values.

    Args:
        values: address of the block's columns.
    """
    (weight, at, rest, end), (slots, passed, slot_bytes) = rule, walk
    for k in range(0, end, VECTOR_BYTES):
        store(slots + k, load(weight + k))
    store(passed, spread(1.0))
    for n in range(len(nodes)):
        node = nodes[n]
        over, value = load(passed + node.above * VECTOR_BYTES), load(values + node.column * VECTOR_BYTES)
        left = if_at_most(value, spread(node.threshold), over, spread(0.0))
        right = over - left
        store(passed + node.left * VECTOR_BYTES, left)
        store(passed + node.right * VECTOR_BYTES, right)
        here, to_left, to_right = n * slot_bytes, node.left * slot_bytes, node.right * slot_bytes
        for k in range(0, end, VECTOR_BYTES):
            product = load(slots + here + k)
            if node.above > 0:
                product = product / _factor(over, node.above_ratio, at + k, rest + k)
                store(slots + here + k, product)
            store(slots + to_left + k, product * _factor(left, node.left_ratio, at + k, rest + k))
            store(slots + to_right + k, product * _factor(right, node.right_ratio, at + k, rest + k))
    for n in range(len(leaves)):
        here = slots + (len(nodes) + n) * slot_bytes
        for k in range(0, end, VECTOR_BYTES):
            store(here + k, spread(leaves[n]))


@compiled
def _up(nodes, sums, rows_abreast, rule, walk):  # type: ignore[no-untyped-def]
    """Add the parts of both edges below each node, which have one feature, and give the node its sum.

    Args:
        sums: address of the block's sums [features, rows_abreast, LANES].
    """
    (_, at, rest, end), (slots, passed, slot_bytes) = rule, walk
    for n in range(len(nodes) - 1, -1, -1):
        node = nodes[n]
        over = load(passed + node.above * VECTOR_BYTES)
        left, right = load(passed + node.left * VECTOR_BYTES), load(passed + node.right * VECTOR_BYTES)
        left_share, right_share = left - spread(node.left_ratio), right - spread(node.right_ratio)
        here, from_left, from_right = n * slot_bytes, node.left * slot_bytes, node.right * slot_bytes
        to = sums + node.feature * rows_abreast * VECTOR_BYTES
        for k in range(0, end, VECTOR_BYTES):
            below_left, below_right = load(slots + from_left + k), load(slots + from_right + k)
            part = fused(below_left, left_share, below_right * right_share)
            below = below_left * _factor(left, node.left_ratio, at + k, rest + k)
            below = fused(below_right, _factor(right, node.right_ratio, at + k, rest + k), below)
            if node.above > 0:
                below = below / _factor(over, node.above_ratio, at + k, rest + k)
                part = fused(below, spread(node.above_ratio) - over, part)
            total = to + k % (rows_abreast * VECTOR_BYTES)
            store(total, fused(load(slots + here + k), part, load(total)))
            store(slots + here + k, below)
