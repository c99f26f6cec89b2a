"""Settings that contradict each other are refused, before anything is read."""

import dataclasses

import pytest

from captioner_jax.config import DataConfig, EvaluationConfig, SelfCriticalConfig
from captioner_jax.errors import UserError
from captioner_jax.training.contradictions import check_settings
from tests.training.test_beginning import config


@pytest.mark.parametrize(
    ("train", "data", "encoder", "message"),
    [
        ({}, {}, {"kind": "convnet", "weights": "here"}, "no weights are published for convnet"),
        ({"encoder_layer_decay": 0.5}, {}, {"kind": "convnet"}, "not for convnet"),
        ({}, {}, {"kind": "convnet", "ends_after": 1}, r"model\.encoder\.ends_after: it is not for convnet"),
        ({}, {}, {"kind": "vgg11", "batch_norm": "trained"}, r"model\.encoder\.batch_norm: it is not for vgg11"),
        ({}, {}, {"kind": "resnet18", "resnet_version": "1"}, r"encoder\.resnet_version: it is not for resnet18"),
        ({"encoder_frozen": True}, {}, {}, "a random encoder would stay so"),
        ({"encoder_frozen": True, "encoder_from": 1}, {}, {"weights": "here"}, r"train\.encoder_from: .* that learns"),
        (
            {"encoder_frozen": True, "encoder_learning_rate": 1e-4},
            {},
            {"weights": "here"},
            r"train\.encoder_learning_rate: .* that learns",
        ),
        ({}, {}, {"kind": "vgg11_bn"}, "no statistics to keep"),
        ({}, {}, {"kind": "resnet18"}, "no statistics to keep"),
        ({}, {}, {"kind": "densenet121"}, "no statistics to keep"),
        (
            {"encoder_frozen": True},
            {},
            {"kind": "resnet18", "weights": "here", "batch_norm": "trained"},
            "learns no statistics",
        ),
        ({}, {"features": "here"}, {"weights": "here"}, "does not change: --train.encoder-frozen"),
        ({}, {}, {"kind": "vit_s16", "frozen_stages": 1}, "stages of resnet, vgg and densenet"),
        ({"encoder_frozen": True}, {}, {"weights": "here", "frozen_stages": 1}, "take one of these"),
        ({}, {}, {"frozen_stages": 1}, "random ones would stay so"),
        ({"objective": "self_critical"}, {}, {}, "name a --train.start"),
        ({"start": "there"}, {}, {"weights": "here"}, "name one of the two"),
        (
            {},
            {},
            {"kind": "resnet18", "weights": "here", "frozen_stages": 1, "batch_norm": "trained"},
            "learn no statistics",
        ),
        ({}, {"views": 2}, {"weights": "here"}, "kept in a folder"),
        ({}, {"buckets": (9, 6), "max_length": 12}, {"weights": "here"}, "must rise"),
        ({}, {"buckets": (9, 12), "max_length": 12}, {"weights": "here"}, "must rise"),
        *(
            ({"encoder_frozen": True}, {"features": "f"} | change, {"weights": "here"}, "ask for more --data.views")
            for change in ({"flip": True}, {"crop": 0.5}, {"jitter": 0.1}, {"randaugment": 2.0})
        ),
        ({}, {}, {"ends_after": 6}, "vgg11 has 5 stages and cannot end after 6"),
        ({}, {"image_size": 20}, {"kind": "vit_s16", "ends_after": 1}, "does not divide into blocks of 16x16"),
    ],
)
def test_settings_that_cannot_be_meant_together_are_refused(train, data, encoder, message):
    with pytest.raises(UserError, match=message):
        check_settings(config(train, data, **encoder))


@pytest.mark.parametrize(("decoder", "places"), [("gpt2", 1024), ("bert", 512)])
def test_captions_longer_than_a_decoder_has_places_for_are_refused(decoder, places):
    whole = config({}, {"max_length": places + 1}, kind="vit_s16", ends_after=1)
    whole = dataclasses.replace(whole, model=dataclasses.replace(whole.model, decoder=decoder))
    with pytest.raises(UserError, match=f"max_length: this decoder has places for {places} tokens"):
        check_settings(whole)


def test_settings_of_rewards_without_rewards_are_refused():
    with pytest.raises(UserError, match=r"are for --train\.objective self_critical"):
        check_settings(dataclasses.replace(config(), self_critical=SelfCriticalConfig(captions=3)))


@pytest.mark.parametrize(
    ("critical", "others", "message"),
    [
        ({}, {"evaluation": EvaluationConfig(best="loss")}, "it cannot decide"),
        ({}, {"data": DataConfig(max_length=128)}, "of up to 127 tokens, not 128"),
        ({"captions": 1}, {}, "no others to be compared with"),
        ({"reward": "true", "bleu_4": 1.0}, {}, "goes with CIDEr-D"),
        ({"reward": "true"}, {"data": DataConfig(flip=True)}, "changed at random"),
    ],
)
def test_rewards_that_cannot_be_meant_are_refused(critical, others, message):
    whole = config({"objective": "self_critical", "start": "there"})
    whole = dataclasses.replace(whole, self_critical=SelfCriticalConfig(**critical), **others)
    with pytest.raises(UserError, match=message):
        check_settings(whole)
