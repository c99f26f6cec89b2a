"""Captions files as people have them, mistakes included."""

import json
from collections import Counter

import pytest

from captioner_jax.data.caption_files import read_captions
from captioner_jax.errors import UserError


def read(tmp_path, name, text, encoding="utf-8"):
    content = text if isinstance(text, str) else json.dumps(text)
    (tmp_path / name).write_bytes(content.encode(encoding))
    return read_captions(tmp_path / name)


def lines(found):
    """The numbers in the places of the problems: of lines, annotations or images."""
    return [int(problem.split(":")[0].split()[-1]) for problem in found.problems]


def kinds(found):
    return Counter(problem.kind.partition(";")[0] for problem in found.problems)


def test_csv(tmp_path):
    text = 'image,caption,split\na b.jpg,"a dog, running",train\na b.jpg,"a ""good"" dog",train\nc.png,一只猫 🐈,val\n'
    found = read(tmp_path, "captions.csv", text)
    assert found.by_image == {"a b.jpg": ["a dog, running", 'a "good" dog'], "c.png": ["一只猫 🐈"]}
    assert found.splits == {"a b.jpg": "train", "c.png": "validation"}
    assert not found.problems


def test_csv_with_mistakes_names_their_lines(tmp_path):
    text = 'image,caption\na.jpg,a dog, running\nb.jpg\nc.jpg,  \n,a cat\nd.jpg,"two\nlines\tand a tab"\ne.jpg,\n'
    found = read(tmp_path, "captions.csv", text)
    assert found.by_image == {"d.jpg": ["two lines and a tab"]}
    assert lines(found) == [2, 3, 4, 5, 8]


def test_csv_with_spaces_before_its_quotes_is_read_as_it_stands(tmp_path):
    """Or a quotation mark in a caption would swallow the lines after it."""
    found = read(tmp_path, "c.csv", 'image, caption\na.jpg, "a dog, running"\nb.jpg, "tis a cat\nc.jpg, a cow\n')
    assert found.by_image == {"b.jpg": ['"tis a cat'], "c.jpg": ["a cow"]}
    assert "no space before them" in found.problems[0]


def test_an_image_has_one_name_however_its_path_is_spelt(tmp_path):
    text = "image,caption,split\na/b.jpg,one,train\n./a//b.jpg,two,train\na/./b.jpg,three,test\n"
    found = read(tmp_path, "c.csv", text)
    assert found.by_image == {"a/b.jpg": ["one", "two"]}
    assert found.splits == {"a/b.jpg": "train"}
    assert kinds(found) == {"an image in two splits": 1}


@pytest.mark.parametrize("mark", [",", ";"])
def test_columns_may_be_between_other_marks(tmp_path, mark):
    rows = [
        ["image", "caption", "split"],
        ["a.jpg", f'"a dog{mark} running"', "training"],
        ["b.jpg", "a cat", "testing"],
    ]
    found = read(tmp_path, "c.tsv", "".join(mark.join(row) + "\n" for row in rows))
    assert found.by_image == {"a.jpg": [" ".join(f"a dog{mark} running".split())], "b.jpg": ["a cat"]}
    assert found.splits == {"a.jpg": "train", "b.jpg": "test"}
    assert not found.problems


def test_between_tabs_quotation_marks_are_part_of_a_caption(tmp_path):
    text = 'image\tcaption\na.jpg\t"Stop" sign\nb.jpg\t"a ""good"" dog"\r\nc.jpg\ta dog\trunning\n'
    for name in ("c.tsv", "c.txt"):
        found = read(tmp_path, name, text)
        assert found.by_image == {"a.jpg": ['"Stop" sign'], "b.jpg": ['a "good" dog']}
        assert lines(found) == [4]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,text\na.jpg,a dog\n"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "text": "a dog"}\n'),
        ("captions.jsonl", '{"file_name": "a.jpg", "captions": ["a dog"]}\n'),
        ("c.csv", "text,image,caption\nwhat a sign says,a.jpg,a dog\n"),
        ("c.jsonl", '{"image": "a.jpg", "caption": "a dog", "text": "what a sign says"}\n'),
    ],
)
def test_columns_as_others_call_them_count_where_ours_are_missing(tmp_path, name, text):
    assert read(tmp_path, name, text).by_image == {"a.jpg": ["a dog"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "image,caption\ra.jpg,a dog\rb.jpg,a cat\r"),
        ("c.jsonl", '{"image": "a.jpg", "caption": "a dog"}\r{"image": "b.jpg", "caption": "a cat"}\r'),
        ("c.token", "a.jpg#0\ta dog\rb.jpg#0\ta cat"),
    ],
)
def test_lines_may_end_as_old_macs_end_them(tmp_path, name, text):
    assert read(tmp_path, name, text).by_image == {"a.jpg": ["a dog"], "b.jpg": ["a cat"]}


