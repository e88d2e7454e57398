"""Dense, ladder and decoupled ladder network in noise: clean labels, unlabelled noisy speech, tested at each ratio.

    sersearch prep nemo CORPORA/nemo --features functionals --noise CORPORA/noise --snr 10 --snr 5 --snr 0 \\
      --out data/nemo_noisy
    python -m benchmarks.noisy data/nemo_noisy

As Leem et al. (Interspeech 2021): the unlabelled condition is the one that is tested, the development set is clean, and
its best epoch is taken. One speaker is left out at a time, and the next one develops. nEMO has classes alone: UA, where
the paper has CCC. Ladder and decoupled ladder have the same linear head; `ladder, top` is the ladder whose decoder
starts from the output layer, as Rasmus et al. have it for classes. All are normalised by the moments of all training
audio, the unlabelled noisy one included: also the dense network, which is not told anything else of it.
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

CONDITIONS = ("snr10", "snr5", "snr0")
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "dense": ("ladder", {"model": "dense"}),
    "ladder": ("ladder", {"top": "hidden"}),
    "ladder, top": ("ladder", {"top": "output"}),
    "decoupled": ("decoupled_ladder", {}),
}
COMMON = {"learning_rate": 1e-3, "batch_size": 64}
"""The paper's rate of 5e-5 is one for 45,000 labelled utterances; here are a thousand."""
EPOCHS = 10


def run(folder: str, model: str, condition: str, speaker: str) -> dict[str, float]:
    """Test UA by condition of one training, `speaker` left out."""
    torch.set_num_threads(1)
    name, changes = MODELS[model]
    family = get_family(name)
    config = family.config.from_dict({**COMMON, **changes})
    table = FeatureTable.open(folder, "functionals")
    protocol = Protocol("loso", test_speaker=speaker, unlabeled_condition=condition)
    data = training_data(table, protocol.split(table), family.view(config))
    *_, (_, state) = fit(family, config, data, seed=0, epochs=EPOCHS)
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
    """Print the mean test UA over speakers, and paired tests over them of the decoupled ladder against the others."""
    speakers = sorted(FeatureTable.open(folder, "functionals").utterances["speaker"].unique())
    todo = list(product(MODELS, CONDITIONS, speakers))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        futures = {key: pool.submit(run, str(folder), *key) for key in todo}
        found = {key: future.result() for key, future in futures.items()}

    def by_speaker(model: str, trained: str, tested: str) -> np.ndarray:
        return np.array([found[model, trained, speaker][tested] for speaker in speakers])

    print("| model | 10 dB | 5 dB | 0 dB | clean, trained with 10 dB |\n|---|---|---|---|---|")
    for model in MODELS:
        values = [by_speaker(model, name, name) for name in CONDITIONS] + [by_speaker(model, CONDITIONS[0], "clean")]
        print(f"| {model} | " + " | ".join(f"{v.mean():.3f} ± {v.std(ddof=1):.3f}" for v in values) + " |")
    ours, *others = (np.mean([by_speaker(m, c, c) for c in CONDITIONS], axis=0) for m in ("decoupled", *MODELS))
    for model, theirs in zip(MODELS, others, strict=True):
        if model != "decoupled":
            p = ttest_rel(ours, theirs, alternative="greater").pvalue
            gain = f"{np.mean(ours - theirs):+.3f} over the three ratios"
            print(
                f"decoupled against {model}: {gain}, better for {int((ours > theirs).sum())} of {len(speakers)} ",
                end="",
            )
            print(f"speakers, one-tailed paired t-test p = {p:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
