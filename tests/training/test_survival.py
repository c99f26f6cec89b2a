"""Runs that are ended from without, and go on as if nothing had been."""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import pty
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

import train
from captioner_jax.config import Config, EvaluationConfig, ModelConfig, Resumption, TrainConfig
from captioner_jax.errors import UserError
from captioner_jax.text.tokenizer import train_words
from captioner_jax.training.alone import alone
from captioner_jax.training.checkpoints import Checkpoints, check_run, mark_of, shapes_of
from captioner_jax.training.events import Events
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.progress import Progress
from captioner_jax.training.step import first_state
from tests.training.running import STEPS, bit_for_bit, near

KILLS = 20
# What standard input is becomes the terminal of what follows, whose going away nobody has it ignore.
AT_TERMINAL = (
    "import fcntl, os, signal, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)


@pytest.mark.slow
def test_a_sigterm_ends_a_run_after_a_checkpoint_and_it_goes_on(runs, undisturbed):
    run = runs.start("terminated", "--begin-or-resume", "--train.checkpoint-every", "1000")
    run.until(lambda: runs.losses("terminated"))
    run.process.terminate()
    code, _, err = run.ended()
    assert code == train.RESTART
    assert "go on with --resume" in err
    assert "Traceback" not in err
    (step,) = runs.checkpoints("terminated")
    assert step < STEPS
    code, _, err = runs.start("terminated", "--begin-or-resume").ended()
    assert code == 0, err
    bit_for_bit(runs.losses("terminated"), undisturbed)


@pytest.mark.slow
def test_a_terminal_that_goes_away_ends_a_run_after_a_checkpoint(runs):
    """Of which nothing is ignored, as nohup would, and into which it would go on to write."""
    terminal, end = pty.openpty()
    arguments = ["--name", "hung_up", *runs.options, "--train.steps", "100000", "--train.checkpoint-every", "100000"]
    run = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, sys.executable, train.__file__, "configs/shapes.toml", *arguments],
        cwd=Path(train.__file__).parent,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    said = b""
    while b"step      3/" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    assert run.wait(60) == train.RESTART
    (step,) = runs.checkpoints("hung_up")
    assert step >= 3


@pytest.mark.slow
def test_a_sigterm_before_the_first_step_asks_to_be_started_again_too(runs):
    run = runs.start("early")
    run.until(lambda: (runs.folder / "early" / "config.json").exists())  # the first step is still to be compiled
    run.process.terminate()
    code, _, err = run.ended()
    assert code == train.RESTART
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute alone; where others load the machine, more
def test_kills_at_any_moment_change_no_loss(runs, undisturbed):
    """Every fourth in the middle of writing a checkpoint; the others soon after a step that comes later each time."""
    chance, halves = random.Random(0), 0
    for kill in range(KILLS):
        run = runs.start("killed", "--begin-or-resume", "--train.checkpoint-every", "2")
        if kill % 4 == 1:
            run.until(lambda: not runs.is_saving("killed"))  # what the kill before has left is cleared away
            run.until(lambda: runs.is_saving("killed"))
        else:
            told = (kill + 1) * (STEPS - 5) // KILLS
            run.until(lambda told=told: max(runs.losses("killed"), default=0) >= told)
            time.sleep(chance.uniform(0, 0.05))
        run.kill()
        halves += runs.is_saving("killed")
    assert halves >= 1
    code, _, err = runs.start("killed", "--begin-or-resume").ended()
    assert code == 0, err
    bit_for_bit(runs.losses("killed"), undisturbed)
    assert not runs.is_saving("killed")


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(runs, undisturbed):
    """No file may grow any more: what is in the way of a disk that is full, and needs no such disk."""
    run = runs.start("full", "--train.checkpoint-every", "5")
    run.until(lambda: runs.checkpoints("full"))
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    code, _, err = run.ended()
    assert code == 1
    assert "a checkpoint cannot be written: File too large" in err
    assert "Traceback" not in err
    code, _, err = runs.start("full", "--resume").ended()
    assert code == 0, err
    bit_for_bit(runs.losses("full"), undisturbed)


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_in_another_form(runs, undisturbed):
    run = runs.start("moved", "--devices.fsdp", "--devices.model", "2", devices=4)
    run.until(lambda: 20 in runs.checkpoints("moved"))
    run.kill()
    code, out, err = runs.start("moved", "--resume", "--devices.parallel", "pmap", devices=2).ended()
    assert code == 0, err
    assert "cpu: 2 devices by pmap" in out
    near(runs.losses("moved"), undisturbed)


