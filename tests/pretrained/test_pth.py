"""Reading PyTorch's files: those it writes, those that are damaged, and those meant to do harm."""

import io
import random
import struct
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.pretrained.pth import PthError, read_pth
from tests.pretrained.making import made

SAMPLE = Path(__file__).with_name("sample.pth")

# Pickle, assembled by hand. Protocol 2 begins with \x80\x02, a dot ends it.
MARK, EMPTY_DICT, SETITEMS, REDUCE, BUILD, FALSE = b"(", b"}", b"u", b"R", b"b", b"\x89"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def row(*values: bytes) -> bytes:
    return MARK + b"".join(values) + b"t"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + row(*arguments) + REDUCE


ORDERED = called(name("collections", "OrderedDict"))


def tensor(shape=(2,), strides=(1,), offset=0, length=4, key="0", kind="FloatStorage") -> bytes:
    told = row(text("storage"), name("torch", kind), text(key), text("cpu"), number(length))
    places = (row(*map(number, shape)), row(*map(number, strides)))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return called(rebuild, told + b"Q", number(offset), *places, FALSE, ORDERED)


def state(*items: bytes) -> bytes:
    """A pickled dict of names and values in turn."""
    return b"\x80\x02" + EMPTY_DICT + MARK + b"".join(items) + SETITEMS + b"."


def archive(pickle: bytes, more: dict[str, bytes] | None = None, compression=zipfile.ZIP_STORED) -> bytes:
    """An archive with one storage, of four floats."""
    numbers = np.arange(4, dtype=np.float32).tobytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as members:
        for member, content in {"data.pkl": pickle, "data/0": numbers, **(more or {})}.items():
            members.writestr(f"archive/{member}", content)
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    """The tensors in a file of these bytes."""

    def read(content: bytes) -> dict[str, np.ndarray]:
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return read_pth(path)

    return read


def test_what_pytorch_writes_is_read():
    shared = made("shared", (6, 4))
    expected = {
        "conv.weight": made("conv.weight", (4, 3, 3, 3)),
        "norm.running_var": made("norm.running_var", (4,)),
        "norm.num_batches_tracked": np.array(7),
        "shared": shared,
        "turned": shared.T,
        "amid": shared[2:4, 1:],
        "half": made("half", (5,)).astype(np.float16),
        "brain": made("brain", (5,)).astype(jnp.bfloat16),
        "empty": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
    }
    found = read_pth(SAMPLE)
    assert list(found) == list(expected)
    for tensor_name, values in expected.items():
        assert found[tensor_name].dtype == values.dtype
        assert found[tensor_name].flags.c_contiguous
        np.testing.assert_array_equal(found[tensor_name], values, tensor_name, strict=True)


def test_a_file_put_together_by_hand_is_read(read):
    items = (text("a"), tensor(), text("b"), tensor((2, 2), (1, 2)), text("c"), tensor((), ()), text("n"), number(5))
    found = read(archive(state(*items)))
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["a"], [0, 1])
    np.testing.assert_array_equal(found["b"], [[0, 2], [1, 3]])
    assert found["c"] == 0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DoubleStorage", np.array([0.5, -2.0])),
        ("LongStorage", np.array([2**40, -1])),
        ("IntStorage", np.array([2**20, -1], np.int32)),
        ("ShortStorage", np.array([300, -1], np.int16)),
        ("CharStorage", np.array([100, -1], np.int8)),
        ("ByteStorage", np.array([200, 255], np.uint8)),
    ],
)
def test_numbers_of_every_kind_are_read(read, kind, values):
    found = read(archive(state(text("a"), tensor(length=2, key="1", kind=kind)), {"data/1": values.tobytes()}))
    np.testing.assert_array_equal(found["a"], values, strict=True)


@pytest.mark.parametrize("nest", ["state_dict", "model"])
def test_the_state_dict_of_a_checkpoint_is_found(read, nest):
    inner = state(text("module.a"), tensor())[2:-1]
    assert list(read(archive(state(text(nest), inner)))) == ["a"]


def test_a_prefix_that_not_all_have_is_part_of_the_names(read):
    assert set(read(archive(state(text("module.a"), tensor(), text("b"), tensor())))) == {"module.a", "b"}


