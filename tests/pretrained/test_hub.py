"""Weights from the hub, with the real library and a small hub of our own on this machine."""

import dataclasses
import hashlib
import http.server
import json
import re
import sys
import threading
from pathlib import Path
from typing import ClassVar

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import train
from captioner_jax import Captioner, bundle, published
from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import OutageError, UserError
from captioner_jax.generation.neighbours import Photographs
from captioner_jax.model import captioner as model_captioner
from captioner_jax.pretrained import hub
from captioner_jax.pretrained.files import read_weights
from captioner_jax.text.tokenizer import train_words
from tests.making import untrained
from tests.pretrained.test_captioners import small_sizes, written

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = safetensors.numpy.save({"a": np.arange(3, dtype=np.float32)})
CARD = json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}).encode()


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs: what a model has, and its files, LFS ones by SHA-256."""

    files: ClassVar[dict[str, bytes]] = {}
    served: ClassVar[dict[str, bytes]] = {}
    """What comes in place of a file, on a bad day."""
    asked: ClassVar[list[str]] = []
    status: ClassVar[int] = 200
    gated: ClassVar[bool] = False

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.asked.append(self.path)
        self.answer(with_body=True)

    def answer(self, *, with_body: bool):
        path, _, _ = self.path.partition("?")
        match path.strip("/").split("/"):
            case _ if self.status != 200:
                self.send(b"", {}, self.status, with_body)
            case ["api", "models", "owner", "name"] | ["api", "models", "owner", "name", "revision", "main" | "v1"]:
                self.send(json.dumps(self.listing()).encode(), {}, 200, with_body)
            case ["api", "models", "owner", "name", "revision", _]:
                self.send(b"", {"X-Error-Code": "RevisionNotFound"}, 404, with_body)
            case ["owner", "name", "resolve", "main" | "v1", *file] if "/".join(file) in self.files:
                code = {"X-Error-Code": "GatedRepo"} if self.gated else {}
                name = "/".join(file)
                told = {"ETag": f'"{digest(self.files[name])}"', "X-Repo-Commit": COMMIT, **code}
                self.send(self.served.get(name, self.files[name]), told, 403 if self.gated else 200, with_body)
            case ["owner", "name", "resolve", *_]:
                self.send(b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, 404, with_body)
            case _:
                self.send(b"", {"X-Error-Code": "RepoNotFound"}, 401, with_body)

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            lfs = {"sha256": digest(content), "size": len(content), "pointerSize": 130}
            siblings.append(
                {"rfilename": name, "size": len(content), **({} if name.endswith("json") else {"lfs": lfs})}
            )
        return {"id": "owner/name", "sha": COMMIT, "siblings": siblings}

    def send(self, body: bytes, headers: dict[str, str], status: int, with_body: bool):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The hub of this machine, and an empty cache."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    for name, value in {"files": {}, "served": {}, "asked": [], "status": 200, "gated": False}.items():
        monkeypatch.setattr(Hub, name, value)
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


def stand_at(address: str, monkeypatch: pytest.MonkeyPatch):
    """As if HF_ENDPOINT had been set before the library was imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def downloaded() -> list[str]:
    return [path.split("/resolve/")[1] for path in Hub.asked if "/resolve/" in path]


