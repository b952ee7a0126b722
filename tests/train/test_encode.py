"""The bank of an encoder: views, what is taken from other banks, features from a file."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import h2t
from h2t import Data, Stage1, Stage2
from h2t.base.errors import Error
from h2t.cli import main
from h2t.data import embeddings
from h2t.study import own
from h2t.train.cached import encode
from h2t.train.cached.bank import build_bank
from h2t.train.cached.encoded import frozen
from tests.train.test_encoded import AUGMENT, pictures


def images(shape=(2, 3, 16, 16)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_views_are_plain_mirrored_and_cut_at_the_corners():
    x = images()
    assert torch.equal(encode.view(x, 0, True), x)
    assert torch.equal(encode.view(x, 1, True)[..., 0], x[..., -1])
    torch.testing.assert_close(encode.view(x, 3, True), encode.view(x.flip(3), 2, True))
    torch.testing.assert_close(encode.view(x, 1, False), encode.view(x, 2, True))
    seen = [encode.view(torch.arange(256.0).view(1, 1, 16, 16), v, True) for v in range(10)]
    assert len({v.sum().item() for v in seen[0::2]}) == 5  # every corner is another cut
    corner = encode.view(torch.arange(256.0).view(1, 1, 16, 16), 2, True)
    assert corner.shape[2:] == (14, 14) and corner[0, 0, -1, -1] == 13 * 16 + 13


def test_there_are_no_more_views_than_ways_to_look():
    encode.check_views(10, True)
    encode.check_views(5, False)
    with pytest.raises(Error, match="views is 11; an encoder's bank has at most 10"):
        encode.check_views(11, True)


def prepared(folder, run: str):
    where = dict(source="folder", root=str(folder / "photos"), profile="natural")
    more = dict(imbalance_factor=1.0, encoder="lite0", image_size=32)
    made = h2t.prepare(folder / "runs" / run, Data(**where, **more), progress=False)
    h2t.train_stage1(made, Stage1(**AUGMENT), progress=False)
    return made


def test_only_images_that_no_run_beside_has_encoded_are_encoded(tmp_path, monkeypatch):
    pictures(tmp_path / "photos")
    recipe, looked = frozen(Stage2(**AUGMENT)), []
    before = build_bank(prepared(tmp_path, "first"), recipe, 2, progress=False)
    new = tmp_path / "photos" / "train" / "class2" / "new.png"
    whole = encode._encode

    def counted(model, data, v, config, z, rows, done):
        looked.append(len(rows))
        whole(model, data, v, config, z, rows, done)

    monkeypatch.setattr(encode, "_encode", counted)
    Image.new("RGB", (40, 48), (9, 99, 9)).save(new)
    data = prepared(tmp_path, "second")
    after = build_bank(data, recipe, 2, progress=False)
    assert looked == [1, 1]  # the new image, in two views
    (where,) = (i for i, path in enumerate(data.train.paths) if path.endswith("new.png"))
    kept = np.delete(np.arange(22), where)
    torch.testing.assert_close(after.train[:, kept], before.train)
    monkeypatch.setattr(encode, "_reuse", lambda *a: np.arange(len(a[3])))
    again = build_bank(prepared(tmp_path, "third/alone"), recipe, 2, progress=False)
    torch.testing.assert_close(again.train, after.train, atol=1e-4, rtol=1e-4)


def features_file(path, **changes):
    r = np.random.default_rng(0)
    y, ty = np.repeat([0, 1, 2], (30, 12, 4)), np.repeat([0, 1, 2], 6)
    centre = 2 * r.normal(size=(3, 7))
    arrays = dict(
        train_features=r.normal(size=(46, 7)) + centre[y],
        train_labels=y,
        test_features=r.normal(size=(18, 7)) + centre[ty],
        test_labels=ty,
        class_names=np.array(["a", "b", "c"]),
        train_paths=np.array([f"text {i}" for i in range(46)]),
    )
    kept = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
    np.savez(path, **kept)
    return path


def test_a_file_of_features_goes_through_both_stages(tmp_path):
    file = features_file(tmp_path / "text.npz")
    given = {"encoder": f"features:{file}", "profile": "natural", "imbalance_factor": "1.0"}
    options = [o for k, v in given.items() for o in ("-p", k, v)]
    command = ["run", "digits", "--plain", *options, "-p", "run", str(tmp_path / "run")]
    out = CliRunner().invoke(main, command, catch_exceptions=False)
    assert "read 3 classes, 46 train + 18 test" in out.output
    run = h2t.Run(tmp_path / "run", create=False)
    stage1, dr = (run.step(name).result for name in ("stage1", "stage2-dr"))
    assert stage1["last"]["all"] > 60 and dr["last"]["all"] > 60
    bank = build_bank(run, frozen(Stage2()), 1, progress=False)
    z = np.load(file)["train_features"].astype(np.float32)
    order = run.path / "indices.npy"
    np.testing.assert_array_equal(bank.train[0], z[np.load(order)])
    for command in (
        ["evaluate", str(run.path)],
        ["export", str(run.path), "--step", "stage1", "--onnx"],
    ):
        said = CliRunner().invoke(main, command)
        assert said.exit_code and "were computed elsewhere" in said.output, said.output
    missing = ["run", "digits", "--plain", "-p", "encoder", "features:nowhere.npz"]
    said = CliRunner().invoke(main, [*missing, "-p", "run", str(tmp_path / "none")])
    assert "there is no file of features nowhere.npz" in said.output
    (command,) = own.next_commands(run).splitlines()
    assert command.endswith(f"h2t explore {run.path}")


def test_a_validation_part_of_its_own_goes_through_too(tmp_path):
    part = dict(val_features=np.ones((6, 7)), val_labels=np.arange(6) % 3)
    file = features_file(tmp_path / "text.npz", **part)
    where = dict(source="features", root=str(file), encoder=f"features:{file}", profile="natural")
    made = h2t.prepare(tmp_path / "run", Data(**where, imbalance_factor=1.0), progress=False)
    first = h2t.train_stage1(made, Stage1(), progress=False)
    second = h2t.train_stage2(made, Stage2(), progress=False)
    assert first["val"]["all"] == second["val"]["all"] == pytest.approx(100 / 3)
    assert build_bank(made, Stage2(), 2, progress=False).counts.tolist() == [30, 12, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(train_features=np.full((46, 7), np.nan)), "not finite, the first in row 0"),
        (dict(train_features=np.zeros((45, 7))), "train_labels is 46 labels of 45 features"),
        (dict(train_features=np.zeros(46)), r"must be numbers \(N, D\)"),
        (dict(test_features=np.zeros((18, 6))), "test_features are 6 wide, train_features 7"),
        (dict(train_labels=None), "lacks the array 'train_labels'"),
        (dict(train_labels=np.repeat([0, 2], 23)), "class 1 has no training"),
        (dict(train_paths=np.array(["one"])), "train_paths has shape"),
    ],
)
def test_a_file_of_bad_features_is_named(tmp_path, changes, message):
    with pytest.raises(Error, match=message):
        embeddings.read(features_file(tmp_path / "bad.npz", **changes))


def test_features_are_shown_as_grey_squares():
    grey = embeddings.Embedded(np.arange(12.0).reshape(4, 3), np.array(list("abcd")))
    assert np.asarray(grey).shape == (4, 8, 8, 3) and grey[1].shape == (8, 8, 3)
    assert grey[:2].shape == (2, 8, 8, 3) and grey[np.array([3, 1])].shape == (2, 8, 8, 3)
    part = grey.take(np.array([2, 0]))
    assert part.features[:, 0].tolist() == [6.0, 0.0] and part.names.tolist() == ["c", "a"]
