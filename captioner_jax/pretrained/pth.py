"""PyTorch's files of weights, read without PyTorch, and without running anything that they hold.

Such a file is a zip archive whose members are not compressed:

    NAME/data.pkl        a pickle: names, and of each tensor the storage, offset, shape and strides
    NAME/data/0, 1, ...  storages: the numbers of one tensor or of several
    NAME/byteorder       `little` or `big`; older files have none and are little-endian

Before PyTorch 1.6 it was a row of pickles and then the storages, as torchvision's VGG, for one, is still given out:

    a number, the version of the format, facts of the machine    a pickle each
    names and tensors                                            a pickle, as above
    keys of the storages                                         a pickle, in the order of what follows
    of each storage how many numbers (8 bytes), then these

A pickle is a program for a stack machine that may call any function of Python. The machine here has no more
instructions than state dicts are written in, and calls nothing: its values are plain data, and the few functions that
a state dict names are cases of `_made_by`.
"""

import functools
import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

STORAGES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool),
}
REBUILT = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter")
FUNCTIONS = ("collections.OrderedDict", *REBUILT, *PARAMETERS)
NESTED = ("state_dict", "model")
"""Under what names a checkpoint of a training run keeps the state dict."""

_LONGEST_PICKLE = 1 << 22
_DIMENSIONS = 64  # NumPy's most
_SHARED = 4  # by how many tensors a storage may be shared, on average
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # pickled, the number that older files begin with
_BIG_ENDIAN = "written on a big-endian machine, which is not read here: convert it to .safetensors there"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

# What `zipfile`, `pickletools` and NumPy raise for content that makes no sense; OSError for a place before the first.
_OF_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, EOFError, OSError, struct.error)


