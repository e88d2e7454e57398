"""A small trained trial in a study's folder, for tests of what reads one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import StudyError
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import FAMILY
from sersearch.training import Engine, Predictions

CONFIG = AAEConfig(channels=(2, 3, 4), hidden=5, batch_size=8, segment_frames=32, segment_hop=32, learning_rate=1e-2)


@dataclass
class Record:
    number: int
    params: dict[str, Any]
    checkpoint: Path | None
    epochs: list[dict[str, Any]]
    state: str = "complete"
    reason: str = ""
    best_epoch: int = 1


@dataclass
class SmallStudy:
    """As much of a Study as export and evaluation use."""

    folder: Path
    meta: dict[str, Any]
    records: list[Record]
    predictions: Predictions
    """What the engine predicts for the development part with the first trial's best weights."""
    data: TrainingData
    winner: int = 0

    def best(self) -> Record:
        return self.records[self.winner]

    def trial(self, number: int) -> Record:
        if number >= len(self.records):
            raise StudyError(f"no trial {number}")
        return self.records[number]


def make_study(
    folder: Path, table: FeatureTable, protocol: Protocol, config: AAEConfig = CONFIG, epochs: int = 2
) -> SmallStudy:
    """Two trials of one configuration, seeds 0 and 1, trained for `epochs` epochs on `table`, and one that failed."""
    split = protocol.split(table)
    data = training_data(table, split, SegmentView(config.segment_frames, config.segment_hop))
    records, engines = [], []
    for number in (0, 1):
        engine = Engine(FAMILY, data)
        lane = engine.join(config, seed=number, epochs=epochs)
        results = list(engine.epochs())
        checkpoint = folder / "ray" / f"trial{number}"
        engine.state(lane).save(checkpoint)
        best = max(range(epochs), key=lambda e, r=results: r[e].value) + 1
        log = [{"epoch": r.epoch, "metrics": r.metrics} for r in results]
        records.append(Record(number, config.to_dict(), checkpoint, log, best_epoch=best))
        engines.append((engine, lane))
    records.append(Record(2, config.to_dict(), None, [], state="failed", reason="loss is nan in epoch 1"))
    write_json(folder / "context.json", data.context())
    meta = {
        "name": "small",
        "family": "aae",
        "data": {
            "path": str(table.root),
            "features": "spectrogram",
            "target": "emotion",
            "protocol": protocol.to_dict(),
            "synthetic": True,
        },
    }
    engine, lane = engines[0]
    return SmallStudy(folder, meta, records, engine.predictions(lane), data)
