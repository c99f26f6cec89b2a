"""train.py and sample.py as people run them, mistakes included."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import sample
import train
from captioner_jax import Captioner, __version__, bundle, evaluate
from captioner_jax import __main__ as command
from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError, interruptible
from captioner_jax.text.tokenizer import train_words
from tests.data.making import COLOURS, colour_folder, encoded, picture
from tests.pretrained.making import made
from tests.training.test_beginning import FIRST_STAGE

SMALL = [
    *("--model.width", "32", "--model.heads", "2", "--model.feed-forward", "64", "--model.layers", "1"),
    *("--model.encoder.widths", "16", "32", "--model.encoder.blocks", "0", "1", "--data.image-size", "16"),
    *("--data.max-length", "8", "--train.batch-size", "8", "--train.warmup", "5", "--train.learning-rate", "5e-3"),
    *("--train.matrix-learning-rate", "0.05", "--train.ema-decay", "0.8"),
    *("--train.evaluate-every", "20", "--train.checkpoint-every", "20", "--train.log-every", "10"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("data"), images=60)


def options(folder, runs, name, steps=40):
    where = ["--name", name, "--runs", str(runs), "--data.source", "folder", "--data.path", str(folder)]
    return [*where, *SMALL, "--train.steps", str(steps)]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A whole training run."""
    runs = tmp_path_factory.mktemp("runs")
    with jax.numpy_dtype_promotion("standard"):
        assert train.main([*options(folder, runs, "whole"), "--train.profile", "2"]) == 0
    return runs / "whole"


class StopHereError(Exception):
    """Stands for whatever ends a run before its time."""


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_a_run_leaves_what_people_look_for(run):
    assert {path.name for path in run.iterdir()} == {
        *("captioner", "checkpoints", "config.json", "data.sha256", "metrics.jsonl", "scores.json", "tensorboard")
    }
    scores = json.loads((run / "scores.json").read_text())
    assert scores["test/loss"] < 1.0
    assert scores.items() <= json.loads((run / "captioner" / "captioner.json").read_text())["scores"].items()
    assert f"| test: loss | {scores['test/loss']:.3f} |" in (run / "captioner" / "README.md").read_text()
    assert list((run / "tensorboard").glob("events*"))
    assert list((run / "tensorboard" / "plugins" / "profile").glob("*/*.xplane.pb"))