def test_coco_may_tell_splits(tmp_path):
    images = [
        {"id": i, "file_name": f"{i}.jpg", **split}
        for i, split in enumerate([{"split": "val"}, {"split": "train2014"}])
    ]
    annotations = [{"id": i, "image_id": i, "caption": "a dog"} for i in range(2)]
    found = read(tmp_path, "c.json", {"images": images, "annotations": annotations})
    assert found.splits == {"0.jpg": "validation"}
    assert set(found.by_image) == {"0.jpg", "1.jpg"}


def test_csv_by_excel_has_a_byte_order_mark(tmp_path):
    assert read(tmp_path, "c.csv", "image,caption\r\na.jpg,a dog\r\n", "utf-8-sig").by_image == {"a.jpg": ["a dog"]}


def test_a_quotation_mark_left_open_does_not_make_one_caption_of_the_rest(tmp_path):
    found = read(tmp_path, "c.csv", 'image,caption\na.jpg,a dog\nb.jpg,"a cat\nc.jpg,a cow\nd.jpg,a hen\n')
    assert found.by_image == {"a.jpg": ["a dog"]}
    assert lines(found) == [3]
    assert "the 2 lines after it" in found.problems[0]


def test_a_field_of_endless_length_is_one_mistake(tmp_path):
    found = read(tmp_path, "c.csv", f"image,caption\na.jpg,{'x' * 200_000}\nb.jpg,a cat\n")
    assert found.by_image == {"b.jpg": ["a cat"]}
    assert lines(found) == [2]


def test_json_lines(tmp_path):
    text = ['{"image": "a.jpg", "caption": "a\\tdog"}', "", "{not json", '{"image": "b.jpg"}', "[1]", "[" * 100_000]
    found = read(tmp_path, "captions.jsonl", "\n".join(text))
    assert found.by_image == {"a.jpg": ["a dog"]}
    assert lines(found) == [3, 4, 5, 6]


def test_coco(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "caption": "a dog "}, {"image_id": 8, "caption": "a cat"}, {"image_id": 7}],
    }
    found = read(tmp_path, "captions.json", content)
    assert found.by_image == {"a.jpg": ["a dog"]}
    assert lines(found) == [1, 2]


def test_coco_with_ids_given_twice(tmp_path):
    content = {
        "images": [
            *({"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}, {"id": 1, "file_name": "c.jpg"}),
            *({"id": 2, "file_name": "b.jpg"}, {"id": [3], "file_name": "d.jpg"}, {"id": 4}, "e.jpg"),
        ],
        "annotations": [
            *({"id": 1, "image_id": 1, "caption": "of which?"}, {"id": 2, "image_id": 2, "caption": "a cat"}),
            *({"id": 2, "image_id": 2, "caption": "a cat"}, {"id": 3, "image_id": 2, "caption": "a cat"}),
            {"id": 5, "image_id": [2], "caption": "a cat"},
        ],
    }
    found = read(tmp_path, "captions.json", content)
    assert found.by_image == {"b.jpg": ["a cat", "a cat"]}
    assert kinds(found) == {
        "an id of two images": 1,
        'wanted an object with "id" and the text "file_name"': 3,
        "an id given before": 1,
        'wanted an object with "image_id" and the text "caption"': 1,
    }
    assert "1: a.jpg, c.jpg; 1 captions" in found.problems[0]


def karpathy(name, split, *sentences, **more):
    return {"filename": name, "split": split, "sentences": [{"raw": raw} for raw in sentences], **more}


def test_karpathy(tmp_path):
    images = [
        karpathy("1.jpg", "train", "a dog ", "a\nbrown dog", filepath="train2014"),
        karpathy("2.jpg", "restval", "a “cat” 🐈", filepath="val2014"),
        karpathy("3.jpg", "val", "a cow"),
        karpathy("4.jpg", "test", "a hen"),
    ]
    found = read(tmp_path, "dataset_coco.json", {"images": images, "dataset": "coco"})
    assert found.by_image == {
        **{"train2014/1.jpg": ["a dog", "a brown dog"], "val2014/2.jpg": ["a “cat” 🐈"]},
        **{"3.jpg": ["a cow"], "4.jpg": ["a hen"]},
    }
    assert list(found.splits.values()) == ["train", "restval", "validation", "test"]
    assert not found.problems


def test_karpathy_with_mistakes(tmp_path):
    images = [
        *(karpathy("1.jpg", "train", "a dog"), karpathy("1.jpg", "test", "a dog"), karpathy("2.jpg", "train")),
        *(karpathy("3.jpg", "rest", "a cat"), {"filename": "4.jpg", "split": "train"}, 5),
        {"filename": "6.jpg", "split": "train", "sentences": [{"tokens": ["a"]}, "a"]},
    ]
    found = read(tmp_path, "dataset_coco.json", {"images": images})
    assert (found.by_image, found.splits) == ({"1.jpg": ["a dog"]}, {"1.jpg": "train"})
    assert lines(found) == [1, 2, 3, 4, 5, 6, 6]


def test_flickr_tokens(tmp_path):
    text = "a.jpg#0\tA dog .\na.jpg#1\tA brown dog .\nno tab here\na.jpg#1\tA dog again .\nb c.jpg\tA cat .\n"
    for name in ("t.txt", "results_20130124.token"):
        found = read(tmp_path, name, text)
        assert found.by_image == {"a.jpg": ["A dog .", "A brown dog ."], "b c.jpg": ["A cat ."]}
        assert lines(found) == [3, 4]


def test_kaggles_captions_txt_is_a_csv(tmp_path):
    text = 'image,caption\na.jpg,A dog runs .\na.jpg,"A dog , brown , runs ."\n'
    found = read(tmp_path, "captions.txt", text)
    assert found.by_image == {"a.jpg": ["A dog runs .", "A dog , brown , runs ."]}
    assert not found.problems


def test_kaggles_results_csv_stands_between_pipes(tmp_path):
    """Its line 4 lacks a pipe, as one line of the real file does."""
    text = 'image_name| comment_number| comment\na.jpg| 0| A "dog" , running .\na.jpg| 1| A | in it .\n'
    found = read(tmp_path, "results.csv", text + "b.jpg| 4   A dog runs .\na.jpg| 0| Again .\nb.jpg| 0| A cat .\n")
    assert found.by_image == {"a.jpg": ['A "dog" , running .', "A | in it ."], "b.jpg": ["A cat ."]}
    assert lines(found) == [4, 5]


def test_an_image_stays_in_the_split_that_it_was_put_in_first(tmp_path):
    found = read(tmp_path, "c.csv", "image,caption,split\na.jpg,a dog,train\na.jpg,the dog,test\n")
    assert (found.by_image, found.splits) == ({"a.jpg": ["a dog"]}, {"a.jpg": "train"})
    assert lines(found) == [3]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "file,words\na,b\n", "missing: caption, image"),
        ("c.csv", "", "missing: caption, image"),
        ("c.csv", "image,caption\n", "holds no captions"),
        ("c.json", "{", "not JSON: line 1"),
        ("c.json", "[" * 100_000, "not JSON"),
        ("c.json", "[]", "not COCO captions"),
        ("c.json", '{"images": [{"filename": "a.jpg", "captions": ["a"]}]}', "nor is it by Karpathy"),
        ("c.xml", "", r"\.xml"),
    ],
)
def test_files_of_no_use_are_refused(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, text)


