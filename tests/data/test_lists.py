"""List files of the field."""

import numpy as np
import pytest
from PIL import Image

from h2t import Error, load
from h2t.data import lists as files
from tests import images
from tests.images import tree

cache = images.cache  # a fixture


def lists(root, lines, test="test/cat/0.png 0\ntest/dog/0.png 1\n"):
    tree(root)
    (root / "X_train.txt").write_text(lines)
    if test:
        (root / "X_test.txt").write_text(test)
    return root


GOOD = "train/cat/0.png 0\ntrain/dog/1.png 1\ntrain/cat/2.png 0\n"


def test_list_files(tmp_path):
    data = load("lists", str(lists(tmp_path / "set", GOOD)), progress=False)
    assert data.train.labels.tolist() == [0, 1, 0] and list(data.train.paths) == [
        "train/cat/0.png",
        "train/dog/1.png",
        "train/cat/2.png",
    ]
    assert np.array_equal(
        data.train.images[1], np.asarray(Image.open(tmp_path / "set/train/dog/1.png"))
    )
    (tmp_path / "lists").mkdir()
    for name in ("X_train.txt", "X_test.txt"):
        (tmp_path / "set" / name).rename(tmp_path / "lists" / name)
    apart = load("lists", f"{tmp_path / 'lists'}:{tmp_path / 'set'}", progress=False)
    assert np.array_equal(apart.test.images, data.test.images)


def test_paths_may_contain_spaces_and_lines_may_end_in_crlf(tmp_path):
    (tmp_path / "l.txt").write_bytes("a b/ü c.jpg 12\r\nd.jpg 0\r\n\r\n".encode())
    listed = files.read_list(tmp_path / "l.txt")
    assert list(listed.paths) == ["a b/ü c.jpg", "d.jpg"] and listed.labels.tolist() == [12, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.jpg 0\nb.jpg\n", "line 2: 'b.jpg' is not"),
        ("a.jpg 0\nb.jpg one\n", "line 2: 'b.jpg one' is not"),
        ("a.jpg 0\nb.jpg -1\n", "line 2: 'b.jpg -1' is not"),
        ("a.jpg 0\n\nb.jpg 1\n", "line 2: '' is not"),
        ("a.jpg 0\n 1\n", "line 2: ' 1' is not"),
        ("a.jpg 0\nb.jpg 99999999999999999999\n", "line 2"),
        ("a.jpg 0\n../b.jpg 1\n", "line 2: the path '../b.jpg' leaves the image root"),
        ("/etc/b.jpg 0\n", "line 1: the path '/etc/b.jpg' leaves"),
        ("a/../../b.jpg 0\n", "line 1: the path"),
        ("C:\\b.jpg 0\n", "line 1: the path"),
        ("a.jpg 0\nb\0.jpg 1\n", "line 2: the path .* holds a zero byte"),
        ("", "is empty"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(tmp_path, lines, message):
    (tmp_path / "l.txt").write_text(lines)
    with pytest.raises(Error, match="l.txt.*" + message):
        files.read_list(tmp_path / "l.txt")


def test_what_one_csv_file_says_twice_is_counted_once(tmp_path):
    root = tree(tmp_path / "set")
    parts, classes = ("train", "test"), ("cat", "dog")
    rows = [f"{p}/{c}/{k}.png,{c},{p}" for p in parts for c in classes for k in range(3)]
    (root / "all.csv").write_text("\n".join(["path,label,split", *rows, rows[0], rows[-1]]))
    data = load("lists", root, progress=False)
    assert len(data.train) == len(data.test) == 6
    assert "left out: 2 repeated lines" in data.notes


def test_a_list_named_after_two_parts_is_refused(tmp_path):
    lists(tmp_path / "set", GOOD, test="")
    (tmp_path / "set" / "X_train.txt").rename(tmp_path / "set" / "latest_train.txt")
    with pytest.raises(Error, match="latest_train.txt is named after train and test"):
        load("lists", tmp_path / "set", progress=False)


def test_names_with_two_dots_are_no_escape(tmp_path):
    (tmp_path / "l.txt").write_text("a..b/c..jpg 0\n")
    assert list(files.read_list(tmp_path / "l.txt").paths) == ["a..b/c..jpg"]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (GOOD + "train/none.png 1\n", None, "image .*train/none.png .* does not exist"),
        (
            GOOD,
            "test/cat/0.png 5\n",
            "label 5 is outside the range of the training list .* its labels are 0 to 1",
        ),
        ("train/cat/0.png 0\ntrain/dog/1.png 2\n", None, "has label 2 but no image of class 1"),
        (
            "train/cat/0.png 0\ntrain/dog/1.png 999999999999\n",
            None,
            "has label 999999999999 but no image of class 1",
        ),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, train, test, message):
    with pytest.raises(Error, match=message):
        load(
            "lists",
            str(lists(tmp_path / "set", train, test or "test/cat/0.png 0\n")),
            progress=False,
        )
