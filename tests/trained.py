"""Small trained trials in a study's folder, for tests of what reads one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol, split_card
from sersearch.data.table import FeatureTable
from sersearch.errors import StudyError
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import FAMILY
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY as LADDER_FAMILY
from sersearch.predictions import PREDICTIONS, predictions_csv
from sersearch.study import Study
from sersearch.training import Engine, LaneState, Predictions

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

    def best(self, metric: str | None = None) -> Record:
        assert metric is None, "classes have one winner"
        return self.records[self.winner]

    def trials(self) -> list[Record]:
        return self.records

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
    engine, lane = engines[0]
    meta = {"name": "small", **_meta("aae", "dev_ua", table, "emotion", protocol)}
    return SmallStudy(folder, meta, records, engine.predictions(lane), data)


def _meta(family: str, objective: str, table: FeatureTable, target: str, protocol: Protocol) -> dict[str, Any]:
    return {
        "family": family,
        "objective": {"metric": objective},
        "data": {
            "path": str(table.root),
            "features": table.card["features"],
            "target": target,
            "protocol": protocol.to_dict(),
            "synthetic": True,
        },
    }


LADDER = LadderConfig(hidden=(6, 5), batch_size=8, learning_rate=1e-2, setting="L", alpha=0.3, beta=0.3)


@dataclass
class LadderStudy:
    """A study of three trials that weigh the attributes differently, and what its trials' engines knew."""

    study: Study
    states: list[LaneState]
    """By trial."""
    predictions: Predictions
    """Of the first trial."""


def make_ladder_study(
    root: Path, table: FeatureTable, protocol: Protocol, target: str = "attributes", epochs: int = 6
) -> LadderStudy:
    """Small ladders on the vectors of `table`, as `tune` would have left them in `root`."""
    split = protocol.split(table, target)
    data = training_data(table, split, SegmentView(1, 1), target)
    objective = "dev_ua" if target == "emotion" else "dev_ccc"
    study = Study.create("ladders", _meta("ladder", objective, table, target, protocol), root)
    write_json(study.folder / "context.json", data.context())
    write_json(study.folder / "split.json", split_card(protocol, table, target))
    states, predictions = [], []
    for number, searched in enumerate(({"alpha": 0.3, "beta": 0.3}, {"alpha": 0.6, "beta": 0.4}, {"alpha": 0.0})):
        config, engine = replace(LADDER, **searched), Engine(LADDER_FAMILY, data)
        lane = engine.join(config, seed=number, epochs=epochs)
        study.append("start", number, params=config.to_dict(), searched=searched)
        for result in engine.epochs():
            fields = {"metrics": result.metrics, "value": result.value, "best": result.best, "seconds": 1.0}
            study.append("epoch", number, epoch=result.epoch, checkpoint=f"ray/trial{number}", **fields)
        study.append("end", number, state="complete", reason="all epochs done")
        states.append(engine.state(lane))
        states[-1].save(study.folder / "ray" / f"trial{number}")
        predictions.append(engine.predictions(lane))
        csv = predictions_csv(predictions[-1])
        (study.folder / "ray" / f"trial{number}" / PREDICTIONS).write_text(csv, newline="")
    return LadderStudy(study, states, predictions[0])
