"""Loads and stores at an address, for the kernels: what numba's arrays cost on the way of a row.

A numba array is seven values, and a kernel's state is some thirty arrays. Handed from function to function they
cost 50 microseconds a transaction (measured, docs/decisions/0010), against one with plain addresses. So a
stage's memory is passed as two or three integers, and everything in it is found from there. There are no bounds
checks: what may be read and written is what `table.py`, `rows.py` and `index.py` lay out, and the property
tests are the check.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fraudstream.compiled import compiled

_first_of, _place_of = ctypes.c_char.from_buffer, ctypes.addressof


def address_of(array: npt.NDArray[Any]) -> int:
    """Return where an array's first value lies; the caller keeps the array alive.

    By way of its buffer: asking numpy costs 2 us, of which a batch of a few rows has thirty.
    """
    if array.size and array.flags.writeable:
        return _place_of(_first_of(array))  # type: ignore[arg-type]  # an array is a buffer
    return int(array.__array_interface__["data"][0])


def _loader(width: int) -> Any:
    def load(typingctx: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(width)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = builder.load(builder.gep(pointer, [arguments[1]]), align=1)
            return value if width == 64 else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64, types.int64), codegen

    return intrinsic(load)


def _storer(width: int) -> Any:
    def store(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(width)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = arguments[2] if width == 64 else builder.trunc(arguments[2], kind)
            builder.store(value, builder.gep(pointer, [arguments[1]]), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    return intrinsic(store)


@intrinsic
def _put_double(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.DoubleType().as_pointer())
        builder.store(arguments[2], builder.gep(pointer, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float64), codegen


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        octets, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octets, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        hints = [ir.Constant(number, value) for value in (0, 3, 1)]  # for a read, keep it, data
        builder.call(function, [builder.inttoptr(arguments[0], octets), *hints])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


prefetch = _prefetch  # asks for the cache line at an address, which need not be one that may be read

# Each takes the address and the place, counted in items; integers come and go as int64, shorter ones unsigned.
word, half, quarter, octet = _loader(64), _loader(32), _loader(16), _loader(8)
put_word, put_half, put_quarter, put_octet = _storer(64), _storer(32), _storer(16), _storer(8)
put_double = _put_double


@compiled
def signed_quarter(value):  # type: ignore[no-untyped-def]
    """Return a 16-bit value with its sign."""
    return np.int64(np.int16(value))
