"""Where a captioner that is scored comes from, and what is refused before anything is computed."""

import dataclasses
import json

import pytest

from captioner_jax import bundle, evaluate
from captioner_jax.config import DataConfig
from captioner_jax.data.load import load
from captioner_jax.errors import UserError
from captioner_jax.together import together
from tests.data.making import colour_folder
from tests.making import untrained


@pytest.fixture
def asked(tmp_path):
    """A captioner that knows nothing of its training, and photographs."""
    untrained().save(tmp_path / "captioner")
    photographs = colour_folder(tmp_path / "photographs", images=30)
    return [str(tmp_path / "captioner"), "--data.source", "folder", "--data.path", str(photographs)]


def test_a_captioner_that_tells_nothing_of_its_training_can_be_scored(asked, capsys):
    assert evaluate.main([*asked, "--split", "exam"]) == 1
    assert "there are train, validation, test" in capsys.readouterr().err


def test_a_captioner_may_come_from_the_hub(asked, tmp_path, monkeypatch, capsys):
    found = []
    monkeypatch.setattr(bundle, "found", lambda address: found.append(address) or tmp_path / "captioner")
    arguments = ["hf://owner/name", *asked[1:], "--ensemble", "hf://owner/other", "--split", "exam"]
    assert evaluate.main(arguments) == 1
    assert "name a folder by --output" in capsys.readouterr().err
    assert evaluate.main([*arguments, "--output", str(tmp_path / "scores")]) == 1
    assert "there are train, validation, test" in capsys.readouterr().err
    assert found[1:] == ["hf://owner/name", "hf://owner/other"]


def test_a_consensus_needs_captions_to_choose_from(asked, capsys):
    assert evaluate.main([*asked, "--split", "test", "--consensus", "10", "--beam", "1"]) == 1
    assert "a beam of 1 has one" in capsys.readouterr().err


def test_captions_too_long_to_be_compared_are_refused():
    long = dataclasses.replace(untrained(), max_length=200)
    with pytest.raises(UserError, match="captions of up to 127 tokens"):
        together([long], beams=2, consensus=2)


def test_scores_that_have_no_place_are_refused_before_anything_is_computed(asked, tmp_path, capsys):
    (tmp_path / "taken").touch()
    assert evaluate.main([*asked, "--split", "test", "--output", str(tmp_path / "taken")]) == 1
    assert (
        capsys.readouterr().err == f"error: {tmp_path}/taken: File exists: name a folder for the scores by --output\n"
    )