HARMFUL = {
    "a call by name": called(name("os", "system"), text("touch harm")),
    "a call by name, of a later protocol": text("os") + text("system") + b"\x93" + row(text("touch harm")) + REDUCE,
    "evaluation": called(name("builtins", "eval"), text("open('harm', 'w')")),
    "a call within a tensor": called(name("torch._utils", "_rebuild_parameter"), called(name("os", "getcwd"))),
    "an attribute of something allowed": name("collections", "OrderedDict.fromkeys"),
    "a module's own import": name("torch._utils", "sys.modules"),
    "an extension": b"\x82\x01",
    "an instance, the old way": MARK + text("touch harm") + b"ios\nsystem\n",
    "an object": MARK + name("os", "system") + text("touch harm") + b"o",
    "a new object": name("collections", "OrderedDict") + row() + b"\x81",
    "a whole module": name("torchvision.models.resnet", "ResNet") + row() + b"\x81",
}


@pytest.mark.parametrize("harm", HARMFUL.values(), ids=HARMFUL.keys())
def test_what_is_more_than_weights_is_refused_and_not_run(read, harm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PthError, match="more than weights"):
        read(archive(state(text("a"), tensor(), text("b"), harm)))
    assert not Path("harm").exists()


def test_what_is_refused_is_named(read):
    with pytest.raises(PthError, match=r"'os\.system'"):
        read(archive(state(text("a"), HARMFUL["a call by name"])))


def test_state_that_is_built_in_changes_nothing_here(read):
    """PyTorch sets `_metadata` on its dict; a hostile file may set anything, on a function too."""
    attributes = EMPTY_DICT + MARK + text("_metadata") + ORDERED + SETITEMS
    filled = ORDERED + MARK + text("a") + tensor() + SETITEMS + attributes + BUILD
    function = name("torch._utils", "_rebuild_tensor_v2") + attributes + BUILD + b"0"
    assert list(read(archive(b"\x80\x02" + filled + b"."))) == ["a"]
    with pytest.raises(PthError, match="instruction POP"):
        read(archive(b"\x80\x02" + function + filled + b"."))


OUTSIDE = {
    "beyond the end": tensor((5,), (1,), length=5),
    "beyond the end by its offset": tensor((2,), (1,), offset=3),
    "beyond the end by its strides": tensor((2,), (4,)),
    "before the beginning": tensor((2,), (1,), offset=-1),
    "backwards": tensor((2,), (-1,), offset=1),
    "a negative size": tensor((-2,), (1,)),
    "two negative sizes": tensor((-2, -2), (1, 1)),
    "terabytes by strides of zero": tensor((10**6, 10**6), (0, 0)),
    "terabytes by what it tells": tensor((10**12,), (1,), length=10**12),
    "numbers beyond 64 bits": tensor((1,), (2**70,)),
    "an offset beyond 64 bits": tensor((1,), (1,), offset=2**70),
    "nothing, of an absurd shape": tensor((0, 2**70), (1, 1)),
    "shape and strides of different lengths": tensor((2, 1), (1,)),
    "a storage that is not there": tensor(key="7"),
    "a storage elsewhere": tensor(key="../data.pkl"),
    "too few numbers for a wider type": tensor((4,), (1,), kind="DoubleStorage"),
    "a size that is no number": tensor().replace(row(number(2)), row(text("2")), 1),
}


