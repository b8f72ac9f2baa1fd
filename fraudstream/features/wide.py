"""128-bit integers as two 64-bit halves: the sums of squares that a variance needs, exact.

A variance taken from floating-point sums depends on the order of the rows and cancels away; the integer
one is the same for every order and every cut into batches.
"""

from __future__ import annotations

import numpy as np

from fraudstream.compiled import compiled

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@compiled
def multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return a * b as (high, low)."""
    a0 = a & _LOW
    a1 = a >> _HALF
    b0 = b & _LOW
    b1 = b >> _HALF
    low = a0 * b0
    middle = a1 * b0 + (low >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    high = a1 * b1 + (middle >> _HALF) + (other >> _HALF)
    return high, (other << _HALF) | (low & _LOW)


@compiled
def add(
    a_high: np.uint64, a_low: np.uint64, b_high: np.uint64, b_low: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return a + b modulo 2**128."""
    low = a_low + b_low
    carry = np.uint64(1) if low < a_low else np.uint64(0)
    return a_high + b_high + carry, low


@compiled
def subtract(
    a_high: np.uint64, a_low: np.uint64, b_high: np.uint64, b_low: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return a - b modulo 2**128."""
    borrow = np.uint64(1) if a_low < b_low else np.uint64(0)
    return a_high - b_high - borrow, a_low - b_low


@compiled
def to_float(high: np.uint64, low: np.uint64) -> float:
    """Return the nearest float64, as Python's float(int) does."""
    if high == np.uint64(0):
        return np.float64(low)
    shift = 0
    while high != np.uint64(0):
        sticky = low & np.uint64(1)  # what is shifted out still decides between two neighbours
        low = (low >> np.uint64(1)) | (high << np.uint64(63)) | sticky
        high >>= np.uint64(1)
        shift += 1
    return np.ldexp(np.float64(low), shift)


@compiled
def spread(n: int, total: int, squares_high: np.uint64, squares_low: np.uint64) -> float:
    """Return n * sum(x**2) - sum(x)**2, the variance times n**2 (or n (n - 1) for a sample)."""
    size = np.uint64(total) if total >= 0 else np.uint64(-total)
    square_high, square_low = multiply(size, size)
    scaled_high, scaled_low = multiply(squares_low, np.uint64(n))
    scaled_high += squares_high * np.uint64(n)
    high, low = subtract(scaled_high, scaled_low, square_high, square_low)
    return to_float(high, low)