@pytest.mark.parametrize("option", ["beam", "batch-size", "data.max-length"])
def test_a_number_out_of_its_range_is_refused(option, asked, capsys):
    assert evaluate.main([*asked, f"--{option}", "0"]) == 1
    assert f"command line: {option.replace('-', '_')} = 0: input should be greater than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.framing", "whole"], "data.framing: this captioner is made for middle, and takes no other"),
        (["--data.image-size", "999"], "data.image_size: this captioner is made for 16, and takes no other"),
        (["--data.max-length", "3"], "data.max_length: this captioner is made for 9"),
        (["--data.features", "nowhere"], "data.features: captions are scored of the images themselves"),
        (["--beam", "4", "--consensus", "3", "--neighbours", "4"], "keeps no photographs"),
    ],
)
def test_what_would_not_be_done_is_refused_and_leaves_nothing(arguments, message, asked, tmp_path, capsys):
    assert evaluate.main([*asked, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captioner", "photographs"]


def test_a_split_may_be_called_as_people_call_it(asked, tmp_path, capsys):
    assert evaluate.main([*asked, "--beam", "1", "--split", "val"]) == 0
    assert "split:folder/validation|" in capsys.readouterr().out
    assert (tmp_path / "validation" / "scores.json").exists()


def test_all_splits_may_be_scored_together(asked, tmp_path, capsys):
    assert evaluate.main([*asked, "--beam", "1", "--split", "all"]) == 0
    data = load(DataConfig(source="folder", path=asked[-1]))
    names = [example.name for split in data.splits.values() for example in split]
    assert f"scoring {len(names)} images of all" in capsys.readouterr().out
    kept = json.loads((tmp_path / "all" / "references.json").read_text())
    assert [image["file_name"] for image in kept["images"]] == names


def test_the_captioner_is_told_first(asked, capsys):
    assert evaluate.main(["--beam", "2", *asked]) == 1
    assert "name a captioner before all options" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        evaluate.main(["--help"])
    assert "A captioner directory" in capsys.readouterr().out


def test_scores_tell_of_what_and_by_whom_they_are(asked, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    untrained(seed=5).save(other)
    assert evaluate.main([*asked, "--ensemble", str(other), "--beam", "2"]) == 0
    assert "split:folder/test|images:3|refs:2|" in capsys.readouterr().out
    scores = json.loads((tmp_path / "test" / "scores.json").read_text())
    assert "|search:beam2-captioners2|" in scores["signature"]
    assert scores["captioners"] == [asked[0], str(other)]
    rounded = tmp_path / "rounded"
    assert evaluate.main([*asked, "--beam", "2", "--precision", "bfloat16", "--output", str(rounded)]) == 0
    assert "|search:beam2-bfloat16|" in json.loads((rounded / "scores.json").read_text())["signature"]
    monkeypatch.chdir(tmp_path / "captioner")
    assert evaluate.main([".", *asked[1:], "--beam", "1"]) == 0
    assert not (tmp_path / "captioner" / "test").exists()
    assert evaluate.main([str(bundle.RELEASED), *asked[1:]]) == 1
    assert "name a folder by --output" in capsys.readouterr().err


def test_a_damaged_image_stops_where_that_is_asked_for(asked, tmp_path, capsys):
    name = load(DataConfig(source="folder", path=asked[-1])).splits["test"][1].name
    (tmp_path / "photographs" / name).write_bytes(b"no image")
    assert evaluate.main([*asked, "--beam", "1"]) == 0
    assert "1 images could not be used and are not scored" in capsys.readouterr().out
    assert evaluate.main([*asked, "--beam", "1", "--data.on-error", "stop"]) == 1
    assert f"{name}: not an image" in capsys.readouterr().err


ONE = "two dogs run through grass"
OTHER = "a man rides a wave"
RESULTS = {
    "results.json": json.dumps([{"image_id": "a.jpg", "caption": ONE}, {"image_id": "sub/b.jpg", "caption": OTHER}]),
    "results.jsonl": "".join(
        json.dumps({"image": f"there/{image}", "caption": caption, "score": -1}) + "\n"
        for image, caption in (("a.jpg", ONE), ("sub/b.jpg", OTHER))
    ),
    "results.csv": f"image,caption,score,log_p\nthere\\a.jpg,{ONE},-1,-2\nthere\\sub\\b.jpg,{OTHER},-1,-2\n",
    "results.txt": f"a.jpg\t{ONE}\n./sub/b.jpg\t{OTHER}\n",
}
PEOPLE = [("a.jpg", ONE), ("a.jpg", "dogs on a lawn"), ("sub/b.jpg", OTHER), ("b.jpg", "a street"), ("c.jpg", "a cat")]
REFERENCES = {
    "references.csv": "image,caption\n" + "".join(f"{image},{caption}\n" for image, caption in PEOPLE),
    "references.json": json.dumps(
        {
            "images": [{"id": n, "file_name": name} for n, name in enumerate(("a.jpg", "sub/b.jpg", "b.jpg", "c.jpg"))],
            "annotations": [
                {"image_id": ["a.jpg", "sub/b.jpg", "b.jpg", "c.jpg"].index(image), "caption": caption}
                for image, caption in PEOPLE
            ],
        }
    ),
}


@pytest.mark.parametrize("results", RESULTS)
@pytest.mark.parametrize("references", REFERENCES)
def test_anybodys_captions_are_scored_by_the_images_names(results, references, tmp_path, capsys):
    if results.endswith(".json") and references.endswith(".json"):
        pytest.skip("these are by ids")
    (tmp_path / results).write_text(RESULTS[results])
    (tmp_path / references).write_text(REFERENCES[references])
    assert evaluate.main(["score", str(tmp_path / results), str(tmp_path / references)]) == 0
    out = capsys.readouterr().out
    assert "2 captions of 4 images with references" in out
    assert "BLEU-4     1.0000" in out


def test_captions_are_compared_with_others_of_the_same_images(tmp_path, capsys):
    files = {"ours.txt": RESULTS["results.txt"], "theirs.csv": f"image,caption\na.jpg,{OTHER}\nsub/b.jpg,{ONE}\n"}
    files |= {"fewer.csv": f"image,caption\na.jpg,{OTHER}\n", "references.csv": REFERENCES["references.csv"]}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    ours, theirs, fewer, references = (str(tmp_path / name) for name in files)
    out = tmp_path / "scores.json"
    assert evaluate.main(["score", ours, references, "--against", theirs, "--output", str(out)]) == 0
    assert "BLEU-4    +1.0000   +1.0000 to +1.0000 *" in capsys.readouterr().out
    assert json.loads(out.read_text())["against"]["bleu_4"]["low"] == pytest.approx(1)
    assert evaluate.main(["score", ours, references, "--against", fewer]) == 1
    assert "fewer.csv has captions of 1 images, of which 1 are among the 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.jpg\ta dog\nb/a.jpg\ta dog\n", "two files of one name"),
        ("a.jpg\ta dog\na.jpg\ta cat\n", "2 captions of a.jpg, and one is to be scored"),
        ("a.jpg\n", "no tab between image and caption"),
        ("a.jpg\ta dog\nd.jpg\t\n", "1 lines cannot be used"),
        ("d.jpg\ta dog\n", 'has no captions of 1 images in RESULTS: "d.jpg"\n'),
        ("x/b.jpg\ta dog\n", None),
        ("b.jpg\ta dog\n", None),
        ("y/sub/b.jpg\ta dog\n", None),
    ],
)
def test_captions_of_which_it_is_not_clear_whose_they_are_are_not_scored(lines, message, tmp_path, capsys):
    (tmp_path / "results.txt").write_text(lines)
    (tmp_path / "references.csv").write_text(REFERENCES["references.csv"])
    code = evaluate.main(["score", str(tmp_path / "results.txt"), str(tmp_path / "references.csv")])
    err = capsys.readouterr().err.replace(str(tmp_path / "results.txt"), "RESULTS")
    assert (code, message is None or message in err) == (message is not None, True), err


