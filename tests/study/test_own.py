"""Images of one's own: the head that is chosen, and what is said of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from h2t import Data, Stage1, prepare, train_stage1
from h2t.base.errors import Error
from h2t.exchange.predict import predict
from h2t.heads import HEADS, sgd
from h2t.study import own
from tests.study.test_heads import bank as make_bank
from tests.train.test_encoded import AUGMENT, pictures

NAMES = ("ce", "crt", "nearest_mean", "zeros", "h2t")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run on small pictures, one of which is labelled wrongly, and its choice of a head."""
    folder, keep = tmp_path_factory.mktemp("own"), sgd.STEPS
    pictures(folder)
    wrong = folder / "train" / "class0" / "zz.png"
    wrong.write_bytes((folder / "train" / "class1" / "0.png").read_bytes())
    where = dict(source="folder", root=str(folder), profile="natural", imbalance_factor=1.0)
    data = prepare(folder / "run", Data(**where, encoder="lite0", image_size=32), progress=False)
    train_stage1(data, Stage1(**AUGMENT), progress=False)
    sgd.STEPS = 40
    try:
        yield data, own.choose_head(data, names=NAMES, seeds=(0, 1), progress=False)
    finally:
        sgd.STEPS = keep


def test_the_head_is_the_best_on_held_out_training_images(chosen):
    data, found = chosen
    best = found.found.table.groupby("head")["validation"].first()
    assert best[found.chosen] == best.max()
    result = data.run.step("stage2-chosen").result
    assert result["chosen_head"] == found.chosen
    rows = found.found.table
    first = rows[(rows["head"] == found.chosen) & (rows["seed"] == 0)].iloc[0]
    assert result["last"]["all"] == pytest.approx(first["all"], abs=1e-4)


def test_what_is_said_has_every_head_and_the_chosen_one_marked(chosen):
    _, found = chosen
    said = str(found)
    assert all(HEADS[name] in said for name in NAMES) and f"{HEADS[found.chosen]} *" in said
    recommended = "H2T helps on these images" in said
    assert recommended != ("H2T was not shown to help" in said)


def test_a_wrong_label_is_among_the_suspects_and_on_the_picture(chosen):
    _, found = chosen
    assert any("zz.png" in image for image in found.suspects["image"])
    assert (found.folder / "suspects.png").is_file()
    read = pd.read_csv(found.folder / "classes.csv")
    assert read["training images"].tolist() == [13, 6, 3]


def test_the_chosen_step_labels_new_images(chosen, tmp_path):
    data, _ = chosen
    where = data.run.params["root"]
    assert len(predict(data.run, f"{where}/test/class2", "stage2-chosen")) == 4
    assert "--step stage2-chosen" in own.next_commands(data)


def test_every_image_is_in_one_test_part_where_that_was_drawn():
    bank = make_bank(0)
    numbered = torch.arange(len(bank.labels) + len(bank.test_labels))
    train, test = numbered.split([len(bank.labels), len(bank.test_labels)])
    views = train.float()[None, :, None].repeat(2, 1, 3)
    plain = test.float()[:, None].repeat(1, 3)
    bank = dataclasses.replace(bank, train=views, test=plain, groups=train // 2)
    made = own.other_splits(bank)
    assert len(made) == round(len(numbered) / len(test)) - 1
    tested = torch.cat([part.test[:, 0] for part in made]).long()
    assert sorted(tested.tolist()) == train.tolist()
    for part in made:
        seen = part.train[0, :, 0].long()
        assert sorted([*seen.tolist(), *part.test[:, 0].long().tolist()]) == numbered.tolist()
        labels = torch.cat([bank.labels, bank.test_labels])
        assert torch.equal(part.labels, labels[seen]) and part.counts.sum() == len(seen)
        held = part.test[:, 0].long()
        assert not set((held // 2).tolist()) & set((seen[seen < len(train)] // 2).tolist())


def test_a_set_without_a_test_part_is_measured_on_several_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(sgd, "STEPS", 40)
    pictures(tmp_path / "photos")
    where = dict(source="folder", root=str(tmp_path / "photos" / "train"), profile="natural")
    more = dict(imbalance_factor=1.0, encoder="lite0", image_size=32, test_fraction=0.2)
    data = prepare(tmp_path / "run", Data(**where, **more), progress=False)
    train_stage1(data, Stage1(**AUGMENT), progress=False)
    found = own.choose_head(data, names=("ce", "crt", "h2t"), progress=False)
    table = found.found.table
    number = table["seed"].nunique()
    assert found.splits and number > 1 and f"± over {number} splits" in str(found)
    assert len(found.found.labels["run"]) == len(data.train) + len(data.test)
    best = table.loc[table.reset_index().groupby("seed")["validation"].idxmax().to_numpy(), "score"]
    assert f"{best.mean():.2f} ± {best.std():.2f}" in str(found).split(own.CHOICE)[1].split("\n")[0]
    saved = pd.read_csv(found.folder / "heads_summary.csv").set_index("head")
    assert saved.loc[own.CHOICE, "score"] == round(best.mean(), 2)


def test_priors_are_read_from_a_file_that_names_every_class(tmp_path):
    file = tmp_path / "priors.csv"
    file.write_text("b, 0.75\na,0.25\n")
    np.testing.assert_allclose(own.priors(str(file), ("a", "b")), [0.25, 0.75])
    assert own.priors("natural", ("a", "b")) == "natural"
    for text, message in (
        ("a,1\n", "look at 'b'"),
        ("a;1\n", "lines such as"),
        ("a,1\nb,1\na,1\n", "twice"),
    ):
        file.write_text(text)
        with pytest.raises(Error, match=message):
            own.priors(str(file), ("a", "b"))
    with pytest.raises(Error, match="give balanced or natural, or a file"):
        own.priors("nowhere.csv", ("a", "b"))


def test_without_an_encoder_there_is_nothing_to_choose(tmp_path):
    data = prepare(tmp_path, Data(), progress=False)
    with pytest.raises(Error, match="has no encoder"):
        own.choose_head(data, progress=False)