@pytest.mark.parametrize("outside", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_tensor_outside_its_storage_is_refused(read, outside):
    with pytest.raises(PthError, match="damaged"):
        read(archive(state(text("a"), outside)))


def test_a_tensor_has_no_more_dimensions_than_numpy_knows(read):
    """Refused before they are multiplied, which would take its time."""
    assert read(archive(state(text("a"), tensor((1,) * 64, (1,) * 64))))["a"].ndim == 64
    with pytest.raises(PthError, match="within its storage"):
        read(archive(state(text("a"), tensor((1,) * 65, (1,) * 65))))


def test_a_storage_is_not_multiplied_by_sharing_it(read):
    storage = {"data/1": bytes(1 << 16)}
    often = [
        part for i in range(100) for part in (text(f"t{i}"), tensor((128, 128), (1, 128), key="1", length=1 << 14))
    ]
    with pytest.raises(PthError, match="times as much memory"):
        read(archive(state(*often), storage))
    assert len(read(archive(state(*often[:6]), storage))) == 3


MEANINGLESS = {
    "empty": b"",
    "no end": state(text("a"), tensor())[:-1],
    "an empty stack": b"\x80\x02.",
    "takes more than there is": b"\x80\x02R.",
    "a tuple of more than there is": b"\x80\x02}\x87.",
    "a mark that was not set": b"\x80\x02}u.",
    "what was never kept": b"\x80\x02h\x07.",
    "an odd number of items": b"\x80\x02}(" + text("a") + b"u.",
    "items of a list": b"\x80\x02](" + text("a") + text("b") + b"u.",
    "a dict appended to": b"\x80\x02}" + text("a") + b"a.",
    "keys that are no names": b"\x80\x02})" + b"\x85" * 30_000 + b"Ns.",  # deeper ones, hashed, end Python itself
    "a call of what is no function": b"\x80\x02" + called(text("a"), text("b")) + b".",
    "a tensor of no storage": b"\x80\x02" + called(name("torch._utils", "_rebuild_tensor_v2"), text("b")) + b".",
    "no opcode": b"\x80\x02\xff.",
    "text that is no text": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
}


@pytest.mark.parametrize("pickle", MEANINGLESS.values(), ids=MEANINGLESS.keys())
def test_a_pickle_that_makes_no_sense_is_damaged(read, pickle):
    with pytest.raises(PthError, match="damaged"):
        read(archive(pickle))


def test_memory_is_not_taken_for_a_far_place_in_the_memo(read):
    far = b"r" + struct.pack("<I", 2**31)  # LONG_BINPUT: a table that long would hold 16 GiB
    assert list(read(archive(state(text("a") + far, tensor())))) == ["a"]


@pytest.mark.parametrize("content", [number(3), b"]", EMPTY_DICT, state(text("a"), number(3))[2:-1]])
def test_what_holds_no_tensors_is_no_state_dict(read, content):
    with pytest.raises(PthError, match="no state dict"):
        read(archive(b"\x80\x02" + content + b"."))


def test_compressed_archives_are_refused(read):
    bomb = archive(state(text("a"), tensor()), {"data/1": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    for content in (bomb, archive(state(text("a"), tensor()), compression=zipfile.ZIP_DEFLATED)):
        with pytest.raises(PthError, match="compressed"):
            read(content)


def test_members_that_lie_over_each_other_are_refused(read):
    """The same bytes told of by many entries of the directory."""
    whole = archive(state(text("a"), tensor()), {"data/1": bytes(10_000)})
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    entries = whole[start:end]
    last = entries[entries.rindex(b"PK\x01\x02") :]
    many = entries + 50 * last
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 53, 53, len(many), start, 0)
    with pytest.raises(PthError, match="more than it holds"):
        read(whole[:start] + many + tail)


def test_an_endless_table_of_names_is_refused(read):
    with pytest.raises(PthError, match="too many for names"):
        read(archive(state(text("a"), tensor()) + bytes(1 << 22)))


def test_what_is_no_archive_of_pytorch_is_told_by_its_kind(read):
    with pytest.raises(PthError, match="no file of weights"):
        read(b"<!DOCTYPE html>")
    with pytest.raises(PthError, match="no file of weights"):
        read(b"")
    with pytest.raises(PthError, match="not one of PyTorch's"):
        read(archive(b"").replace(b"data.pkl", b"data.txt"))
    with pytest.raises(PthError, match="TorchScript"):
        read(archive(state(text("a"), tensor()), {"constants.pkl": b"\x80\x02)."}))
    with pytest.raises(PthError, match="big-endian"):
        read(archive(state(text("a"), tensor()), {"byteorder": b"big"}))


def test_a_file_cut_short_anywhere_is_refused(read):
    whole = SAMPLE.read_bytes()
    for length in range(4, len(whole), 97):
        with pytest.raises(PthError, match="damaged or cut short"):
            read(whole[:length])


def test_damage_is_refused_or_changes_nothing(read):
    """Whatever bytes are changed, there are no errors but the one; numbers that come are guarded by their CRC."""
    whole, rng = SAMPLE.read_bytes(), random.Random(0)
    expected, refused = read_pth(SAMPLE), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        try:
            found = read(bytes(damaged))
        except PthError:
            refused += 1
        else:
            assert all(found[key].tobytes() == expected[key].tobytes() for key in found)
    assert 50 < refused < 300


def test_pickles_of_random_instructions_end_in_the_one_error(read):
    rng = random.Random(0)
    parts = [MARK, EMPTY_DICT, SETITEMS, REDUCE, BUILD, FALSE, b"t", b"]", b"a", b"e", b"s", b"Q", b"q\x00", b"h\x00"]
    parts += [
        text("a"),
        number(3),
        tensor(),
        ORDERED,
        name("torch._utils", "_rebuild_tensor_v2"),
        b")",
        b"\x86",
        b"\x94",
    ]
    for _ in range(300):
        program = b"\x80\x02" + b"".join(rng.choices(parts, k=rng.randint(1, 12))) + b"."
        with pytest.raises(PthError):
            read(archive(program))
