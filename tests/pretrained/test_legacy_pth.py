"""Files of weights of the format before PyTorch 1.6, which torchvision's older ones are in."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from captioner_jax.pretrained.pth import PthError, read_pth
from tests.pretrained.test_pth import FALSE, ORDERED, called, name, number, row, state, text

SAMPLE, LEGACY = (Path(__file__).with_name(name) for name in ("sample.pth", "legacy.pth"))
NUMBERS = np.arange(4, dtype=np.float32).tobytes()
MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
VERSION = b"\x80\x02M\xe9\x03."


def facts(little_endian=b"\x88"):
    return b"\x80\x02}(" + text("little_endian") + little_endian + b"u."


def storage(key="a", length=4, view=b"N"):
    return row(text("storage"), name("torch", "FloatStorage"), text(key), text("cpu"), number(length), view) + b"Q"


def tensor(rebuild="_rebuild_tensor_v2", more=FALSE + ORDERED, **told):
    return called(name("torch._utils", rebuild), storage(**told), number(1), row(number(3)), row(number(1)), more)


def file(pickle, keys=("a",), count=4, numbers=NUMBERS, machine=None):
    listed = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    return MAGIC + VERSION + (machine or facts()) + pickle + listed + struct.pack("<q", count) + numbers


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return read_pth(path)

    return read


def test_both_formats_give_the_same():
    old, new = read_pth(LEGACY), read_pth(SAMPLE)
    assert old.keys() == new.keys()
    for key, expected in new.items():
        assert old[key].dtype == expected.dtype
        np.testing.assert_array_equal(old[key], expected)


def test_the_oldest_ways_of_writing_tensors_are_known(read):
    parameter = called(name("torch.nn.parameter", "Parameter"), tensor("_rebuild_tensor", b""), FALSE)
    found = read(file(state(text("old"), tensor("_rebuild_tensor", b""), text("parameter"), parameter)))
    assert found.keys() == {"old", "parameter"}
    for values in found.values():
        np.testing.assert_array_equal(values, [1, 2, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (file(state(text("a"), tensor()), count=3), "other numbers than were told"),
        (file(state(text("a"), tensor(length=-4)), count=-4), "other numbers than were told"),
        (file(state(text("a"), tensor(length=1 << 60)), count=1 << 60), "other numbers than were told"),
        (file(state(text("a"), tensor()), numbers=NUMBERS[:-1]), "cut short"),
        (file(state(text("a"), tensor()), keys=("b",)), "damaged"),
        (file(state(text("a"), tensor()), keys=()), "damaged"),
        (file(state(text("a"), tensor(length=2)), count=2), "does not lie within its storage"),
        (file(state(text("a"), tensor(view=row(text("v"), number(1), number(2))))), "damaged"),
        (file(state(text("a"), tensor()), machine=facts(b"\x89")), "big-endian"),
        (file(state(text("a"), called(name("os", "system"), text("true")))), "os.system"),
        (MAGIC + VERSION + b"\x80\x02" + called(name("os", "system"), text("true")) + b".", "os.system"),
    ],
)
def test_what_is_damaged_or_meant_to_do_harm_is_refused(read, content, message):
    with pytest.raises(PthError, match=message):
        read(content)


def test_a_file_cut_short_anywhere_is_refused(read):
    whole = LEGACY.read_bytes()
    for length in range(len(MAGIC), len(whole) - 2, 13):  # its last storage is two flags
        with pytest.raises(PthError):
            read(whole[:length])


def test_damage_is_never_another_error(read):
    whole, rng, refused = LEGACY.read_bytes(), random.Random(0), 0
    for _ in range(400):
        content = bytearray(whole)
        content[rng.randrange(len(MAGIC), len(whole))] = rng.randrange(256)
        try:
            read(bytes(content))
        except PthError:
            refused += 1
    assert refused > 40