def test_photographs_get_their_captions(run, tmp_path, capsys):
    for name, colour in COLOURS.items():
        (tmp_path / f"{name} one.png").write_bytes(encoded(picture(colour)))
    assert sample.main(["--captioner", str(run / "captioner"), str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        path, caption = line.rsplit(": ", 1)
        assert path.rsplit("/", 1)[1].split()[0] in caption


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_captioner_of_what_are_no_numbers_is_not_kept(folder, tmp_path, capsys):
    bad = ["--train.learning-rate", "1e38", "--train.warmup", "0", "--train.evaluate-every", "3"]
    assert train.main([*options(folder, tmp_path, "nan"), *bad]) == 1
    assert "loss nan" in capsys.readouterr().err
    assert not (tmp_path / "nan" / "captioner").exists()


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_stopped_run_goes_on_with_the_same_numbers(folder, run, tmp_path, capsys):
    def stop(self, *_):
        if self.step == 30:
            raise StopHereError

    arguments = options(folder, tmp_path, "whole")
    with pytest.MonkeyPatch.context() as patch:
        record = train.Progress.record
        patch.setattr(train.Progress, "record", lambda self, *step, **of: (record(self, *step, **of), stop(self)))
        with pytest.raises(StopHereError):
            train.main(arguments)
    assert train.main(arguments) == 1
    assert "--resume" in capsys.readouterr().err
    assert train.main([*arguments, "--train.seed", "5", "--resume"]) == 1
    assert "train.seed: 0 then, 5 now" in capsys.readouterr().err
    assert train.main([*arguments, "--resume"]) == 0
    undisturbed = dict(losses(run))
    resumed = dict(losses(tmp_path / "whole"))
    assert resumed[40] == undisturbed[40]
    assert (tmp_path / "whole" / "scores.json").read_text() == (run / "scores.json").read_text()


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_run_that_has_more_steps_than_are_asked_for_is_at_its_end(folder, run, tmp_path, monkeypatch):
    def more(*_):
        raise StopHereError

    monkeypatch.setattr(train.Progress, "record", more)
    shutil.copytree(run, tmp_path / "whole")
    assert train.main([*options(folder, tmp_path, "whole", steps=20), "--resume", "--allow-changes"]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--data.path", "/none/here"], "/none/here: no such folder"),
        (["--train.batch-size", "500"], "do not fill a batch"),
        (["--model.heads", "3"], "does not divide into 3 heads"),
        (["--model.encoder.widths", "20", "32"], "groups of 16"),
        (["--data.image-size", "18"], "does not divide"),
        (["--model.width", "30", "--model.heads", "3"], "30 is no multiple of 4"),
        (["--model.encoder.kind", "vgg11", "--data.image-size", "12"], "too small for this encoder"),
        (["--evaluation.images", "1", "--evaluation.best", "cider_d"], "there is 1 validation image to judge by"),
        (["--resume"], "no checkpoint to resume from"),
        (["--evaluation.best", "true"], "evaluation.best"),
        (["--train.learning-rate", "-1"], "train.learning_rate"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(folder, tmp_path, capsys, changes, message):
    assert train.main([*options(folder, tmp_path, "failed"), *changes]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "failed").exists()


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_captioner_trains_on_from_where_another_ended(folder, run, tmp_path, capsys):
    start = [
        "--train.start",
        str(run / "captioner"),
        "--train.objective",
        "self_critical",
        "--evaluation.best",
        "cider_d",
    ]
    arguments = [*options(folder, tmp_path, "critical", steps=20), *start, "--self-critical.cross-entropy", "0.1"]
    assert train.main([*arguments, "--model.width", "16"]) == 1
    assert "model.width: 32 then, 16 now" in capsys.readouterr().err
    assert train.main([*arguments, "--train.learning-rate", "1e-4", "--train.matrix-learning-rate", "1e-4"]) == 0
    assert "convnet as" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "critical" / "metrics.jsonl").read_text().splitlines()]
    assert next(line["reward"] for line in lines if "reward" in line) > 1
    began, ended = bundle.load(run / "captioner"), bundle.load(tmp_path / "critical" / "captioner")
    assert began.tokenizer.to_json() == ended.tokenizer.to_json()
    assert lines[0]["step"] == 0
    assert lines[0]["validation/loss"] == pytest.approx(began.scores["validation/loss"], rel=1e-5)
    assert ended.scores["validation/cider_d"] == max(line.get("validation/cider_d", 0) for line in lines)


def test_a_captioner_is_scored_and_its_files_can_be_scored_again(folder, run, tmp_path, capsys):
    where = ["--data.path", str(folder), "--output", str(tmp_path), "--beam", "2"]
    assert evaluate.main([str(run / "captioner"), *where]) == 0
    table = capsys.readouterr().out
    assert "CIDEr-D" in table
    assert "search:beam2" in table
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["scores"]["bleu_1"]["estimate"] > 0.5
    assert scores["diagnostics"]["copied"] > 0.5
    files = [str(tmp_path / "captions.json"), str(tmp_path / "references.json")]
    assert evaluate.main(["score", *files, "--output", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["scores"] == scores["scores"]


def test_an_ensemble_of_one_captioner_twice_scores_as_it_does_alone(folder, run, tmp_path):
    captioner, where = str(run / "captioner"), ["--data.path", str(folder), "--beam", "2"]
    assert evaluate.main([captioner, *where, "--output", str(tmp_path / "alone")]) == 0
    assert evaluate.main([captioner, "--ensemble", captioner, *where, "--output", str(tmp_path / "twice")]) == 0
    alone, twice = (json.loads((tmp_path / of / "scores.json").read_text()) for of in ("alone", "twice"))
    assert alone["scores"] == twice["scores"]
    assert alone["split"]["loss"] == pytest.approx(twice["split"]["loss"], rel=1e-5)


def test_mistakes_in_scoring_are_said(folder, run, tmp_path, capsys):
    captioner = [str(run / "captioner"), "--data.path", str(folder)]
    assert evaluate.main([*captioner, "--split", "exam"]) == 1
    assert "there are train, validation, test" in capsys.readouterr().err
    (tmp_path / "c.json").write_text('[{"image_id": 7, "caption": "a dog"}]')
    (tmp_path / "r.json").write_text('{"annotations": [{"image_id": 8, "caption": "a dog"}]}')
    assert evaluate.main(["score", str(tmp_path / "c.json"), str(tmp_path / "r.json")]) == 1
    assert "no captions of 1 images" in capsys.readouterr().err
    for incomplete in ([], ["--split", "test"]):
        assert evaluate.main(incomplete) == 1
        assert "name a captioner before all options" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path / "nobody")]) == 1
    assert "is no captioner" in capsys.readouterr().err


@pytest.fixture
def weights(tmp_path):
    """Published ones of a small encoder."""
    file = tmp_path / "vgg11.safetensors"
    safetensors.numpy.save_file({name: made(name, shape) for name, shape in FIRST_STAGE.items()}, file)
    return file


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_teacher_is_needed_only_to_learn_from(folder, tmp_path, weights, capsys):
    teacher = ["--teacher.encoder.kind", "vgg11", "--teacher.encoder.ends-after", "1", "--teacher.image-size", "2"]
    teacher += ["--teacher.encoder.weights", str(weights), "--teacher.features", str(tmp_path / "lessons")]
    teacher += ["--teacher.views", "2", "--teacher.weight", "3", "--data.crop", "0.5", "--data.flip"]
    arguments = [*options(folder, tmp_path / "runs", "taught"), *teacher]
    assert train.main([*arguments, "--data.jitter", "0.1", "--data.workers", "1"]) == 0
    told = capsys.readouterr().out
    assert "its teacher: vgg11 with the weights of" in told
    assert "imitation" in told
    run = tmp_path / "runs" / "taught"
    card = json.loads((run / "captioner" / "captioner.json").read_text())
    assert card["training"]["teacher"] == "vgg11"
    assert str(tmp_path) not in json.dumps(card)
    assert "beside a teacher, vgg11" in (run / "captioner" / "README.md").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "imitation" in line]
    assert lines[-1]["imitation"] < lines[0]["imitation"]
    for line in lines:
        assert line["loss"] == pytest.approx(line["own_loss"] + 3 * line["imitation"], rel=1e-5)
    weights.unlink()
    shutil.rmtree(tmp_path / "lessons")
    assert sample.main([str(folder / "000.jpg"), "--captioner", str(run / "captioner")]) == 0
    assert "red" in capsys.readouterr().out
    assert train.main([*arguments, "--name", "again"]) == 1
    assert f"teacher: {weights}" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "again").exists()


