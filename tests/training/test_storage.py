"""Checkpoints in a bucket, of which an emulator of Google Cloud Storage stands in for the real one."""

import dataclasses
import shutil
import socket
import sys

import pytest
from etils import epath
from gcsfs.retry import HttpError

import train
from captioner_jax.config import Config, Resumption, TrainConfig
from captioner_jax.errors import OutageError, UserError
from captioner_jax.training import storage
from captioner_jax.training.checkpoints import Checkpoints, check_run, shapes_of
from tests.training.cloud import emulated
from tests.training.running import bit_for_bit
from tests.training.test_survival import state

PLACE = "gs://bucket/runs"


@pytest.fixture(scope="module")
def bucket():
    """The environment in which it is there, for processes of their own, too."""
    with emulated("bucket") as environment:
        yield environment


@pytest.mark.slow
def test_a_run_goes_on_from_a_bucket_alone(runs, undisturbed, bucket):
    """Its process is killed, as a rule while it writes its second checkpoint, and its disk is lost."""
    options = "--begin-or-resume", "--train.checkpoints", PLACE
    home = epath.Path(PLACE) / "lost"
    run = runs.start("lost", *options, environment=bucket)
    run.until(lambda: (home / "checkpoints" / "20" / "commit_success.txt").exists())
    run.kill()
    shutil.rmtree(runs.folder / "lost")
    code, _, err = runs.start("lost", *options, environment=bucket).ended()
    assert code == 0, err
    bit_for_bit(runs.losses("lost"), undisturbed)
    assert set(range(2, 20)) <= runs.losses("lost").keys()
    assert contents(home / "captioner") == contents(runs.folder / "lost" / "captioner")


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(params=["bucket", "folder"])
def place(request, tmp_path):
    """Where checkpoints are kept, elsewhere than the run."""
    if request.param == "folder":
        return str(tmp_path / "elsewhere")
    request.getfixturevalue("bucket")
    return f"{PLACE}/{tmp_path.name}"


def test_a_checkpoint_brings_the_run_s_folder_to_another_disk(place, tmp_path):
    old, new = (Config(runs=str(tmp_path / disk), train=TrainConfig(checkpoints=place)) for disk in ("old", "new"))
    files = {"metrics.jsonl": "1\n", "captioner/weights": "best", "tensorboard/events": "1"}
    check_run(old, Resumption())
    with Checkpoints(old) as checkpoints:
        checkpoints.is_best(0.5)
        write(old.folder, files | {"tensorboard/plugins/profile/trace": "much"})
        checkpoints.save(state(1))
        write(old.folder, {"metrics.jsonl": "1\n2\n"})
    assert not (old.folder / "checkpoints").exists()
    with pytest.raises(UserError, match=r"holds a run up to step 1: go on with it by --resume"):
        check_run(new, Resumption())
    other = dataclasses.replace(new, train=dataclasses.replace(new.train, seed=1))
    with pytest.raises(UserError, match=r"train\.seed: 0 then, 1 now"):
        check_run(other, Resumption(resume=True))
    check_run(new, Resumption(resume=True))
    with Checkpoints(new) as checkpoints:
        assert checkpoints.restore(shapes_of(state(0))).step == 1
    assert checkpoints.best.score == 0.5
    assert {str(file.relative_to(new.folder)) for file in new.folder.rglob("*") if file.is_file()} == set(files)
    for name, text in files.items():
        assert (new.folder / name).read_text() == text


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_old_and_half_checkpoints_are_removed_from_a_bucket(bucket, tmp_path):
    place = f"{PLACE}/{tmp_path.name}"
    config = Config(runs=str(tmp_path), train=TrainConfig(checkpoints=place, keep_checkpoints=1, keep_every=2))
    folder = storage.home(config) / "checkpoints"
    with Checkpoints(config) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step))
    assert {path.name for path in folder.iterdir()} == {"2", "3"}
    (folder / "3" / "commit_success.txt").unlink()
    with Checkpoints(config) as checkpoints:
        assert checkpoints.restore(shapes_of(state(0))).step == 2
        checkpoints.save(state(4))  # until which the half one may still be being removed
    assert {path.name for path in folder.iterdir()} == {"2", "4"}


