"""Eight doubles as one value inside a kernel.

numba leaves short loops scalar (measured, docs/decisions/0014), so that a kernel that works on a few numbers at once
says so: `load`, `store` and `spread` move such values, `+`, `-`, `*`, `/` and `fused` work lane by lane, rounded as
they are written. Addresses are plain integers, as in the feature kernels. LLVM splits what the machine has no vectors
for.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from fraudstream.compiled import compiled

LANES = 8
VECTOR_BYTES = 8 * LANES  # a cache line

_LLVM = ir.VectorType(ir.DoubleType(), LANES)


_BITS = ir.VectorType(ir.IntType(64), LANES)


class Vector(types.Type):
    """numba's type of eight doubles."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


class Bits(types.Type):
    """numba's type of eight 64-bit words."""

    def __init__(self) -> None:
        super().__init__(name="Bits")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LLVM)


@register_model(Bits)
class _BitsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BITS)


_VECTOR, _WORDS = Vector(), Bits()


@compiled
def aligned(count):  # type: ignore[no-untyped-def]
    """Return so many doubles that begin with a cache line: a vector that lies in two costs twice. None is set."""
    room = np.empty(count + LANES)
    begin = -room.ctypes.data % VECTOR_BYTES // 8
    return room[begin : begin + count]


@intrinsic
def load(typingctx: Any, address: Any) -> Any:
    """Return the doubles at an address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], _LLVM.as_pointer()), align=8)

    return _VECTOR(types.int64), codegen


@intrinsic
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write doubles to an address."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], _LLVM.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, _VECTOR), codegen


def _broadcast(builder: Any, scalar: Any, kind: Any = _LLVM) -> Any:
    index, undefined = ir.IntType(32), ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(index, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))


@intrinsic
def spread(typingctx: Any, scalar: Any) -> Any:
    """Return a double in all lanes."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _broadcast(builder, arguments[0])

    return _VECTOR(types.float64), codegen


@intrinsic
def if_at_most(typingctx: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return yes in the lanes where a is at most b, else no; NaN is not at most anything."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right, taken, otherwise = arguments
        return builder.select(builder.fcmp_ordered("<=", left, right), taken, otherwise)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR, _VECTOR), codegen


@intrinsic
def fused(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_LLVM, [_LLVM] * 3)
        name = f"llvm.fma.v{LANES}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return _VECTOR(_VECTOR, _VECTOR, _VECTOR), codegen


@intrinsic
def all_bits(typingctx: Any) -> Any:
    """Return words with every bit set."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_BITS, [-1] * LANES)

    return _WORDS(), codegen


@intrinsic
def cut_above(typingctx: Any, bits: Any, value: Any, limit: Any, kept: Any) -> Any:
    """Return the words with only the bits of `kept` left in the lanes where a value is not at most a limit."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words, vector, limit, kept = arguments
        holds = builder.fcmp_ordered("<=", vector, _broadcast(builder, limit))
        return builder.select(holds, words, builder.and_(words, _broadcast(builder, kept, _BITS)))

    return _WORDS(_WORDS, _VECTOR, types.float64, types.uint64), codegen


@intrinsic
def pick(typingctx: Any, address: Any, bits: Any) -> Any:
    """Return, in each lane, the double whose number at an address is the position of the word's lowest set bit."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_BITS, [_BITS, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.cttz.v{LANES}i64")
        positions = builder.call(count, [arguments[1], ir.Constant(ir.IntType(1), 1)])
        table = builder.inttoptr(arguments[0], ir.DoubleType().as_pointer())
        found = ir.Constant(_LLVM, ir.Undefined)
        for lane in range(LANES):
            at = ir.Constant(ir.IntType(32), lane)
            value = builder.load(builder.gep(table, [builder.extract_element(positions, at)]), align=8)
            found = builder.insert_element(found, value, at)
        return found

    return _VECTOR(types.int64, _WORDS), codegen


def _operator(function: Any, name: str) -> None:
    @intrinsic
    def lanewise(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments)

        return _VECTOR(_VECTOR, _VECTOR), codegen

    @overload(function)
    def of_vectors(a, b):  # type: ignore[no-untyped-def]  # numba compares names and annotations
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: lanewise(a, b)
        return None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")