@pytest.mark.usefixtures("ordinary_promotion")
def test_published_weights_need_be_there_only_to_begin_with(folder, tmp_path, weights, capsys):
    """Frozen, seen in two views, trained on kept features; then captioning without the file and the features."""
    encoder = ["--model.encoder.kind", "vgg11", "--model.encoder.ends-after", "1"]
    encoder += ["--model.encoder.weights", str(weights), "--train.encoder-frozen"]
    features = ["--data.features", str(tmp_path / "features"), "--data.views", "2", "--data.flip"]
    arguments = [*options(folder, tmp_path / "runs", "published"), *encoder, *features]
    with jax.numpy_dtype_promotion("standard"):
        assert train.main([*arguments, "--data.workers", "1"]) == 0
    assert "vgg11 with the weights of" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "features")
    weights.unlink()
    captioner = tmp_path / "runs" / "published" / "captioner"
    card = (captioner / "captioner.json").read_text()
    assert str(tmp_path) not in card
    assert sample.main([str(folder / "000.jpg"), "--captioner", str(captioner)]) == 0
    assert "red" in capsys.readouterr().out
    with jax.numpy_dtype_promotion("standard"):
        assert train.main([*arguments, "--name", "again"]) == 1
    assert "vgg11.safetensors: No such file" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "again").exists()


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_run_without_progress_stops_and_stays_stopped(folder, tmp_path, capsys):
    lazy = ["--train.learning-rate", "1e-30", "--train.matrix-learning-rate", "None", "--train.patience", "2"]
    arguments = [*options(folder, tmp_path, "lazy", steps=200), *lazy]
    assert train.main(arguments) == 0
    assert [step for step, _ in losses(tmp_path / "lazy")][-1] == 60
    assert "without a better captioner" in capsys.readouterr().out
    assert train.main([*arguments, "--resume"]) == 0
    assert [step for step, _ in losses(tmp_path / "lazy")][-1] == 60