def test_checkpoints_copied_from_a_run_s_folder_are_gone_on_with(tmp_path):
    config = Config(runs=str(tmp_path / "runs"))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
    elsewhere = dataclasses.replace(config, train=TrainConfig(checkpoints=str(tmp_path / "elsewhere")))
    with pytest.raises(UserError, match=r"holds a run up to step 1, and .*elsewhere/shapes none: copy checkpoints"):
        check_run(elsewhere, Resumption(begin_or_resume=True))
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere")
    goes_on(elsewhere, 1)
    goes_on(Config(runs=str(tmp_path / "elsewhere")), 2)  # and back


def goes_on(config, step):
    """From that step; and saves the next."""
    check_run(config, Resumption(resume=True))
    with Checkpoints(config) as checkpoints:
        assert checkpoints.restore(shapes_of(state(0))).step == step
        checkpoints.save(state(step + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": TrainConfig(checkpoints="s3://bucket/runs")}, "wanted is a folder or gs://BUCKET/FOLDER"),
        ({"train": TrainConfig(checkpoints="gs:///runs")}, "wanted is a folder or gs://BUCKET/FOLDER"),
        ({"train": TrainConfig(checkpoints="gs://absent/runs")}, "no such bucket: gcloud storage buckets create"),
        ({"train": TrainConfig(checkpoints="gs://forbidden/runs")}, "you need roles/storage.objectUser and"),
        ({"runs": PLACE}, "--train.checkpoints gs://BUCKET/FOLDER"),
    ],
)
def test_a_place_that_is_none_is_said_before_anything_begins(bucket, settings, message):
    with pytest.raises(UserError, match=message):
        check_run(Config(**settings), Resumption())


def test_what_a_bucket_needs_is_said(bucket, tmp_path, monkeypatch):
    config = Config(train=TrainConfig(checkpoints=PLACE))
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(UserError, match="nobody is logged in: gcloud auth application-default login"):
        check_run(config, Resumption())
    monkeypatch.setitem(sys.modules, "captioner_jax.training.bucket", None)
    monkeypatch.delattr("captioner_jax.training.bucket")
    with pytest.raises(UserError, match=r"pip install 'captioner-jax\[gcs\]'"):
        check_run(config, Resumption())


def test_a_bucket_that_nobody_answers_for_ends_a_run_so_that_a_supervisor_starts_it_again(
    bucket, tmp_path, monkeypatch, capsys
):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert train.main(["--runs", str(tmp_path / "runs"), "--train.checkpoints", PLACE]) == train.RESTART
    assert "error: train.checkpoints: gs://bucket cannot be reached" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError("ABORTED: Error writing gs://bucket/x: All 32 retry attempts failed: CURL error"), OutageError),
        (HttpError({"code": 503, "message": "Service Unavailable"}), OutageError),
        (ValueError("PERMISSION_DENIED: Error writing gs://bucket/x"), UserError),
        (OSError("Forbidden: https://storage.googleapis.com/x"), UserError),
    ],
)
def test_a_checkpoint_that_could_be_written_later_is_told_from_one_that_never_can(
    bucket, tmp_path, monkeypatch, raised, kind
):
    def fails(*arguments, **settings):
        raise raised

    place = f"{PLACE}/{tmp_path.name}"
    config = Config(runs=str(tmp_path), train=TrainConfig(checkpoints=place))
    with Checkpoints(config) as checkpoints:
        checkpoints.save(state(1))
        monkeypatch.setattr(checkpoints.manager, "save", fails)
        with pytest.raises(UserError, match=r"go on (later )?with --resume") as told:
            checkpoints.save(state(2))
    assert type(told.value) is kind
    goes_on(config, 1)
