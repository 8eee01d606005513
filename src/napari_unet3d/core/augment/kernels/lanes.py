"""Several numbers that are worked on at once, as a type for functions compiled by numba.

A compiler turns a loop into vector instructions only where it can prove that it may, and stops at the first load from a
computed place. With `Lanes` a function says itself what belongs together: ``t * (a + t * b)`` on lanes is one
multiplication of all, one addition, and one multiplication. LLVM makes of it what the processor has: AVX-512, AVX2 or
NEON. There is no contraction and no reordering, so the numbers are the same on all of them.

The functions here exist only within functions compiled by numba (`numba.njit`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

# Enough for one register of AVX-512, two of AVX2, four of NEON.
LANES = 16
_INDEX = ir.IntType(32)
_PLACE = ir.IntType(64)
_LETTERS = {types.float32: "f32", types.float64: "f64"}


class Lanes(types.Type):  # type: ignore[misc]
    """The type of n numbers of one type.

    Parameters
    ----------
    element
        float32, float64, int32 or boolean, as numba names them.
    n
        How many.
    """

    def __init__(self, element: Any, n: int) -> None:
        self.element, self.n = element, n
        super().__init__(name=f"Lanes({element}, {n})")

    @property
    def is_float(self) -> bool:
        """Return whether the numbers have a point."""
        return self.element in _LETTERS

    @property
    def llvm(self) -> ir.VectorType:
        """Return the type as LLVM knows it."""
        known = {types.boolean: ir.IntType(1), types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
        return ir.VectorType(known.get(self.element) or ir.IntType(self.element.bitwidth), self.n)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.llvm)


def _spread(builder: Any, value: Any, lanes: Lanes) -> Any:
    """Return the same number in all lanes."""
    one = builder.insert_element(ir.Constant(lanes.llvm, ir.Undefined), value, _INDEX(0))
    return builder.shuffle_vector(one, ir.Constant(lanes.llvm, ir.Undefined), _numbers([0] * lanes.n))


def _numbers(values: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INDEX, len(values)), values)


def _as_lanes(builder: Any, value: Any, kind: Any, lanes: Lanes) -> Any:
    return value if isinstance(kind, Lanes) else _spread(builder, value, lanes)


def _operator(function: Any, generate: Callable[[Any, Lanes, Any, Any], Any], *, gives_mask: bool = False) -> None:
    """Let an operator take lanes with lanes, or with one number for all of them."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            lanes = next((kind for kind in args if isinstance(kind, Lanes)), None)
            if lanes is None or kws or len(args) != 2:
                return None
            result = Lanes(types.boolean, lanes.n) if gives_mask else lanes
            return signature(result, *(kind if isinstance(kind, Lanes) else lanes.element for kind in args))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = next(kind for kind in sig.args if isinstance(kind, Lanes))
        a, b = (_as_lanes(builder, value, kind, lanes) for value, kind in zip(args, sig.args, strict=True))
        return generate(builder, lanes, a, b)

    infer_global(function)(Template)
    for kinds in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(function, *kinds)(lower)


def _arithmetic(name: str) -> Callable[[Any, Lanes, Any, Any], Any]:
    return lambda builder, lanes, a, b: getattr(builder, f"f{name}" if lanes.is_float else name)(a, b)


def _comparison(sign: str) -> Callable[[Any, Lanes, Any, Any], Any]:
    def generate(builder: Any, lanes: Lanes, a: Any, b: Any) -> Any:
        return (builder.fcmp_ordered if lanes.is_float else builder.icmp_signed)(sign, a, b)

    return generate


for _function, _name in ((operator.add, "add"), (operator.sub, "sub"), (operator.mul, "mul")):
    _operator(_function, _arithmetic(_name))
for _function, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _operator(_function, _comparison(_sign), gives_mask=True)
_operator(operator.and_, lambda builder, _lanes, a, b: builder.and_(a, b))
_operator(operator.or_, lambda builder, _lanes, a, b: builder.or_(a, b))


@intrinsic
def counting(_context: Any, first: Any) -> Any:
    """Return first, first + 1, .. as int32 in `LANES` lanes."""
    lanes = Lanes(types.int32, LANES)

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.add(_spread(builder, args[0], lanes), _numbers(list(range(LANES))))

    return lanes(types.int32), generate


