"""Tiles of sums in registers: the one inner loop of convolutions and dense layers, forward and backward.

A tile is a table of R x C vectors, held as a tuple, row after row. Each function below is a factory: it takes what
is known when a kernel is generated (offsets within arrays) and gives a function for that kernel to call. Offsets
count elements from a place that the kernel computes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from trueoracle.lanes.vector import (
    LANES,
    constant,
    element,
    everywhere,
    float32x16,
    fused,
    int32x16,
    int_constant,
    larger,
    vector_at,
)

Offsets = Sequence[int]
Tile = Callable[..., Any]

_INTS = int_constant(0).type


def zero_tile(size: int) -> Tile:
    """`() -> sums`: `size` vectors of zeros."""

    @intrinsic  # type: ignore[untyped-decorator]
    def zeros(_typing: Any) -> Any:
        def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
            return cgutils.pack_array(builder, [constant(0.0)] * size)

        return types.UniTuple(float32x16, size)(), emit

    return zeros  # type: ignore[no-any-return]


def start_tile(rows: Offsets, columns: int) -> Tile:
    """`(array, place) -> sums`: the vector at place + rows[r] in every column of row r; biases."""

    @intrinsic  # type: ignore[untyped-decorator]
    def start(_typing: Any, array: types.Array, place: types.Integer) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            at = _Vectors(context, builder, signature.args[0], *arguments)
            return cgutils.pack_array(builder, [vector for row in rows for vector in [at.load(row)] * columns])

        return types.UniTuple(float32x16, len(rows) * columns)(array, types.intp), emit

    return start  # type: ignore[no-any-return]


def multiply_tile(rows: Sequence[Offsets], columns: Sequence[Sequence[int | None]], *, scalars: bool = False) -> Tile:
    """`(sums, a, place_a, b, place_b) -> sums`: for each step s, in order, a column of `a` times a row of `b`.

    sums[r, c] += a[place_a + rows[s][r]] * b[place_b + columns[s][c]]; a column that is None is left out. With
    `scalars`, `b` holds one number for all lanes in place of a vector.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def multiply(
        _typing: Any,
        sums: types.UniTuple,
        a: types.Array,
        place_a: types.Integer,
        b: types.Array,
        place_b: types.Integer,
    ) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            left = _Vectors(context, builder, signature.args[1], *arguments[1:3])
            right = _Vectors(context, builder, signature.args[3], *arguments[3:5])
            table = [builder.extract_value(arguments[0], i) for i in range(sums.count)]
            for step_rows, step_columns in zip(rows, columns, strict=True):
                _step(builder, table, left, step_rows, right.spread if scalars else right.load, step_columns)
            return cgutils.pack_array(builder, table)

        return sums(sums, a, types.intp, b, types.intp), emit

    return multiply  # type: ignore[no-any-return]


def add_tile(offsets: Offsets) -> Tile:
    """`(sums, array, place)`: array[place + offsets[i]] += sums[i]."""
    return _memory_tile(offsets, add=True)


def store_tile(offsets: Offsets) -> Tile:
    """`(sums, array, place)`: array[place + offsets[i]] = sums[i]."""
    return _memory_tile(offsets, add=False)


def pool_tile(window: int, relu: bool, outputs: Offsets, indices: Offsets | None) -> Tile:
    """`(sums, out, place, index, place_index)`: the largest of each `window` neighbouring sums, at place + outputs.

    The index is the place of the first largest within its window, or -1 where ReLU made it zero: where the
    gradient will go. Without `indices` none is kept.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def pool(
        _typing: Any,
        sums: types.UniTuple,
        out: types.Array,
        place: types.Integer,
        index: types.Array,
        place_index: types.Integer,
    ) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            to = _Vectors(context, builder, signature.args[1], *arguments[1:3])
            kept = _Vectors(context, builder, signature.args[3], *arguments[3:5])
            table = [builder.extract_value(arguments[0], i) for i in range(sums.count)]
            for cell, offset in enumerate(outputs):
                best, first = _largest(builder, table[cell * window : (cell + 1) * window])
                if relu:
                    first = builder.select(builder.fcmp_ordered(">", best, constant(0.0)), first, int_constant(-1))
                    best = larger(builder, constant(0.0), best)
                to.store(offset, best)
                if indices is not None:
                    kept.store(indices[cell], first)
            return context.get_dummy_value()

        return types.void(sums, out, types.intp, index, types.intp), emit

    return pool  # type: ignore[no-any-return]


def route_tile(targets: Offsets) -> Tile:
    """`(gradient, index, place_index, out, place) -> gradient`: pooling backward.

    out[place + targets[j]] gets the gradient where the index is j and zero elsewhere; what comes back is the
    gradient where there is an index (>= 0) and zero elsewhere.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def route(
        _typing: Any,
        gradient: Any,
        index: types.Array,
        place_index: types.Integer,
        out: types.Array,
        place: types.Integer,
    ) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            kept = _Vectors(context, builder, signature.args[1], *arguments[1:3]).load(0)
            to = _Vectors(context, builder, signature.args[3], *arguments[3:5])
            for j, offset in enumerate(targets):
                here = builder.icmp_signed("==", kept, int_constant(j))
                to.store(offset, builder.select(here, arguments[0], constant(0.0)))
            alive = builder.icmp_signed(">=", kept, int_constant(0))
            return builder.select(alive, arguments[0], constant(0.0))

        return gradient(gradient, index, types.intp, out, types.intp), emit

    return route  # type: ignore[no-any-return]


