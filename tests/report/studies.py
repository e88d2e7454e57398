"""Study folders written by hand, as `tune` would leave them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

CLASSES = ("anger", "joy", "neutral", "sadness")
STEP = {"low": 0.1, "high": 1.0, "step": 0.1, "log": False, "choices": None}


def meta(**changes: Any) -> dict[str, Any]:
    return {
        "name": "hand",
        "created": "2026-01-02T03:04:05",
        "sersearch": "0.1.0",
        "git_commit": "c0ffee" * 6 + "c0ff",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "space": {
            "name": "aae_alpha_beta",
            "search": {"alpha": STEP, "beta": STEP},
            "objective": {"metric": "dev_ua", "mode": "max"},
            "method": "tpe",
            "pruning": {"kind": "asha", "grace_epochs": 2, "reduction_factor": 3},
            "epochs": 8,
        },
        "seed": 7,
        "data": {"corpus": "demo", "synthetic": True, "features": "spectrogram", "target": "emotion", "aux": None},
        "family": "aae",
        "state": "finished",
        **changes,
    }


def part(speakers: list[str]) -> dict[str, Any]:
    labels = dict.fromkeys(CLASSES, 10)
    gender = {"female": 20, "male": 20}
    return {"utterances": 40, "hours": 0.02, "speakers": speakers, "labels": labels, "gender": gender}


SPLIT = {
    "protocol": {"name": "loso"},
    "caption": "LOSO, test speaker s9, development speaker s8",
    "target": "emotion",
    "classes": list(CLASSES),
    "parts": {
        "train": part([f"s{n}" for n in range(8)]),
        "unlabelled": part([]),
        "dev": part(["s8"]),
        "test": part(["s9"]),
    },
    "leaks": [
        {"kind": "sentence", "between": ["train", "dev"], "values": ["the dog"], "count": 1, "allowed": True},
        {"kind": "audio", "between": ["train", "test"], "values": ["abc"], "count": 1, "allowed": False},
    ],
}


class Writer:
    """Writes a study's folder, trial by trial."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "study.json").write_text(json.dumps(meta(**changes)))
        (folder / "split.json").write_text(json.dumps(SPLIT))

    def event(self, kind: str, trial: int, **fields: Any) -> None:
        with (self.folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps({"event": kind, "trial": trial, **fields, "time": 1.0}) + "\n")

    def trial(
        self,
        number: int,
        searched: dict[str, Any],
        epochs: int,
        state: str = "complete",
        reason: str = "",
        top: float = 0.5,
    ) -> None:
        params = {"alpha": 0.4, "beta": 0.6, "channels": [8, 16, 32], "learning_rate": 0.02, **searched}
        self.event("start", number, params=params, searched=searched)
        for epoch in range(1, epochs + 1):
            value = top * (1 - math.exp(-0.5 * epoch))
            metrics = {"dev_ua": value, "dev_wa": value * 0.95, "learning_rate": 0.02}
            for k, name in enumerate(("reconstruction", "emotion", "generator", "discriminator")):
                metrics[f"train_loss_{name}"] = (1 + k) / epoch + 0.01 * number
                metrics[f"dev_loss_{name}"] = (1.2 + k) / epoch + 0.01 * number
            fields = {"metrics": metrics, "value": value, "best": True, "seconds": 3.0}
            self.event("epoch", number, epoch=epoch, checkpoint=f"ray/trial{number}", **fields)
        if epochs:
            self.predictions(number, top)
        if state != "running":
            self.event("end", number, state=state, reason=reason)

    def predictions(self, number: int, top: float) -> None:
        path = self.folder / "ray" / f"trial{number}" / "dev_predictions.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "label", "predicted", *CLASSES])
            for n in range(40):
                right = (n // 4) % 10 < 10 * top
                predicted = CLASSES[n % 4 if right else (n + 1) % 4]
                writer.writerow([f"u{n}", CLASSES[n % 4], predicted, *[0.25] * 4])


def surface(alpha: float, beta: float) -> float:
    return 0.75 - 0.5 * (alpha - 0.4) ** 2 - 0.3 * (beta - 0.6) ** 2


def alpha_beta(folder: Path, trials: int = 24) -> Path:
    """A search like the paper's: complete, pruned and failed trials, one point tried twice."""
    writer = Writer(folder)
    for number in range(trials):
        alpha, beta = round(0.1 * (1 + number * 7 % 10), 1), round(0.1 * (1 + number * 3 // 2 % 10), 1)
        if number == 0 or number == 5:
            alpha, beta = 0.4, 0.6
        pruned = number % 3 == 1
        state, reason = ("pruned", "asha at epoch 2") if pruned else ("complete", "epochs")
        epochs = 2 if pruned else 8
        if number == 7:
            state, reason, epochs = "failed", "loss is NaN in epoch 1", 0
        writer.trial(number, {"alpha": alpha, "beta": beta}, epochs, state, reason, surface(alpha, beta))
    return folder
