"""The plan: of devices that are there, where the compiled step can be checked; and of TPUs that are not."""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from captioner_jax.bundle import abstract
from captioner_jax.config import (
    Config,
    DataConfig,
    DevicesConfig,
    EncoderConfig,
    ModelConfig,
    TeacherConfig,
    TrainConfig,
    from_toml,
)
from captioner_jax.errors import UserError
from captioner_jax.evaluation.compiled_cider import CompiledCiderD
from captioner_jax.model.captioner import Captioner
from captioner_jax.planning import slices
from captioner_jax.planning.ahead import Phase, compile_step, phases
from captioner_jax.planning.chips import CHIPS
from captioner_jax.planning.collectives import Collective
from captioner_jax.planning.estimate import Work
from captioner_jax.planning.program import Memory, Program, read, too_large
from captioner_jax.planning.report import Row, cells, details, limits, plan
from captioner_jax.planning.slices import Slice, find_slices
from captioner_jax.planning.vocabulary import words
from captioner_jax.training.learning import divided
from captioner_jax.training.rewards import CiderDReward
from captioner_jax.training.self_critical import SelfCritical
from captioner_jax.training.step import learned_by
from tests.making import untrained
from tests.planning import test_collectives, test_traffic
from tests.training.test_training import MODEL

SMALL = Config(
    "small",
    model=MODEL,
    data=DataConfig("coco", image_size=16, max_length=6, captions_per_image=2),
    train=TrainConfig(steps=100, batch_size=4, accumulate=2, ema_decay=0.9),
)


@pytest.fixture(scope="module", autouse=True)
def nothing_kept():
    """Of programs for devices that are not there, since they could not be read back.

    JAX asks once a process whether to keep programs; it is made to ask again.
    """
    was = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", was)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module", autouse=True)
def shapes_alone():
    """Are no arrays, as whose types they are checked elsewhere."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def small(shapes_alone):
    """Compiled for the device that is there."""
    with jax.numpy_dtype_promotion("standard"):
        return compile_step(SMALL, 12, jax.devices(), encoder_learns=True)


def test_a_chip_holds_what_a_run_holds(small):
    parameters = jax.tree.leaves(nnx.state(Captioner(MODEL, 12, rngs=nnx.Rngs(0)), nnx.Param))
    count = sum(p.size for p in parameters)
    assert small.memory.parameters == 4 * count
    # AdamW's two memories, the average, and the counters of steps.
    assert 0 <= small.memory.optimizer - 3 * 4 * count <= 64
    assert small.memory.batch == 4 * (16 * 16 * 3 + 2 * 7 * 4 + 1 + 4)
    assert small.memory.temporaries > 0


def test_parts_of_a_batch_are_all_counted(small):
    """The matrix products of a step alone: three (forward, and two backward) of 8 captions of 6 words, 32 by 12."""
    assert small.work.flops > 3 * 2 * (8 * 6) * 32 * 12
    assert small.work.collectives == []


def test_the_report_of_one_program(small):
    row = Row(Slice("v5e:1x1", CHIPS["v5e"], jax.devices()), 1, Phase(3600, True), small)
    text = "\n".join(details(row))
    assert f"of {16 * 1024:,} MiB: it fits" in text
    assert "told each other in a step:\n  nothing" in text


def test_a_row_of_the_table():
    """A fifth of the second is computing at a v5e's peak; the slice has four chips, of which a run takes two."""
    chip = CHIPS["v5e"]
    work = Work(0.2 * chip.flops, 0.1 * chip.bandwidth, [Collective("all-gather", int(chip.interconnect), 5)])
    program = Program(Memory(2**30, 2**29, 0, 0, 0, 0), work, None)
    row = Row(Slice("v5e:2x2", chip, [None] * 4), 2, Phase(7200, True), program)
    expected = ("v5e:2x2", "2", "7,200", "learns", "1.50 of 16", "1000.00", "64", "20%", "2.00", "8.0")
    assert cells(row, 64) == expected


def test_phases_of_a_run():
    train = lambda **settings: dataclasses.replace(SMALL, train=TrainConfig(steps=100, **settings))
    assert phases(train()) == [Phase(100, True)]
    assert phases(train(encoder_frozen=True)) == [Phase(100, False)]
    assert phases(train(encoder_from=30)) == [Phase(30, False), Phase(70, True)]
    assert phases(train(encoder_from=300)) == [Phase(100, False)]


@pytest.mark.parametrize(
    "told",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 33.50G of 15.75G hbm. Exceeded by 17.75G.",
        "the total memory required for HLO temporaries (33.5G) exceeds available HBM (15.75G).",
    ],
)
def test_what_does_not_fit_is_told_in_bytes(told):
    assert too_large(jax.errors.JaxRuntimeError(told)) == (33.5 * 2**30, 15.75 * 2**30)
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"):
        too_large(jax.errors.JaxRuntimeError("another mistake"))


