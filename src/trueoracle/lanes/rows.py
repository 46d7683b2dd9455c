"""Several vectors as one value (a tuple that lives in registers), and dense layers on them.

Named accumulators are what keeps multiply-adds at the machine's peak; a tuple names them all at once. The lengths
of tuples are literals, so that each function below becomes straight-line code without any loop.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from trueoracle.lanes.vector import LANES, constant, element, everywhere, float32x16, fused, hold, larger, vector_at

_IN_FLIGHT = 12


def _place(start: ir.Value, builder: ir.IRBuilder, steps: int) -> ir.Value:
    return builder.add(start, start.type(steps))


def _vectors(builder: ir.IRBuilder, row: ir.Value, length: int) -> list[ir.Value]:
    return [builder.extract_value(row, i) for i in range(length)]


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load_row(_typing: Any, array: types.Array, place: types.Integer, length: types.IntegerLiteral) -> Any:
    """`length` vectors that lie one after another from array[place]."""
    count = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind, (values, start, _) = signature.args[0], arguments
        loaded = [
            builder.load(vector_at(context, builder, kind, values, _place(start, builder, LANES * i)), align=4 * LANES)
            for i in range(count)
        ]
        return cgutils.pack_array(builder, loaded)

    return types.UniTuple(float32x16, count)(array, types.intp, length), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zero_row(_typing: Any, length: types.IntegerLiteral) -> Any:
    """`length` vectors of zeros."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        return cgutils.pack_array(builder, [constant(0.0)] * length.literal_value)

    return types.UniTuple(float32x16, length.literal_value)(length), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def spread_row(_typing: Any, array: types.Array, place: types.Integer, length: types.IntegerLiteral) -> Any:
    """`length` vectors, the i-th with array[place + i] in every lane: biases."""
    count = length.literal_value

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind, (values, start, _) = signature.args[0], arguments
        loaded = [
            everywhere(builder, builder.load(element(context, builder, kind, values, _place(start, builder, i))))
            for i in range(count)
        ]
        return cgutils.pack_array(builder, loaded)

    return types.UniTuple(float32x16, count)(array, types.intp, length), emit


@intrinsic  # type: ignore[untyped-decorator]
def store_row(_typing: Any, array: types.Array, place: types.Integer, row: types.UniTuple) -> Any:
    """Put vectors one after another from array[place]."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        kind, (values, start, vectors) = signature.args[0], arguments
        for i, vector in enumerate(_vectors(builder, vectors, row.count)):
            pointer = vector_at(context, builder, kind, values, _place(start, builder, LANES * i))
            builder.store(vector, pointer, align=4 * LANES)
        return context.get_dummy_value()

    return types.void(array, types.intp, row), emit


@intrinsic  # type: ignore[untyped-decorator]
def add_rows(_typing: Any, a: types.UniTuple, b: types.UniTuple) -> Any:
    """The sum of two rows, vector by vector."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        x, y = (_vectors(builder, row, a.count) for row in arguments)
        return cgutils.pack_array(builder, [builder.fadd(p, q) for p, q in zip(x, y, strict=True)])

    return a(a, b), emit


@intrinsic  # type: ignore[untyped-decorator]
def lower_row(_typing: Any, row: types.UniTuple, x: Any) -> Any:
    """Each vector less x."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        vectors = _vectors(builder, arguments[0], row.count)
        return cgutils.pack_array(builder, [builder.fsub(vector, arguments[1]) for vector in vectors])

    return row(row, x), emit


@intrinsic  # type: ignore[untyped-decorator]
def max_rows(_typing: Any, a: types.UniTuple, b: types.UniTuple) -> Any:
    """The larger of a and b, vector by vector."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        x, y = (_vectors(builder, row, a.count) for row in arguments)
        return cgutils.pack_array(builder, [larger(builder, p, q) for p, q in zip(x, y, strict=True)])

    return a(a, b), emit


@intrinsic  # type: ignore[untyped-decorator]
def relu_row(_typing: Any, row: types.UniTuple) -> Any:
    """Zero where negative; what is not a number stays so."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        vectors = _vectors(builder, arguments[0], row.count)
        return cgutils.pack_array(builder, [larger(builder, constant(0.0), vector) for vector in vectors])

    return row(row), emit


@intrinsic  # type: ignore[untyped-decorator]
def scale_add(_typing: Any, row: types.UniTuple, x: Any, weights: types.Array, place: types.Integer) -> Any:
    """row[i] + x * weights[place + i], each weight the same in all lanes: one input of a dense layer."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        old, vector, values, start = arguments
        sums = []
        for i, held in enumerate(_vectors(builder, old, row.count)):
            pointer = element(context, builder, signature.args[2], values, _place(start, builder, i))
            sums.append(fused(builder, vector, everywhere(builder, builder.load(pointer)), held))
        hold(builder)
        return cgutils.pack_array(builder, sums)

    return row(row, x, weights, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def weigh_add(
    _typing: Any, row: types.UniTuple, inputs: types.Array, start: types.Integer, step: types.Integer, weight: Any
) -> Any:
    """row[i] + inputs[start + i * step] * weight: one weight of a convolution at neighbouring places."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        old, values, first, stride, factor = arguments
        sums = []
        for i, held in enumerate(_vectors(builder, old, row.count)):
            place = builder.add(first, builder.mul(stride, stride.type(i)))
            vector = builder.load(vector_at(context, builder, signature.args[1], values, place), align=4 * LANES)
            sums.append(fused(builder, vector, factor, held))
        return cgutils.pack_array(builder, sums)

    return row(row, inputs, types.intp, types.intp, weight), emit


def _layer(
    builder: ir.IRBuilder, sums: list[ir.Value], inputs: list[ir.Value], weight: Callable[[int], ir.Value]
) -> ir.Value:
    """sums[o] + the sum over i of inputs[i] * weight(i * outputs + o), a dozen outputs at a time.

    A dozen: enough multiply-adds in flight to hide their latency, few enough to stay in registers.
    """
    for first in range(0, len(sums), _IN_FLIGHT):
        for i, vector in enumerate(inputs):
            for o in range(first, min(first + _IN_FLIGHT, len(sums))):
                sums[o] = fused(builder, vector, weight(i * len(sums) + o), sums[o])
    return cgutils.pack_array(builder, sums)


@intrinsic  # type: ignore[untyped-decorator]
def dense(_typing: Any, biases: types.UniTuple, x: types.UniTuple, weights: types.Array, place: types.Integer) -> Any:
    """biases[o] + the sum over i of x[i] * weights[place + i * outputs + o]: a dense layer of one weight for all lanes."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        start, row, values, first = arguments

        def weight(step: int) -> ir.Value:
            pointer = element(context, builder, signature.args[2], values, _place(first, builder, step))
            return everywhere(builder, builder.load(pointer))

        return _layer(builder, _vectors(builder, start, biases.count), _vectors(builder, row, x.count), weight)

    return biases(biases, x, weights, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def dense_by_lane(
    _typing: Any, biases: types.UniTuple, x: types.UniTuple, weights: types.Array, place: types.Integer
) -> Any:
    """`dense` with own weights for each lane: 16 of them one after another in place of one."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        start, row, values, first = arguments

        def weight(step: int) -> ir.Value:
            pointer = vector_at(context, builder, signature.args[2], values, _place(first, builder, LANES * step))
            return builder.load(pointer, align=4 * LANES)

        return _layer(builder, _vectors(builder, start, biases.count), _vectors(builder, row, x.count), weight)

    return biases(biases, x, weights, types.intp), emit
