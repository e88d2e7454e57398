"""Dense, ladder and decoupled ladder network in noise: clean labels, unlabelled noisy speech, tested at each ratio.

    sersearch prep nemo CORPORA/nemo --features functionals --noise CORPORA/noise --snr 10 --snr 5 --snr 0 \\
      --out data/nemo_noisy
    python -m benchmarks.noisy data/nemo_noisy

As Leem et al. (Interspeech 2021): the unlabelled condition is the one that is tested, the development set is clean, and
its best epoch is taken. Per seed another pair of speakers develops and is tested. nEMO has classes alone: UA, where the
paper has CCC.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy.stats import ttest_rel

from sersearch.data.batches import TrainingData, training_data
from sersearch.data.heldout import test_rows
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.data.targets import target_codes
from sersearch.families import get_family
from sersearch.family import ModelSpec
from sersearch.metrics import ua
from sersearch.training import fit

SEEDS = range(5)
CONDITIONS = ("snr10", "snr5", "snr0")
MODELS = {"dense": ("ladder", {"model": "dense"}), "ladder": ("ladder", {}), "decoupled": ("decoupled_ladder", {})}
COMMON = {"learning_rate": 1e-3, "batch_size": 64}
"""The paper's rate of 5e-5 is one for 45,000 labelled utterances; here are a thousand."""
EPOCHS = 15


def run(folder: str, model: str, condition: str, seed: int) -> dict[str, float]:
    """Test UA by condition of one training."""
    torch.set_num_threads(1)
    name, changes = MODELS[model]
    family = get_family(name)
    config = family.config.from_dict({**COMMON, **changes})
    table = FeatureTable.open(folder, "functionals")
    protocol = Protocol("speaker", seed=seed, unlabeled_condition=condition)
    data = training_data(table, protocol.split(table), family.view(config))
    *_, (_, state) = fit(family, config, data, seed, epochs=EPOCHS)
    network = family.build(config, ModelSpec(dims=data.dims, frames=1, labels=data.labels))
    network.load_state_dict(state.best_weights)
    return dict(tested(table, protocol, data, lambda x: family.predict(network.eval(), {"x": x})["emotion"]))


@torch.inference_mode()
def tested(table: FeatureTable, protocol: Protocol, data: TrainingData, predict: object) -> Iterator[tuple[str, float]]:
    """UA on the test speaker's utterances in each condition."""
    assert callable(predict)
    rows = test_rows(protocol, table, "emotion")
    codes, classes = target_codes(table, "emotion", rows)
    condition = table.utterances["condition"].to_numpy(object)
    for name in ("clean", *CONDITIONS):
        chosen = rows[condition[rows] == name]
        x = torch.from_numpy(data.train.normaliser(np.stack([table[int(row)][0] for row in chosen])))
        predicted = predict(x[:, :, None]).argmax(dim=1)
        yield name, float(ua(predicted, torch.from_numpy(codes[chosen]), len(classes)))


def main(folder: Path) -> None:
    """Print the mean test UA at each condition over seeds, and a paired test of the decoupled against the plain one."""
    # The dense network sees no unlabelled speech: one training serves all conditions.
    todo = [(m, c, s) for m, c, s in product(MODELS, CONDITIONS, SEEDS) if m != "dense" or c == CONDITIONS[0]]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        futures = {key: pool.submit(run, str(folder), *key) for key in todo}
        found = {key: future.result() for key, future in futures.items()}

    def by_seed(model: str, condition: str) -> np.ndarray:
        trained = CONDITIONS[0] if model == "dense" or condition == "clean" else condition
        return np.array([found[model, trained, seed][condition] for seed in SEEDS])

    print("| model | clean | 10 dB | 5 dB | 0 dB |\n|---|---|---|---|---|")
    for model in MODELS:
        values = [by_seed(model, condition) for condition in ("clean", *CONDITIONS)]
        print(f"| {model} | " + " | ".join(f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in values) + " |")
    for other in ("ladder", "dense"):
        pairs = [np.concatenate([by_seed(m, c) for c in CONDITIONS]) for m in ("decoupled", other)]
        gain, p = np.mean(pairs[0] - pairs[1]), ttest_rel(*pairs, alternative="greater").pvalue
        print(f"decoupled against {other} in noise: {gain:+.3f}, one-tailed paired t-test p = {p:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
