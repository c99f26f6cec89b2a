"""Runs that are ended from without, and go on as if nothing had been."""

import dataclasses
import json
import random
import signal
import time

import jax.numpy as jnp
import pytest

import train
from captioner_jax.config import Config, ModelConfig, Resumption, TrainConfig
from captioner_jax.errors import UserError
from captioner_jax.training.checkpoints import Checkpoints, check_run
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import first_state
from tests.training.running import STEPS, ended, near

KILLS = 4


def bit_for_bit(found, expected):
    """Of the steps that were told of; the first after a resumption is not."""
    assert found.items() <= expected.items()
    assert found[STEPS] == expected[STEPS]


def until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
def test_a_sigterm_ends_a_run_after_a_checkpoint_and_it_goes_on(runs, undisturbed):
    process = runs.start("terminated", "--begin-or-resume", "--train.checkpoint-every", "1000")
    until(lambda: runs.losses("terminated"), process)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == train.RESTART
    assert "go on with --resume" in err
    assert "Traceback" not in err
    (step,) = runs.checkpoints("terminated")
    assert step < STEPS
    code, _, err = ended(runs.start("terminated", "--begin-or-resume"))
    assert code == 0, err
    bit_for_bit(runs.losses("terminated"), undisturbed)


@pytest.mark.slow
def test_kills_at_any_moment_change_no_loss(runs, undisturbed):
    """Checkpoints at every second step, so that some are being written."""
    chance = random.Random(0)
    killed = 0
    while killed < KILLS:
        lines = len(runs.losses("killed"))
        process = runs.start("killed", "--begin-or-resume", "--train.checkpoint-every", "2")
        until(lambda lines=lines: len(runs.losses("killed")) > lines or STEPS in runs.checkpoints("killed"), process)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.communicate()
        killed += 1
    code, _, err = ended(runs.start("killed", "--begin-or-resume"))
    assert code == 0, err
    bit_for_bit(runs.losses("killed"), undisturbed)
    assert all(path.name.isdigit() for path in (runs.folder / "killed" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_in_another_form(runs, undisturbed):
    process = runs.start("moved", "--devices.fsdp", "--devices.model", "2", devices=4)
    until(lambda: 20 in runs.checkpoints("moved"), process)
    process.kill()
    process.communicate()
    code, out, err = ended(runs.start("moved", "--resume", "--devices.parallel", "pmap", devices=2))
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
        assert float(checkpoints.restore(state(0)).parameters["decoder"]["kernel"][0, 0]) == 7


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
    with Checkpoints(changed):
        check_run(changed, Resumption(resume=True))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    config = Config(runs=str(tmp_path), model=ModelConfig(width=16))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
    with Checkpoints(config) as checkpoints:
        other = dataclasses.replace(state(1), parameters={"decoder": {"kernel": jnp.zeros((3, 2))}})
        with pytest.raises(UserError, match=r"step 1 does not fit these settings: parameters"):
            checkpoints.restore(other)
