"""Settings: files, overrides, and mistakes that are named."""

import dataclasses
import math

import pytest

from captioner_jax.config import Config, Planning, Resumption, from_command_line, from_dict, from_toml
from captioner_jax.errors import UserError


def test_every_recipe_is_valid(pytestconfig):
    recipes = sorted((pytestconfig.rootpath / "configs").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert from_toml(recipe).name == recipe.stem


def test_overrides_come_after_the_file(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('name = "a"\n[train]\nsteps = 7\nseed = 3\n')
    config, resumption, planning = from_command_line(
        [str(file), "--train.steps", "9", "--model.encoder.widths", "16", "32", "--resume", "--plan", "v5e:2x2"]
    )
    assert (config.name, config.train.steps, config.train.seed) == ("a", 9, 3)
    assert config.model.encoder.widths == (16, 32)
    assert resumption == Resumption(resume=True)
    assert planning == Planning("v5e:2x2")


def test_a_configuration_survives_json():
    assert from_dict(dataclasses.asdict(Config()), "here") == Config()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"widht": 3}}, r"unknown key model\.widht; did you mean model\.width\?"),
        ({"modle": {}}, "unknown key modle; did you mean model"),
        ({"train": {"steps": "many"}}, r"train\.steps = 'many'"),
        ({"train": {"steps": 0}}, r"train\.steps = 0"),
        (
            {"train": {"seed": 2**32}},
            r"train\.seed = 4294967296: input should be less than 4294967296",
        ),
        ({"train": {"learning_rate": math.inf}}, r"train\.learning_rate = inf: input should be a finite number"),
        ({"data": {"crop": 2.0}}, r"data\.crop = 2\.0"),
        ({"data": {"source": "flickr"}}, r"data\.source = 'flickr'"),
        ({"data": {"path": "caf\udce9"}}, "here.toml: a path or another text is not UTF-8: rename what it names$"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        from_dict(settings, "here.toml")


def test_all_mistakes_at_once():
    with pytest.raises(UserError) as caught:
        from_dict({"name": 3, "train": {"sed": 1}}, "here.toml")
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        from_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = b")
    with pytest.raises(UserError, match="is not TOML"):
        from_toml(tmp_path / "bad.toml")


def test_a_file_as_windows_writes_it(tmp_path):
    (tmp_path / "marked.toml").write_text('name = "marked"\r\n', encoding="utf-8-sig", newline="")
    assert from_toml(tmp_path / "marked.toml").name == "marked"


def test_a_date_is_a_text_and_no_number(tmp_path):
    (tmp_path / "dated.toml").write_text("name = 2026-12-01\n")
    assert from_toml(tmp_path / "dated.toml").name == "2026-12-01"
    (tmp_path / "dated.toml").write_text("train.steps = 2026-12-01\n")
    with pytest.raises(UserError, match=r"dated\.toml: train\.steps = '2026-12-01'"):
        from_toml(tmp_path / "dated.toml")


def test_help_documents_every_setting(capsys):
    with pytest.raises(SystemExit):
        from_command_line(["--help"])
    text = capsys.readouterr().out
    for key in ("--train.learning-rate", "--data.path", "--model.encoder.stem", "--resume", "after the warm-up"):
        assert key in text


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        from_command_line(["--train.stps", "3"])
    assert caught.value.code != 0
    assert "--train.steps" in "".join(capsys.readouterr())
