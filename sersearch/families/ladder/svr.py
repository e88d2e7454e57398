"""The two-step baseline "[43] Lad + L + STL + SVR" of section V-A: a regressor on what a ladder network has learnt.

It follows Huang et al., "Speech emotion recognition using semi-supervised learning with ladder networks" (ACII Asia
2018). Features are the last hidden layer's outputs, `Ladder.hidden`.
"""

from __future__ import annotations

import numpy as np


def two_step(train_NH: np.ndarray, labels_N: np.ndarray, x_MH: np.ndarray) -> np.ndarray:
    """Predictions (M,) for features `x_MH` by a support vector regressor fitted on `train_NH` and z-normed labels.

    Kernel RBF, C = 1.0 and a tolerance margin of 0.1, as section V-A states.
    """
    from sklearn.svm import SVR

    predictions: np.ndarray = SVR(kernel="rbf", C=1.0, epsilon=0.1).fit(train_NH, labels_N).predict(x_MH)
    return predictions