@pytest.mark.parametrize(
    ("name", "platform", "message"),
    [
        ("v5e", "linux", "'v5e' is no slice of v4, v5e, v5p, v6e"),
        ("h100:2x2", "linux", "'h100:2x2' is no slice of"),
        ("v5e:0x0", "linux", "'v5e:0x0' is no slice: v5e has 2 sides, each of 1 to 16 chips"),
        ("v5e:4x4x4", "linux", "'v5e:4x4x4' is no slice"),
        ("v5e:1000x1000", "linux", "'v5e:1000x1000' is no slice"),
        ("v4:2x2", "linux", "v4 has 3 sides, each of 1 to 32 chips"),
        (" V5E:2x2 ", "linux", "not installed: pip install"),
        ("v5e:2x2", "linux", "not installed: pip install"),
        ("v5e:2x2", "darwin", "for Linux on x86-64 alone"),
    ],
)
def test_mistakes_are_said(name, platform, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(slices.sys, "platform", platform)
    with pytest.raises(UserError, match=message):
        find_slices(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": DevicesConfig(parallel="pmap")}, "pmap compiles for devices that are there"),
        ({"train": TrainConfig(objective="self_critical")}, "the compiler counts what is repeated once"),
        ({"data": DataConfig(buckets=(30,), max_length=16)}, r"data\.buckets must rise"),
        ({"data": DataConfig(features="somewhere")}, r"data\.features are of an encoder that does not change"),
    ],
)
def test_what_has_no_plan_is_said(settings, message):
    with pytest.raises(UserError, match=message):
        plan(Config(**settings), "v5e:2x2")


def test_a_teacher_is_planned_with():
    """What it makes of the images comes with each batch; what it could not teach is refused."""
    teacher = TeacherConfig("there", EncoderConfig("vgg11", ends_after=1), 2)
    taught = dataclasses.replace(SMALL, teacher=teacher)
    with jax.numpy_dtype_promotion("standard"):
        programs = [compile_step(config, 12, jax.devices(), encoder_learns=True) for config in (SMALL, taught)]
    more = SMALL.train.batch_size * 2 * 2 * 64 * 2
    assert programs[1].memory.batch - programs[0].memory.batch == more
    unlike = dataclasses.replace(taught, teacher=dataclasses.replace(teacher, image_size=4))
    with pytest.raises(UserError, match="they must be as many"):
        compile_step(unlike, 12, jax.devices(), encoder_learns=True)


def test_what_is_counted_once_is_said():
    assert "too few" in limits(Config(train=TrainConfig(remat=True)))
    assert "too few" not in limits(Config())
    assert "too many" in limits(Config(train=TrainConfig(accumulate=2)))
    assert "too many" not in limits(Config())


RECIPES = sorted(Path(__file__).parents[2].glob("configs/*.toml"))
# The words of drawn scenes are always there.
OF_FILES = [recipe for recipe in RECIPES if recipe.stem != "shapes"]


@pytest.mark.parametrize("recipe", OF_FILES, ids=lambda recipe: recipe.stem)
def test_words_are_assumed_where_nothing_is_there_yet(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = from_toml(recipe)
    assert words(config) == config.data.vocabulary
    told = capsys.readouterr().out
    assert "words are assumed" in told
    assert ("no captioner in runs/" in told) == (config.train.start is not None)


def test_words_are_those_of_the_captioner_that_is_started_from(tmp_path):
    captioner = untrained()
    captioner.save(tmp_path / "captioner")
    config = Config(train=TrainConfig(start=str(tmp_path / "captioner")))
    assert words(config) == len(captioner.tokenizer)


SLICES = ["v5e:2x2", "v4:2x2x1", "v6e:16x16"]


needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -e '.[tpu]'"
)