@pytest.mark.parametrize(
    ("name", "text", "bad"),
    [
        ("c.csv", "image,caption\na.jpg,ein Bär\nb.jpg,ein Hund\nc.jpg,a\0b\n", [2, 4]),
        ("c.txt", "a.jpg#0\tein Bär\nb.jpg#0\tein Hund\nä.jpg#0\tein Tier\n", [1, 3]),
        ("c.jsonl", '{"image": "a", "caption": "Bär"}\n{"image": "b.jpg", "caption": "ein Hund"}\n', [1]),
        ("c.jsonl", '{"image": "a", "caption": "\\ud800"}\n{"image": "b.jpg", "caption": "ein Hund"}\n', [1]),
    ],
)
def test_lines_in_another_encoding_are_named_and_the_others_read(tmp_path, name, text, bad):
    found = read(tmp_path, name, text, "latin-1")
    assert found.by_image == {"b.jpg": ["ein Hund"]}
    assert lines(found) == bad
    assert all("not UTF-8" in problem for problem in found.problems)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_with_its_mark_is_read(tmp_path, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    found = read(tmp_path, "c.csv", f"{mark}image,caption\r\na.jpg,一只猫 🐈\r\n", encoding)
    assert found.by_image == {"a.jpg": ["一只猫 🐈"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,caption\na.jpg,ein Bär\n".encode("latin-1"), "not UTF-8"),
        ("image,caption\na.jpg,a bear\n".encode("utf-16-le"), "missing: caption, image"),
        (b"\xff\xfei\x00m", "UTF-16"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "missing: caption, image"),
    ],
)
def test_a_file_with_nothing_to_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_captions(tmp_path / "c.csv")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_captions(tmp_path / "none.csv")


def test_captions_without_an_id_are_all_kept(tmp_path):
    annotations = [{"image_id": 1, "caption": caption, "id": None} for caption in ("a dog", "a cat")]
    found = read(tmp_path, "c.json", {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations})
    assert found.by_image == {"a.jpg": ["a dog", "a cat"]}
    assert not found.problems


def test_a_hash_may_be_part_of_a_name(tmp_path):
    found = read(tmp_path, "c.token", "a#b.jpg\ta dog\na.jpg#0\ta cat\na#b.jpg#1\ta cow\na.jpg#\ta hen\n")
    assert found.by_image == {"a#b.jpg": ["a dog", "a cow"], "a.jpg": ["a cat", "a hen"]}
