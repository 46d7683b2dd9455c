"""Powers and logarithms of sixteen numbers at once, from polynomials and the bits of the exponent."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from trueoracle.lanes.vector import constant, float32x16, fused, hold, int_constant, larger

# Three values of each stay in registers beside the sums that wait.
_POWERS_AT_ONCE = 5

_INTS, _FLOATS = int_constant(0).type, constant(0.0).type
_MANTISSA_BITS, _MANTISSA, _ONE = 23, 0x7FFFFF, 0x3F800000

# Adding 1.5 x 2^23 to a small float32 leaves its nearest integer in the lowest bits.
_ROUNDING = 1.5 * 2.0**23
# Below 2^-126 a float32 has no full mantissa; beside a 1 such a number is nothing.
_LOWEST = -126.0


def _chebyshev(function: Any, low: float, high: float, degree: int) -> list[float]:
    """Coefficients, lowest power first, of the polynomial through `function` at Chebyshev's points."""
    points = np.cos((np.arange(degree + 1) + 0.5) * np.pi / (degree + 1)) * (high - low) / 2 + (high + low) / 2
    return [float(c) for c in np.polynomial.Polynomial.fit(points, function(points), degree).convert().coef]


# Relative error 8e-8 on [-1/2, 1/2]; log2 of a mantissa less 1, divided by it, to 1e-7 on [0, 1].
_EXP2 = _chebyshev(np.exp2, -0.5, 0.5, 5)
_LOG2 = _chebyshev(lambda x: np.log2(1 + x) / x, 0.0, 1.0, 9)


def _polynomials(builder: ir.IRBuilder, coefficients: list[float], row: list[ir.Value]) -> list[ir.Value]:
    """The polynomial of every vector, step by step side by side, so that no step waits for the one before."""
    values: list[ir.Value] = [constant(coefficients[-1])] * len(row)
    for coefficient in reversed(coefficients[:-1]):
        values = [fused(builder, value, x, constant(coefficient)) for value, x in zip(values, row, strict=True)]
    return values


def _exp2(builder: ir.IRBuilder, row: list[ir.Value]) -> list[ir.Value]:
    row = [larger(builder, constant(_LOWEST), x) for x in row]
    shifted = [builder.fadd(x, constant(_ROUNDING)) for x in row]
    whole = [builder.fsub(x, constant(_ROUNDING)) for x in shifted]
    fractions = [builder.fsub(x, n) for x, n in zip(row, whole, strict=True)]
    powers = [builder.bitcast(power, _INTS) for power in _polynomials(builder, _EXP2, fractions)]
    exponents = [builder.shl(builder.bitcast(x, _INTS), int_constant(_MANTISSA_BITS)) for x in shifted]
    bits = [builder.add(power, exponent) for power, exponent in zip(powers, exponents, strict=True)]
    return [builder.bitcast(value, _FLOATS) for value in bits]


@intrinsic  # type: ignore[untyped-decorator]
def exp2(_typing: Any, x: Any) -> Any:
    """2^x for x <= 126, to a relative 2e-7; 2^-126 for all x below -126; what is not a number stays so."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return _exp2(builder, [arguments[0]])[0]

    return x(x), emit


@intrinsic  # type: ignore[untyped-decorator]
def sum_of_exp2(_typing: Any, row: types.UniTuple) -> Any:
    """The sum over the vectors of `row`, first to last, of 2^x, as `exp2` has it."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        values = [builder.extract_value(arguments[0], i) for i in range(row.count)]
        found: ir.Value | None = None
        for begin in range(0, row.count, _POWERS_AT_ONCE):
            for power in _exp2(builder, values[begin : begin + _POWERS_AT_ONCE]):
                found = power if found is None else builder.fadd(found, power)
            hold(builder)
        return found

    return float32x16(row), emit


@intrinsic  # type: ignore[untyped-decorator]
def max_of_row(_typing: Any, row: types.UniTuple) -> Any:
    """The largest over the vectors of `row`, lane by lane, first to last."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        best = builder.extract_value(arguments[0], 0)
        for i in range(1, row.count):
            best = larger(builder, builder.extract_value(arguments[0], i), best)
        return best

    return float32x16(row), emit


@intrinsic  # type: ignore[untyped-decorator]
def split_exponent(_typing: Any, x: Any) -> Any:
    """(mantissa in [1, 2), exponent as a float) of positive normal numbers: x = mantissa x 2^exponent."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        bits = builder.bitcast(arguments[0], _INTS)
        mantissa = builder.or_(builder.and_(bits, int_constant(_MANTISSA)), int_constant(_ONE))
        exponent = builder.sub(builder.lshr(bits, int_constant(_MANTISSA_BITS)), int_constant(127))
        return cgutils.pack_array(builder, [builder.bitcast(mantissa, _FLOATS), builder.sitofp(exponent, _FLOATS)])

    return types.UniTuple(float32x16, 2)(x), emit


@intrinsic  # type: ignore[untyped-decorator]
def log2_near_one(_typing: Any, excess: Any) -> Any:
    """log2(1 + excess) for excess in [0, 1], to a relative 1e-7 even where excess is tiny."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.fmul(arguments[0], _polynomials(builder, _LOG2, [arguments[0]])[0])

    return excess(excess), emit
