"""Every setting of a training run, each default once. TOML files and command-line overrides become these."""

import dataclasses
import datetime
import difflib
import functools
import json
import numbers
import os
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import tyro
from annotated_types import Ge, Gt, Le, Lt

from captioner_jax.errors import UserError, naming

Positive = Annotated[int, Gt(0)]
NotNegative = Annotated[int, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Fusion = Literal["cross", "concat", "weighted", "sigmoid"]
Seed = Annotated[int, Ge(0), Lt(2**63)]
# Of a picture that a model sees, in pixels, and of a caption in tokens: no captioner has more, and no machine could.
Side = Annotated[int, Ge(1), Le(10_000)]
Length = Annotated[int, Ge(2), Le(10_000)]
Precision = Literal["float32", "bfloat16"]
Criterion = Literal["cider_d", "loss", "true"]
Framing = Literal["middle", "whole"]
"""How a picture becomes a square: its middle is taken, or the whole of it is squeezed into one."""

# fmt: off
EncoderKind = Literal[
    "convnet",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "densenet121", "densenet169", "densenet201",
    "vit_s16", "vit_b16", "clip_b32", "clip_b16", "clip_l14", "blip_b16", "blip_l16",
]
# fmt: on

Settings = TypeVar("Settings")
STRICT = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder: pixels to a grid of cells."""

    __pydantic_config__ = STRICT

    kind: EncoderKind = "convnet"
    """A small network to be trained from scratch; or a classic one, for which weights are published."""
    stem: Positive = 4
    """convnet: stride of the first convolution; its kernel is twice as large."""
    widths: tuple[Positive, ...] = (64, 128)
    """convnet: channels of each stage, multiples of 16; each stage after the first halves the grid."""
    blocks: tuple[NotNegative, ...] = (0, 2)
    """convnet: residual blocks of each stage."""
    ends_after: Positive | None = None
    """Classic ones: stages (vit, clip, blip: blocks) that are used, the first ones; None: all."""
    resnet_version: Literal["1", "1.5"] = "1.5"
    """resnet50 and deeper: where a stage halves the grid, in its first 1x1 convolution or, as torchvision, its 3x3."""
    batch_norm: Literal["frozen", "trained"] = "frozen"
    """Whether batch normalisation keeps the statistics of the published weights, or learns new ones."""
    frozen_stages: NotNegative = 0
    """resnet, vgg, densenet: stages, the first ones, that stay as they began while those above them learn."""
    weights: str | None = None
    """Published weights to begin with: a .safetensors or .pth file, a folder with model.safetensors or
    pytorch_model.bin in it, or hf://OWNER/NAME."""
    normalisation: Literal["imagenet", "half", "clip"] | None = None
    """By what pixels are centred and scaled; None: as those who published the weights did."""


@dataclass(frozen=True)
class ModelConfig:
    """The captioner: encoder, then Transformer decoder."""

    __pydantic_config__ = STRICT

    width: Positive = 128
    """D, the width of the decoder; a multiple of 4."""
    heads: Positive = 4
    """N, attention heads; they divide the width."""
    feed_forward: Positive = 256
    """F, the inner width of the feed-forward network."""
    layers: Annotated[Positive, Le(1000)] = 2
    """L, decoder blocks."""
    decoder: Literal["plain", "gpt2", "bert"] = "plain"
    """That of the formulas; or, for published captioners, GPT-2's or BERT's, which read all tokens of a Vision
    Transformer as they are."""
    tied: bool = True
    """gpt2, bert: the output matrix is the words' embedding; some published captioners have one of its own."""
    fusion: Fusion = "cross"
    """How image features F meet text features T: words attend to cells; one sequence [F; T]; what a word sees and what
    it knows, weighted by sigma(W_F F + W_T T); or that sigma alone."""
    position_scale: Annotated[float, Gt(0)] = 3.0
    """How loud the places of image cells are beside their contents."""
    dropout: Share = 0.0
    """Share of activations dropped while training."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def architecture(self) -> dict[str, Any]:
        """The settings that decide what its variables mean."""
        encoder = self.encoder
        if encoder.kind == "convnet":
            encoder = EncoderConfig(stem=encoder.stem, widths=encoder.widths, blocks=encoder.blocks)
        else:
            encoder = EncoderConfig(encoder.kind, ends_after=encoder.ends_after, resnet_version=encoder.resnet_version)
        return dataclasses.asdict(dataclasses.replace(self, encoder=encoder, dropout=0.0))


@dataclass(frozen=True)
class TeacherConfig:
    """An encoder that has learned to see, whose cells the captioner's own encoder learns to foresee while it trains."""

    __pydantic_config__ = STRICT

    features: str | None = None
    """Folder for what it makes of the training images, computed once; None: there is no teacher."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """A classic one, with published weights."""
    image_size: Side = 224
    """Side in pixels of the square that it sees; its grid of cells must be that of the captioner's encoder."""
    views: Positive = 1
    """Parts of each training image that it sees, the first as evaluation does, the others crops by data.crop."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Beside the loss, of the mean squared error against its cells' principal components, whose variance is 1."""

    @property
    def is_there(self) -> bool:
        return self.features is not None


@dataclass(frozen=True)
class SplitFiles:
    """Files that list the images of each split, a name a line; relative to data.path."""

    __pydantic_config__ = STRICT

    train: str | None = None
    """Images to train on."""
    validation: str | None = None
    """Images to watch while training."""
    test: str | None = None
    """Images to score at the end."""


@dataclass(frozen=True)
class TfdsNames:
    """Where a TensorFlow Datasets data set, prepared as array_record, keeps what a captioner needs."""

    __pydantic_config__ = STRICT

    name: str = "coco_captions"
    """The data set, with its configuration and version if need be."""
    image: str = "image"
    """Feature that holds the encoded image."""
    captions: str = "captions/text"
    """Feature that holds the captions, a slash between the levels."""
    train: str = "train+restval"
    """Split to train on."""
    validation: str = "val"
    """Split to watch while training."""
    test: str = "test"
    """Split to score at the end."""


@dataclass(frozen=True)
class DataConfig:
    """Images and their captions, and how they become arrays."""

    __pydantic_config__ = STRICT

    source: Literal["shapes", "folder", "coco", "flickr8k", "flickr30k", "shards", "tfds"] = "shapes"
    """Drawn scenes; a folder of images with a captions file; COCO Captions, Flickr8k or Flickr30k as people hold them;
    tar shards; any other TensorFlow Datasets data set."""
    path: str | None = None
    """Where your files lie: folder, coco, flickr8k, flickr30k, shards."""
    data_dir: str | None = None
    """TensorFlow Datasets directory, if not the usual one: shapes, flickr8k, flickr30k, tfds."""
    images: str = "."
    """folder, flickr8k, flickr30k: the folder or .tar file of the images, relative to data.path."""
    captions: str | None = None
    """folder, coco, flickr8k, flickr30k: captions file, relative to data.path: .csv, .jsonl, .json of COCO or
    Karpathy, Flickr token file. Found if it has a usual name."""
    splits: SplitFiles = field(default_factory=SplitFiles)
    held_out: Annotated[float, Gt(0), Lt(0.5)] = 0.1
    """folder, shards, where no splits are given: share of the images for validation, and again for test. coco without
    Karpathy's file: share of val, where that has too few images for the usual 5,000 each."""
    restval: bool = True
    """Karpathy's JSON: train on its train and restval (113,287 images), as is usual; or on his train alone (82,783)."""
    tfds: TfdsNames = field(default_factory=TfdsNames)
    image_size: Side = 64
    """Side in pixels of the square that the model sees."""
    framing: Framing = "middle"
    """What of a picture is in that square: its middle, in shape; or the whole of it, squeezed."""
    tokenizer: Literal["words", "bpe"] = "words"
    """Words of the Penn Treebank kind, or byte-level pairs, which take any language and never meet an unknown word."""
    min_count: Positive = 1
    """words: those seen less often in training captions become <unk>."""
    vocabulary: Annotated[int, Ge(300)] = 10_000
    """bpe: entries at most. words, where there is only a plan: entries if the captions are not there."""
    max_length: Length = 26
    """T, the longest caption in tokens, <end> included; longer ones are cut."""
    shards_at_once: Positive | None = None
    """shards: mix the images of this many tars at a time, so that a slow disk is read at length; None mixes all."""
    buckets: tuple[Positive, ...] = ()
    """Shorter T, in rising order: captions of like length share a step, at the least T that holds them all."""
    captions_per_image: Positive = 1
    """Captions of an image that one step trains on, drawn anew each epoch; the encoder runs once for all."""
    crop: Annotated[float, Gt(0), Le(1)] = 1.0
    """Smallest share of a training image's area that a random crop is drawn with; 1 crops nothing."""
    flip: bool = False
    """Mirror half of the training images; not those whose captions say left or right."""
    jitter: Share = 0.0
    """Brightness, contrast and saturation of training images change by factors of 1 - jitter to 1 + jitter."""
    randaugment: Annotated[float, Ge(0), Le(10)] = 0.0
    """Strength M of RandAugment on training images, two changes each; 0 is none."""
    cache: str | None = None
    """Folder for training images decoded and scaled down once, in place of decoding them in every epoch. Remove it
    where images were changed under their old names."""
    features: str | None = None
    """Folder for what an encoder, or the stages of it, that are frozen make of the training and validation images:
    computed once, then trained on."""
    views: Positive = 1
    """data.features: views of each training image, the first as evaluation sees it, the others augmented."""
    views_seed: Seed = 0
    """data.features, teacher.features: decides how views are augmented; not train.seed, so that runs of several seeds
    share them."""
    workers: NotNegative = 0
    """Processes that decode images; 0 decodes in threads of this one."""
    on_error: Literal["skip", "stop"] = "skip"
    """A damaged image: name it, count it and train on without it, or stop."""


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    __pydantic_config__ = STRICT

    objective: Literal["cross_entropy", "self_critical"] = "cross_entropy"
    """To find people's captions likely; or, once that is learned, to write captions of great reward."""
    start: str | None = None
    """A captioner directory, or hf://OWNER/NAME, to start from, with its vocabulary."""
    steps: Positive = 3000
    """Updates of the parameters."""
    batch_size: Positive = 32
    """Images a step, on all devices together."""
    accumulate: Positive = 1
    """Parts of a batch that are looked at one after another before the update, where a batch is too large at once."""
    precision: Precision = "float32"
    """Of what is computed in a step; parameters, gradients, optimizer, softmax, normalisation and loss are float32."""
    remat: bool = False
    """Compute blocks, and in cross-entropy logits by parts, again on the way back, in place of keeping them: less
    memory, more time."""
    learning_rate: Annotated[float, Gt(0)] = 2e-3
    """At its height, after the warm-up; of AdamW."""
    matrix_learning_rate: Annotated[float, Gt(0)] | None = None
    """If set, hidden layers' matrices and kernels learn by Muon, at this height, and only the rest by AdamW."""
    encoder_frozen: bool = False
    """Whether the encoder stays as it was published, and only the rest learns."""
    encoder_from: NotNegative = 0
    """Step from which an encoder that is not frozen learns. AdamW counts from the run's first step even so: after many
    steps without a gradient its moments are not corrected any more, and some 30 of the encoder's first steps are up to
    half as large again as its learning rate says."""
    encoder_learning_rate: Annotated[float, Gt(0)] | None = None
    """If set, the encoder learns by AdamW, at this height."""
    encoder_layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Each stage (vit, clip: block) of a classic encoder learns by this factor slower than the one after it."""
    warmup: NotNegative = 200
    """Steps over which the learning rates rise from zero; they fall along a cosine to zero afterwards."""
    weight_decay: Annotated[float, Ge(0)] = 0.05
    """On matrices and kernels, decoupled from the gradient and times the learning rate of each; biases and
    normalisation scales are left alone."""
    beta_2: Share = 0.98
    """AdamW's memory of squared gradients."""
    clip: Annotated[float, Gt(0)] = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    spike: Annotated[float, Gt(0)] | None = None
    """If set, a batch whose gradient is as long as this is bad, as is always one with a loss that is not finite."""
    bad_batches: Literal["stop", "skip"] = "stop"
    """Stop at a bad batch; or leave everything as it was before it, say so, and go on."""
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    """If set, the captioner is the exponential moving average of the weights, this share of it kept at each step."""
    label_smoothing: Share = 0.0
    """Probability mass spread evenly over the vocabulary (Szegedy et al. 2016)."""
    seed: Annotated[Seed, Lt(2**32)] = 0
    """Of parameters, dropout, shuffling and augmentation."""
    log_every: Positive = 50
    """Steps between lines of progress."""
    evaluate_every: Positive = 500
    """Steps between evaluations on the validation split."""
    checkpoint_every: Positive = 500
    """Steps between checkpoints."""
    checkpoints: str | None = None
    """Where checkpoints are kept, by the run's name: a folder, or gs://BUCKET/FOLDER; None: in the run's own folder."""
    keep_checkpoints: Positive = 2
    """Checkpoints kept, the newest."""
    keep_every: Positive | None = None
    """If set, checkpoints of steps that are multiples of this are kept besides."""
    patience: Positive | None = None
    """If set, training stops after so many evaluations in a row without a better captioner."""
    profile: Positive | None = None
    """If set, what so many steps do, once the first have compiled, is traced for TensorBoard, XProf or Perfetto."""


@dataclass(frozen=True)
class DevicesConfig:
    """On what a step is computed. The numbers are the same on all, up to rounding, but for dropout."""

    __pydantic_config__ = STRICT

    parallel: Literal["jit", "pmap"] = "jit"
    """One program that the compiler divides among a mesh of devices; or one for each device, that sums with others."""
    data: Positive | None = None
    """Shares that each batch is cut into; None: as many as there are devices for."""
    model: Positive = 1
    """jit: shares that attention heads and feed-forward layers are cut into; data x model devices are used."""
    fsdp: bool = False
    """jit: keep parameters and optimizer state in shares too, as many as data says, and not whole on every device."""
    hosts: Literal["one", "found", "told"] = "one"
    """Whether this process trains alone; or with others, that Cloud TPU, Slurm or Open MPI know; or that you name."""
    coordinator: str | None = None
    """told: HOST:PORT where process 0 listens."""
    processes: Positive | None = None
    """told: how many processes train together."""
    process: NotNegative | None = None
    """told: which of them this is, from 0."""


@dataclass(frozen=True)
class SelfCriticalConfig:
    """What captions that the captioner writes while it trains are worth; for train.objective = self_critical."""

    __pydantic_config__ = STRICT

    captions: Positive = 5
    """K, captions written of each image."""
    written_by: Literal["sampling", "beams"] = "sampling"
    """Drawn word by word from the captioner's distribution; or the K that a beam search finds."""
    baseline: Literal["others", "greedy"] = "others"
    """What a caption's reward is compared with: the mean of the image's other captions, or the greedy caption's."""
    reward: Literal["cider_d", "true"] = "cider_d"
    """CIDEr-D against all captions of the image; or, of drawn scenes, 1 for what is true and complete, 0.5 for true."""
    bleu_4: Annotated[float, Ge(0)] = 0.0
    """With CIDEr-D: weight of the caption's BLEU-4 beside it."""
    cross_entropy: Share = 0.0
    """Weight of the cross-entropy on the image's captions, in the place of as much of the rewards'."""
    entropy: Annotated[float, Ge(0)] = 0.0
    """What a nat of entropy of a word's distribution is worth, so that captions stay varied."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is looked at while training and at the end."""

    __pydantic_config__ = STRICT

    images: Positive = 200
    """Images of a split looked at while training; the final scores take them all."""
    best: Criterion = "cider_d"
    """Which captioner is kept: that of greatest CIDEr-D, least loss, or most true captions, on the validation split."""
    examples: NotNegative = 4
    """Captions shown beside their references."""
    batch_size: Positive = 50
    """Images at a time, on all devices together."""
    beams: Positive = 1
    """K, the width of the search at the end; 1 is greedy, as always while training."""


@dataclass(frozen=True)
class Config:
    """A training run."""

    __pydantic_config__ = STRICT

    name: str = "shapes"
    """Of the run: its folder within `runs`."""
    runs: str = "runs"
    """Folder that holds a folder for each run."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    self_critical: SelfCriticalConfig = field(default_factory=SelfCriticalConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def folder(self) -> Path:
        """Where the run keeps metrics, its captioner and, as a rule, checkpoints."""
        return Path(self.runs) / self.name


def from_toml(path: str | os.PathLike[str]) -> Config:
    """The configuration in a TOML file. Raises UserError where it cannot be read, naming each mistake."""
    try:
        with naming(path):
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    return from_dict(settings, str(path))


def from_dict(settings: dict[str, Any], where: str) -> Config:
    """The configuration that these nested settings make. Raises UserError naming each mistake, `where` it stands."""
    return validated(Config, settings, where)


def validated(kind: type[Settings], settings: dict[str, Any], where: str) -> Settings:
    """A dataclass of settings from nested ones. Raises UserError naming each mistake, `where` it stands."""
    try:
        as_json = json.dumps(settings, default=_as_json_has_it)
        return _adapter(kind).validate_json(as_json, strict=True)
    except pydantic.ValidationError as error:
        raise UserError("\n".join(f"{where}: {_mistake(e, kind)}" for e in error.errors())) from None
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    """Made once: it takes longer than what it is for."""
    return pydantic.TypeAdapter(kind)


def _as_json_has_it(value: Any) -> str | int | float:
    """A date, which TOML knows and here is a text; NumPy's numbers. Raises TypeError for others."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, numbers.Integral | numbers.Real):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    raise TypeError(f"{value!r} is no setting, of type {type(value).__name__}")


def checked(options: Settings) -> Settings:
    """A program's options, of which tyro looks at the types alone; not those of nested dataclasses.

    Raises UserError naming each that is out of its range.
    """
    try:
        return pydantic.TypeAdapter(type(options)).validate_python(vars(options))
    except pydantic.ValidationError as error:
        raise UserError("\n".join(f"command line: {_mistake(e, type(options))}" for e in error.errors())) from None


@dataclass(frozen=True)
class Resumption:
    """How a run that may have been begun before is to be taken."""

    resume: bool = False
    """Go on from the newest checkpoint of this run; without it, a run that has checkpoints is not started again."""
    begin_or_resume: bool = False
    """Begin, or go on if there is a checkpoint: for whatever starts the same command again and again."""
    allow_changes: bool = False
    """Go on though settings differ from those that the run was begun with."""


@dataclass(frozen=True)
class Planning:
    """Whether to plan a run, and not to begin it."""

    plan: str | None = None
    """Trains nothing: says what it would take of TPU slices that need not be there, such as v5e:4x4,v4:2x2x1."""


def from_command_line(arguments: list[str]) -> tuple[Config, Resumption, Planning]:
    """`[CONFIG.toml] [--resume] [--section.key value ...]` as a configuration, and what to do with it.

    Without a file the settings are those of the defaults. Leaves the program with a message where an option is
    unknown or ill-typed, and where help is asked for. Raises UserError for a mistake in the file or in a value.
    """
    file = arguments[0] if arguments and not arguments[0].startswith("-") else None
    base = from_toml(file) if file else Config()
    command = tyro.cli(
        _Command,
        args=arguments[1:] if file else arguments,
        default=_Command(**vars(base)),
        prog="train.py [CONFIG.toml]",
        description="Trains a captioner. Settings come from the TOML file or the defaults, and from these options.",
    )
    settings = dataclasses.asdict(command)
    resumption, planning = _taken(Resumption, settings), _taken(Planning, settings)
    return from_dict(settings, "command line"), resumption, planning


@dataclass(frozen=True)
class _Command(Config, Resumption, Planning):
    """A training run: started, resumed or planned."""


def _taken(kind: type[Settings], settings: dict[str, Any]) -> Settings:
    """Those of a dataclass, which are not left among the others."""
    return kind(**{field.name: settings.pop(field.name) for field in dataclasses.fields(typing.cast(Any, kind))})


def _mistake(error: Any, kind: Any) -> str:
    """One of pydantic's findings in words: where it lies, what is wrong, and the nearest right name."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "json_invalid":  # which surrogates make it; the input is all settings
        return "a path or another text is not UTF-8: rename what it names"
    if error["type"] != "unexpected_keyword_argument":
        return f"{key} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
    near = difflib.get_close_matches(key, _keys(kind), n=1, cutoff=0.5)
    return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")


def _keys(section: Any, prefix: str = "") -> list[str]:
    """The dotted names of all settings and sections."""
    keys = []
    for name, kind in typing.get_type_hints(section).items():
        if name.startswith("__"):
            continue
        keys.append(prefix + name)
        if dataclasses.is_dataclass(kind):
            keys += _keys(kind, f"{prefix}{name}.")
    return keys
