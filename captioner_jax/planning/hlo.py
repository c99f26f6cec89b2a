"""The text of a compiled program (HLO), as computations of operations of arrays."""

import collections
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

# `%name (parameters) -> result {` opens a computation; `%name = shape kind(operands), attributes` is an operation.
_OPENS = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\(([^)]*)")
_CALLS = re.compile(
    r"(?:calls|to_apply|condition|body|branch_computations|true_computation|false_computation)="
    r"(?:\{([^{}]*)\}|%?([\w.-]+))"
)
_LOOP = re.compile(r" while\(.*body=%?([\w.-]+)")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\](?:\{([^{}]*)\})?")


class Operation(NamedTuple):
    """One line of a program."""

    computation: str
    """To which it belongs."""
    name: str
    shape: str
    """Of the result: an array, or a tuple of them."""
    kind: str
    operands: list[str]
    """By name."""
    line: str


class Arrays(NamedTuple):
    """A shape's arrays."""

    sizes: list[int]
    """In bytes."""
    far: list[bool]
    """Does it lie in the large memory (HBM), not in one beside the cores, which the layout tells as S(1)?"""


def operations(text: str) -> Iterator[Operation]:
    """All of a program, in the order of the text."""
    computation = ""
    for line in text.splitlines():
        if opens := _OPENS.match(line):
            computation = opens[2]
        elif found := _OPERATION.match(line):
            name, shape, kind, operands = found.groups()
            yield Operation(computation, name, shape, kind, re.findall(r"%([\w.-]+)", operands), line)


def arrays(shape: str) -> Arrays:
    """Those of `(f32[2,3]{1,0:T(8,128)}, s32[5]{0:T(128)S(1)}, u32[])` take 24 and 20 bytes; marks of progress none."""
    sizes, far = [], []
    for letters, bits, axes, layout in _ARRAY.findall(shape):
        is_mark = not axes and "32" in bits and letters in "su" and shape.startswith("(")
        if (bits or letters == "pred") and not is_mark:
            sizes.append(math.prod(map(int, filter(None, axes.split(",")))) * max(int(bits or 8), 8) // 8)
            far.append("S(" not in layout)
    return Arrays(sizes, far)


def loops(text: str) -> set[str]:
    """The computations that loops repeat, and those that are called from these."""
    calls, ahead = collections.defaultdict(set), []
    for operation in operations(text):
        calls[operation.computation] |= _called(operation)
        ahead += _LOOP.findall(operation.line)
    inside: set[str] = set()
    while ahead:
        computation = ahead.pop()
        if computation not in inside:
            inside.add(computation)
            ahead += calls[computation]
    return inside


def steps(text: str) -> set[str]:
    """The computations whose operations run one by one: the entry, bodies of loops, branches, and what is called.

    Others are part of an operation.
    """
    entries = {opens[2] for opens in map(_OPENS.match, text.splitlines()) if opens and opens[1]}
    called = (_called(operation) for operation in operations(text) if operation.kind in ("conditional", "call"))
    return entries.union(_LOOP.findall(text), *called)


def _called(operation: Operation) -> set[str]:
    names = ",".join(",".join(found) for found in _CALLS.findall(operation.line))
    return {name.strip("% ") for name in names.split(",") if name}