@pytest.fixture
def little_effort():
    """The compiler looks less far: half the time, and another program in the end."""
    before = jax.config.values["jax_optimization_level"]
    jax.config.update("jax_optimization_level", "O0")
    yield
    jax.config.update("jax_optimization_level", before)


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("ordinary_promotion", "little_effort", "shallow")
@pytest.mark.parametrize("slice_name", SLICES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_recipes_compile_for_tpus(recipe, slice_name):
    """Weights, features and captioners that they begin with need not be there."""
    (one,) = find_slices(slice_name)
    config = shortened(from_toml(recipe), len(one.devices))
    learns = phases(config)[-1].encoder_learns
    program = compile_step(config, 1000, one.devices, encoder_learns=learns, objective=self_critical(config))
    assert isinstance(program, Program)
    assert program.memory.whole < one.chip.memory
    reduced = sum(one.bytes * one.count for one in program.work.collectives if one.kind == "all-reduce")
    assert reduced > 0.9 * bytes_of_gradients(config, learns)


def shortened(config, chips):
    """One narrow layer, one stage, small images, one a chip, short captions: whole, a recipe takes up to seven minutes.

    Their own batches do not divide among 256 chips, and take it up to twice as long on four.
    """
    encoder, heads = config.model.encoder, config.model.heads
    frozen = min(encoder.frozen_stages, 1) if config.data.features else 0  # what is kept of images is theirs
    stages = {"blocks": (0,) * len(encoder.widths)} if encoder.kind == "convnet" else {"ends_after": 1 + frozen}
    model = dataclasses.replace(
        config.model,
        width=16 * heads,
        feed_forward=64,
        layers=1,
        encoder=dataclasses.replace(encoder, frozen_stages=frozen, **stages),
    )
    data = dataclasses.replace(config.data, image_size=32, max_length=6, buckets=())
    seen = config.teacher.image_size * data.image_size // config.data.image_size
    teacher = dataclasses.replace(config.teacher, image_size=seen) if config.teacher.is_there else config.teacher
    train = dataclasses.replace(config.train, batch_size=chips * config.train.accumulate)
    return dataclasses.replace(config, model=model, data=data, teacher=teacher, train=train)


def bytes_of_gradients(config, encoder_learns):
    """Of all that learns in a step."""
    _, parameters = abstract(config.model, 1000)
    learned, _ = divided(parameters, learned_by(config.train, config.model.encoder.frozen_stages))
    if not encoder_learns:
        learned.pop("encoder", None)
    return sum(leaf.size for leaf in jax.tree.leaves(learned)) * (2 if config.train.precision == "bfloat16" else 4)


def self_critical(config):
    """That objective where it is asked for, with few references."""
    if config.train.objective == "cross_entropy":
        return None
    reward = CiderDReward(CompiledCiderD.of([[[4, 5]], [[5, 6]]]), config.self_critical.bleu_4)
    return SelfCritical(reward, config.self_critical, config.data.max_length)


@pytest.mark.slow
@needs_compiler
def test_slices_that_are_none():
    with pytest.raises(UserError, match="knows no slice v5e:3x3"):
        find_slices("v5e:3x3")


@pytest.mark.slow
@needs_compiler
def test_a_chip_is_a_device():
    assert [len(one.devices) for one in find_slices("v4:2x2x1,v5e:1x1,v5p:2x2x1,v6e:16x16")] == [4, 1, 4, 256]


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("ordinary_promotion", "little_effort")
def test_what_does_not_fit_a_chip():
    (one,) = find_slices("v5e:1x1")
    model = ModelConfig(width=64, heads=2, feed_forward=64, layers=1, encoder=MODEL.encoder)
    data = DataConfig("coco", image_size=16, max_length=50, captions_per_image=5)
    config = Config(model=model, data=data, train=TrainConfig(steps=9, batch_size=4096))
    program = compile_step(config, 50_000, one.devices, encoder_learns=True)
    assert program.wanted > program.there > 15 * 2**30


def with_model(**model):
    return dataclasses.replace(SMALL, model=dataclasses.replace(MODEL, **model))


def program_of(config, encoder_learns=True):
    with jax.numpy_dtype_promotion("standard"):
        found = compile_step(config, 12, jax.devices(), encoder_learns=encoder_learns)
    assert isinstance(found, Program)
    return found


def test_an_encoder_that_stays_takes_less():
    assert program_of(SMALL, encoder_learns=False).work.flops < 0.9 * program_of(SMALL).work.flops


def test_stages_that_stay_take_less():
    learns, stays = (
        program_of(with_model(encoder=EncoderConfig("vgg11", ends_after=2, frozen_stages=n))) for n in (0, 1)
    )
    assert stays.work.flops < learns.work.flops
    assert stays.memory.optimizer < learns.memory.optimizer


def test_kept_cells_come_in_place_of_pixels():
    kept = dataclasses.replace(SMALL, data=dataclasses.replace(SMALL.data, features="there"))
    graphdef, shapes = abstract(MODEL, 12)
    glance = lambda parameters, images: nnx.merge(graphdef, parameters).glance(images)
    cells = jax.eval_shape(glance, shapes, jax.ShapeDtypeStruct((4, 16, 16, 3), jnp.float32))
    tokens_usable_and_number = 2 * 7 * 4 + 1 + 4
    assert program_of(kept).memory.batch == 2 * cells.size + 4 * tokens_usable_and_number


def test_what_the_compiler_tells_is_counted_once_and_what_is_in_a_loop_as_often_as_it_goes_round():
    whole = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=50,
        alias_size_in_bytes=40,
        temp_size_in_bytes=7,
        generated_code_size_in_bytes=3,
    )
    compiled = lambda text: SimpleNamespace(
        as_text=lambda: text,
        cost_analysis=lambda: {"flops": 10.0, "optimal_seconds": 1.0},
        memory_analysis=lambda: whole,
    )
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    array = jax.ShapeDtypeStruct((5,), jnp.float32, sharding=here)
    state = SimpleNamespace(parameters=array, optimizer=(), average=None, step=())
    one = read(compiled(test_traffic.PROGRAM), state, array, 8, 3)
    assert (one.work.flops, one.optimal_seconds) == (30, 3)
    assert one.work.bytes == 35 * 4 + 6 * 2 + 6 * 2 + 3 * (10 + 10) * 4
    assert one.memory == Memory(20, 0, 20, 60, 17, 3)
    found = read(compiled(test_collectives.PROGRAM), state, array, 8, 5).work.collectives
    assert {each.count for each in found} == {1, 5}
