"""What is exported captions as the captioner does, in a process that has only JAX."""

import itertools
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

from captioner_jax import bundle, export, exported_caption
from captioner_jax.captioning import Captioner
from captioner_jax.data.images import open_image, to_square
from captioner_jax.generation.selection import BLOCK
from captioner_jax.text.tokenizer import train_words
from tests.data.making import encoded, picture
from tests.making import untrained

pytest.importorskip("flatbuffers", reason="exports need the extra `export`")
FUSIONS = ("cross", "concat", "weighted")
# Loads, runs and saves what is found, without this package.
RELOAD = """
import sys
sys.modules["captioner_jax"] = None
import jax, numpy as np
from jax import export
folder, pixels, result = sys.argv[1:]
read = lambda name: export.deserialize(bytearray(open(f"{folder}/{name}.stablehlo", "rb").read()))
encode, search = map(read, ("encode", "search"))
pixels = np.load(pixels)
for count in (3, 1):
    some = pixels[:count]
    tokens, log_p, scores = search.call(encode.call(some), np.arange(count, dtype=np.uint32))
    np.savez(f"{result}{count}.npz", tokens=tokens, log_p=log_p, scores=scores)
assert not {"flax", "safetensors", "tensorflow", "PIL"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A captioner of each fusion, saved."""
    folder = tmp_path_factory.mktemp("captioners")
    for fusion in FUSIONS:
        untrained(fusion).save(folder / fusion / "captioner")
    return folder


@pytest.mark.parametrize(
    ("fusion", "asked"),
    [("cross", []), ("concat", ["--num-captions", "3"]), ("weighted", ["--top-p", "0.9", "--num-captions", "2"])],
)
def test_reloaded_without_this_package_it_finds_the_same(fusion, asked, saved, tmp_path, capsys):
    directory = saved / fusion / "captioner"
    assert export.main([str(directory), "--output", str(tmp_path / "export"), *asked]) == 0
    assert "MB for cpu, cuda, tpu" in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    arguments = [str(tmp_path / name) for name in ("export", "pixels.npy", "found")]
    subprocess.run([sys.executable, "-c", RELOAD, *arguments], check=True)
    asked = export.Generation(**json_of(tmp_path)["generation"])
    encode, search = map(jax.jit, export.programs(untrained(fusion), asked))
    for count in (3, 1):
        found = np.load(tmp_path / f"found{count}.npz")
        tokens, log_p, scores = search(encode(pixels[:count]), np.arange(count, dtype=np.uint32))
        np.testing.assert_array_equal(found["tokens"], tokens)
        np.testing.assert_allclose(found["log_p"], log_p, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-5)


def json_of(folder):
    manifest = json.loads((folder / "export" / "export.json").read_text())
    manifest["generation"] |= {name: tuple(manifest["generation"][name]) for name in ("banned", "must_say")}
    return manifest


def test_the_example_program_captions_as_this_package_does(tmp_path):
    """Of more words than a block of candidates has."""
    directory = tmp_path / "captioner"
    tokenizer = train_words([" ".join(map("".join, itertools.product("abcdefghijklmno", repeat=2)))], 1)
    assert len(tokenizer) > 2 * BLOCK
    untrained(framing="whole", tokenizer=tokenizer).save(directory)
    files = []
    for name, image in {
        "a.png": picture((200, 30, 30, 90), mode="RGBA"),
        "b c.jpg": Image.linear_gradient("L").resize((90, 40)).rotate(180).convert("RGB"),
        "high.png": Image.linear_gradient("L").rotate(90).resize((90, 40)),
        "deep.png": Image.fromarray(np.linspace(0, 40_000, 900).reshape(30, 30).astype(np.uint16)),
    }.items():
        files.append(str(tmp_path / name))
        (tmp_path / name).write_bytes(encoded(image, "PNG" if name.endswith("png") else "JPEG"))
    assert export.main([str(directory), "--output", str(tmp_path / "export"), "--num-captions", "2"]) == 0
    assert json_of(tmp_path)["framing"] == "whole"
    captioner = Captioner.load(directory)
    expected = [
        (f"{file}: {caption.text}", pytest.approx(caption.log_p, abs=2e-4))
        for file, captions in zip(files, captioner.captions(files, num_captions=2), strict=True)
        for caption in captions
    ]
    program = [sys.executable, str(tmp_path / "export" / "caption.py"), *files]
    environment = {"PATH": "", "PYTHONSAFEPATH": "1"}
    (tmp_path / "no.png").write_bytes(b"no picture")
    program[2:2] = [str(tmp_path / name) for name in ("no.png", "none.png")]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=environment)
    told = [re.fullmatch(r"(.*) \((-?[\d.]+)\)", line) for line in done.stdout.splitlines()]
    assert [(line[1], float(line[2])) for line in told] == expected, done.stderr
    assert done.returncode == 1
    assert f"{tmp_path}/no.png: cannot identify image file" in done.stderr
    assert f"{tmp_path}/none.png: No such file or directory\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_example_program_says_how_it_is_used(capsys):
    assert exported_caption.main([]) == 1
    assert "python caption.py PICTURE" in capsys.readouterr().out


