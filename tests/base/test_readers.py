"""Every file comes through one door: what is wrong becomes one sentence with the file."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save

from h2t.base.errors import Error
from h2t.base.readers import (
    parse_yaml,
    read_array,
    read_json,
    read_lines,
    read_pickled,
    read_tensors,
    read_yaml,
)

READERS = {
    "x.json": read_json,
    "x.jsonl": read_lines,
    "x.yaml": read_yaml,
    "x.npy": read_array,
    "x.safetensors": read_tensors,
    "x.pt": read_pickled,
}


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_a_pipe_and_garbage_are_named(tmp_path, name):
    path, read = tmp_path / name, READERS[name]
    with pytest.raises(Error, match=f"{name} does not exist; do this"):
        read(path, "do this")
    os.mkfifo(path)  # would be waited for for ever
    with pytest.raises(Error, match=f"{name} is damaged .it is no regular file.; do this"):
        read(path, "do this")
    path.unlink()
    for content in (b"\xff\xfe\0garbage", b"[" * 200_000, b'"\x00'):
        path.write_bytes(content)
        with pytest.raises(Error, match=f"{name} is (damaged|not a readable YAML)") as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("null", "no object"),
        ("[1]", "no object"),
        ('{"a": NaN}', "it holds NaN"),
        ('{"a": 1e999}', "it holds 1e999"),
        ('{"a": -Infinity}', "it holds -Infinity"),
        ('{"a": ' + "9" * 5000 + "}", "it holds 9999"),
        ('{"a": "\\ud800"}', "surrogates"),
        ('{"a": ' * 100_000, "too deep|Expecting"),
    ],
)
def test_json_holds_what_json_has(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(Error, match=f"x.json is damaged .*({message})"):
        read_json(tmp_path / "x.json")


def test_good_json_is_read_as_it_is(tmp_path):
    value = {"n": 2**62, "x": 1.5e300, "s": "\U0001f600", "h": "12345678901234567890123", "l": [-7]}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-02-30", "day is out of range"),
        ("&a [*a]", "nested too deep"),
        ("[" * 3000, "too deep"),
        ("1" * 5000, "no number of 64 bits"),
        ("a: *b", "undefined alias"),
        ("!!python/object/apply:os.system ['x']", "could not determine a constructor"),
        ("a: &a [x,x]\nb: &b [*a,*a]\n" + "".join(f"c{k}: *b\n" for k in range(9)), None),
    ],
)
def test_yaml_is_bounded(text, message):
    if message is None:  # aliases as people use them
        assert parse_yaml(text) == yaml.safe_load(text)
        return
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_aliases_that_would_fill_the_memory_are_refused():
    names = "abcdefghijklmnop"
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, other in zip(names, names[1:], strict=False):
        text += f"{other}: &{other} [{', '.join([f'*{one}'] * 9)}]\n"
    with pytest.raises(ValueError, match="aliases make it too large"):
        parse_yaml(text)


def test_an_array_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(5))
    text = (tmp_path / "x.npy").read_bytes().replace(b"(5,)", b"(9999999999999,)")
    (tmp_path / "x.npy").write_bytes(text)
    for mapped in (False, True):
        with pytest.raises(Error, match="x.npy is damaged"):
            read_array(tmp_path / "x.npy", mapped=mapped)
    np.save(tmp_path / "x.npy", np.array([{}], object))
    with pytest.raises(Error, match="x.npy is damaged .*Python objects"):
        read_array(tmp_path / "x.npy")


def test_tensors_are_held_against_their_hash_and_hold_numbers(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({"w": torch.ones(2)}))
    assert read_tensors(path)["w"].tolist() == [1, 1]
    with pytest.raises(Error, match="not the file whose hash was recorded"):
        read_tensors(path, sha256="0" * 64)
    path.write_bytes(save({"w": torch.tensor([1.0, float("nan")])}))
    with pytest.raises(Error, match="w holds NaN"):
        read_tensors(path)


def test_a_checkpoint_that_bursts_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(Error, match="it is packed, as torch.save does not do"):
        read_pickled(tmp_path / "x.pt")