def test_bad_files_are_named_and_the_others_captioned(run, tmp_path, capsys):
    (tmp_path / "good.png").write_bytes(encoded(picture()))
    (tmp_path / "cut.jpg").write_bytes(encoded(picture(size=(200, 200)), "JPEG")[:300])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.gif").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("folders may hold other things")
    code = sample.main(["--captioner", str(run / "captioner"), str(tmp_path), str(tmp_path / "gone.jpg")])
    out, err = capsys.readouterr()
    assert code == 1
    assert len(out.splitlines()) == 1
    assert [line.split(": ")[0].rsplit("/", 1)[-1] for line in err.splitlines()[:4]] == [
        *("cut.jpg", "empty.gif", "text.jpg", "gone.jpg")
    ]
    assert "4 of 5 pictures" in err


def test_patterns_json_and_beams(run, tmp_path, capsys):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture()))
    code = sample.main(
        ["--captioner", str(run / "captioner"), str(tmp_path / "*.png"), "--format", "jsonl", "--beam", "3"]
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert [row["image"][-5:] for row in rows] == ["0.png", "1.png", "2.png"]
    assert len({row["caption"] for row in rows}) == 1
    assert all(row["score"] <= 0 for row in rows)


def test_another_seed_compiles_nothing_anew(run, folder):
    captioner = Captioner.load(run / "captioner")
    image = folder / "000.jpg"
    drawn = [captioner.caption(image, temperature=9.0, seed=seed) for seed in (0, 1, 2)]
    assert captioner._writer.cache_info().currsize == 1
    assert len(set(map(tuple, drawn))) > 1


def test_wider_beams_find_likelier_captions(run, folder):
    captioner = Captioner.load(run / "captioner")
    images = sorted(folder.glob("*.jpg"))[:16]
    means = []
    for beam in (1, 2, 4, 8):
        found = captioner.captions(images, beam=beam, length_alpha=0.0, good_ending=False)
        means.append(np.mean([captions[0].log_p for captions in found]))
    assert all(wider >= narrower - 1e-4 for narrower, wider in itertools.pairwise(means))


def test_pictures_of_every_form_get_the_same_caption(run, folder, tmp_path):
    """And what is no use is named; many batches come out in order."""
    captioner = Captioner.load(run / "captioner")
    file = folder / "000.jpg"
    image = Image.open(file)
    forms = [str(file), file, file.read_bytes(), image, np.asarray(image.convert("RGB"))]
    captions = captioner.caption(forms * 7, beam=2)
    assert len(captions) == 35
    assert len(set(captions)) == 1
    assert captioner.caption(file, beam=2) == captions[:1]
    three = captioner.captions([image], beam=4, num_captions=3)[0]
    assert [c.score for c in three] == sorted((c.score for c in three), reverse=True)
    for bad, message in (
        (np.zeros((4, 4), np.float32), "picture 1: wanted uint8"),
        (np.zeros((0, 4), np.uint8), "picture 1: an array of no pixels"),
        (np.zeros((2, 4, 4, 3), np.uint8), "picture 1: wanted uint8 .*; of several pictures pass a list"),
        (Image.new("RGB", (0, 5)), "picture 1: an image of no pixels"),
        (tmp_path / "no", "No such file"),
    ):
        with pytest.raises(ImageError, match=message):
            captioner.caption([image, bad])
    with pytest.raises(UserError, match="unknown key bean; did you mean beam"):
        captioner.caption(image, bean=2)
    assert captioner.captions([]) == []


def test_an_ensemble_of_one_captioner_twice_writes_as_it_does_alone(run, folder, tmp_path, capsys):
    images = sorted(folder.glob("*.jpg"))[:5]
    alone = Captioner.load(run / "captioner").captions(images, beam=3)
    twice = Captioner.load(run / "captioner", run / "captioner").captions(images, beam=3)
    assert [c[0].text for c in twice] == [c[0].text for c in alone]
    np.testing.assert_allclose([c[0].log_p for c in twice], [c[0].log_p for c in alone], rtol=1e-4, atol=1e-5)
    directories = ["--captioner", str(run / "captioner")] * 2
    assert sample.main([str(images[0]), *directories, "--beam", "3"]) == 0
    assert capsys.readouterr().out == f"{images[0]}: {alone[0][0].text}\n"


def test_a_caption_explained_is_the_caption_with_its_probability_and_looks_that_sum_to_one(run, folder):
    captioner = Captioner.load(run / "captioner")
    image = min(folder.glob("*.jpg"))
    told = captioner.explain(image, beam=3)
    assert told.caption == captioner.captions(image, beam=3)[0][0]
    assert " ".join(told.tokens) == f"{told.caption.text} <end>"
    np.testing.assert_allclose(np.log(told.probabilities).sum(), told.caption.log_p, rtol=1e-4)
    assert told.looks.shape == (1, 2, len(told.tokens), 2, 2)
    np.testing.assert_allclose(told.looks.sum((-1, -2)), 1, rtol=1e-4)


def test_a_sheet_and_a_page_show_how_a_caption_came_about(run, folder, tmp_path, capsys):
    image, sheet, page = min(folder.glob("*.jpg")), tmp_path / "looks.png", tmp_path / "page.html"
    asked = [str(image), "--captioner", str(run / "captioner"), "--attention", str(sheet), "--explore", str(page)]
    assert sample.main(asked) == 0
    caption = Captioner.load(run / "captioner").caption(image)[0]
    assert capsys.readouterr().out == f"{image}: {caption}\n"
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG"
    assert json.dumps(caption) in page.read_text()
    assert sample.main(asked) == 1
    assert f"{sheet} is there already; --force writes it anew" in capsys.readouterr().err
    assert sample.main([*asked, "--force", "--top-p", "0.9"]) == 0  # drawn, so without a search
    assert sample.main([str(folder / "captions.jsonl"), *asked[1:], "--force"]) == 1
    assert "captions.jsonl: not an image" in capsys.readouterr().err
    assert sample.main([str(folder), *asked[1:], "--force"]) == 1
    assert "--attention and --explore show one image, and there are more in" in capsys.readouterr().err
    assert sample.main([*asked[:-1], str(tmp_path / "no" / "page.html"), "--force"]) == 1
    assert f"error: {tmp_path}/no/page.html: No such file" in capsys.readouterr().err


def test_what_cannot_be_explained_is_refused(run, folder):
    image = min(folder.glob("*.jpg"))
    with pytest.raises(UserError, match="an ensemble cannot be explained"):
        Captioner.load(run / "captioner", run / "captioner").explain(image)
    with pytest.raises(ImageError):
        Captioner.load(run / "captioner").explain(b"no picture")
    with pytest.raises(UserError, match="settings"):
        Captioner.load(run / "captioner").explain(image, bean=5)


def test_captioners_that_do_not_go_together_are_refused(run):
    one = bundle.load(run / "captioner")
    other_words = dataclasses.replace(one, tokenizer=train_words(["a red dog"], 1))
    larger = dataclasses.replace(one, preprocessing=dataclasses.replace(one.preprocessing, image_size=32))
    with pytest.raises(UserError, match="need the same vocabulary"):
        Captioner(one, other_words)
    with pytest.raises(UserError, match="need images of the same size"):
        Captioner(one, larger)
    assert Captioner(one, dataclasses.replace(one, max_length=5)).max_length == 5


def test_what_is_drawn_of_a_picture_does_not_depend_on_the_others(run, folder):
    captioner = Captioner.load(run / "captioner")
    images = sorted(folder.glob("*.jpg"))[:20]
    asked = {"temperature": 3.0, "seed": 4}
    together = captioner.caption(images, **asked)
    assert len(set(together)) > 10
    assert captioner.caption(images[::-1], **asked) == together[::-1]


def test_captions_are_drawn_by_a_seed(run, folder, capsys):
    def drawn(seed):
        draws = ["--temperature", "2", "--num-captions", "2", "--seed", seed]
        assert sample.main([str(folder / "000.jpg"), "--captioner", str(run / "captioner"), *draws]) == 0
        return capsys.readouterr().out

    assert drawn("0") == drawn("0") != drawn("1")
    assert len(set(drawn("0").splitlines())) == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--beam", "0"], "command line: beam = 0: input should be greater than 0"),
        (["--prefix", "a zebra"], "prefix: the captioner's vocabulary"),
        (["--groups", "2"], "does not divide"),
    ],
)
def test_captions_that_cannot_be_had_are_refused(asked, message, run, folder, capsys):
    assert sample.main([str(folder / "000.jpg"), "--captioner", str(run / "captioner"), *asked]) == 1
    assert message in capsys.readouterr().err