def state(step, train=TrainConfig()):  # noqa: B008
    parameters = {"decoder": {"kernel": jnp.full((2, 2), float(step))}}
    return dataclasses.replace(first_state(parameters, make_optimizer(train), train), step=jnp.asarray(step))


def test_the_newest_and_every_so_manieth_checkpoint_are_kept(tmp_path):
    config = Config(runs=str(tmp_path), train=TrainConfig(keep_checkpoints=2, keep_every=4))
    with Checkpoints(config) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(state(step))
    with Checkpoints(config) as checkpoints:
        assert list(checkpoints.manager.all_steps()) == [4, 6, 7]
        assert float(checkpoints.restore(shapes_of(state(0))).parameters["decoder"]["kernel"][0, 0]) == 7


@pytest.mark.parametrize("name", ["", "  ", ".", "./", "../other", "/other"])
def test_a_run_has_a_folder_within_the_others(name):
    with pytest.raises(UserError, match="is no folder within runs"):
        check_run(Config(name=name), Resumption())


def test_a_run_that_has_come_farther_than_it_is_to_go_says_so(tmp_path, capsys):
    config = Config(runs=str(tmp_path), train=TrainConfig(steps=5))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(5))
    check_run(config, Resumption(resume=True))
    fewer = dataclasses.replace(config, train=TrainConfig(steps=4))
    check_run(fewer, Resumption(resume=True, allow_changes=True))
    assert "has come to step 5, past train.steps 4: it is only scored" in capsys.readouterr().out


