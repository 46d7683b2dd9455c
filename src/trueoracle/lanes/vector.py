"""Sixteen float32 numbers as one value of compiled code: the type `float32x16` and what can be done with it.

Parts of it that fill one register each, `floats(8)` say, are for `trueoracle.lanes.tiles`, which counts registers.

Numba compiles loops over arrays well, but leaves most of a CPU's arithmetic unused: its vectoriser must prove what
the author knows. Here the author says it: every function below is one LLVM instruction on `<16 x float>` (or
`<16 x i32>`, `<16 x i1>`). LLVM maps it to one register where there is AVX-512 and to two, four or more where there is not.

All functions are for use inside functions compiled by Numba; none can be called from Python. Memory is addressed
by an array and the place of an element in it, nothing is checked, and vectors lie on 64-byte borders (see
`trueoracle.lanes.memory`). No function is compiled with `fastmath`, so results depend on no optimiser.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16

_F32, _I32, _BIT = ir.FloatType(), ir.IntType(32), ir.IntType(1)
_FLOATS, _INTS, _BITS = (ir.VectorType(kind, LANES) for kind in (_F32, _I32, _BIT))


class _Lanes(types.Type):  # type: ignore[misc]
    """`numbers` of `kind` in one value."""

    def __init__(self, name: str, kind: ir.Type, numbers: int = LANES) -> None:
        super().__init__(name=name)
        self.vector = ir.VectorType(kind, numbers)


class _FloatLanes(_Lanes):
    pass


class _IntLanes(_Lanes):
    pass


class _BitLanes(_Lanes):
    pass


float32x16 = _FloatLanes("float32x16", _F32)
int32x16 = _IntLanes("int32x16", _I32)
bool16 = _BitLanes("bool16", _BIT)


def floats(numbers: int) -> _Lanes:
    """The type of so many float32 in one value."""
    return _FloatLanes(f"float32x{numbers}", _F32, numbers)


@register_model(_FloatLanes)
@register_model(_IntLanes)
@register_model(_BitLanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: _Lanes) -> None:
        super().__init__(manager, lanes, lanes.vector)


Emit = Callable[..., ir.Value]


def constant(number: float, lanes: int = LANES) -> ir.Constant:
    """The same float32 in every lane, for code that emits LLVM itself."""
    return ir.Constant(ir.VectorType(_F32, lanes), [ir.Constant(_F32, number)] * lanes)


def int_constant(number: int, lanes: int = LANES) -> ir.Constant:
    """The same int32 in every lane, for code that emits LLVM itself."""
    return ir.Constant(ir.VectorType(_I32, lanes), [ir.Constant(_I32, number)] * lanes)


def everywhere(builder: ir.IRBuilder, scalar: ir.Value, lanes: int = LANES) -> ir.Value:
    """One scalar copied into every lane."""
    first = builder.insert_element(ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(first, first, int_constant(0, lanes))


def call_llvm(builder: ir.IRBuilder, name: str, arguments: list[ir.Value]) -> ir.Value:
    """An LLVM intrinsic on float lanes, such as `llvm.fmuladd`."""
    vector = arguments[0].type
    whole = f"{name}.v{vector.count}f32"
    kind = ir.FunctionType(vector, [vector] * len(arguments))
    return builder.call(builder.module.globals.get(whole) or ir.Function(builder.module, kind, whole), arguments)


def fused(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """The product of two plus a third, rounded once where the machine can, twice where it cannot."""
    return call_llvm(builder, "llvm.fmuladd", [a, b, c])


def larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger of two, lane by lane; `b` where one is not a number. One instruction on every x86."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def hold(builder: ir.IRBuilder) -> None:
    """No instruction, but a line that the compiler moves no load across, nor keeps what was loaded for later use.

    It would else fill the registers with loads made early, and put sums on the stack for them; the processor itself
    looks ahead far enough.
    """
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


def element(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, place: ir.Value) -> ir.Value:
    """The address of one element of an array that is contiguous in memory."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [place])


