"""Tiles of sums in registers: the one inner loop of convolutions and dense layers, forward and backward.

A tile is a table of R x C vectors of sixteen numbers, held as a tuple, each in parts of `numbers` that fill one
register: part after part, then row after row. Each function below is a factory: it takes the numbers a register and
what else is known when a kernel is generated (offsets within arrays) and gives a function for that kernel to call.
Offsets count elements from a place that the kernel computes.

A compiler that is given sixteen numbers where a register takes eight asks for both halves of all that it reads at
once. Here one part follows the other, which needs fewer registers.
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
    floats,
    fused,
    hold,
    int32x16,
    int_constant,
    larger,
    vector_at,
)

Offsets = Sequence[int]
Tile = Callable[..., Any]


def zero_tile(numbers: int, size: int) -> Tile:
    """`() -> sums`: `size` vectors of zeros."""
    count = size * LANES // numbers

    @intrinsic  # type: ignore[untyped-decorator]
    def zeros(_typing: Any) -> Any:
        def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
            return cgutils.pack_array(builder, [constant(0.0, numbers)] * count)

        return types.UniTuple(floats(numbers), count)(), emit

    return zeros  # type: ignore[no-any-return]


def start_tile(numbers: int, rows: Offsets, columns: int) -> Tile:
    """`(array, place) -> sums`: the vector at place + rows[r] in every column of row r; biases."""
    count = len(rows) * columns * LANES // numbers

    @intrinsic  # type: ignore[untyped-decorator]
    def start(_typing: Any, array: types.Array, place: types.Integer) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            at = _Vectors(context, builder, numbers, signature.args[0], *arguments)
            found = [vector for part in _parts(numbers) for row in rows for vector in [at.load(row + part)] * columns]
            return cgutils.pack_array(builder, found)

        return types.UniTuple(floats(numbers), count)(array, types.intp), emit

    return start  # type: ignore[no-any-return]


def multiply_tile(
    numbers: int, rows: Sequence[Offsets], columns: Sequence[Sequence[int | None]], *, scalars: bool = False
) -> Tile:
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
            left = _Vectors(context, builder, numbers, signature.args[1], *arguments[1:3])
            right = _Vectors(context, builder, numbers, signature.args[3], *arguments[3:5])
            table = _table(builder, arguments[0], numbers)
            step = _scalar_step if scalars else _vector_step
            for step_rows, step_columns in zip(rows, columns, strict=True):
                step(builder, table, left, step_rows, right, step_columns)
                hold(builder)
            return cgutils.pack_array(builder, [value for part in table for value in part])

        return sums(sums, a, types.intp, b, types.intp), emit

    return multiply  # type: ignore[no-any-return]


def add_tile(numbers: int, offsets: Offsets) -> Tile:
    """`(sums, array, place)`: array[place + offsets[i]] += sums[i]."""
    return _memory_tile(numbers, offsets, add=True)


def store_tile(numbers: int, offsets: Offsets) -> Tile:
    """`(sums, array, place)`: array[place + offsets[i]] = sums[i]."""
    return _memory_tile(numbers, offsets, add=False)


def pool_tile(numbers: int, window: int, relu: bool, outputs: Offsets, indices: Offsets) -> Tile:
    """`(sums, out, place, index, place_index)`: the largest of each `window` neighbouring sums, at place + outputs.

    The index is the place of the first largest within its window, or -1 where ReLU made it zero: where the
    gradient will go.
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
            to = _Vectors(context, builder, numbers, signature.args[1], *arguments[1:3])
            kept = _Vectors(context, builder, numbers, signature.args[3], *arguments[3:5])
            none, zero = int_constant(-1, numbers), constant(0.0, numbers)
            for begin, table in zip(_parts(numbers), _table(builder, arguments[0], numbers), strict=True):
                for cell, offset in enumerate(outputs):
                    best, first = _largest(builder, table[cell * window : (cell + 1) * window], numbers)
                    if relu:
                        first = builder.select(builder.fcmp_ordered(">", best, zero), first, none)
                        best = larger(builder, zero, best)
                    to.store(offset + begin, best)
                    kept.store(indices[cell] + begin, first)
            return context.get_dummy_value()

        return types.void(sums, out, types.intp, index, types.intp), emit

    return pool  # type: ignore[no-any-return]


