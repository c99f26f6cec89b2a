"""Several processes that train together, on one machine."""

import signal
import socket
import time

import pytest

import train
from captioner_jax.config import DevicesConfig
from captioner_jax.errors import UserError
from captioner_jax.training import hosts
from tests.training.running import STEPS, ended, near


def start_two(runs, name, *options):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = ["--devices.hosts", "told", "--devices.coordinator", f"localhost:{port}", "--devices.processes", "2"]
    return [runs.start(name, *told, "--devices.process", str(i), *options) for i in range(2)]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_the_first_tells(runs, undisturbed):
    (code, out, err), (other_code, other_out, other_err) = map(ended, start_two(runs, "two", "--devices.fsdp"))
    assert (code, other_code) == (0, 0), err + other_err
    near(runs.losses("two"), undisturbed)
    assert "cpu: a mesh of 2 data x 1 model, with fsdp" in out
    assert "step" in out
    assert "step" not in other_out
    assert (runs.folder / "two" / "scores.json").is_file()


@pytest.mark.slow
def test_where_one_is_killed_the_other_stops_with_a_message_and_fewer_go_on(runs, undisturbed):
    first, second = start_two(runs, "one_killed")
    while 20 not in runs.checkpoints("one_killed"):
        assert first.poll() is None
        time.sleep(0.02)
    second.kill()
    code, _, err = ended(first, timeout=120)
    second.communicate()
    assert code == train.RESTART
    assert "error: host 0 cannot go on with the others" in err
    code, _, err = ended(runs.start("one_killed", "--resume"))
    assert code == 0, err
    near(runs.losses("one_killed"), undisturbed)


@pytest.mark.slow
def test_a_sigterm_to_one_ends_both_after_the_same_step(runs):
    both = start_two(runs, "both_terminated")
    while not runs.losses("both_terminated"):
        assert both[0].poll() is None
        time.sleep(0.02)
    both[1].send_signal(signal.SIGTERM)
    for code, _, err in map(ended, both):
        assert code == train.RESTART, err
        assert "a SIGTERM has ended training early" in err
    assert max(runs.checkpoints("both_terminated")) < STEPS


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (DevicesConfig(hosts="told"), r"needs --devices\.coordinator"),
        (DevicesConfig(processes=2), "are for --devices.hosts told"),
    ],
)
def test_who_the_others_are_must_be_told_wholly_or_not_at_all(devices, message):
    with pytest.raises(UserError, match=message), hosts.together(devices):
        pass