class PthError(ValueError):
    """A file that cannot be used: why, and what to do."""


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, contiguous; also one that a checkpoint holds by a name in `NESTED`.

    The prefix `module.`, which training on many devices leaves, is taken off. Raises PthError for what is no such
    file, is damaged, asks for more memory than it has numbers, or holds more than weights; OSError where it cannot be
    read.
    """
    with open(path, "rb") as file:
        try:
            size = path.stat().st_size
            is_legacy = file.read(len(_LEGACY)) == _LEGACY
            file.seek(0)
            if is_legacy:
                return _without_prefix(_in_a_row(file, size))
            with zipfile.ZipFile(file) as archive:
                return _without_prefix(_zipped(archive, size))
        except PthError:
            raise
        except zipfile.BadZipFile as error:
            file.seek(0)
            raise PthError(_why_no_zip(file.read(2), error)) from error
        except _OF_DAMAGE as error:
            raise PthError(f"damaged: {error}. Get it once more") from error


@dataclass(frozen=True)
class Name:
    """A class or function of Python that a pickle names."""

    dotted: str


@dataclass(frozen=True)
class Storage:
    """Numbers in a row: the member of the archive, their type, and how many."""

    key: str
    dtype: np.dtype
    length: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]


class Machine:
    """What a state dict is unpickled by. Its values are None, numbers, text, lists, dicts and the classes above."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        """All that were referred to, by key."""

    def run(self, program: bytes | io.BytesIO) -> Any:
        """The value that a pickle describes, the next one of several.

        Raises PthError for a name or an instruction that no state dict needs, and others for a program that makes no
        sense: LookupError, TypeError, ValueError.
        """
        for instruction, argument, _ in pickletools.genops(program):
            self.step(instruction.name, argument)
        return self.stack.pop()

    def step(self, instruction: str, argument: Any) -> None:
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append(_CONSTANTS[instruction])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                self.stack.append(argument)
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self.pop(_TUPLES[instruction])))
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                self.stack.append(tuple(self.pop_to_mark()))
            case "APPEND":
                self.append(self.pop(1))
            case "APPENDS":
                self.append(self.pop_to_mark())
            case "SETITEM":
                self.set_items(self.pop(2))
            case "SETITEMS":
                self.set_items(self.pop_to_mark())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(_known(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                self.stack.append(_known(*self.pop(2)))
            case "BINPERSID":
                storage = _storage(self.stack.pop())
                self.storages[storage.key] = storage
                self.stack.append(storage)
            case "REDUCE":
                self.stack.append(_made_by(*self.pop(2)))
            case "BUILD":  # attributes of a dict, such as `_metadata`: versions of layers, of no use here
                self.stack.pop()
            case _:
                raise PthError(_more_than_weights(f"the pickle instruction {instruction}"))

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError("the pickle takes more from the stack than lies on it")
        at = len(self.stack) - count
        taken = self.stack[at:]
        del self.stack[at:]
        return taken

    def pop_to_mark(self) -> list[Any]:
        return self.pop(len(self.stack) - self.marks.pop())

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("the pickle appends to what is no list")
        target += values

    def set_items(self, values: list[Any]) -> None:
        target, keys = self.stack[-1], values[::2]
        # Other keys have no use, and one that is nested deeply enough would end Python itself when it is hashed.
        if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
            raise TypeError("the pickle fills what is no dict, or by keys that are no names")
        target.update(zip(keys, values[1::2], strict=True))


def _known(module: Any, name: Any) -> Name:
    dotted = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "something without a name"
    if dotted not in STORAGES and dotted not in FUNCTIONS:
        raise PthError(_more_than_weights(repr(dotted[:100])))
    return Name(dotted)


def _storage(told: Any) -> Storage:
    match told:
        # In older files another place tells which part of another storage this one is: None, for all that are met.
        case ("storage", Name(kind), str(key), str(), int(length), *parts) if kind in STORAGES and not any(parts):
            return Storage(key, STORAGES[kind], length)
    raise TypeError("the pickle refers to what is no storage")


def _made_by(function: Any, arguments: Any) -> Any:
    """What a call stands for."""
    match function, arguments:
        case Name("collections.OrderedDict"), ():
            return {}
        case Name(name), (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if name in REBUILT:
            return Tensor(storage, offset, shape, strides)
        case Name(name), (Tensor() as tensor, *_) if name in PARAMETERS:
            return tensor
    raise TypeError("the pickle makes a call in a form that no state dict has")


def _zipped(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """Raises PthError where the archive, a file of `size` bytes, holds no state dict or is not to be trusted."""
    folder = _folder(archive, size)
    tensors = _state_dict(Machine().run(archive.read(f"{folder}data.pkl")))
    return _arrays(tensors, functools.cache(lambda key: archive.read(f"{folder}data/{key}")), size)


def _in_a_row(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """The same of a file of the format before PyTorch 1.6."""
    # Not from the file itself, of which a pickle could ask more bytes than there is memory.
    pickles = io.BytesIO(file.read(_LONGEST_PICKLE))
    _, _, machine_facts = (Machine().run(pickles) for _ in range(3))
    if machine_facts["little_endian"] is not True:
        raise PthError(_BIG_ENDIAN)
    machine = Machine()
    tensors = _state_dict(machine.run(pickles))
    keys = Machine().run(pickles)
    file.seek(pickles.tell())
    numbers = {key: _numbers(file, machine.storages[key], size) for key in keys}
    return _arrays(tensors, numbers.__getitem__, size)


def _numbers(file: BinaryIO, storage: Storage, size: int) -> bytes:
    """The numbers of the next storage. Raises PthError where they are not as many as were told."""
    count = int.from_bytes(file.read(8), "little", signed=True)
    length = count * storage.dtype.itemsize
    if count != storage.length or not 0 <= length <= size or len(numbers := file.read(length)) < length:
        raise PthError("damaged or cut short: a storage has other numbers than were told. Get it once more")
    return numbers


def _arrays(tensors: dict[str, Tensor], numbers: Callable[[str], bytes], size: int) -> dict[str, np.ndarray]:
    """Tensors cut out of the numbers of their storages; the file has `size` bytes."""
    arrays, together = {}, 0
    for name, tensor in tensors.items():
        _check(name, tensor, len(numbers(tensor.storage.key)))
        together += math.prod(tensor.shape) * tensor.storage.dtype.itemsize
        if together > _SHARED * size:
            raise PthError(f"its tensors claim more than {_SHARED} times as much memory as it has: it is not read")
        arrays[name] = _array(tensor, numbers(tensor.storage.key))
    return arrays


def _folder(archive: zipfile.ZipFile, size: int) -> str:
    """The archive's one folder, with its slash. Raises PthError for an archive that is not PyTorch's, or not plain."""
    members = archive.infolist()
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PthError("a zip archive, but not one of PyTorch's: it has no data.pkl")
    folder = pickles[0].filename.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise PthError("a TorchScript archive, which is a program: save the state_dict() of the module in it")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise PthError("a compressed archive, which PyTorch writes none of: it is not read")
    if sum(member.file_size for member in members) > size:
        raise PthError("an archive that unpacks to more than it holds: it is not read")
    if pickles[0].file_size > _LONGEST_PICKLE:
        raise PthError(f"its data.pkl has {pickles[0].file_size:,} bytes, too many for names of weights")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise PthError(_BIG_ENDIAN)
    return folder


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors by name in what was unpickled, or one level further down. Raises PthError where there are none."""
    if isinstance(content, dict):
        within = [content[name] for name in NESTED if isinstance(content.get(name), dict)]
        for candidate in [*within, content]:
            named = candidate.items()
            tensors = {name: t for name, t in named if isinstance(name, str) and isinstance(t, Tensor)}
            if tensors:
                return tensors
    raise PthError("no state dict: it holds no tensors by name, nor below state_dict or model")


def _check(name: str, tensor: Tensor, size: int) -> None:
    """Raises PthError where a tensor cannot be told by a storage of `size` bytes."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    whole = all(type(n) is int and n >= 0 for n in (storage.length, tensor.offset, *shape, *strides))
    fits = whole and len(shape) == len(strides) <= _DIMENSIONS and math.prod(shape) <= storage.length
    if not fits or storage.length * storage.dtype.itemsize > size:
        raise PthError(f"damaged: {name[:100]!r} does not lie within its storage. Get it once more")


def _array(tensor: Tensor, numbers: bytes) -> np.ndarray:
    """NumPy itself refuses a view that reaches beyond its buffer. Raises ValueError then."""
    dtype = tensor.storage.dtype
    if 0 in tensor.shape:
        return np.empty(tensor.shape, dtype)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    view = np.ndarray(tensor.shape, dtype, numbers, tensor.offset * dtype.itemsize, strides)
    return np.asarray(view, order="C")


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _more_than_weights(what: str) -> str:
    return (
        f"it holds more than weights, namely {what}; nothing of it was run. "
        "Save the state_dict() alone, or take the weights as .safetensors"
    )


def _why_no_zip(head: bytes, error: zipfile.BadZipFile) -> str:
    if head.startswith(b"PK"):
        return f"damaged or cut short ({error}): get it once more"
    return "no file of weights of PyTorch's"
