"""What a run tells of itself besides its losses."""

import gzip
import itertools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from captioner_jax.data.shapes.truth import Verdict
from captioner_jax.data.source import Example
from captioner_jax.evaluation.split import Scores, Written
from captioner_jax.training import clock
from captioner_jax.training.clock import Clock
from captioner_jax.training.gallery import gallery
from captioner_jax.training.progress import Progress, device_memory
from captioner_jax.training.trace import COMPILING, Trace
from tests.data.making import encoded, picture
from tests.training.test_training import told


@pytest.fixture
def sleep(monkeypatch):
    """Time goes on only while this is called, however busy the machine is."""
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return lambda seconds: now.append(now.pop() + seconds)


def batches(sleep, seconds):
    for number in itertools.count():
        sleep(seconds)
        yield number


def run(folder, sleep, reading, computing):
    """Of thirty steps what is written."""
    with Progress(folder, 0, 30, 4) as progress:
        source = progress.awaited(batches(sleep, reading))
        for metrics in told(*[1.0] * 30):
            next(source)
            sleep(computing)
            progress.record(metrics)
        progress.tell(1e-3)
        progress.tell(1e-3)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_waits_for_its_input_says_so_once(tmp_path, sleep, capsys):
    line = run(tmp_path, sleep, reading=0.75, computing=0.25)[0]
    assert line["input_wait"] == pytest.approx(0.75)
    assert line["seconds_per_step"] == pytest.approx(1 / line["steps_per_second"]) == pytest.approx(1)
    out = capsys.readouterr().out
    assert out.count("input-bound") == 1
    for help in ("--data.workers", "--data.cache", "--data.features"):
        assert help in out


def test_a_run_whose_input_is_there_does_not(tmp_path, sleep, capsys):
    assert run(tmp_path, sleep, reading=0, computing=1)[0]["input_wait"] == 0
    assert "input-bound" not in capsys.readouterr().out


def test_a_wait_behind_which_the_device_works_is_none(sleep):
    ours = Clock()
    source = ours.awaited(batches(sleep, 1), is_idle=lambda: False)
    for _ in range(3):
        next(source)
    assert ours.input_wait == 0


def test_what_compiles_is_in_no_rate(tmp_path, sleep):
    """The first step by each program; what came before it is not told of, either."""
    with Progress(tmp_path, 0, 9, 4) as progress:
        for metrics, program in zip(told(*[1.0] * 9), "aaaabaabc", strict=True):
            sleep(100 if program not in progress.programs else 1)
            progress.record(metrics, program=program)
            if program in "bc" or progress.step == 8:
                progress.tell(1e-3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("seconds_per_step") for line in lines] == [None, pytest.approx(1), pytest.approx(1)]


def test_what_was_told_is_on_disk(tmp_path):
    """Before the run ends, which may never come to its end."""
    with Progress(tmp_path, 0, 9, 4) as progress:
        for metrics in told(1.0, 1.0):
            progress.record(metrics)
            progress.write({"loss": float(progress.step)})
        (file,) = (tmp_path / "tensorboard").glob("events*")
        assert len(list(events(file))) == 3  # which file it is, and two steps


def test_the_group_norms_and_memory_are_written(tmp_path, monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 2**29, "peak_bytes_in_use": 2**30})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    one = told(1.0)[0]._replace(norms={"encoder": jnp.asarray(0.6), "blocks": jnp.asarray(0.8)})
    with Progress(tmp_path, 0, 3, 4) as progress:
        for _ in range(3):
            progress.record(one)
        progress.tell(1e-3)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["gradient_norm/encoder"] == pytest.approx(0.6)
    assert (line["device_memory_gib/now"], line["device_memory_gib/most"]) == (0.5, 1)


def tell(folder, first, last):
    """Of each step after the first, as `train.py` does."""
    with Progress(folder, first, 9, 4) as progress:
        for metrics in told(*[1.0] * (last - first)):
            progress.record(metrics)
            progress.write({"loss": float(progress.step)})
    return sorted((folder / "tensorboard").glob("events*"))


def events(file):
    """Each is a record of its length and a checksum, itself, and a checksum."""
    content, at = file.read_bytes(), 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16


def test_steps_that_come_again_after_a_kill_are_told_once(tmp_path, monkeypatch):
    clock = itertools.count(10**9)  # files of events are named by the second
    monkeypatch.setattr("captioner_jax.training.events.time", SimpleNamespace(time=lambda: next(clock)))
    before = tell(tmp_path, 0, 4)
    file = tmp_path / "metrics.jsonl"
    with file.open("a") as killed:
        killed.write('{"step": 2, "lo')
    after = tell(tmp_path, 2, 5)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4, 5]
    assert set(before) < set(after)
    last = [event for event in events(after[-1]) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in last] == [(3, SessionLog.START)]
    assert not set(tell(tmp_path, 0, 1)) & set(after)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1]


def test_a_device_that_does_not_tell_of_its_memory_has_none(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda: None)])
    assert device_memory() == {}


def test_pictures_hang_with_their_captions_and_false_ones_are_red():
    def written(true):
        example = Example("one", encoded(picture((0, 0, 255))), ("a blue square",))
        return Written(example, "a blue triangle in front of everything", False, Verdict(true, true))

    shown = gallery({"validation": Scores({}, [written(True), written(False), written(True)])}, 2)
    assert list(shown) == ["validation/1", "validation/2"]
    assert shown["validation/1"].text == "a blue triangle in front of everything\n\nfor: a blue square"
    true, false = (exhibit.pixels.astype(int) for exhibit in shown.values())
    assert (np.abs(true[100, 100] - [0, 0, 255]) < 10).all()
    reddest = lambda pixels: (pixels[:, :, 0] - pixels[:, :, 2]).max()
    assert reddest(true) < 20 < 100 < reddest(false)


@pytest.mark.parametrize("steps", [COMPILING + 4, COMPILING + 1])
def test_the_steps_that_are_asked_for_are_traced(tmp_path, steps):
    """Or as many of them as there are before the run ends."""
    with Trace(tmp_path, 2) as trace:
        step = trace.around(lambda x: x + 1)
        x = jnp.zeros(())
        for _ in range(steps):
            x = step(x)
    assert float(x) == steps
    (file,) = tmp_path.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    traced = [event["args"]["step_num"] for event in events if event.get("name") == "train"]
    assert traced == [str(number) for number in range(COMPILING, min(steps, COMPILING + 2))]


def test_a_line_tells_pace_time_left_and_damage(tmp_path, monkeypatch, capsys):
    """A step each half second, of four images, of which one is damaged in every other step."""
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Progress(tmp_path, 0, 90, 4) as progress:
        for i, metrics in enumerate(told(*[1.0] * 31)):
            progress.record(metrics._replace(unusable=jnp.asarray(i % 2)))
            now[0] += 0.5 if i < 30 else 0
        progress.tell(1e-3)
    assert "2.0 steps/s  8 images/s  0:30 left  damaged images met 15 times" in capsys.readouterr().out
