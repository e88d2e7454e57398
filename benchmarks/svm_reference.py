"""The reference of the results: a linear SVM on ComParE functionals, leave one speaker out, on nEMO.

    python -m benchmarks.svm_reference CORPORA/nemo

Features are standardised on the training speakers, C is chosen on the development speaker, who is the next one with all
classes, as in the LOSO protocol.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from data_prep.corpora import nemo
from sersearch.audio import extractor, load_audio
from sersearch.data.targets import FOUR

COMPLEXITIES = (1e-5, 1e-4, 1e-3, 1e-2)


def functionals(root: Path, path: str) -> np.ndarray:
    """ComParE 2016 functionals (6373,) of one file."""
    values: np.ndarray = extractor("functionals")(load_audio(root / path))[0]
    return values


def loso(x: np.ndarray, y: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """UA of each test speaker."""
    names = sorted(set(speakers))
    found = {}
    for number, test in enumerate(names):
        after = [*names[number + 1 :], *names[:number]]
        dev = next(name for name in after if set(y[speakers == name]) == set(y))
        train = (speakers != test) & (speakers != dev)
        fitted = [
            make_pipeline(StandardScaler(), LinearSVC(C=c, random_state=0)).fit(x[train], y[train])
            for c in COMPLEXITIES
        ]
        best = max(fitted, key=lambda model: ua(y[speakers == dev], model.predict(x[speakers == dev])))
        found[test] = ua(y[speakers == test], best.predict(x[speakers == test]))
    return found


def ua(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Unweighted average recall of the classes that `labels` has."""
    return float(recall_score(labels, predicted, average="macro", labels=np.unique(labels)))


def main(root: Path) -> None:
    """Print UA by test speaker for all six emotions and for the AAE paper's four."""
    utterances = [u for u in nemo.read(root).utterances if u.emotion is not None]
    with ProcessPoolExecutor() as pool:
        x = np.stack(list(pool.map(partial(functionals, root), [u.path for u in utterances], chunksize=16)))
    y = np.array([u.emotion for u in utterances])
    speakers = np.array([u.speaker for u in utterances])
    for name, chosen in (("all emotions", np.ones(len(y), bool)), ("emotion4", np.isin(y, FOUR))):
        by_speaker = loso(x[chosen], y[chosen], speakers[chosen])
        print(name, *(f"{speaker} {value:.3f}" for speaker, value in by_speaker.items()), sep="  ")
        print(f"{name}  mean {np.mean(list(by_speaker.values())):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
