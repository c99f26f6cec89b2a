"""What a compiled program reads from and writes to a chip's large memory (HBM)."""

from captioner_jax.planning.hlo import Arrays, Operation, arrays, loops, operations, steps

# That move nothing themselves: names for what is there, or for what others do.
STILL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}
# From one memory to another, while other operations run.
COPIES = {"copy-start", "slice-start", "dynamic-slice-start"}


def moved(text: str, rounds: int = 1) -> int:
    """Bytes in a step, each operation's operands and results; `rounds` is how often loops go round.

    Somewhat too many: an operation that reads a part of an operand is counted as if it read all of it.
    """
    repeated, one_by_one = loops(text), steps(text)
    held: dict[str, Arrays] = {}
    total = 0
    for operation in operations(text):
        held[operation.name] = arrays(operation.shape)
        if operation.computation in one_by_one:
            total += _moved(operation, held) * (rounds if operation.computation in repeated else 1)
    return total


def _moved(operation: Operation, held: dict[str, Arrays]) -> int:
    result = held[operation.name]
    if operation.kind in COPIES:  # the result is what is copied, and the copy: as much is read as is written
        return min(result.sizes, default=0) * sum(result.far)
    if operation.kind in STILL or operation.kind.endswith("-done"):
        return 0
    return sum(map(_far, (result, *(held[name] for name in operation.operands if name in held))))


def _far(some: Arrays) -> int:
    return sum(size for size, far in zip(some.sizes, some.far, strict=True) if far)