@intrinsic
def floor(_context: Any, x: Any) -> Any:
    """Return the largest whole numbers that are not above x, as floats."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        name = f"llvm.floor.v{x.n}{_LETTERS[x.element]}"
        call = cgutils.get_or_insert_function(builder.module, ir.FunctionType(x.llvm, [x.llvm]), name)
        return builder.call(call, args)

    return x(x), generate


@intrinsic
def to_int(_context: Any, x: Any) -> Any:
    """Return floats as int32, cut off at the point."""
    lanes = Lanes(types.int32, x.n)
    return lanes(x), lambda _context, builder, _signature, args: builder.fptosi(args[0], lanes.llvm)


@intrinsic
def to_float(_context: Any, x: Any) -> Any:
    """Return int32 or float64 as the nearest float32."""
    lanes = Lanes(types.float32, x.n)

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return (builder.fptrunc if x.is_float else builder.sitofp)(args[0], lanes.llvm)

    return lanes(x), generate


@intrinsic
def minimum(_context: Any, x: Any, y: Any) -> Any:
    """Return the smaller of two, lane by lane; the second may be one number for all."""
    return _smaller(x, y, "<")


@intrinsic
def maximum(_context: Any, x: Any, y: Any) -> Any:
    """Return the larger of two, lane by lane; the second may be one number for all."""
    return _smaller(x, y, ">")


def _smaller(x: Any, y: Any, sign: str) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        other = _as_lanes(builder, args[1], y, x)
        return builder.select(_comparison(sign)(builder, x, args[0], other), args[0], other)

    return x(x, y if isinstance(y, Lanes) else x.element), generate


@intrinsic
def where(_context: Any, mask: Any, x: Any, y: Any) -> Any:
    """Return x where the mask is set and y elsewhere; one of the two may be one number for all."""
    lanes = x if isinstance(x, Lanes) else y
    kinds = [kind if isinstance(kind, Lanes) else lanes.element for kind in (x, y)]

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, b = (_as_lanes(builder, value, kind, lanes) for value, kind in zip(args[1:], kinds, strict=True))
        return builder.select(args[0], a, b)

    return lanes(mask, *kinds), generate


@intrinsic
def any_of(_context: Any, mask: Any) -> Any:
    """Return whether the mask is set in any lane."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = ir.IntType(mask.n)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), bits(0))

    return types.boolean(mask), generate


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def load_four(_context: Any, array: Any, at: Any) -> Any:
    """Return array[at : at + 4] of a flat float64 array. Nothing is checked."""
    lanes = Lanes(array.dtype, 4)

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args)
        return builder.load(builder.bitcast(pointer, lanes.llvm.as_pointer()), align=array.dtype.bitwidth // 8)

    return lanes(array, types.int64), generate


@intrinsic
def store(_context: Any, array: Any, at: Any, x: Any) -> Any:
    """Set array[at : at + n] of a flat array of the same type. Nothing is checked."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, *args[:2])
        builder.store(args[2], builder.bitcast(pointer, x.llvm.as_pointer()), align=x.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, x), generate


@intrinsic
def gather_pairs(_context: Any, array: Any, first: Any, at: Any) -> Any:
    """Return array[first + at] and array[first + at + 1] as float32. Nothing is checked.

    Two neighbours are one load. The loads are plain ones: the gather instructions of some processors are slower.

    Parameters
    ----------
    array
        Flat: uint8, uint16 or float32.
    first
        Added to all places.
    at
        int32 lanes.
    """
    element = array.dtype
    result = Lanes(types.float32, at.n)
    pairs = Lanes({types.uint8: types.uint16, types.uint16: types.uint32, types.float32: types.uint64}[element], at.n)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        begin = _pointer(context, builder, array, *args[:2])
        places = builder.sext(args[2], ir.VectorType(_PLACE, at.n))
        both = ir.Constant(pairs.llvm, ir.Undefined)
        for i in range(at.n):
            pointer = builder.gep(begin, [builder.extract_element(places, _INDEX(i))])
            pair = builder.load(
                builder.bitcast(pointer, pairs.llvm.element.as_pointer()), align=max(1, element.bitwidth // 8)
            )
            both = builder.insert_element(both, pair, _INDEX(i))
        return context.make_tuple(builder, sig.return_type, _split(builder, both, element, result))

    return types.UniTuple(result, 2)(array, types.int64, at), generate


def _split(builder: Any, both: Any, element: Any, result: Lanes) -> list[Any]:
    """Return the two neighbours as float32; the first lies in the lower bits (little-endian)."""
    if element is types.float32:
        single = ir.VectorType(ir.FloatType(), 2 * result.n)
        mixed, nothing = builder.bitcast(both, single), ir.Constant(single, ir.Undefined)
        return [builder.shuffle_vector(mixed, nothing, _numbers(list(range(k, 2 * result.n, 2)))) for k in (0, 1)]
    whole = Lanes(types.int32, result.n).llvm
    bits = element.bitwidth
    wide = builder.zext(both, whole) if 2 * bits < 32 else both
    low = builder.and_(wide, ir.Constant(whole, [2**bits - 1] * result.n))
    high = builder.lshr(wide, ir.Constant(whole, [bits] * result.n))
    return [builder.sitofp(half, result.llvm) for half in (low, high)]
