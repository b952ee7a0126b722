"""Every fusion under one interface: in the exact and the cached stage 2, and as a choice of the
explorer."""

import itertools

import numpy as np
import pytest

from h2t import Run, train_stage1, train_stage2
from h2t.base.choices import FUSIONS
from h2t.lab.explorer.engine import Explorer
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.evaluate import classifier_of
from tests.helpers import digits_run, stage1_config, stage2_config
from tests.lab import explorer_reference as reference


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("fusions") / "run", n_max=60)
    train_stage1(run, stage1_config(stage1_epochs=3, mixup_alpha=0.0), progress=False)
    return run


def test_each_fusion_trains_another_classifier_exact_and_cached_and_none_does_anything_at_ratio_0(
    trained,
):
    common = dict(stage2_epochs=1, bn_statistics="none", stage2_lr=0.1)
    bank = banking.build_bank(trained, stage2_config(**common), 1, progress=False)
    exact, cached, plain = {}, {}, {}
    for fusion in FUSIONS:
        train_stage2(
            trained,
            stage2_config(fusion=fusion, fusion_ratio=0.5, **common),
            fusion,
            progress=False,
        )
        exact[fusion] = classifier_of(Run(trained).step(f"stage2-{fusion}"))[0]
        fits = fitting.fit(bank, (0.0, 0.5), (0,), stage2_config(fusion=fusion, **common))
        plain[fusion], cached[fusion] = (w[0].numpy() for w in fits.weight)
    for a, b in itertools.combinations(FUSIONS, 2):
        assert not np.allclose(exact[a], exact[b], atol=1e-4) and not np.allclose(
            cached[a], cached[b], atol=1e-4
        ), (a, b)
        assert np.allclose(plain[a], plain[b], atol=1e-6), (a, b)


def test_the_explorer_follows_every_fusion(trained):
    config = stage2_config(fusion_ratio=0.5, stage2_epochs=2)
    engine = Explorer(trained, config, views=1)
    found = [engine.classifiers(reference.changed(engine, fusion=f)) for f in FUSIONS]
    current = [c["current"][0].numpy() for c in found]
    plain = [c[engine.at_zero][0].numpy() for c in found]
    for a, b in itertools.combinations(range(len(FUSIONS)), 2):
        assert not np.allclose(current[a], current[b], atol=1e-4), (FUSIONS[a], FUSIONS[b])
        assert np.allclose(plain[a], plain[b], atol=1e-6)
    features = [reference.fused(engine, reference.changed(engine, fusion=f)) for f in FUSIONS]
    assert len({z.tobytes() for z in features}) == len(FUSIONS)