def test_the_example_program_sees_what_this_package_sees(tmp_path):
    for mode, largest in (("uint16", 40_000), ("int32", 40_000), ("int32", 255), ("float32", 0.5), ("float32", np.nan)):
        file = tmp_path / "deep.tiff"
        grey = np.linspace(0, np.nan_to_num(largest, nan=1.0), 900)
        grey[7] = largest
        Image.fromarray(grey.reshape(20, 45).astype(mode)).save(file)
        for framing in ("middle", "whole"):
            expected = to_square(open_image(file.read_bytes(), 16), 16, framing)
            np.testing.assert_array_equal(exported_caption.square(str(file), 16, framing), expected)


def test_programs_are_for_the_platforms_that_are_named(saved, tmp_path):
    asked = [str(saved / "cross" / "captioner"), "--output", str(tmp_path / "export"), "--platforms", "tpu, cuda"]
    assert export.main(asked) == 0
    assert json_of(tmp_path)["platforms"] == ["tpu", "cuda"]
    for name in ("encode", "search"):
        program = jax_export.deserialize(bytearray((tmp_path / "export" / f"{name}.stablehlo").read_bytes()))
        assert set(program.platforms) == {"tpu", "cuda"}
    keys_and_values = np.zeros((1, 2, 8, 4), np.float32), np.zeros((1, 2, 4, 8), np.float32)
    with pytest.raises(ValueError, match="platform"):
        program.call([keys_and_values] * 2, np.zeros(1, np.uint32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--platforms", "cpu,gpu"], "--platforms: gpu: there are cpu, cuda, rocm, tpu"),
        (["--platforms", ""], "--platforms: none"),
        (["--prefix", "a zebra"], "vocabulary does not have 'zebra'"),
        (["--beam", "0"], "beam = 0"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(changes, message, saved, tmp_path, capsys):
    asked = [str(saved / "cross" / "captioner"), "--output", str(tmp_path / "export")]
    assert export.main([*asked, *changes]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over_unasked(saved, tmp_path, capsys):
    asked = [str(saved / "cross" / "captioner"), "--platforms", "cpu"]
    assert export.main(asked) == 0
    folder = saved / "cross" / "export"
    assert {file.name for file in folder.iterdir()} == {
        *("caption.py", "encode.stablehlo", "export.json", "search.stablehlo", "tokenizer.json")
    }
    assert export.main(asked) == 1
    assert f"{folder} is there already: --force" in capsys.readouterr().err
    assert export.main([*asked, "--force", "--platforms", "tpu"]) == 0
    assert json.loads((folder / "export.json").read_text())["platforms"] == ["tpu"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert export.main([*asked, "--force", "--output", str(tmp_path / "mine")]) == 1
    assert "mine is there already and is no export" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for nowhere in ("hf://owner/name", str(bundle.RELEASED)):
        assert export.main([nowhere]) == 1
        assert "name a folder by --output" in capsys.readouterr().err
    assert export.main([str(tmp_path / "nobody"), "--output", str(tmp_path / "x")]) == 1
    assert "is no captioner" in capsys.readouterr().err


def test_without_flatbuffers_it_says_what_to_install(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for name in [name for name in sys.modules if name.startswith("jax._src.export.serial")]:
        monkeypatch.delitem(sys.modules, name)
    assert export.main([str(saved / "cross" / "captioner"), "--output", str(tmp_path / "export")]) == 1
    assert "pip install 'captioner-jax[export]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