def test_weights_are_downloaded_once_and_nothing_besides(site):
    site.files |= {"model.safetensors": WEIGHTS, "pytorch_model.bin": b"large", "preprocessor_config.json": CARD}
    for _ in range(2):
        weights = read_weights("hf://owner/name")
        np.testing.assert_array_equal(weights.tensors["a"], [0, 1, 2])
        assert weights.preprocessor == {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": False}
        assert weights.origin == f"hf://owner/name@{COMMIT}/model.safetensors"
    assert sorted(downloaded()) == ["main/model.safetensors", "main/preprocessor_config.json"]


def test_without_safetensors_the_other_file_is_taken(site):
    site.files |= {"pytorch_model.bin": b"PK no zip", "tf_model.h5": b"large"}
    with pytest.raises(UserError, match=r"pytorch_model\.bin: damaged"):
        read_weights("hf://owner/name")
    assert downloaded() == ["main/pytorch_model.bin"]


def test_a_file_and_a_revision_can_be_named(site):
    site.files |= {"model.safetensors": b"", "some/tiny.safetensors": WEIGHTS, "preprocessor_config.json": CARD}
    weights = read_weights("hf://owner/name@v1/some/tiny.safetensors")
    assert weights.tensors.keys() == {"a"}
    assert weights.preprocessor is not None
    assert weights.origin == f"hf://owner/name@{COMMIT}/some/tiny.safetensors"
    assert "v1/some/tiny.safetensors" in downloaded()


def test_a_file_that_was_changed_on_the_way_is_found_out(site):
    site.files["model.safetensors"] = WEIGHTS
    site.served["model.safetensors"] = WEIGHTS[:-1] + b"?"
    with pytest.raises(UserError, match=r"SHA-256 is not the hub's. Remove (\S+) ") as caught:
        read_weights("hf://owner/name")
    site.served.clear()
    Path(re.search(r"Remove (\S+) ", str(caught.value))[1]).unlink()
    assert read_weights("hf://owner/name").tensors.keys() == {"a"}  # as it told


def test_without_a_network_the_cache_serves(site, monkeypatch):
    site.files |= {"model.safetensors": WEIGHTS, "preprocessor_config.json": CARD}
    online = read_weights("hf://owner/name")
    site.status = 503
    assert read_weights("hf://owner/name").origin == online.origin
    stand_at("http://127.0.0.1:9", monkeypatch)  # where nothing answers
    assert read_weights("hf://owner/name").preprocessor == online.preprocessor
    with pytest.raises(UserError, match=r"cannot be reached, and the cache has no other.safetensors"):
        read_weights("hf://owner/name/other.safetensors")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://owner/other", "no such repository, or a private one"),
        ("hf://owner/name@v9", "has no revision v9"),
        ("hf://owner/name/none.pth", r"has no none\.pth: name a file that it has"),
        ("hf://owner/name", r"has no model\.safetensors and no pytorch_model\.bin"),
        ("hf://owner/..", "Repo id must use"),
        ("hf://name", r"wanted is hf://OWNER/NAME\[@REVISION\]\[/FILE\]"),
        ("hf://", "wanted is hf://OWNER"),
    ],
)
def test_what_is_not_there_is_told(site, address, message):
    with pytest.raises(UserError, match=message) as caught:
        read_weights(address)
    assert address in str(caught.value) or "hf://owner/name" in str(caught.value)


def test_a_gated_repository_is_told(site):
    site.files["model.safetensors"] = WEIGHTS
    site.gated = True
    with pytest.raises(UserError, match=r"gated: accept its terms at https://huggingface\.co/owner/name"):
        read_weights("hf://owner/name")


def test_without_the_library_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "captioner_jax.pretrained.hub")
    monkeypatch.delattr("captioner_jax.pretrained.hub")
    with pytest.raises(UserError, match=r"pip install 'captioner-jax\[hub\]'"):
        read_weights("hf://owner/name")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://owner/name", ("owner/name", None, None)),
        ("hf://owner/name@v1.0", ("owner/name", "v1.0", None)),
        ("hf://owner/name/a/b.pth", ("owner/name", None, "a/b.pth")),
        ("hf://o-w/n.a_m-e@main/b.pth", ("o-w/n.a_m-e", "main", "b.pth")),
        ("hf://owner/name@refs/pr/1", ("owner/name", "refs/pr/1", None)),
        ("hf://owner/name@refs/pr/1/a/b.pth", ("owner/name", "refs/pr/1", "a/b.pth")),
    ],
)
def test_addresses_are_taken_apart(address, parts):
    assert hub.parse(address) == parts


