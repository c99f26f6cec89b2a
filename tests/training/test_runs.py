"""What a run is asked for reaches its steps, its scores and what it leaves; a few steps each."""

import dataclasses
import gc
import itertools
import json
import os
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

import train
from captioner_jax import bundle
from captioner_jax.config import Config, EvaluationConfig, TrainConfig
from captioner_jax.errors import UserError
from captioner_jax.evaluation.split import Scores
from captioner_jax.text.tokenizer import train_words
from captioner_jax.training import looking
from captioner_jax.training.examiner import check_best, worth
from captioner_jax.training.optimizer import schedule
from captioner_jax.training.step import CrossEntropy
from tests.data.making import colour_folder
from tests.pretrained.making import made
from tests.test_programs import options
from tests.training.test_beginning import FIRST_STAGE
from tests.training.test_self_critical import Captions

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
FROZEN = ["--model.encoder.kind", "vgg11", "--model.encoder.weights", "there", "--train.encoder-frozen"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("data"), images=60)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def leaves(tree):
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    return {name(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def state_of(run, step):
    handlers = {"state": ocp.StandardCheckpointHandler()}
    with ocp.CheckpointManager(run / "checkpoints", item_handlers=handlers) as manager:
        return manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]


def test_settings_reach_steps_scores_and_checkpoints(folder, tmp_path, monkeypatch):
    learns, beams, images, make_steps = [], [], [], train.train_steps

    def noting(*about):
        note = lambda number, step: lambda *of: learns.append(number) or step(*of)
        return [note(number, step) for number, step in enumerate(make_steps(*about))]

    class Examiner(train.Examiner):
        def __init__(self, config, graphdef, preprocessing, tokenizer, of_beam=1, history=None):
            beams.append(of_beam)
            super().__init__(config, graphdef, preprocessing, tokenizer, of_beam, history)

        def score(self, splits, parameters, most, views=None, **others):
            images.append(most)
            return super().score(splits, parameters, most, views, **others)

    monkeypatch.setattr(train, "train_steps", noting)
    monkeypatch.setattr(train, "Examiner", Examiner)
    asked = ["--train.encoder-from", "3", "--evaluation.beams", "3", "--evaluation.images", "4"]
    assert train.main([*options(folder, tmp_path, "short", steps=5), *asked, "--train.log-every", "2"]) == 0
    assert learns == [0, 0, 0, 1, 1]
    assert beams == [1, 3]  # greedy on the way, and what was asked for on the test images, which are all looked at
    assert images == [4, None]
    run = tmp_path / "short"
    assert [path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit()] == ["5"]
    rate = schedule(TrainConfig(steps=5, warmup=5), 5e-3)
    told = {line["step"]: line["learning_rate"] for line in metrics(run) if "learning_rate" in line}
    assert told == {step: pytest.approx(float(rate(step - 1))) for step in (2, 4, 5)}
    average = leaves(state_of(run, 5)["average"])
    for name, kept in leaves(bundle.load(run / "captioner").parameters).items():
        np.testing.assert_array_equal(kept, average[name], err_msg=name)


def test_a_run_that_goes_on_ends_in_the_very_state(folder, tmp_path, monkeypatch):
    """The average of weights and the optimizer, too, of which losses tell nothing; with no other in memory."""
    states, before, held, record = [], [], [], train.Progress.record

    def in_memory():
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays() if array.ndim == 2 and not array.is_deleted())

    def noting(progress, *about, **more):
        record(progress, *about, **more)
        if progress.step == 5:  # while none is being written into a checkpoint
            held.append(in_memory() - before.pop())

    monkeypatch.setattr(train.Progress, "record", noting)
    for name, first in (("one", None), ("two", 3)):
        arguments = options(folder, tmp_path, name, steps=6)
        if first is not None:
            stopped = pytest.MonkeyPatch()
            asked = itertools.count(1)
            stopped.setattr(train.Preemption, "asked", lambda self, asked=asked, first=first: next(asked) == first)
            assert train.main(arguments) == train.RESTART
            stopped.undo()
            arguments += ["--resume"]
        before.append(in_memory())
        assert train.main(arguments) == 0
        states.append(leaves(state_of(tmp_path / name, 6)))
    assert held[1] <= held[0]
    assert states[0].keys() == states[1].keys()
    for name, one in states[0].items():
        np.testing.assert_array_equal(states[1][name], one, err_msg=name)


