"""Reports: scores, signature, COCO's files."""

import json

import pytest

from captioner_jax.errors import UserError
from captioner_jax.evaluation import java
from captioner_jax.evaluation.bleu import bleu, bleu_counts
from captioner_jax.evaluation.cider import cider, cider_d
from captioner_jax.evaluation.coco_files import image_id, read_references, read_results, to_references, to_results
from captioner_jax.evaluation.report import make_report, quick_scores, signature
from captioner_jax.text import ptb

REFERENCES = [("A dog runs.", "The brown dog is running!"), ("Two men on a boat", "two people ride in a boat")]


def test_words_are_compared_without_case_and_punctuation():
    alike = [captions[0].upper() + " ?" for captions in REFERENCES]
    assert quick_scores(alike, REFERENCES) == quick_scores([captions[0] for captions in REFERENCES], REFERENCES)


def test_a_report_holds_what_its_parts_say(monkeypatch):
    monkeypatch.setattr(java, "available", lambda: False)
    captions = ["A dog runs.", "a boat with a"]
    report = make_report(captions, REFERENCES, training=["a dog runs"], truncated=[False, True], searched="greedy")
    assert report.scores["cider_d"].estimate == pytest.approx(quick_scores(captions, REFERENCES)["cider_d"])
    assert report.diagnostics.copied == report.diagnostics.bad_endings == report.diagnostics.truncated == 0.5
    assert report.others["meteor"] is None
    table = report.table()
    assert "METEOR    not computed" in table
    assert "images:2|refs:2|" in table
    assert "search:greedy" in table
    assert json.loads(json.dumps(report.to_json()))["scores"]["spice"] is None
    monkeypatch.setattr(java, "available", lambda: True)
    assert "METEOR    not computed: it failed" in report.table()


def test_files_come_back_as_they_went(tmp_path):
    names = ["val2014/COCO_val2014_000000000042.jpg", "my dog.jpg"]
    (tmp_path / "c.json").write_text(json.dumps(to_results(names, ["a dog", "a cat 猫"])))
    (tmp_path / "r.json").write_text(json.dumps(to_references(names, REFERENCES)))
    assert read_results(tmp_path / "c.json") == {42: "a dog", "my dog.jpg": "a cat 猫"}
    assert read_references(tmp_path / "r.json") == {42: list(REFERENCES[0]), "my dog.jpg": list(REFERENCES[1])}


def test_images_of_one_number_keep_their_names(tmp_path):
    names = ["one/000000000042.jpg", "two/000000000042.jpg"]
    (tmp_path / "c.json").write_text(json.dumps(to_results(names, ["a dog", "a cat"])))
    (tmp_path / "r.json").write_text(json.dumps(to_references(names, REFERENCES)))
    assert list(read_results(tmp_path / "c.json")) == list(read_references(tmp_path / "r.json")) == names


def test_words_are_cut_at_no_break_spaces_for_bleu_and_cider_alone():
    """As the official scorers do, which split the tokenizer's lines anew; only that of ROUGE splits at spaces alone."""
    captions, references = ["a 2 1/2 story house", "a dog"], [["the 2 1/2 story house"], ["one dog"]]
    assert ptb.words(captions[0]) == ["a", "2\xa01/2", "story", "house"]
    cut = (
        [["a", "2", "1/2", "story", "house"], ["a", "dog"]],
        [[["the", *["2", "1/2", "story", "house"]]], [["one", "dog"]]],
    )
    scores = make_report(captions, references).scores
    assert (
        scores["bleu_4"].estimate == bleu(bleu_counts(*cut).total())[-1] == quick_scores(captions, references)["bleu_4"]
    )
    assert scores["cider_d"].estimate == cider_d(*cut).mean()
    assert scores["rouge_l"].estimate == pytest.approx((3 / 4 + 1 / 2) / 2)  # of equal length: precision is recall


@pytest.mark.parametrize(
    ("name", "number"),
    [("000000391895.jpg", 391895), ("a/COCO_train2014_000000000009.jpg", 9), ("1234.jpg", "1234.jpg")],
)
def test_only_cocos_names_are_numbers(name, number):
    assert image_id(name) == number


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "wanted a list"),
        ('[{"image_id": 1}]', "entry 0"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]', "entry 1: image 1 has a caption"),
    ],
)
def test_results_of_no_use_are_refused(tmp_path, content, message):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "c.json")


def test_references_of_no_use_are_refused(tmp_path):
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(UserError, match="annotations"):
        read_references(tmp_path / "r.json")
    with pytest.raises(UserError, match="No such file"):
        read_references(tmp_path / "none.json")


def test_cider_in_its_first_form_is_that_and_not_cider_d():
    captions = ["A dog dog runs runs runs runs.", "a boat with a"]
    references = [("A dog runs.", "The brown dog is running!"), ("Two men on a boat", "two people ride in a boat")]
    cut = [ptb.parts(one) for one in captions], [[ptb.parts(one) for one in several] for several in references]
    found = make_report(captions, references).others["cider"]
    assert found == pytest.approx(cider(*cut).mean())
    assert found != pytest.approx(cider_d(*cut).mean())


def test_programs_in_java_get_captions_as_people_write_them(monkeypatch):
    """But for the space within a number, which these would cut at."""
    got = []
    monkeypatch.setattr(java, "scores", lambda *both: got.append(both) or {"meteor": None, "spice": None})
    make_report(["a 2 1/2 story house", "a dog"], [["the 2 1/2 story house"], ["one dog"]])
    assert got == [(["a 2\xa01/2 story house", "a dog"], [["the 2\xa01/2 story house"], ["one dog"]])]


def test_a_signature_tells_of_unlike_numbers_of_references():
    assert "|refs:1-3|" in signature([["a"], ["a", "b", "c"]], "greedy", "test")


def test_true_is_no_image(tmp_path):
    (tmp_path / "captions.json").write_text('[{"image_id": true, "caption": "a"}]')
    with pytest.raises(UserError, match="entry 0"):
        read_results(tmp_path / "captions.json")