def test_a_captioner_comes_from_the_hub(site, tmp_path):
    model = ModelConfig(width=16, heads=2, feed_forward=16, layers=1, encoder=EncoderConfig("convnet", 4, (16,), (1,)))
    tokenizer = train_words(["a red dog"], 1)
    parameters = nnx.to_pure_dict(nnx.state(model_captioner.Captioner(model, len(tokenizer), rngs=nnx.Rngs(0))))
    bundle.Bundle(model, Preprocessing(16), 6, tokenizer, parameters, {}, {"step": 3}).save(tmp_path / "captioner")
    site.files |= {file.name: file.read_bytes() for file in (tmp_path / "captioner").iterdir()} | {"README.md": b"#"}
    captioner = Captioner.load("hf://owner/name")
    assert captioner.max_length == 6
    assert len(captioner.caption(np.zeros((20, 20, 3), np.uint8), beam=2)) == 1
    assert sorted(downloaded()) == ["main/captioner.json", "main/tokenizer.json", "main/weights.safetensors"]
    site.files |= {"weights.safetensors": b"others"}
    with pytest.raises(UserError, match="damaged"):
        Captioner.load("hf://owner/name@v1")
    del site.files["weights.safetensors"]
    with pytest.raises(UserError, match=r"has no weights\.safetensors\. .*captioner_jax\.published hf://owner/name"):
        Captioner.load("hf://owner/name")


def test_a_captioner_from_the_hub_brings_its_photographs(site, tmp_path):
    photographs = Photographs(np.ones((30, 32), np.float16), np.full((30, 2, 9), 4, np.int32))
    dataclasses.replace(untrained(), photographs=photographs).save(tmp_path / "captioner")
    site.files |= {file.name: file.read_bytes() for file in (tmp_path / "captioner").iterdir()}
    assert Captioner.load("hf://owner/name").bundles[0].photographs.seen.shape == (30, 32)


def test_a_published_captioner_is_fetched_with_its_words_and_nothing_else(site, tmp_path, monkeypatch):
    small_sizes(monkeypatch)
    folder = written("blip", tmp_path / "theirs")
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    site.files |= kept | {"tf_model.h5": b"", "README.md": b""}
    assert published.main(["hf://owner/name@v1", str(tmp_path / "ours")]) == 0
    assert sorted(downloaded()) == sorted(f"v1/{name}" for name in kept)
    assert bundle.load(tmp_path / "ours").training["published"].startswith("hf://owner/name@")


def test_a_run_whose_weights_the_hub_does_not_have_ends_before_it_looks_for_its_data(site, tmp_path, capsys):
    arguments = ["--data.source", "folder", "--data.path", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    kind = ["--model.encoder.kind", "resnet18", "--data.image-size", "64", "--model.encoder.weights"]
    assert train.main([*arguments, *kind, "hf://owner/name"]) == 1
    assert "hf://owner/name has no model.safetensors and no pytorch_model.bin" in capsys.readouterr().err
    site.files |= {"model.safetensors": WEIGHTS}
    assert train.main([*arguments, *kind, "hf://owner/name"]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_may_be_had_later_is_told_to_those_who_start_again(site, monkeypatch):
    site.status = 503
    with pytest.raises(OutageError, match="cannot be reached"):
        read_weights("hf://owner/name")
    site.status = 200
    with pytest.raises(UserError) as caught:
        read_weights("hf://owner/other")
    assert not isinstance(caught.value, OutageError)


def test_all_is_of_the_revision_and_comes_from_the_cache_where_there_is_no_hub(site):
    site.files |= {"model.safetensors": WEIGHTS, "preprocessor_config.json": CARD}
    fetched = read_weights("hf://owner/name@v1")
    assert sorted(downloaded()) == ["v1/model.safetensors", "v1/preprocessor_config.json"]
    site.status = 503
    assert read_weights("hf://owner/name@v1").origin == fetched.origin