def scores(run):
    """What a run told of its captions on validation images, as often as it did."""
    lines = [line for line in metrics(run) if "validation/loss" in line]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def test_a_sigterm_while_captions_are_scored_leaves_that_to_the_resumed_run(folder, tmp_path, monkeypatch):
    """At what is to be beaten, after the second step and after the last."""
    assert train.main(options(folder, tmp_path, "begun", steps=1)) == 0
    score, codes, calls = train.Examiner.score, [], itertools.count(1)

    def terminated(examiner, *about, check=None, **others):
        if check is not None and next(calls) % 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(examiner, *about, **others, **({"check": check} if check else {}))

    def arguments(name):
        start = ["--train.start", str(tmp_path / "begun" / "captioner"), "--train.encoder-from", "0"]
        often = ["--train.evaluate-every", "2", "--train.log-every", "1", "--begin-or-resume"]
        return [*options(folder, tmp_path, name, steps=4), *start, *often]

    assert train.main(arguments("one")) == 0
    monkeypatch.setattr(train.Examiner, "score", terminated)
    while not codes or codes[-1] == train.RESTART:
        codes.append(train.main(arguments("two")))
    assert codes == [train.RESTART] * 3 + [0]
    assert [line["step"] for line in scores(tmp_path / "one")] == [0, 2, 4]
    assert scores(tmp_path / "two") == scores(tmp_path / "one")
    one, two = (tmp_path / name / "captioner" for name in ("one", "two"))
    assert (two / "weights.safetensors").read_bytes() == (one / "weights.safetensors").read_bytes()
    assert bundle.load(two).training["step"] == bundle.load(one).training["step"]


def test_the_best_is_kept_and_not_the_newest(folder, tmp_path, monkeypatch):
    worths = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(looking, "worth", lambda *_: next(worths))
    assert train.main([*options(folder, tmp_path, "best", steps=3), "--train.evaluate-every", "1"]) == 0
    assert bundle.load(tmp_path / "best" / "captioner").training["step"] == 2


@pytest.fixture
def weights(tmp_path):
    shapes = FIRST_STAGE | {"features.3.weight": (128, 64, 3, 3), "features.3.bias": (128,)}
    safetensors.numpy.save_file(
        {name: made(name, shape) for name, shape in shapes.items()}, tmp_path / "vgg11.safetensors"
    )
    return tmp_path / "vgg11.safetensors"


def test_stages_stay_and_views_are_as_many_as_asked(folder, tmp_path, weights):
    encoder = ["--model.encoder.kind", "vgg11", "--model.encoder.ends-after", "2", "--model.encoder.frozen-stages", "1"]
    encoder += ["--model.encoder.weights", str(weights)]
    features = ["--data.features", str(tmp_path / "features"), "--data.views", "3", "--data.flip"]
    assert train.main([*options(folder, tmp_path / "runs", "cut", steps=3), *encoder, *features]) == 0
    for split, views in (("train", 3), ("validation", 1)):
        assert json.loads((tmp_path / "features" / split / "made_from.json").read_text())["views"] == views


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--data.views", "2"], "data.views are kept in a folder"),
        (
            [*FROZEN, "--data.views", "2", "--data.features", "there"],
            "data.views: all would be alike",
        ),
        (["--model.heads", "3"], "does not divide into 3 heads"),
        (["--devices.data", "64"], "are more than the"),
        (
            ["--model.encoder.kind", "vgg11", "--model.encoder.weights", "/none/here.pth"],
            "/none/here.pth: No such file",
        ),
        (["--train.start", "/none/here"], "/none/here"),
        (["--teacher.features", "there", "--teacher.encoder.kind", "vgg11"], "they must be as many"),
    ],
)
def test_what_cannot_be_trained_is_said_before_data_are_read(changes, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delattr(train, "load")
    assert train.main([*options(folder, tmp_path, "failed"), *changes]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_image_to_be_scored_needs_a_caption(split, folder, tmp_path, monkeypatch, capsys):
    load = train.load
    bare = {split: {split: Captions([["a red square"], []])}}
    monkeypatch.setattr(train, "load", lambda config: dataclasses.replace(load(config), **bare))
    assert train.main(options(folder, tmp_path, "failed")) == 1
    assert f"1 ({split}) has no captions" in capsys.readouterr().err


def test_settings_reach_the_objective():
    smoothed = TrainConfig(label_smoothing=0.1)
    captions, tokenizer = Captions([["a dog"], ["a cat"]]), train_words(["a dog", "a cat"], 1)
    assert train.objective(Config(train=smoothed), captions, tokenizer) == CrossEntropy(0.1)
    critical = Config(train=dataclasses.replace(smoothed, objective="self_critical", start="there"))
    assert train.objective(critical, captions, tokenizer).people == CrossEntropy(0.1)


def test_less_loss_is_worth_more_and_more_cider_d_is():
    one, other = (Scores({"loss": x, "cider_d": x}, []) for x in (1.0, 2.0))
    assert worth(one, "loss") > worth(other, "loss")
    assert worth(one, "cider_d") < worth(other, "cider_d")


def test_one_validation_image_cannot_tell_which_is_best():
    with pytest.raises(UserError, match="1 validation image"):
        check_best(Captions([["a"]]), EvaluationConfig())
    check_best(Captions([["a"], ["b"]]), EvaluationConfig())
