"""Captions files as people have them, mistakes included."""

import json

import pytest

from captioner_jax.data.caption_files import read_captions
from captioner_jax.errors import UserError


def read(tmp_path, name, text, encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_captions(tmp_path / name)


def test_csv(tmp_path):
    text = 'image,caption,split\na b.jpg,"a dog, running",train\na b.jpg,"a ""good"" dog",train\nc.png,一只猫 🐈,val\n'
    found = read(tmp_path, "captions.csv", text)
    assert found.by_image == {"a b.jpg": ["a dog, running", 'a "good" dog'], "c.png": ["一只猫 🐈"]}
    assert found.splits == {"a b.jpg": "train", "c.png": "validation"}
    assert not found.problems


def test_csv_with_mistakes_names_their_lines(tmp_path):
    text = 'image,caption\na.jpg,a dog, running\nb.jpg\nc.jpg,  \n,a cat\nd.jpg,"two\nlines"\n'
    found = read(tmp_path, "captions.csv", text)
    assert found.by_image == {"d.jpg": ["two lines"]}
    assert [problem.split(":")[0] for problem in found.problems] == [f"captions.csv line {i}" for i in (2, 3, 4, 5)]


def test_csv_by_excel_has_a_byte_order_mark(tmp_path):
    assert read(tmp_path, "c.csv", "image,caption\r\na.jpg,a dog\r\n", "utf-8-sig").by_image == {"a.jpg": ["a dog"]}


def test_json_lines(tmp_path):
    lines = ['{"image": "a.jpg", "caption": "a\\tdog"}', "", "{not json", '{"image": "b.jpg"}', "[1]"]
    found = read(tmp_path, "captions.jsonl", "\n".join(lines))
    assert found.by_image == {"a.jpg": ["a dog"]}
    assert [problem.split(":")[0] for problem in found.problems] == [f"captions.jsonl line {i}" for i in (3, 4, 5)]


def test_coco(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "caption": "a dog "}, {"image_id": 8, "caption": "a cat"}, {"image_id": 7}],
    }
    found = read(tmp_path, "captions.json", json.dumps(content))
    assert found.by_image == {"a.jpg": ["a dog"]}
    assert len(found.problems) == 2


def test_flickr_tokens(tmp_path):
    found = read(tmp_path, "t.txt", "a.jpg#0\tA dog .\na.jpg#1\tA brown dog .\nno tab here\n")
    assert found.by_image == {"a.jpg": ["A dog .", "A brown dog ."]}
    assert found.problems == ["t.txt line 3: no tab between image and caption"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "file,text\na,b\n", "missing: caption, image"),
        ("c.csv", "image,caption\n", "holds no captions"),
        ("c.json", "{", "not JSON: line 1"),
        ("c.json", "[]", "not COCO captions"),
        ("c.xml", "", r"\.xml"),
    ],
)
def test_files_of_no_use_are_refused(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, text)


def test_a_wrong_encoding_is_said(tmp_path):
    with pytest.raises(UserError, match="not UTF-8"):
        read(tmp_path, "c.csv", "image,caption\na.jpg,ein Bär\n", "latin-1")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_captions(tmp_path / "none.csv")