def select_tile(taps: Offsets) -> Tile:
    """`(sums, gradient, index, place_index, fours, place) -> sums`: weight gradient of one pooled output.

    sums[k] += gradient * the number, of the four that lie at fours[place + taps[k]], that the index of the lane
    names. Needs AVX-512 (`has_select`).
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def select(
        _typing: Any,
        sums: types.UniTuple,
        gradient: Any,
        index: types.Array,
        place_index: types.Integer,
        fours: types.Array,
        place: types.Integer,
    ) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            kept = _Vectors(context, builder, signature.args[2], *arguments[2:4]).load(0)
            sources = _Vectors(context, builder, signature.args[4], *arguments[4:6])
            table = [builder.extract_value(arguments[0], i) for i in range(sums.count)]
            for k, offset in enumerate(taps):
                chosen = _permuted(builder, sources.spread_four(offset), kept)
                table[k] = fused(builder, arguments[1], chosen, table[k])
            return cgutils.pack_array(builder, table)

        return sums(sums, gradient, index, types.intp, fours, types.intp), emit

    return select  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def divide(_typing: Any, a: Any, b: Any) -> Any:
    """The quotient, lane by lane."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.fdiv(*arguments)

    return a(a, b), emit


@intrinsic  # type: ignore[untyped-decorator]
def equals(_typing: Any, integers: Any, number: types.Integer) -> Any:
    """1.0 where the lane's integer is `number`, else 0.0."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        same = everywhere(builder, builder.trunc(arguments[1], ir.IntType(32)))
        return builder.select(builder.icmp_signed("==", arguments[0], same), constant(1.0), constant(0.0))

    return float32x16(integers, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def as_index(_typing: Any, number: types.Integer) -> Any:
    """One integer in every lane."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return everywhere(builder, builder.trunc(arguments[0], ir.IntType(32)))

    return int32x16(types.intp), emit


class _Vectors:
    """The vectors of one array around one place, for emitting."""

    def __init__(
        self, context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, place: ir.Value
    ) -> None:
        self._context, self._builder, self._kind, self._array, self._place = context, builder, kind, array, place

    def load(self, offset: int) -> ir.Value:
        return self._builder.load(self._vector(offset), align=4 * LANES)

    def store(self, offset: int, value: ir.Value) -> None:
        self._builder.store(value, self._vector(offset), align=4 * LANES)

    def spread(self, offset: int) -> ir.Value:
        return everywhere(self._builder, self._builder.load(self._element(offset)))

    def spread_four(self, offset: int) -> ir.Value:
        four = self._builder.bitcast(self._element(offset), ir.VectorType(ir.FloatType(), 4).as_pointer())
        loaded = self._builder.load(four, align=16)
        return self._builder.shuffle_vector(
            loaded, loaded, ir.Constant(_INTS, [ir.IntType(32)(lane % 4) for lane in range(LANES)])
        )

    def _vector(self, offset: int) -> ir.Value:
        return vector_at(self._context, self._builder, self._kind, self._array, self._at(offset))

    def _element(self, offset: int) -> ir.Value:
        return element(self._context, self._builder, self._kind, self._array, self._at(offset))

    def _at(self, offset: int) -> ir.Value:
        return self._builder.add(self._place, self._place.type(offset))


def _step(
    builder: ir.IRBuilder,
    table: list[ir.Value],
    left: _Vectors,
    rows: Offsets,
    right: Callable[[int], ir.Value],
    columns: Sequence[int | None],
) -> None:
    """One step of `multiply_tile`, in place."""
    factors = [left.load(row) for row in rows]
    for c, column in enumerate(columns):
        if column is not None:
            other = right(column)
            for r, factor in enumerate(factors):
                table[r * len(columns) + c] = fused(builder, factor, other, table[r * len(columns) + c])


def _largest(builder: ir.IRBuilder, values: list[ir.Value]) -> tuple[ir.Value, ir.Value]:
    """The largest vector and which it was, the first among equals."""
    best, first = values[0], int_constant(0)
    for j, value in enumerate(values[1:], start=1):
        higher = builder.fcmp_ordered(">", value, best)
        best = builder.select(higher, value, best)
        first = builder.select(higher, int_constant(j), first)
    return best, first


def _permuted(builder: ir.IRBuilder, four: ir.Value, index: ir.Value) -> ir.Value:
    """four[index % 4] within each quarter of the lanes: one instruction of AVX-512."""
    name = "llvm.x86.avx512.vpermilvar.ps.512"
    kind = ir.FunctionType(four.type, [four.type, index.type])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [four, index])


def _memory_tile(offsets: Offsets, *, add: bool) -> Tile:
    @intrinsic  # type: ignore[untyped-decorator]
    def write(_typing: Any, sums: types.UniTuple, array: types.Array, place: types.Integer) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            to = _Vectors(context, builder, signature.args[1], *arguments[1:3])
            for i, offset in enumerate(offsets):
                value = builder.extract_value(arguments[0], i)
                to.store(offset, builder.fadd(to.load(offset), value) if add else value)
            return context.get_dummy_value()

        return types.void(sums, array, types.intp), emit

    return write  # type: ignore[no-any-return]