def test_an_image_that_may_be_either_of_two_is_neither(tmp_path, capsys):
    (tmp_path / "references.csv").write_text("image,caption\nx/b.jpg,a dog\ny/b.jpg,a cat\n")
    for name, code in (("b.jpg", 1), ("z/y/b.jpg", 0)):
        (tmp_path / "results.txt").write_text(f"{name}\ta dog\n")
        assert evaluate.main(["score", str(tmp_path / "results.txt"), str(tmp_path / "references.csv")]) == code
    assert "has no captions of 1 images in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("results", "annotations", "message"),
    [
        ("1", 1, '1 images in RESULTS: "1"; there they are numbers, or texts, and here not'),
        (1, "1", "1 images in RESULTS: 1; there they are numbers, or texts, and here not"),
        (2, 1, "1 images in RESULTS: 2\n"),
        (True, 1, 'RESULTS entry 0: wanted "image_id" (a number or a text)'),
    ],
)
def test_images_that_nobody_wrote_of_are_named_as_the_file_has_them(results, annotations, message, tmp_path, capsys):
    files = {"results.json": [{"image_id": results, "caption": "a dog"}]}
    files["annotations.json"] = {"annotations": [{"id": 1, "image_id": annotations, "caption": "a dog"}]}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert evaluate.main(["score", *(str(tmp_path / name) for name in files)]) == 1
    assert message in capsys.readouterr().err.replace(str(tmp_path / "results.json"), "RESULTS")
