import subprocess
import sys

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from h2t import H2TClassifier


@parametrize_with_checks([H2TClassifier()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def tail(seed: int = 0):
    r = np.random.default_rng(seed)
    y = np.repeat(np.array(["head", "middle", "tail"]), (300, 60, 8))
    centre = {"head": 0.0, "middle": 2.0, "tail": 4.0}
    return np.stack([r.normal(centre[c], 1, 20) for c in y]), y


def test_it_is_tuned_and_piped_as_others_are():
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = tail()
    pipe = make_pipeline(StandardScaler(), H2TClassifier())
    grid = {"h2tclassifier__fusion_ratio": [0.0, 0.3]}
    search = GridSearchCV(pipe, grid, scoring="balanced_accuracy", cv=3).fit(X, y)
    assert search.best_score_ > 0.9
    np.testing.assert_allclose(search.predict_proba(X).sum(1), 1)


def test_an_offset_or_a_scale_of_the_embeddings_changes_nothing():
    X, y = tail(1)
    plain = H2TClassifier(random_state=3).fit(X, y)
    moved = H2TClassifier(random_state=3).fit(100 + 7 * X, y)
    np.testing.assert_allclose(plain.predict_proba(X), moved.predict_proba(100 + 7 * X), atol=1e-3)


def test_a_ratio_outside_of_its_range_is_refused():
    X, y = tail()
    with pytest.raises(ValueError, match="fusion_ratio is 2"):
        H2TClassifier(fusion_ratio=2).fit(X, y)


def test_importing_it_loads_no_torch():
    code = (
        "import sys; from h2t import H2TClassifier; H2TClassifier(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
