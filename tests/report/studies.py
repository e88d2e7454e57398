"""Study folders written by hand, as `tune` would leave them."""

from __future__ import annotations

import csv
import json
import math
import re
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


ATTRIBUTES = ("activation", "valence", "dominance")
PEAKS = {"activation": (0.7, 0.3), "valence": (0.2, 0.6), "dominance": (0.1, 0.1)}
"""Where each attribute is learnt best, in alpha and beta."""
CONDITIONS = {"snr10": 0.1, "snr0": 0.3}
"""What each costs."""


def ladder(folder: Path) -> Path:
    """The grid of a multi-task ladder: alpha + beta <= 1 in steps of 0.1, a peak for each attribute; and noise."""
    axis = {"low": 0.0, "high": 1.0, "step": 0.1, "log": False, "choices": None}
    space = {"name": "ladder_alpha_beta", "search": {"alpha": axis, "beta": axis}, "objective": None, "method": "grid"}
    data = {"corpus": "demo", "synthetic": True, "features": "functionals", "target": "attributes", "aux": None}
    writer = Writer(folder, space=space, family="ladder", objective={"metric": "dev_ccc"}, data=data)
    moments = {name: {"mean": 4.0, "std": 0.9} for name in ATTRIBUTES}
    parts = {name: {**part, "labels": {}, "attributes": moments} for name, part in SPLIT["parts"].items()}
    split = SPLIT | {"target": "attributes", "classes": [], "attributes": list(ATTRIBUTES), "parts": parts}
    (folder / "split.json").write_text(json.dumps(split))
    points = [(round(0.1 * i, 1), round(0.1 * j, 1)) for i in range(11) for j in range(11 - i)]
    for number, (alpha, beta) in enumerate(points):
        searched = {"alpha": alpha, "beta": beta}
        writer.event("start", number, params={**searched, "lambda_l": 1.0}, searched=searched)
        for epoch in (1, 2, 3):
            # Valence is overfitted in the last epoch.
            gain = {name: epoch / 3 - 0.5 * (name == "valence" and epoch == 3) for name in ATTRIBUTES}
            each = {
                f"dev_ccc_{name}": 0.6 * gain[name] - 0.5 * ((alpha - a) ** 2 + (beta - b) ** 2)
                for name, (a, b) in PEAKS.items()
            }
            metrics = {"dev_ccc": sum(each.values()) / 3, **each, "train_loss_prediction": 1 / epoch}
            metrics |= {f"{name}_{c}": v - cost for name, v in metrics.items() for c, cost in CONDITIONS.items()}
            fields = {"metrics": metrics, "value": metrics["dev_ccc"], "best": True, "seconds": 3.0}
            writer.event("epoch", number, epoch=epoch, checkpoint=f"ray/trial{number}", **fields)
        path = folder / "ray" / f"trial{number}" / "dev_predictions.csv"
        path.parent.mkdir(parents=True)
        path.write_text(attribute_predictions())
        writer.event("end", number, state="complete", reason="all epochs done")
    return folder


def attribute_predictions(condition: str | None = None) -> str:
    """A table of twenty utterances, of one condition and another where one is given."""
    head = ["id", *(["condition"] if condition else []), *(n + end for n in ATTRIBUTES for end in ("", "_predicted"))]
    lines = [",".join(head)]
    for n in range(20):
        values = [f"{1 + n % 7 + 0.1 * k}" for k in range(6)]
        lines.append(",".join([f"u{n}", *([condition if n < 8 else "snr0"] if condition else []), *values]))
    return "\n".join(lines) + "\n"


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


def visible(page: str) -> str:
    """A page's text without markup and runs of blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


def cells(page: str) -> str:
    """The same with a blank between cells of a table."""
    return visible(page.replace("</t", " </t"))
