"""Published captioners, made small and of names, write as they do elsewhere."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file

import sample
import train
from captioner_jax import bundle, published
from captioner_jax.captioning import Captioner
from captioner_jax.config import EncoderConfig
from captioner_jax.errors import UserError
from captioner_jax.generation.writing import make_writer
from captioner_jax.model import captioner, vit
from captioner_jax.model.names import flat
from captioner_jax.pretrained.captioners import read_captioner
from captioner_jax.pretrained.vit_names import to_ours
from captioner_jax.text.special import END, PAD, SPECIAL_TOKENS, START, UNKNOWN
from captioner_jax.text.tokenizer import of_byte_pairs, of_word_pieces
from tests.data.making import colour_folder
from tests.pretrained import captioners
from tests.pretrained.captioners import BLIP_IDS, MERGES, PAIRS, PIECES, VIT_GPT2_IDS, write_folder
from tests.pretrained.making import digest, images

GOLDEN = json.loads((Path(__file__).parent / "captioner_golden.json").read_text())
KINDS = {"vit-gpt2": PAIRS, "blip": PIECES}
STARTS = {"vit-gpt2": VIT_GPT2_IDS["decoder_start_token_id"], "blip": BLIP_IDS["bos_token_id"]}
ENDS = {"vit-gpt2": VIT_GPT2_IDS["eos_token_id"], "blip": BLIP_IDS["sep_token_id"]}
each_kind = pytest.mark.parametrize("kind", KINDS)


def small_sizes(monkeypatch):
    """Encoders are as small as those that the golden values are of."""
    sizes = {"vit_b16": vit.Size(*captioners.VIT), "blip_b16": vit.Size(*captioners.BLIP)}
    monkeypatch.setattr(vit, "SIZES", vit.SIZES | sizes)
    for module in ("captioners", "vit_names"):
        monkeypatch.setattr(f"captioner_jax.pretrained.{module}.SIZES", vit.SIZES)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    small_sizes(monkeypatch)


@pytest.fixture
def folder(kind, tmp_path):
    return written(kind, tmp_path / kind)


def written(kind, folder):
    write_folder(folder, GOLDEN[kind]["config"], GOLDEN[kind]["shapes"], pairs=kind == "vit-gpt2")
    return folder


def model_of(found):
    graphdef = nnx.graphdef(
        nnx.eval_shape(lambda: captioner.Captioner(found.model, len(found.tokenizer), rngs=nnx.Rngs(0)))
    )
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, found.parameters))


def rows(kind, count):
    """Where each of our tokens stands among theirs: written out here once more; -1: nowhere."""
    unknown = PIECES.index("[UNK]") if kind == "blip" else -1
    special = {STARTS[kind], ENDS[kind], unknown}
    return [-1, STARTS[kind], ENDS[kind], unknown, *(i for i in range(count) if i not in special)]


@each_kind
def test_logits_equal_theirs(kind, folder):
    found = read_captioner(str(folder))
    theirs = captioners.inputs(len(KINDS[kind]), STARTS[kind])
    order = rows(kind, GOLDEN[kind]["logits"]["shape"][-1])
    ours = {row: number for number, row in reversed(list(enumerate(order)))}
    inputs = jnp.asarray(np.vectorize(ours.get)(theirs), jnp.int32)
    logits = model_of(found)(jnp.asarray(images(32)), inputs, jnp.ones(inputs.shape, bool))
    assert logits.shape[-1] == len(found.tokenizer) == len(order)
    columns = [ours[number] for number in range(GOLDEN[kind]["logits"]["shape"][-1])]
    here, expected = digest(np.asarray(logits)[..., columns]), GOLDEN[kind]["logits"]
    assert here["shape"] == expected["shape"]
    for name in ("mean", "size", "values"):
        np.testing.assert_allclose(here[name], expected[name], rtol=0, atol=2e-5 * expected["size"])


@each_kind
def test_captions_equal_theirs(kind, folder):
    """Greedily, with the cache, up to the end."""
    found = read_captioner(str(folder))
    model = model_of(found)
    graphdef, parameters = nnx.split(model)
    write = make_writer(graphdef, found.preprocessing, length=8, beams=1)
    tokens = np.asarray(write(nnx.to_pure_dict(parameters), model.see(jnp.asarray(images(32)))).tokens)[:, 0]
    order = rows(kind, GOLDEN[kind]["logits"]["shape"][-1])
    assert [up_to(END, [order[i] for i in row], row) for row in tokens] == [
        up_to(ENDS[kind], row, row) for row in GOLDEN[kind]["written"]
    ]


def up_to(end, words, ids):
    """The words before the end."""
    ids = list(ids)
    return words[: ids.index(end)] if end in ids else words


@pytest.mark.parametrize(("kind", "texts"), [("vit-gpt2", "pairs"), ("blip", "pieces")])
def test_texts_are_cut_and_joined_as_theirs(kind, texts, folder):
    tokenizer, order = read_captioner(str(folder)).tokenizer, rows(kind, len(KINDS[kind]) + 2)
    for text, ids, decoded in GOLDEN[texts]:
        (ours,) = tokenizer.encode_all([text])
        assert [order[i] for i in ours] == ids
        assert tokenizer.decode([START, *ours, END, 5]) == decoded.replace(" [UNK]", "")  # which is never written


def test_pieces_have_names():
    pieces = of_word_pieces(PIECES)
    names = [pieces.name(i) for (ids,) in [pieces.encode_all(["running dogs"])] for i in ids]
    assert names == [" run", "ning", " dog", "s"]
    assert [pieces.name(i) for i in (PAD, UNKNOWN)] == [SPECIAL_TOKENS[PAD], SPECIAL_TOKENS[UNKNOWN]]


def test_pieces_are_kept_and_come_back_and_others_read_them():
    import tokenizers

    pieces = of_word_pieces(PIECES)
    text = "A dog's red dogs running."
    again = type(pieces).from_json(pieces.to_json())
    assert again.encode_all([text]) == pieces.encode_all([text])
    (ids,) = pieces.encode_all([text])
    assert tokenizers.Tokenizer.from_str(pieces.to_json_for_others()).decode(ids) == pieces.decode(ids)


def test_pairs_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="o"):
        of_byte_pairs(["a", "b"], [("a", "x")])


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


@each_kind
def test_it_becomes_a_captioner_for_everything(kind, folder, tmp_path, picture, capsys):
    assert published.main([str(folder), str(tmp_path / "out"), "--max-length", "8"]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out
    whole = Captioner.load(tmp_path / "out")
    assert whole.image_size == 32
    assert whole.bundles[0].training["published"] == str(folder / "model.safetensors")
    assert str(folder) in (tmp_path / "out" / "README.md").read_text()
    captions = whole.captions([picture], beam=3, num_captions=3)[0]
    assert len(captions) == 3
    explained, grounds = whole.explain(picture, beam=3), whole.grounds(picture, beam=3)
    assert explained.caption == captions[0]
    steps = len(explained.tokens)
    assert explained.looks.shape == (2, 4, steps, 4, 4)
    at_cells = explained.looks.sum((-2, -1))
    assert np.all((at_cells > 0.5) & (at_cells < 1))  # the class token has the rest
    assert grounds.occlusion.shape == (steps, 4, 4)
    assert np.isclose(np.log(explained.probabilities).sum(), captions[0].log_p, rtol=1e-3)


@each_kind
def test_words_do_not_see_those_after_them(kind, folder):
    found = read_captioner(str(folder))
    model = model_of(found)
    inputs = jnp.asarray([[START, 5, 6, 7], [START, 5, 9, 8]], jnp.int32)
    logits = model(jnp.asarray(images(32)[:1]).repeat(2, 0), inputs, jnp.ones(inputs.shape, bool))
    np.testing.assert_allclose(logits[0, :2], logits[1, :2], rtol=1e-5, atol=1e-5)
    assert np.abs(logits[0, 2:] - logits[1, 2:]).max() > 1e-2


@pytest.mark.usefixtures("ordinary_promotion")
@each_kind
def test_it_goes_on_learning_in_its_own_words(kind, folder, tmp_path, capsys):
    data = colour_folder(tmp_path / "data", images=24)
    assert published.main([str(folder), str(tmp_path / "theirs"), "--max-length", "8"]) == 0
    theirs = bundle.load(tmp_path / "theirs")
    model = theirs.model
    sizes = {"width": model.width, "heads": model.heads, "feed-forward": model.feed_forward, "layers": model.layers}
    settings = sizes | {"decoder": model.decoder, "encoder.kind": model.encoder.kind}
    arguments = [word for name, value in settings.items() for word in (f"--model.{name}", str(value))]
    arguments += ["--train.start", str(tmp_path / "theirs"), "--name", "tuned", "--runs", str(tmp_path)]
    arguments += ["--data.source", "folder", "--data.path", str(data), "--data.image-size", "32"]
    arguments += ["--data.max-length", "8", "--train.steps", "30", "--train.warmup", "1", "--train.batch-size", "8"]
    arguments += ["--train.learning-rate", "1e-3", "--train.log-every", "10", "--train.evaluate-every", "30"]
    assert train.main([*arguments, "--train.checkpoint-every", "30"]) == 0
    tuned = bundle.load(tmp_path / "tuned" / "captioner")
    assert tuned.tokenizer.to_json() == theirs.tokenizer.to_json()
    assert tuned.training["start"] == theirs.training
    lines = (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()
    losses = [loss for loss in (json.loads(line).get("loss") for line in lines) if loss is not None]
    assert losses[-1] < 0.8 * losses[0]


def test_a_tokenizer_file_and_older_buffers_are_read_alike(tmp_path):
    folder = written("vit-gpt2", tmp_path)
    before = read_captioner(str(folder))
    content = {
        "added_tokens": [{"id": len(PAIRS) - 1, "content": "<|endoftext|>"}],
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(PAIRS[:-1])},
            "merges": [" ".join(pair) for pair in MERGES],
        },
    }
    (folder / "vocab.json").unlink()
    for merges in (content["model"]["merges"], [list(pair) for pair in MERGES]):
        content["model"]["merges"] = merges
        (folder / "tokenizer.json").write_text(json.dumps(content))
        tensors = load_file(folder / "model.safetensors")
        mask = np.zeros((1, 1, 8, 8), np.float32)
        buffers = dict.fromkeys((f"decoder.transformer.h.0.{part}.bias" for part in ("attn", "crossattention")), mask)
        tied = {"decoder.lm_head.weight": tensors["decoder.transformer.wte.weight"]}
        save_file(tensors | buffers | tied, folder / "model.safetensors")
        after = read_captioner(str(folder))
        assert after.tokenizer.to_json() == before.tokenizer.to_json()
        jax.tree.map(np.testing.assert_array_equal, after.parameters, before.parameters)


def test_blip_alone_gives_its_image_tower(tmp_path):
    whole = load_file(written("blip", tmp_path) / "model.safetensors")
    ours = to_ours(whole, "blip_b16")
    tower = nnx.eval_shape(lambda: vit.ViT(EncoderConfig("blip_b16"), rngs=nnx.Rngs(0)))
    assert {name: x.shape for name, x in ours.items()} == {
        name: x.shape for name, x in flat(nnx.to_pure_dict(nnx.state(tower))).items()
    }


def test_a_folder_that_is_not_converted_yet_is_told_how(tmp_path, capsys):
    folder = written("blip", tmp_path)
    assert sample.main(["x.jpg", "--captioner", str(folder)]) == 1
    assert f"python -m captioner_jax.published {folder} FOLDER" in capsys.readouterr().err


def change(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: change(folder, model_type="git"), "model_type 'git' are not known here"),
        (lambda folder: change(folder, decoder={"model_type": "bert"}), "decoder.model_type: Input should be 'gpt2'"),
        (lambda folder: change(folder, decoder_start_token_id=9999), "begin with 9999"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda folder: (folder / "vocab.json").unlink(), "has no vocabulary"),
        (lambda folder: (folder / "merges.txt").unlink(), "vocabulary cannot be read"),
        (lambda folder: (folder / "merges.txt").write_text("d o\n"), "Token `do` out of vocabulary"),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": {}}}'),
            "Unigram",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
    ],
)
def test_what_is_none_is_refused(spoil, message, tmp_path, capsys):
    folder = written("vit-gpt2", tmp_path / "theirs")
    spoil(folder)
    assert published.main([str(folder), str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("decoder.lm_head.weight", np.ones((1, 1), np.float32), "1 not known: decoder.lm_head.weight"),
        ("decoder.transformer.h.0.gate.weight", np.ones(3, np.float32), "1 not known"),
        ("enc_to_dec_proj.weight", np.ones((3, 3), np.float32), "1 not known: enc_to_dec_proj.weight"),
        ("decoder.transformer.ln_f.bias", None, "1 missing: decoder.norm.bias"),
        ("decoder.transformer.wpe.weight", np.ones((9, 48), np.float32), "decoder.positions 9x48 for 1024x48"),
    ],
)
def test_weights_of_something_else_are_named(name, tensor, message, tmp_path):
    folder = written("vit-gpt2", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del_or_set = {key: value for key, value in tensors.items() if key != name}
    save_file(del_or_set if tensor is None else del_or_set | {name: tensor}, folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        read_captioner(str(folder))


def test_an_encoder_of_other_sizes_is_refused(tmp_path):
    folder = written("blip", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(folder, vision_config=config["vision_config"] | {"patch_size": 16})
    with pytest.raises(UserError, match=r"an encoder with .*'patch': 16.* is not known here"):
        read_captioner(str(folder))


def test_nothing_is_written_over(tmp_path, capsys):
    folder = written("blip", tmp_path / "theirs")
    (tmp_path / "out").mkdir()
    assert published.main([str(folder), str(tmp_path / "out")]) == 1
    assert "is there already" in capsys.readouterr().err
