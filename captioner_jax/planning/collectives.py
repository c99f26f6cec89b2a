"""What devices tell each other in a compiled program."""

import collections
import dataclasses
import math
import re

from captioner_jax.planning.hlo import arrays, loops, operations

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# In this the TPU compiler writes a reduce-scatter as an all-reduce of which each device keeps a share.
SCATTERING = "all-reduce-scatter"


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
    """Those of a compiled program for so many devices, equal ones counted, what is sent most first.

    `rounds` is how often its loops go round, which the text does not tell.
    """
    repeated = loops(text)
    found: collections.Counter[Collective] = collections.Counter()
    for operation in operations(text):
        kind, started = operation.kind.removesuffix("-start"), operation.kind.endswith("-start")
        if kind not in KINDS:
            continue
        group = _group(operation.line, devices)
        whole = _whole(kind, operation.shape, group, started=started)
        kind = "reduce-scatter" if operation.computation.startswith(SCATTERING) else kind
        found[Collective(kind, whole, group)] += rounds if operation.computation in repeated else 1
    counted = [dataclasses.replace(one, count=count) for one, count in found.items()]
    return sorted(counted, key=lambda one: (-one.sent, one.kind))


def _whole(kind: str, shape: str, group: int, *, started: bool) -> int:
    """Bytes of what the group exchanges, from the shape of the result.

    The result of an operation that is only started holds the operands before the results; but that of an all-reduce
    holds just the results.
    """
    sizes = arrays(shape).sizes
    if started and kind != "all-reduce":
        sizes = sizes[len(sizes) // 2 :]
    return sum(sizes) * (group if kind == "reduce-scatter" else 1)


def _group(line: str, devices: int) -> int:
    """How many devices a group has, in any of the forms that `replica_groups` takes; all of them if it is empty."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(tiled[1])
    if named := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        along = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in along)
    return devices
