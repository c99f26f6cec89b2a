"""Trains a captioner.

python train.py                                   the default: drawn scenes of shapes, minutes on a CPU
python train.py configs/NAME.toml                 another recipe
python train.py configs/NAME.toml --train.steps 500 --name short
python train.py configs/NAME.toml --resume        go on from the newest checkpoint
python train.py configs/NAME.toml --begin-or-resume   the same command again and again, whatever ends it
python train.py configs/NAME.toml --plan v5e:4x4,v4:2x2x1   what that would take of TPUs that need not be there
python train.py --help                            every setting
"""

from captioner_jax.errors import RESTART, UserError, for_people, interruptible, leave

if __name__ == "__main__":
    interruptible()  # while all this is imported

import contextlib
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from captioner_jax import bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import Config, Resumption, from_command_line
from captioner_jax.data.features import load_features, make_eye
from captioner_jax.data.load import load
from captioner_jax.data.pictures import training_pictures
from captioner_jax.data.pipeline import check_batches, check_captions, check_words, training_batches
from captioner_jax.data.source import DataSet, Source
from captioner_jax.data.told import Told
from captioner_jax.data.views import Views
from captioner_jax.evaluation.baselines import entropies
from captioner_jax.files import write_whole
from captioner_jax.planning.report import plan
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.pretrained.files import locate
from captioner_jax.text.special import SPECIAL_TOKENS
from captioner_jax.text.tokenizer import Tokenizer
from captioner_jax.training import hosts, storage
from captioner_jax.training.agreement import agree_on_data, agree_on_settings
from captioner_jax.training.alone import alone
from captioner_jax.training.beginning import Beginning, begin
from captioner_jax.training.checkpoints import Checkpoints, check_run, mark_of, shapes_of
from captioner_jax.training.contradictions import check_settings
from captioner_jax.training.examiner import Examiner, check_best, show, values
from captioner_jax.training.looking import Look
from captioner_jax.training.optimizer import make_optimizer, schedule
from captioner_jax.training.placement import Placement, make_placement
from captioner_jax.training.preemption import Preemption
from captioner_jax.training.progress import Progress
from captioner_jax.training.rewards import make_reward
from captioner_jax.training.self_critical import SelfCritical
from captioner_jax.training.step import CrossEntropy, Objective, TrainStep, make_train_step
from captioner_jax.training.teacher import Teacher, make_teacher, teach
from captioner_jax.training.trace import Trace

CONFIGS = Path(__file__).parent / "configs"
# Of a vocabulary that goes with its captions far fewer are.
MANY_UNKNOWN = 0.2


@for_people
def main(arguments: list[str]) -> int:
    config, resumption, planning = from_command_line(with_recipe(arguments))
    if planning.plan is not None:
        plan(config, planning.plan)
        return 0
    leave_out_absent_tpus()
    keep_compiled()  # a plan's programs could not be read again where their devices are not there
    with hosts.together(config.devices):
        return run(config, resumption)


def with_recipe(arguments: list[str]) -> list[str]:
    """The default recipe where none is named; one of ours may be named alone, wherever the program is called from."""
    if not arguments or arguments[0].startswith("-"):
        return [str(CONFIGS / "shapes.toml"), *arguments]
    named, *others = arguments
    ours = CONFIGS / named.removeprefix("configs/")
    return [str(ours) if not Path(named).exists() and ours.is_file() else named, *others]


def run(config: Config, resumption: Resumption) -> int:
    """A run from its settings to its scores; the exit code is RESTART where a SIGTERM has ended it early."""
    agree_on_settings(config)
    check_run(config, resumption)
    check_settings(config)
    placement = make_placement(config)
    if config.model.encoder.weights is not None:
        locate(config.model.encoder.weights)  # now, and again when they are wanted: data may take minutes
    start = None if config.train.start is None else load_start(config.train.start)
    teacher = make_teacher(config)
    with hosts.first_alone("data"):
        data = load(config.data)
    captions = list(data.train.captions())
    tokenizer = Tokenizer.train(captions, config.data) if start is None else start.tokenizer
    told = Told.of(captions, tokenizer)
    mark = mark_of(captions, tokenizer)
    agree_on_data(mark, {name: len(source) for name, source in data.validation.items()})
    check_batches(data.train, config.data, config.train)
    check_words(told)
    check_captions(data.validation | data.test)
    check_best(data.validation["validation"], config.evaluation)
    beginning = begin(config, len(tokenizer), start)
    goal = objective(config, data.train, tokenizer)
    with alone(config.folder) if hosts.is_first() else contextlib.nullcontext():
        with Checkpoints(config) as checkpoints:
            checkpoints.check_data(mark, may_differ=resumption.allow_changes)
            introduce(config, data, told, tokenizer, beginning.encoder, teacher, placement)
            with hosts.first_alone("features"):
                views = features(config, data, beginning)
                taught = None if teacher is None else teach(config, data.train, teacher)
                if taught is None and not views and config.data.cache is not None:
                    training_pictures(data.train, config.data)  # made now, and found again when it is wanted
            if taught is not None:
                views, goal = {"train": taught.lessons}, taught.beside(goal, config.teacher.weight)
            del teacher  # with all its parameters
            is_finished = train(config, data, told, tokenizer, views, beginning, goal, placement, checkpoints)
        if not is_finished:
            print("a SIGTERM has ended training early: go on with --resume", file=sys.stderr)
            return RESTART
        hosts.wait("training is finished")
        if hosts.is_first():
            examine(config, data)
        hosts.wait("captioner is scored")
        return 0