def vector_at(
    context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, place: ir.Value, lanes: int = LANES
) -> ir.Value:
    """The address of neighbouring elements, sixteen or so many."""
    vector = ir.VectorType(_F32 if kind.dtype == types.float32 else _I32, lanes)
    return builder.bitcast(element(context, builder, kind, array, place), vector.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def hold_loads(_typing: Any) -> Any:
    """As `hold`, for the source of kernels."""

    def emit(context: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> ir.Value:
        hold(builder)
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic  # type: ignore[untyped-decorator]
def load(_typing: Any, array: types.Array, place: types.Integer) -> Any:
    """array[place : place + 16]; `place` divides by 16."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.load(vector_at(context, builder, signature.args[0], *arguments), align=4 * LANES)

    found = float32x16 if array.dtype == types.float32 else int32x16
    return found(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_typing: Any, array: types.Array, place: types.Integer, value: _Lanes) -> Any:
    """array[place : place + 16] = value; `place` divides by 16."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pointer = vector_at(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=4 * LANES)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), emit


@intrinsic  # type: ignore[untyped-decorator]
def spread(_typing: Any, array: types.Array, place: types.Integer) -> Any:
    """array[place] in every lane."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return everywhere(builder, builder.load(element(context, builder, signature.args[0], *arguments)))

    return float32x16(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def lift(_typing: Any, number: types.Number) -> Any:
    """One number, rounded to float32, in every lane."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return everywhere(builder, builder.fptrunc(arguments[0], _F32))

    return float32x16(types.float64), emit


def _of_floats(count: int, result: _Lanes, emit_lanes: Emit) -> Any:
    """A function of `count` float vectors."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return emit_lanes(builder, *arguments)

    return result(*[float32x16] * count), emit


@intrinsic  # type: ignore[untyped-decorator]
def add(_typing: Any, a: _Lanes, b: _Lanes) -> Any:
    """The sum of two."""
    return _of_floats(2, float32x16, lambda builder, x, y: builder.fadd(x, y))


@intrinsic  # type: ignore[untyped-decorator]
def subtract(_typing: Any, a: _Lanes, b: _Lanes) -> Any:
    """The first less the second."""
    return _of_floats(2, float32x16, lambda builder, x, y: builder.fsub(x, y))


@intrinsic  # type: ignore[untyped-decorator]
def multiply(_typing: Any, a: _Lanes, b: _Lanes) -> Any:
    """The product of two."""
    return _of_floats(2, float32x16, lambda builder, x, y: builder.fmul(x, y))


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add(_typing: Any, a: _Lanes, b: _Lanes, c: _Lanes) -> Any:
    """The product of two, plus a third."""
    return _of_floats(3, float32x16, fused)


@intrinsic  # type: ignore[untyped-decorator]
def maximum(_typing: Any, a: _Lanes, b: _Lanes) -> Any:
    """The larger of two, lane by lane; `b` where one is not a number."""
    return _of_floats(2, float32x16, larger)


@intrinsic  # type: ignore[untyped-decorator]
def greater(_typing: Any, a: _Lanes, b: _Lanes) -> Any:
    """Where a > b; false where one is not a number."""
    return _of_floats(2, bool16, lambda builder, x, y: builder.fcmp_ordered(">", x, y))


@intrinsic  # type: ignore[untyped-decorator]
def any_lane(_typing: Any, where: _BitLanes) -> Any:
    """Whether any lane is true."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        packed = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", packed, ir.IntType(LANES)(0))

    return types.boolean(where), emit


@intrinsic  # type: ignore[untyped-decorator]
def either(_typing: Any, a: _BitLanes, b: _BitLanes) -> Any:
    """Where one of both is true."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.or_(*arguments)

    return bool16(a, b), emit


@intrinsic  # type: ignore[untyped-decorator]
def choose(_typing: Any, where: _BitLanes, a: _Lanes, b: _Lanes) -> Any:
    """One where true, else the other."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.select(*arguments)

    return a(where, a, b), emit


@intrinsic  # type: ignore[untyped-decorator]
def count_up(_typing: Any, counts: _IntLanes, where: _BitLanes) -> Any:
    """Counts, one more where true."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        return builder.sub(arguments[0], builder.sext(arguments[1], _INTS))  # true, sign-extended, is -1

    return int32x16(counts, where), emit


@intrinsic  # type: ignore[untyped-decorator]
def total(_typing: Any, value: _Lanes) -> Any:
    """The sum over the lanes, in float64 (lane 0 first) or int64."""

    def emit(_context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        floats = signature.args[0] == float32x16
        result = ir.DoubleType()(0.0) if floats else ir.IntType(64)(0)
        for lane in range(LANES):
            one = builder.extract_element(arguments[0], _I32(lane))
            if floats:
                result = builder.fadd(result, builder.fpext(one, result.type))
            else:
                result = builder.add(result, builder.sext(one, result.type))
        return result

    return (types.float64 if isinstance(value, _FloatLanes) else types.int64)(value), emit
