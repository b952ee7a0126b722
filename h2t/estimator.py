"""H2T as a scikit-learn estimator, for embeddings of images, texts, sounds or whatever has them."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from h2t.metrics import softmax


class H2TClassifier(ClassifierMixin, BaseEstimator):
    """A linear classifier of embeddings whose tail borrows channels of the head while it is
    trained.

    Source: Li et al., "Feature Fusion from Head to Tail", AAAI 2024: class-balanced batches keep
    their labels and get a share of their channels from images drawn as they come. Works in a
    Pipeline and in GridSearchCV.

    Arguments: ``fusion_ratio`` p in [0, 1], the share of channels (0: class-balanced re-training
    alone); ``learning_rate`` and ``weight_decay`` of SGD, at embeddings scaled to one length;
    ``random_state`` a seed, or None for 0. After ``fit``: ``classes_``, ``coef_`` (C, D),
    ``intercept_`` (C,).
    """

    def __init__(
        self,
        fusion_ratio: float = 0.3,
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        random_state: int | None = None,
    ):
        self.fusion_ratio = fusion_ratio
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X, y):
        """Train on embeddings ``X`` (N, D) and labels ``y`` (N,)."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if not 0 <= self.fusion_ratio <= 1:
            raise ValueError(f"fusion_ratio is {self.fusion_ratio}; it must lie in [0, 1]")
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("H2TClassifier needs at least two classes, but y has only one class")
        self.coef_, self.intercept_ = self._trained(X, labels)
        return self

    def _trained(self, X: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (C, D) and biases (C,) of the head, for embeddings as they were given."""
        import torch

        from h2t.heads.features import Features
        from h2t.heads.h2t import fit

        # about a mean of 0, so that a large offset of the embeddings does not slow SGD down
        mean = X.mean(0)
        views = torch.from_numpy(check_array(X - mean, dtype=np.float32))[None]
        features = Features(views, torch.from_numpy(labels), len(self.classes_))
        scaled, factor = features.scaled()
        setting = {"strength": self.fusion_ratio, "lr": self.learning_rate}
        setting["weight_decay"] = self.weight_decay
        seed = 0 if self.random_state is None else int(self.random_state)
        found = fit(scaled, [setting], seed)[0].unscaled(factor)
        weight = found.weight.double().numpy()
        return weight, found.bias.double().numpy() - weight @ mean

    def decision_function(self, X) -> np.ndarray:
        """Logits (N, C); of two classes their difference (N,), as scikit-learn has it."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        logits = X @ self.coef_.T + self.intercept_
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities (N, C): the softmax of the logits."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([-logits / 2, logits / 2], 1)
        return softmax(logits)

    def predict(self, X) -> np.ndarray:
        """The label of each row (N,)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]