def load_start(address: str) -> bundle.Bundle:
    """The captioner that a run goes on from. Raises UserError as `bundle.load`, and names the setting."""
    try:
        return bundle.load(bundle.found(address))
    except UserError as error:
        raise type(error)(f"train.start: {error}") from error


def train(
    config: Config,
    data: DataSet,
    told: Told,
    tokenizer: Tokenizer,
    views: Mapping[str, Views],
    beginning: Beginning,
    goal: Objective,
    placement: Placement,
    checkpoints: Checkpoints,
) -> bool:
    """From the beginning, or the newest checkpoint if there is one. The best captioner on validation images is kept.

    False where a SIGTERM has ended it early, after a checkpoint.
    """
    settings = config.train
    state = placement.place(beginning.hand_over())
    if checkpoints.latest is not None:
        shapes = shapes_of(placement.saved(state))
        del state  # before there is another
        state = placement.place(checkpoints.restore(shapes))
    first = checkpoints.latest or 0
    tracing = Trace(config.folder / "tensorboard", settings.profile if hosts.is_first() else None)
    steps = [tracing.around(step) for step in train_steps(config, beginning, goal, placement)]
    examiner = Examiner(config, beginning.graphdef, beginning.preprocessing, tokenizer, history=beginning.history)
    learning_rate = schedule(settings, settings.learning_rate)
    batches = training_batches(
        data.train, told, config.data, settings, first=first, share=hosts.share(), views=views.get("train")
    )
    telling = Progress(
        config.folder,
        first,
        settings.steps,
        settings.batch_size,
        skips=settings.bad_batches == "skip",
        writes=hosts.is_first(),
        is_due=checkpoints.best.is_due,
    )
    with telling as progress, tracing, Preemption() as preemption:
        batches = progress.awaited(batches)
        look = Look(examiner, data.validation, views, progress, checkpoints, preemption)
        step = first
        is_to_be_beaten = checkpoints.latest is None and settings.start is not None
        is_due = is_to_be_beaten or checkpoints.best.is_due
        if is_due:
            is_due = not look.at(placement.local(state.best_guess), step)
            if is_due and is_to_be_beaten:
                checkpoints.save(placement.saved(state), is_due=is_due)
        last, stop = first >= settings.steps or checkpoints.out_of_patience(settings.patience), is_due
        while not (last or stop):
            encoder_learns = step >= settings.encoder_from and not settings.encoder_frozen
            batch = next(batches)
            state, metrics = steps[encoder_learns](state, placement.spread(batch))
            progress.record(metrics, program=(encoder_learns, batch.tokens.shape))
            step += 1
            last = step == settings.steps
            if last or step % settings.log_every == 0:
                progress.tell(learning_rate(step - 1))
            if last or step % settings.evaluate_every == 0:
                progress.check(newest=True)
                is_due = not look.at(placement.local(state.best_guess), step)
                progress.restart_clock()
                if checkpoints.out_of_patience(settings.patience):
                    print(f"{settings.patience} evaluations without a better captioner: training stops at step {step}")
                    last = True
            stop = is_due or preemption.asked()
            if last or stop or step % settings.checkpoint_every == 0:
                progress.check(newest=True)
                checkpoints.save(placement.saved(state), is_due=is_due)
                progress.restart_clock()
    return last and not is_due


