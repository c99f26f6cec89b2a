"""Published captioners, made small and of names, write as they do elsewhere."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tokenizers
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file

import sample
import train
from captioner_jax import bundle, evaluate, export, published
from captioner_jax.captioning import Captioner
from captioner_jax.config import EncoderConfig
from captioner_jax.data.features import make_eye
from captioner_jax.errors import UserError
from captioner_jax.explain.faithfulness import make_areas
from captioner_jax.explain.reading import Retelling
from captioner_jax.generation.settings import Generation
from captioner_jax.generation.writing import Untrained, make_writer
from captioner_jax.model import captioner, vit
from captioner_jax.model.names import flat
from captioner_jax.pretrained.captioner_config import read_config
from captioner_jax.pretrained.captioner_names import ABSENT, in_order
from captioner_jax.pretrained.captioners import read_captioner
from captioner_jax.pretrained.vit_names import to_ours
from captioner_jax.text.special import END, START
from captioner_jax.training.loss import token_losses
from tests.data.making import colour_folder
from tests.pretrained import captioners
from tests.pretrained.captioners import BLIP_IDS, MERGES, PAIRS, PIECES, VIT_GPT2_IDS, write_folder
from tests.pretrained.making import digest, images

GOLDEN = json.loads((Path(__file__).parent / "captioner_golden.json").read_text())
KINDS = {"vit-gpt2": PAIRS, "blip": PIECES}
STARTS = {"vit-gpt2": VIT_GPT2_IDS["decoder_start_token_id"], "blip": BLIP_IDS["bos_token_id"]}
ENDS = {"vit-gpt2": VIT_GPT2_IDS["eos_token_id"], "blip": BLIP_IDS["sep_token_id"]}
UNIGRAM = tokenizers.Tokenizer(tokenizers.models.Unigram([("a", 0.0)])).to_str()
each_kind = pytest.mark.parametrize("kind", KINDS)


def small_sizes(monkeypatch):
    """Encoders are as small as those that the golden values are of."""
    sizes = {"vit_b16": vit.Size(*captioners.VIT), "blip_b16": vit.Size(*captioners.BLIP)}
    monkeypatch.setattr(vit, "SIZES", vit.SIZES | sizes)
    for module in ("captioners", "captioner_config", "vit_names"):
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


def rows(kind):
    """Where each of our tokens stands among theirs: written out here once more; -1: nowhere."""
    if kind == "vit-gpt2":
        return [-1, STARTS[kind], ENDS[kind], -1, *range(len(PAIRS) - 1)]
    no_text = [PIECES.index(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]
    return [0, STARTS[kind], ENDS[kind], no_text[1], *(i for i in range(len(PIECES)) if i not in no_text)]


@each_kind
def test_logits_equal_theirs(kind, folder):
    found = read_captioner(str(folder))
    order = rows(kind)
    ours = {row: number for number, row in enumerate(order)}  # of START and END that are one, END
    inputs = jnp.asarray(np.vectorize(ours.get)(captioners.inputs(KINDS[kind], STARTS[kind])), jnp.int32)
    inputs = inputs.at[:, 0].set(START)
    logits = np.asarray(model_of(found)(jnp.asarray(images(32)), inputs, jnp.ones(inputs.shape, bool)))
    assert logits.shape[-1] == len(found.tokenizer) == len(order)
    columns = [ours[row] for row in GOLDEN[kind]["columns"]]
    here, expected = digest(logits[..., columns]), GOLDEN[kind]["logits"]
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
    order = rows(kind)
    assert [up_to(END, [order[i] for i in row], row) for row in tokens] == [
        up_to(ENDS[kind], row, row) for row in GOLDEN[kind]["written"]
    ]


def up_to(end, words, ids):
    """The words before the end."""
    ids = list(ids)
    return words[: ids.index(end)] if end in ids else words


@pytest.mark.parametrize(("kind", "texts"), [("vit-gpt2", "pairs"), ("blip", "pieces")])
def test_texts_are_cut_and_joined_as_theirs(kind, texts, folder):
    tokenizer, order = read_captioner(str(folder)).tokenizer, rows(kind)
    for text, ids, decoded in GOLDEN[texts]:
        (ours,) = tokenizer.encode_all([text])
        assert [order[i] for i in ours] == ids
        assert tokenizer.decode([START, *ours, END, 5]) == decoded.replace(" [UNK]", "")  # which is never written


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8))


@each_kind
def test_it_becomes_a_captioner_for_everything(kind, folder, tmp_path, picture, capsys):
    assert published.main([str(folder), str(tmp_path / "out"), "--max-length", "8"]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out
    whole = Captioner.load(tmp_path / "out")
    assert (whole.image_size, whole.framing) == (32, "whole")
    assert whole.bundles[0].training["published"] == kind
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"published it as `{kind}`" in card
    assert str(tmp_path) not in card + (tmp_path / "out" / "captioner.json").read_text()
    asked = {"beam": 3, "num_captions": 3}
    (captions,) = whole.captions(picture, **asked)
    assert len(captions) == 3
    explained, grounds = whole.explain(picture, **asked), whole.grounds(picture, **asked)
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
    arguments += ["--data.framing", "whole", "--data.max-length", "8", "--train.steps", "30"]
    arguments += ["--train.warmup", "1", "--train.batch-size", "8"]
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
    pairs = tokenizers.models.BPE(vocab={token: i for i, token in enumerate(PAIRS[:-1])}, merges=MERGES)
    backend = tokenizers.Tokenizer(pairs)
    backend.add_special_tokens([PAIRS[-1]])
    new = json.loads(backend.to_str())
    old = new | {"model": {"vocab": new["model"]["vocab"], "merges": [" ".join(pair) for pair in MERGES]}}
    (folder / "vocab.json").unlink()
    for content in (new, old):
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
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "tells image_mean and image_std"),
        (lambda folder: (folder / "vocab.json").unlink(), "has no vocabulary"),
        (lambda folder: (folder / "merges.txt").unlink(), "vocabulary cannot be read"),
        (lambda folder: (folder / "merges.txt").write_text("d o\n"), "Token `do` out of vocabulary"),
        (lambda folder: (folder / "tokenizer.json").write_text(UNIGRAM), "Unigram"),
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
        ("decoder.lm_head.weight", np.ones((1, 1), np.float32), "decoder.output 1x1 for 263x48"),
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


def test_the_mean_row_of_a_word_that_is_not_there_is_one_in_16_bits_too():
    rows = np.random.default_rng(0).normal(-0.3, 0.1, (50_000, 1)).astype(ml_dtypes.bfloat16)
    theirs = {"decoder.embed.embedding": rows, "decoder.bias": np.zeros(50_000, np.float32)}
    ours = in_order(theirs, [-1, 1, 2], never=[1])
    assert ours["decoder.embed.embedding"][0, 0] == pytest.approx(-0.3, abs=0.01)
    assert ours["decoder.bias"].tolist() == [ABSENT, ABSENT, 0]


@pytest.mark.usefixtures("ordinary_promotion")
def test_losses_are_of_what_can_be_written(tmp_path):
    """Logits of real captioners lie far below zero, where a word that is not there would have all of the softmax."""
    folder = written("vit-gpt2", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.transformer.wte.weight"][:, 0] = 1.0
    tensors["decoder.transformer.ln_f.weight"][0], tensors["decoder.transformer.ln_f.bias"][0] = 0.0, -35.0
    save_file(tensors, folder / "model.safetensors")
    found = read_captioner(str(folder))
    inputs = jnp.asarray([[START, 70, 80], [START, 90, 75]], jnp.int32)
    targets = jnp.asarray([[70, 80, END], [90, 75, END]], jnp.int32)
    logits = model_of(found)(jnp.asarray(images(32)), inputs, jnp.ones(inputs.shape, bool))
    exact = np.asarray(logits, np.float64)
    real = exact[..., [END, *range(4, len(found.tokenizer))]]
    assert -45 < real.mean() < -25
    expected = np.log(np.exp(real).sum(-1)) - np.take_along_axis(exact, np.asarray(targets)[..., None], -1)[..., 0]
    np.testing.assert_allclose(token_losses(logits, targets), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_only_its_second_name_is_found(kind, tmp_path):
    """Tools that leave out what is there twice keep the first name by the alphabet."""
    folder = written(kind, tmp_path)
    before = read_captioner(str(folder))
    tensors = load_file(folder / "model.safetensors")
    seconds = {
        "vit-gpt2": {"decoder.transformer.wte.weight": "decoder.lm_head.weight"},
        "blip": {"text_decoder.cls.predictions.bias": "text_decoder.cls.predictions.decoder.bias"},
    }
    for first, second in seconds[kind].items():
        tensors[second] = tensors.pop(first)
    save_file(tensors, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, read_captioner(str(folder)).parameters, before.parameters)


def test_an_output_matrix_of_its_own_is_taken(tmp_path):
    folder = written("blip", tmp_path)
    tied = model_of(read_captioner(str(folder)))
    tensors = load_file(folder / "model.safetensors")
    twice = 2 * tensors["text_decoder.bert.embeddings.word_embeddings.weight"]
    save_file(tensors | {"text_decoder.cls.predictions.decoder.weight": twice}, folder / "model.safetensors")
    found = read_captioner(str(folder))
    assert not found.model.tied

    def without_bias(model):
        inputs = jnp.asarray([[START, 5, 6]], jnp.int32)
        logits = model(jnp.asarray(images(32)[:1]), inputs, jnp.ones(inputs.shape, bool))
        return np.asarray(logits - model.decoder.bias[...][None, None])

    np.testing.assert_allclose(without_bias(model_of(found)), 2 * without_bias(tied), rtol=1e-4, atol=1e-5)


def test_what_a_config_leaves_out_is_as_in_transformers(tmp_path, monkeypatch):
    folder = written("blip", tmp_path)
    before = read_captioner(str(folder))
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        for name in ("hidden_act", "layer_norm_eps", "pad_token_id"):
            config[part].pop(name, None)
    change(folder, **config)
    card = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": card}))
    after = read_captioner(str(folder))
    assert (after.model, after.preprocessing) == (before.model, before.preprocessing)
    jax.tree.map(np.testing.assert_array_equal, after.parameters, before.parameters)
    (folder / "config.json").write_text('{"model_type": "blip", "text_config": {}, "vision_config": {}}')
    of_size = {"blip_b16": vit.Size(16, 768, 12, 12, side=384)}
    monkeypatch.setattr("captioner_jax.pretrained.captioner_config.SIZES", of_size)
    told = read_config(folder / "config.json")  # as transformers 5.24 has it
    assert (told.start, told.end, told.pad) == (30522, 102, 0)
    sizes = told.model
    assert (sizes.width, sizes.heads, sizes.feed_forward, sizes.layers) == (768, 8, 3072, 12)


def test_pixels_that_are_not_normalised_stay_as_they_are(tmp_path):
    folder = written("blip", tmp_path)
    card = {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(card))
    found = read_captioner(str(folder)).preprocessing
    assert (found.mean, found.deviation) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(("told", "framing"), [({}, "whole"), ({"do_center_crop": True}, "middle")])
def test_pictures_are_squeezed_unless_the_card_says_to_cut_them(told, framing, tmp_path):
    folder = written("blip", tmp_path)
    card = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | told
    (folder / "preprocessor_config.json").write_text(json.dumps(card))
    assert read_captioner(str(folder)).preprocessing.framing == framing


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("decoder", {"scale_attn_weights": False}, r"decoder\.scale_attn_weights: Input should be True"),
        ("decoder", {"layer_norm_epsilon": 0.1}, r"decoder\.layer_norm_epsilon"),
        ("decoder", {"n_head": 5}, "does not divide into 5 heads"),
        ("encoder", {"model_type": "deit"}, r"encoder\.model_type"),
    ],
)
def test_what_would_compute_something_else_is_refused(part, changes, message, tmp_path):
    folder = written("vit-gpt2", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    change(folder, **{part: config[part] | changes})
    with pytest.raises(UserError, match=message):
        read_captioner(str(folder))


def test_lines_of_a_vocabulary_are_tokens(tmp_path):
    folder = written("blip", tmp_path)
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    (folder / "vocab.txt").write_text("\n".join([*lines[:1], "\u2028", *lines[2:]]), encoding="utf-8")
    tokenizer = read_captioner(str(folder)).tokenizer
    assert [tokenizer.name(i) for i in tokenizer.encode_all(["a dog"])[0]] == [" a", " dog"]
    (folder / "vocab.txt").write_text("\n".join([*lines[:5], "dog", *lines[6:]]), encoding="utf-8")
    with pytest.raises(UserError, match="1 of its tokens are there twice"):
        read_captioner(str(folder))


def test_features_of_the_class_token_are_not_taken_for_others(tmp_path):
    found = read_captioner(str(written("blip", tmp_path)))
    encoder, graphdef = found.model.encoder, nnx.graphdef(model_of(found))
    plain = found.parameters | {"into_memory": {}}
    marks = {make_eye(encoder, graphdef, of, found.preprocessing).mark for of in (found.parameters, plain)}
    assert len(marks) == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tokenizers.models.BPE({"\u2581a": 0, "a": 1, "\u2581": 2}, [("\u2581", "a")]), "not of bytes"),
        (tokenizers.models.WordPiece({"[UNK]": 0, "A": 1}, unk_token="[UNK]"), "have capitals"),
    ],
)
def test_words_that_are_written_otherwise_are_refused(model, message, tmp_path):
    folder = written("blip", tmp_path)
    (folder / "tokenizer.json").write_text(tokenizers.Tokenizer(model).to_str())
    with pytest.raises(UserError, match=message):
        read_captioner(str(folder))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("hf://a/b@refs/pr/3", "b"),
        ("hf://a/b/model.safetensors", "b"),
        ("hf://a/b", "b"),
        ("theirs/model.bin", "theirs"),
    ],
)
def test_a_captioner_is_called_by_its_repository_or_folder(address, name):
    assert published.named(address) == name


@each_kind
def test_maps_of_the_image_are_judged_with_the_class_token_left_in(kind, folder):
    found = read_captioner(str(folder))
    graphdef, parameters = nnx.split(model_of(found))
    areas = make_areas(Untrained(graphdef, found.preprocessing))
    pixels, maps = np.zeros((2, 32, 32, 3), np.uint8), np.random.default_rng(0).random((2, 3, 4, 4))
    tokens = np.asarray([[5, 6, END]] * 2, np.int32)
    memory = jnp.zeros((2, 17, 8))
    retelling = Retelling(None, memory, (4, 4), jnp.asarray(tokens))
    left = np.asarray(retelling.whole(jnp.zeros((2, 16), bool)))
    assert left[:, 0].all()
    assert not left[:, 1:].any()
    np.testing.assert_array_equal(retelling.placed(jnp.arange(17.0)).ravel(), np.arange(1, 17))
    deletion, insertion = areas(nnx.to_pure_dict(parameters), pixels, tokens, maps.astype(np.float32))
    assert deletion.shape == insertion.shape == (2, 3)
    assert np.isfinite(deletion).all()


def test_the_kind_of_data_is_to_be_named(tmp_path, capsys):
    folder = written("blip", tmp_path / "theirs")
    assert published.main([str(folder), str(tmp_path / "ours")]) == 0
    assert evaluate.main([str(tmp_path / "ours"), "--data.path", str(tmp_path)]) == 1
    assert "name the kind of data by --data.source" in capsys.readouterr().err


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


@pytest.mark.usefixtures("ordinary_promotion")
@each_kind
def test_what_is_exported_finds_the_same(kind, folder):
    found = read_captioner(str(folder))
    whole = bundle.Bundle(found.model, found.preprocessing, 8, found.tokenizer, found.parameters, {}, {})
    encode, search = map(jax.jit, export.programs(whole, Generation(beam=3)))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    tokens, _, scores = search(encode(pixels), np.zeros(2, np.uint32))
    for picture, words, score in zip(pixels, np.asarray(tokens)[:, 0], np.asarray(scores)[:, 0], strict=True):
        (expected,) = Captioner(whole).captions([picture], beam=3)[0]
        assert found.tokenizer.decode(words) == expected.text
        assert np.isclose(score, expected.score, rtol=1e-4)