def route_tile(targets: Offsets) -> Tile:
    """`(gradient, index, place_index, out, place) -> gradient`: pooling backward, of whole vectors.

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
            kept = _Vectors(context, builder, LANES, signature.args[1], *arguments[1:3]).load(0)
            to = _Vectors(context, builder, LANES, signature.args[3], *arguments[3:5])
            for j, offset in enumerate(targets):
                here = builder.icmp_signed("==", kept, int_constant(j))
                to.store(offset, builder.select(here, arguments[0], constant(0.0)))
            hold(builder)
            alive = builder.icmp_signed(">=", kept, int_constant(0))
            return builder.select(alive, arguments[0], constant(0.0))

        return gradient(gradient, index, types.intp, out, types.intp), emit

    return route  # type: ignore[no-any-return]


def four_tile(steps: Offsets) -> Tile:
    """`(array, place, out, place_out)`: the four numbers at place + steps[j] side by side, on a border of 16 bytes."""

    @intrinsic  # type: ignore[untyped-decorator]
    def gather(_typing: Any, array: types.Array, place: types.Integer, out: types.Array, to: types.Integer) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            source = _Vectors(context, builder, LANES, signature.args[0], *arguments[:2])
            four: ir.Value = constant(0.0, len(steps))
            for j, step in enumerate(steps):
                four = builder.insert_element(four, source.number(step), ir.IntType(32)(j))
            _Vectors(context, builder, len(steps), signature.args[2], *arguments[2:]).store(0, four)
            return context.get_dummy_value()

        return types.void(array, types.intp, out, types.intp), emit

    return gather  # type: ignore[no-any-return]


def select_tile(numbers: int, taps: Offsets) -> Tile:
    """`(sums, gradient, place_gradient, index, place_index, fours, place) -> sums`: weight gradient of one pooled output.

    sums[k] += gradient * the number, of the four that lie at fours[place + taps[k]], that the index of the lane
    names; where the index names none the gradient is zero. For a target that `permutes`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def select(
        _typing: Any,
        sums: types.UniTuple,
        gradient: types.Array,
        place_gradient: types.Integer,
        index: types.Array,
        place_index: types.Integer,
        fours: types.Array,
        place: types.Integer,
    ) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            own = _Vectors(context, builder, numbers, signature.args[1], *arguments[1:3])
            kept = _Vectors(context, builder, numbers, signature.args[3], *arguments[3:5])
            sources = _Vectors(context, builder, numbers, signature.args[5], *arguments[5:7])
            table = _table(builder, arguments[0], numbers)
            factors, indices = ([at.load(part) for part in _parts(numbers)] for at in (own, kept))
            for k, offset in enumerate(taps):
                four = sources.four(offset)
                for part, factor, which in zip(table, factors, indices, strict=True):
                    part[k] = fused(builder, factor, _permuted(builder, four, which), part[k])
                hold(builder)
            return cgutils.pack_array(builder, [value for part in table for value in part])

        return sums(sums, gradient, types.intp, index, types.intp, fours, types.intp), emit

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

    return floats(LANES)(integers, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def as_index(_typing: Any, number: types.Integer) -> Any:
    """One integer in every lane."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return everywhere(builder, builder.trunc(arguments[0], ir.IntType(32)))

    return int32x16(types.intp), emit


class _Vectors:
    """The vectors, of so many numbers each, of one array around one place, for emitting."""

    def __init__(
        self,
        context: Any,
        builder: ir.IRBuilder,
        numbers: int,
        kind: types.Array,
        array: ir.Value,
        place: ir.Value,
    ) -> None:
        self._context, self._builder, self._kind, self._array, self._place = context, builder, kind, array, place
        self._numbers = numbers

    def load(self, offset: int) -> ir.Value:
        return self._builder.load(self._vector(offset), align=4 * self._numbers)

    def store(self, offset: int, value: ir.Value) -> None:
        self._builder.store(value, self._vector(offset), align=4 * self._numbers)

    def number(self, offset: int) -> ir.Value:
        return self._builder.load(self._element(offset))

    def spread(self, offset: int) -> ir.Value:
        return everywhere(self._builder, self.number(offset), self._numbers)

    def four(self, offset: int) -> ir.Value:
        """Four neighbouring numbers, on a border of 16 bytes."""
        kind = ir.VectorType(ir.FloatType(), 4).as_pointer()
        return self._builder.load(self._builder.bitcast(self._element(offset), kind), align=16)

    def _vector(self, offset: int) -> ir.Value:
        return vector_at(self._context, self._builder, self._kind, self._array, self._at(offset), self._numbers)

    def _element(self, offset: int) -> ir.Value:
        return element(self._context, self._builder, self._kind, self._array, self._at(offset))

    def _at(self, offset: int) -> ir.Value:
        return self._builder.add(self._place, self._place.type(offset))


def _parts(numbers: int) -> range:
    """Where the parts of a vector begin."""
    return range(0, LANES, numbers)


def _table(builder: ir.IRBuilder, sums: ir.Value, numbers: int) -> list[list[ir.Value]]:
    """The sums of each part."""
    values = [builder.extract_value(sums, i) for i in range(sums.type.count)]
    size = len(values) // len(_parts(numbers))
    return [values[begin : begin + size] for begin in range(0, len(values), size)]


def _vector_step(
    builder: ir.IRBuilder,
    table: list[list[ir.Value]],
    left: _Vectors,
    rows: Offsets,
    right: _Vectors,
    columns: Sequence[int | None],
) -> None:
    """One step of `multiply_tile`, in place: part by part, so that one part's factors are at hand at a time."""
    for part, sums in zip(_parts(LANES // len(table)), table, strict=True):
        factors = [left.load(row + part) for row in rows]
        for c, column in enumerate(columns):
            if column is not None:
                other = right.load(column + part)
                for r, factor in enumerate(factors):
                    sums[r * len(columns) + c] = fused(builder, factor, other, sums[r * len(columns) + c])


def _scalar_step(
    builder: ir.IRBuilder,
    table: list[list[ir.Value]],
    left: _Vectors,
    rows: Offsets,
    right: _Vectors,
    columns: Sequence[int | None],
) -> None:
    """As `_vector_step`, column by column: one register has the number for all parts."""
    factors = [[left.load(row + part) for row in rows] for part in _parts(LANES // len(table))]
    for c, column in enumerate(columns):
        if column is not None:
            other = right.spread(column)
            for sums, own in zip(table, factors, strict=True):
                for r, factor in enumerate(own):
                    sums[r * len(columns) + c] = fused(builder, factor, other, sums[r * len(columns) + c])


def _largest(builder: ir.IRBuilder, values: list[ir.Value], numbers: int) -> tuple[ir.Value, ir.Value]:
    """The largest vector and which it was, the first among equals."""
    best, first = values[0], int_constant(0, numbers)
    for j, value in enumerate(values[1:], start=1):
        higher = builder.fcmp_ordered(">", value, best)
        best = builder.select(higher, value, best)
        first = builder.select(higher, int_constant(j, numbers), first)
    return best, first


# By numbers a register, the instruction that picks, within each four lanes, one of four by the lowest bits of an index.
_PERMUTES = {16: "llvm.x86.avx512.vpermilvar.ps.512", 8: "llvm.x86.avx.vpermilvar.ps.256"}


def _permuted(builder: ir.IRBuilder, four: ir.Value, index: ir.Value) -> ir.Value:
    """four[index % 4]."""
    lanes = index.type.count
    spread = builder.shuffle_vector(four, four, ir.Constant(index.type, [ir.IntType(32)(i % 4) for i in range(lanes)]))
    kind = ir.FunctionType(spread.type, [spread.type, index.type])
    name = _PERMUTES[lanes]
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [spread, index])


def _memory_tile(numbers: int, offsets: Offsets, *, add: bool) -> Tile:
    @intrinsic  # type: ignore[untyped-decorator]
    def write(_typing: Any, sums: types.UniTuple, array: types.Array, place: types.Integer) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            to = _Vectors(context, builder, numbers, signature.args[1], *arguments[1:3])
            for part, values in zip(_parts(numbers), _table(builder, arguments[0], numbers), strict=True):
                for offset, value in zip(offsets, values, strict=True):
                    to.store(offset + part, builder.fadd(to.load(offset + part), value) if add else value)
            return context.get_dummy_value()

        return types.void(sums, array, types.intp), emit

    return write  # type: ignore[no-any-return]
