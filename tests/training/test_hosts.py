"""Several processes that train together, on one machine."""

import socket
import subprocess
import sys

import pytest

import train
from captioner_jax.config import DevicesConfig
from captioner_jax.errors import UserError
from captioner_jax.training import hosts
from tests.training.running import STEPS, bit_for_bit, near


def start(processes, runs, name, *options, of_each=lambda i: ()):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = ["--devices.hosts", "told", "--devices.coordinator", f"localhost:{port}"]
    told += ["--devices.processes", str(processes)]
    return [runs.start(name, *told, "--devices.process", str(i), *options, *of_each(i)) for i in range(processes)]


@pytest.fixture(scope="module")
def two(runs):
    """What two processes write that nothing disturbs."""
    both = [run.ended() for run in start(2, runs, "two", "--devices.fsdp")]
    assert [code for code, _, _ in both] == [0, 0], both
    return [out for _, out, _ in both]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_the_first_tells(runs, two, undisturbed):
    out, other_out = two
    near(runs.losses("two"), undisturbed)
    assert "cpu: a mesh of 2 data x 1 model, with fsdp" in out
    assert "step" in out
    assert "step" not in other_out
    assert (runs.folder / "two" / "scores.json").is_file()


@pytest.mark.slow
def test_four_processes_have_the_losses_of_one(runs, undisturbed):
    ended = [run.ended() for run in start(4, runs, "four")]
    assert [code for code, _, _ in ended] == [0] * 4, ended
    near(runs.losses("four"), undisturbed)
    assert "cpu: a mesh of 4 data x 1 model" in ended[0][1]


@pytest.mark.slow
def test_where_one_is_killed_the_other_stops_with_a_message_and_fewer_go_on(runs, undisturbed):
    first, second = start(2, runs, "one_killed")
    first.until(lambda: 20 in runs.checkpoints("one_killed"))
    second.kill()
    code, _, err = first.ended(timeout=120)
    assert code == train.RESTART
    assert "error: host 0 cannot go on with the others" in err
    code, _, err = runs.start("one_killed", "--resume").ended()
    assert code == 0, err
    near(runs.losses("one_killed"), undisturbed)


@pytest.mark.slow
def test_kills_of_both_change_no_loss(runs, two):
    """The second time in the middle of writing a checkpoint."""
    for kill in range(2):
        both = start(2, runs, "both_killed", "--devices.fsdp", "--begin-or-resume", "--train.checkpoint-every", "5")
        both[0].until(lambda kill=kill: 15 * (kill + 1) in runs.checkpoints("both_killed"))
        if kill:
            both[0].until(lambda: runs.is_saving("both_killed"))
        for run in both:
            run.kill()
    for run in start(2, runs, "both_killed", "--devices.fsdp", "--resume"):
        code, _, err = run.ended()
        assert code == 0, err
    bit_for_bit(runs.losses("both_killed"), runs.losses("two"))


@pytest.mark.slow
def test_a_sigterm_to_one_ends_both_after_the_same_step(runs):
    """Whether they compute a step, or score captions, which takes most of the time here."""
    often = ["--train.evaluate-every", "1", "--train.checkpoint-every", "1"]  # Orbax, too, asks whether one has come
    both = start(2, runs, "both_terminated", *often)
    both[0].until(lambda: runs.losses("both_terminated"))
    both[1].process.terminate()
    for code, _, err in (run.ended() for run in both):
        assert code == train.RESTART, err
        assert "a SIGTERM has ended training early" in err
    assert max(runs.checkpoints("both_terminated")) < STEPS


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (DevicesConfig(hosts="told"), r"needs --devices\.coordinator"),
        (DevicesConfig(processes=2), "are for --devices.hosts told"),
        (DevicesConfig(hosts="told", coordinator="10.0.0.1", processes=2, process=0), r"'10\.0\.0\.1' lacks a port"),
    ],
)
def test_who_the_others_are_must_be_told_wholly_or_not_at_all(devices, message):
    with pytest.raises(UserError, match=message), hosts.together(devices):
        pass


@pytest.mark.slow
def test_who_waits_for_others_that_do_not_come_says_so_and_ends(pytestconfig):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = (
        "from captioner_jax.config import DevicesConfig\n"
        "from captioner_jax.training import hosts\n"
        "hosts.PATIENCE = 3\n"
        f"with hosts.together(DevicesConfig(hosts='told', coordinator='localhost:{port}', processes=2, process=0)):\n"
        "    raise AssertionError\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == train.RESTART
    assert "waiting up to 3 s for the other hosts\n" in done.stderr
    assert "error: the other hosts have not come within 3 s: start all of them again\n" in done.stderr


@pytest.mark.slow
def test_hosts_that_mean_something_else_are_told_how_and_nothing_is_trained(runs):
    """Before one finds that its own settings contradict each other, and leaves the other waiting."""
    minds = ["--train.learning-rate", "1e-3"], ["--train.learning-rate", "2e-3", "--data.views", "2"]
    both = start(2, runs, "two_minds", of_each=lambda i: minds[i])
    (code, _, err), (other_code, _, other_err) = [run.ended() for run in both]
    assert (code, other_code) == (1, 1)
    assert "host 1 would not train what host 0 does: it tells how" in err
    assert "train.learning_rate: 0.001 there, 0.002 here" in other_err
    assert not runs.checkpoints("two_minds")
