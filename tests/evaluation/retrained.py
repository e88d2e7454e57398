"""Small searches on tables on disk, as `tune` would have left them, whose choice can be trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol, split_card
from sersearch.data.table import FeatureTable
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY
from sersearch.study import Study
from sersearch.training import Engine
from tests.synthetic import make_table, write_table

CONFIG = LadderConfig(hidden=(6, 5), batch_size=8, learning_rate=1e-2, setting="L", alpha=0.3, beta=0.3)
EPOCHS = 4


def vectors(folder: Path, **how: Any) -> Path:
    """A table of one vector an utterance, as prepared."""
    how = {"speakers": 5, "repetitions": 3, "attributes": True, **how}
    return write_table(folder, make_table(dims=12, vectors=True, **how))


def data_of(data: Path, protocol: Protocol, target: str) -> TrainingData:
    table = FeatureTable.open(data, "spectrogram")
    return training_data(table, protocol.split(table, target), SegmentView(1, 1), target)


def make(
    root: Path,
    data: Path,
    protocol: Protocol,
    target: str = "emotion",
    name: str = "one",
    searched: tuple[dict[str, Any], ...] = ({}, {"hidden": (4, 4)}),
    seed: int = 0,
    **meta: Any,
) -> Study:
    """A study in `root` of a trial for each of `searched`, by seed `seed`."""
    table, found = FeatureTable.open(data, "spectrogram"), data_of(data, protocol, target)
    section = {
        **{"path": str(data), "features": "spectrogram", "target": target, "protocol": protocol.to_dict()},
        **{"synthetic": True, "corpus": "made", "hash": table.card["hash"], "aux": None, "missing": "skip"},
    }
    objective = "dev_ua" if target == "emotion" else "dev_ccc"
    space = {"name": "ladders", "search": {"hidden": {}}, "fixed": {}, "epochs": EPOCHS}
    given = {"family": "ladder", "seed": seed, "data": section, "space": space, "method": "random", "state": "finished"}
    study = Study.create(name, {**given, "objective": {"metric": objective, "mode": "max"}, **meta}, root)
    write_json(study.folder / "context.json", found.context())
    write_json(study.folder / "split.json", split_card(protocol, table, target))
    for number, changes in enumerate(searched):
        config, engine = replace(CONFIG, **changes), Engine(FAMILY, found)
        lane = engine.join(config, seed=seed, epochs=EPOCHS)
        study.append("start", number, params=config.to_dict(), searched=changes)
        for result in engine.epochs():
            fields = {"metrics": result.metrics, "value": result.value, "best": result.best, "seconds": 1.0}
            study.append("epoch", number, epoch=result.epoch, checkpoint=f"ray/trial{number}", **fields)
        study.append("end", number, state="complete", reason="all epochs done")
        engine.state(lane).save(study.folder / "ray" / f"trial{number}")
    return study
