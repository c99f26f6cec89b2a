"""What the devices tell each other, read off the text of a compiled program (HLO)."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

# `%name (parameters) -> result {` opens a computation; `%name = shape operation(operands), attributes` is a line of it.
_OPENS = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_LINE = re.compile(rf"^\s+(?:ROOT )?%?[\w.-]+ = (.+?) ({'|'.join(KINDS)})(-start)?\(")
_CALLS = re.compile(r"(?:calls|to_apply|condition|body|branch_computations)=\{?((?:%?[\w.-]+(?:, )?)+)\}?")
# In this the TPU compiler writes a reduce-scatter as an all-reduce of which each device keeps a share.
_SCATTERING = "all-reduce-scatter"
_LOOP = re.compile(r" while\(.*body=%?([\w.-]+)")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_MARK = re.compile(r"\b[su]32\[\]")
_LAYOUT = re.compile(r"\{[^{}]*\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """An operation in which groups of devices take part."""

    kind: str
    bytes: int
    """Of the whole that a group exchanges: what is reduced, or what is gathered from all."""
    group: int
    """Devices of a group."""
    count: int = 1
    """How often in a step."""

    @property
    def sent(self) -> float:
        r"""Bytes that a device sends, at least.

        $\frac{n-1}{n}$ of the whole to gather it from n devices, to scatter it over them, or to exchange it between
        each two; twice that to reduce it, which is to scatter and then to gather (Patarasu and Yuan 2009, "Bandwidth
        optimal all-reduce algorithms for clusters of workstations", section 2). A permutation sends everything once.
        """
        share = 1.0 if self.kind == "collective-permute" else (self.group - 1) / self.group
        return self.count * self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def collectives(text: str, devices: int, rounds: int = 1) -> list[Collective]:
    """Those of a compiled program for so many devices, equal ones counted, the largest first.

    `rounds` is how often its loops go round, which the text does not tell.
    """
    inside = _in_loops(text)
    found: collections.Counter[Collective] = collections.Counter()
    for computation, line in _lines(text):
        if read := _LINE.match(line):
            shape, kind, start = read.groups()
            group = _group(line, devices)
            whole = _whole(kind, shape, group, started=start is not None)
            kind = "reduce-scatter" if computation.startswith(_SCATTERING) else kind
            found[Collective(kind, whole, group)] += rounds if computation in inside else 1
    counted = [dataclasses.replace(one, count=count) for one, count in found.items()]
    return sorted(counted, key=lambda one: (-one.sent, one.kind))


def has_loops(text: str) -> bool:
    """Is there any computation that is repeated?"""
    return _LOOP.search(text) is not None


def _lines(text: str) -> Iterable[tuple[str, str]]:
    """Each line of each computation, with the computation's name."""
    computation = ""
    for line in text.splitlines():
        if opens := _OPENS.match(line):
            computation = opens[1]
        yield computation, line


def _in_loops(text: str) -> set[str]:
    """The computations that loops repeat, and those that are called from these."""
    calls, bodies = collections.defaultdict(set), set()
    for computation, line in _lines(text):
        for names in _CALLS.findall(line):
            calls[computation].update(name.strip("% ") for name in names.split(","))
        bodies.update(_LOOP.findall(line))
    inside, ahead = set(), list(bodies)
    while ahead:
        computation = ahead.pop()
        if computation not in inside:
            inside.add(computation)
            ahead += calls[computation]
    return inside


def _whole(kind: str, shape: str, group: int, *, started: bool) -> int:
    """Bytes of what the group exchanges, from the shape of the result.

    The result of an operation that is only started holds the operands before the results, and marks of progress after
    them; but that of an all-reduce holds just the results.
    """
    arrays = _arrays(shape)
    if started and kind != "all-reduce":
        arrays = _arrays(_MARK.sub("", shape))
        arrays = arrays[len(arrays) // 2 :]
    return sum(arrays) * (group if kind == "reduce-scatter" else 1)


def _arrays(shape: str) -> list[int]:
    """The bytes of each array in a shape: `(f32[2,3]{1,0:T(8,128)}, s32[])` has 24 and 4."""
    return [
        math.prod(map(int, filter(None, axes.split(",")))) * max(int(bits or 8), 8) // 8
        for letters, bits, axes in _ARRAY.findall(_LAYOUT.sub("", shape))
        if bits or letters == "pred"  # not the token[] of what only waits
    ]


def _group(line: str, devices: int) -> int:
    """How many devices a group has, in any of the forms that `replica_groups` takes; all of them if it is empty."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(tiled[1])
    if named := re.search(r"replica_groups=(?:@?mesh)?\w*\[?(.*?)\] \{(.*?)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        along = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in along)
    return devices