HOLDS = """
import sys, time
from pathlib import Path
from captioner_jax.training.alone import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_process_does_not_train_into_the_same_folder(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process trains there"), alone(tmp_path):
        pass
    other.kill()
    other.wait()
    other.stdout.close()
    with alone(tmp_path):  # the lock has gone with its process
        pass
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def files_end_at(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_run_tells_and_cannot_write_is_an_error_in_words_and_nothing_waits_for_it(tmp_path):
    numbers = {f"loss/{i}": 1.0 for i in range(100)}
    with (
        files_end_at(1000),
        pytest.raises(UserError, match=r"cannot be written: File too large\. Make room"),
        Progress(tmp_path, 0, 10, 8) as progress,
    ):
        progress.write(numbers)


def test_so_are_events_for_tensorboard_alone(tmp_path):
    with files_end_at(1000):
        events = Events(tmp_path / "tensorboard", 0)
        with pytest.raises(UserError, match=r"tensorboard: cannot be written: File too large\. Make room"):
            events.add_numbers({f"loss/{i}": 1.0 for i in range(100)}, 1)
        events.close()


def save(checkpoints, state):
    with checkpoints:
        checkpoints.save(state)


def test_where_nothing_can_be_written_it_is_said_and_the_last_checkpoint_is_unharmed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/shapes: cannot keep a run there"):
        Checkpoints(Config(runs=str(tmp_path / "file")))
    first = Checkpoints(Config(runs=str(tmp_path), name="first"))
    with files_end_at(100), pytest.raises(UserError, match=r"There is none before it: make room there, and begin anew"):
        save(first, state(1))
    config = Config(runs=str(tmp_path))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
    full, second = Checkpoints(config), state(2)
    with files_end_at(100), pytest.raises(UserError, match=r"cannot be written: File too large\..*make room"):
        save(full, second)
    with Checkpoints(config) as checkpoints:
        assert checkpoints.restore(shapes_of(state(0))).step == 1


def test_changes_are_shown_and_refused_unless_they_are_allowed(tmp_path, capsys):
    begun, changed = (Config(runs=str(tmp_path), train=TrainConfig(seed=seed)) for seed in (0, 1))
    check_run(begun, Resumption(begin_or_resume=True))
    with Checkpoints(begun) as checkpoints:
        checkpoints.save(state(1))
    settings = begun.folder / "config.json"
    older = json.loads(settings.read_text())
    del older["train"]["spike"]  # a run of a version that did not know this setting
    settings.write_text(json.dumps(older))
    check_run(begun, Resumption(resume=True))
    with pytest.raises(UserError, match=r"train\.seed: 0 then, 1 now\n--allow-changes"):
        check_run(changed, Resumption(resume=True))
    check_run(changed, Resumption(begin_or_resume=True, allow_changes=True))
    assert "train.seed: 0 then, 1 now" in capsys.readouterr().out
    with Checkpoints(changed) as checkpoints:
        check_run(begun, Resumption(resume=True))  # it is that run until its checkpoint is found to fit
        checkpoints.restore(shapes_of(state(0)))
        check_run(changed, Resumption(resume=True))


def test_other_data_are_refused_unless_they_are_allowed(tmp_path):
    """Of as many words, as where one caption was corrected."""
    config = Config(name="one", runs=str(tmp_path), train=TrainConfig(steps=1))
    captions = [[["a dog runs"], ["a cat runs"]], [["a dog runs"], ["a cow runs"]]]
    words = [train_words(itertools.chain(*images), 1) for images in captions]
    assert len(words[0]) == len(words[1])
    marks = [mark_of(*both) for both in zip(captions, words, strict=True)]
    state = first_state({"weight": jnp.zeros(1)}, make_optimizer(config.train), config.train)
    with Checkpoints(config) as checkpoints:
        checkpoints.check_data(marks[0], may_differ=False)
        checkpoints.check_data(marks[1], may_differ=False)  # nothing was learnt from the others
        checkpoints.save(state)
    with Checkpoints(config) as checkpoints:
        checkpoints.check_data(marks[1], may_differ=False)
        with pytest.raises(UserError, match="was begun on other data"):
            checkpoints.check_data(marks[0], may_differ=False)
        checkpoints.check_data(marks[0], may_differ=True)
        checkpoints.restore(shapes_of(state))
        checkpoints.check_data(marks[0], may_differ=False)


def test_scores_of_another_kind_are_not_to_be_beaten(tmp_path):
    config = Config(name="one", runs=str(tmp_path), train=TrainConfig(steps=1))
    state = first_state({"weight": jnp.zeros(1)}, make_optimizer(config.train), config.train)
    with Checkpoints(config) as checkpoints:
        assert checkpoints.is_best(0.3)
        checkpoints.save(state)
    by_loss = dataclasses.replace(config, evaluation=EvaluationConfig(best="loss"))
    with pytest.raises(UserError, match=r"evaluation\.best: 'cider_d' then, 'loss' now"):
        check_run(by_loss, Resumption(resume=True))
    for now, better in ((config, False), (by_loss, True)):
        with Checkpoints(now) as checkpoints:
            checkpoints.restore(shapes_of(state))
            assert checkpoints.is_best(-2.5) == better


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    config = Config(runs=str(tmp_path), model=ModelConfig(width=16))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
    with Checkpoints(config) as checkpoints:
        other = dataclasses.replace(state(1), parameters={"decoder": {"kernel": jnp.zeros((3, 2))}})
        with pytest.raises(UserError, match=r"step 1 does not fit these settings: parameters"):
            checkpoints.restore(shapes_of(other))
    check_run(config, Resumption(resume=True))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder / "state"),
        lambda folder: (folder / "state" / "_METADATA").write_bytes(b"{"),
        lambda folder: [file.write_bytes(b"[]") for file in (folder / "best").iterdir() if file.name[0] != "_"],
        lambda folder: [os.truncate(file, 3) for file in (folder / "state").rglob("*") if file.parent.name == "d"],
    ],
)
def test_a_checkpoint_that_is_damaged_is_named_and_so_is_the_one_before(damage, tmp_path):
    config = Config(runs=str(tmp_path))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
        checkpoints.save(state(2))
    damage(config.folder / "checkpoints" / "2")
    then = r"checkpoints/2 is damaged \(.+\): move it away, and --resume goes on from step 1"
    with Checkpoints(config) as checkpoints, pytest.raises(UserError, match=then):
        checkpoints.restore(shapes_of(state(0)))
    shutil.rmtree(config.folder / "checkpoints" / "2")
    with Checkpoints(config) as checkpoints:
        assert checkpoints.restore(shapes_of(state(0))).step == 1


def test_a_checkpoint_that_cannot_be_read_for_now_is_not_called_damaged(tmp_path, monkeypatch):
    config = Config(runs=str(tmp_path))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))

        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        checkpoints.manager.wait_until_finished()
        monkeypatch.setattr(checkpoints.manager, "restore", refuse)
        with pytest.raises(UserError, match=r"checkpoints/1 cannot be read: Permission denied$"):
            checkpoints.restore(shapes_of(state(0)))


def test_a_mark_is_of_captions_and_of_words():
    captions, words = [[["a dog"]], [["a dog", "a dog"]]], [train_words([told], 1) for told in ("a dog", "a cat dog")]
    assert len({mark_of(*both) for both in itertools.product(captions, words)}) == 4


def test_allowed_changes_alone_go_on_with_nothing(tmp_path):
    config = Config(name="one", runs=str(tmp_path), train=TrainConfig(steps=1))
    state = first_state({"weight": jnp.zeros(1)}, make_optimizer(config.train), config.train)
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state)
    with pytest.raises(UserError, match="--resume"):
        check_run(config, Resumption(allow_changes=True))