def train_steps(config: Config, beginning: Beginning, goal: Objective, placement: Placement) -> list[TrainStep]:
    """The compiled update with an encoder that does not learn yet, and with one that does."""
    make = functools.partial(
        make_train_step,
        beginning.graphdef,
        make_optimizer(config.train),
        beginning.preprocessing,
        config.train,
        placement.everywhere(goal),
        frozen_stages=config.model.encoder.frozen_stages,
        placement=placement,
    )
    return [make(encoder_learns=learns) for learns in (False, True)]


def objective(config: Config, train: Source, tokenizer: Tokenizer) -> Objective:
    """What is made small: the cross-entropy of people's captions; or minus the reward of the captioner's own."""
    people = CrossEntropy(config.train.label_smoothing)
    if config.train.objective == "cross_entropy":
        return people
    reward = make_reward(config.self_critical, train, tokenizer)
    return SelfCritical(reward, config.self_critical, config.data.max_length, people)


def features(config: Config, data: DataSet, beginning: Beginning) -> Mapping[str, Views]:
    """What a frozen encoder makes of training and validation images, if that is asked for; made now if need be."""
    if config.data.features is None:
        return {}
    eye = make_eye(config.model.encoder, beginning.graphdef, beginning.state.parameters, beginning.preprocessing)
    keep = functools.partial(load_features, config=config.data, eye=eye)
    validation = {name: keep(source, name, views=1) for name, source in data.validation.items()}
    return validation | {"train": keep(data.train, "train", views=config.data.views)}


def introduce(
    config: Config,
    data: DataSet,
    told: Told,
    tokenizer: Tokenizer,
    encoder: str,
    teacher: Teacher | None,
    placement: Placement,
) -> None:
    """Says what is about to be trained, on what, and what it must beat."""
    if data.problems and hosts.is_first():
        file = config.folder / "problems.txt"
        write_whole(file, "\n".join(data.problems) + "\n")
        print(f"{len(data.problems)} problems in the data, all in {file}:")
        print("\n".join(f"  {problem}" for problem in data.problems[:5]))
    splits = {"train": data.train} | data.validation | data.test
    print(data.about)
    print("images: " + ", ".join(f"{len(source)} {name}" for name, source in splits.items()))
    print(vocabulary(told, data.validation["validation"], tokenizer, config))
    print(f"encoder: {encoder}")
    if teacher is not None:
        print(f"its teacher: {teacher.about}")
    known = entropies(told.rows(config.data.max_length))
    print("entropy of the training captions, in nats a token:")
    print(f"  {known.unigram:.3f} by unigrams, {known.bigram:.3f} by bigrams; a captioner worth having needs fewer")
    print(f"run: {config.folder}, on {jax.devices()[0].device_kind}: {placement.about}", flush=True)


def vocabulary(told: Told, validation: Source, tokenizer: Tokenizer, config: Config) -> str:
    """How much of the captions it holds, and what may help where that is little."""
    unknown = Told.of(list(validation.captions()), tokenizer).unknown
    shares = [f"{len(tokenizer) - len(SPECIAL_TOKENS):,} {'words' if tokenizer.by_words else 'pieces of words'}"]
    shares += [f"{told.unknown:.1%} of the words of training captions and {unknown:.1%} of validation's are unknown"]
    length = config.data.max_length
    shares += [f"{told.cut(length):.1%} of training captions are cut at {length} tokens (data.max_length)"]
    remedy = (
        "a lower --data.min-count keeps more, and --data.tokenizer bpe takes any language"
        if config.train.start is None
        else "these are the words of train.start, and no others can be learned from there"
    )
    hint = f"\n  unknown words are never written: {remedy}"
    return f"vocabulary: {'; '.join(shares)}{hint * (max(told.unknown, unknown) > MANY_UNKNOWN)}"


def examine(config: Config, data: DataSet) -> None:
    """Scores the captioner directory itself, as `sample.py` will load it, on the test splits, and notes it there."""
    captioner = bundle.load(config.folder / "captioner")
    examiner = Examiner(
        config,
        captioner.graphdef,
        captioner.preprocessing,
        captioner.tokenizer,
        config.evaluation.beams,
        {name: captioner.training[name] for name in ("start", "teacher") if name in captioner.training},
    )
    scores = examiner.score(data.test, captioner.parameters, None)
    if scores:
        print("the best captioner on validation images, on images never seen:")
        show(scores, config.evaluation.examples)
    examiner.keep(captioner.parameters, captioner.scores | values(scores), captioner.training["step"])
    write_whole(config.folder / "scores.json", json.dumps(values(scores), indent=2) + "\n")
    if storage.is_elsewhere(config):
        storage.copy_captioner(config)
    print(f"caption images with it: python sample.py --captioner {config.folder / 'captioner'} IMAGE ...")


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