def test_an_empty_folder_is_said(run, tmp_path, capsys):
    assert sample.main(["--captioner", str(run / "captioner"), str(tmp_path)]) == 1
    assert "no images" in capsys.readouterr().err


def test_a_missing_captioner_is_said(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    assert sample.main(["--captioner", str(tmp_path), str(tmp_path / "a.png")]) == 1
    assert "is no captioner" in capsys.readouterr().err


@pytest.mark.slow
def test_a_captioner_needs_nothing_but_itself(run, tmp_path, pytestconfig):
    """Run as a program, from elsewhere, with the directory moved: no TensorFlow, no traceback, exit codes."""
    shutil.copytree(run / "captioner", tmp_path / "mine")
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    program = [sys.executable, str(pytestconfig.rootpath / "sample.py"), "--captioner", "mine"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    good = subprocess.run([*program, "a.png"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (good.returncode, good.stdout.split(":")[0]) == (0, "a.png"), good.stderr
    bad = subprocess.run([*program, "b.png"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (bad.returncode, bad.stderr.strip()) == (1, "b.png: No such file or directory")


@pytest.mark.slow
def test_the_default_trains_without_tensorflow(tmp_path, pytestconfig):
    """A few steps on the drawn scenes, from nothing: prepared, trained, scored, with worker processes."""
    code = """
import sys
import train
from captioner_jax.data.shapes import builder

if __name__ == "__main__":
    builder.SPLITS.update({name: (40, held_out) for name, (_, held_out) in builder.SPLITS.items()})
    code = train.main(sys.argv[1:])
    assert "tensorflow" not in sys.modules
    sys.exit(code)
"""
    (tmp_path / "program.py").write_text(code)
    short = ["--train.steps", "4", "--evaluation.images", "10", "--data.workers", "2", "--train.warmup", "1"]
    where = ["--runs", str(tmp_path / "runs"), "--data.data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), *where, *short],
        env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "test_held_out" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["sample.py", "train.py"])
def test_ctrl_c_while_a_program_is_imported_ends_it_without_a_traceback(program, tmp_path, pytestconfig):
    """A library in whose import it comes, and which makes something else of the exception, as some do."""
    (tmp_path / "jax.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('broken')\n"
    )
    as_in_a_terminal = (  # what a shell runs in the background ignores Ctrl-C
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", as_in_a_terminal, str(pytestconfig.rootpath / program)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(pytestconfig.rootpath)])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(("option", "told"), [("--help", "captioner-jax train [RECIPE]"), ("--version", __version__)])
def test_the_command_tells_what_it_is(option, told, capsys):
    assert command.main([option]) == 0
    assert told in capsys.readouterr().out


def test_recipes_of_ours_are_found_by_the_names_that_documents_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = str(train.CONFIGS / "shapes.toml")
    assert train.with_recipe(["configs/shapes.toml", "--plan", "x"]) == [ours, "--plan", "x"]
    assert train.with_recipe(["shapes.toml"]) == [ours]
    assert train.with_recipe(["configs/none.toml"]) == ["configs/none.toml"]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "shapes.toml").touch()
    assert train.with_recipe(["configs/shapes.toml"]) == ["configs/shapes.toml"]


@pytest.mark.parametrize(
    ("ends", "waits", "code"),
    [("raise KeyboardInterrupt", True, 130), ("raise BrokenPipeError", True, 141), ("return 1", False, 1)],
)
def test_who_leaves_off_waits_for_no_thread(ends, waits, code, pytestconfig):
    """Such as one that reads a picture from where none comes."""
    program = (
        "import os\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from captioner_jax.errors import for_people, leave\n"
        "@for_people\n"
        "def main(arguments):\n"
        "    print('told before', flush=False)\n"
        "    ThreadPoolExecutor().submit(os.read, os.pipe()[0], 1)\n"
        f"    {ends}\n"
        f"leave(main([]), waits={waits})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert code == 141 or done.stdout == "told before\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_terminated_clears_away_what_was_begun(number, pytestconfig):
    program = (
        "import os, signal\n"
        "from captioner_jax.errors import for_people, leave, terminable\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # whatever these tests are run by
        "@for_people\n"
        "def main(arguments):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "    finally:\n"
        "        print('cleared')\n"
        "terminable()\n"
        "leave(main([]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "cleared\n", "")


def test_a_second_signal_does_not_cut_short_what_is_cleared_away(pytestconfig):
    """As SIGHUP after SIGTERM; but one that comes long after ends what did not heed the first."""
    program = (
        "import os, signal\n"
        "from captioner_jax import errors\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "errors.terminable()\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "except errors.TerminatedError:\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    print('cleared', flush=True)\n"
        "errors.GRACE = 0\n"
        "signal.raise_signal(signal.SIGHUP)\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (129, "cleared\n", "")


def test_messages_stay_out_of_what_is_asked_for_where_they_have_no_place():
    """As where the shell has closed standard error."""
    program = (
        "import sys\n"
        "from captioner_jax.errors import for_people\n"
        "@for_people\n"
        "def main(arguments):\n"
        "    print('told', file=sys.stderr)\n"
        "    return 0\n"
        "sys.exit(main([]))\n"
    )
    command = f'"{sys.executable}" -c "$PROGRAM" 2>&-'
    done = subprocess.run(command, shell=True, env=os.environ | {"PROGRAM": program}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_ctrl_c_stays_ignored_where_it_is():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interruptible()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
