"""Visual features beside the audio's: found by id, left out or zeros where they are missing, the same in prediction."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sersearch.data.batches import SegmentView, training_data
from sersearch.data.companions import Companion, choose, complete, without_missing
from sersearch.data.protocols import Protocol, split_card
from sersearch.data.table import FeatureTable
from sersearch.errors import BundleError, DataError
from sersearch.evaluation import evaluate
from sersearch.export import Predictor, export_bundle
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.families.multimodal_ladder.family import FAMILY
from sersearch.study import Study
from sersearch.training import Engine
from sersearch.tuning.trainable import load_data
from tests.synthetic import make_table, make_visual, write_table

CPU, SETS = torch.device("cpu"), {"visual": ("visual", "openface")}
SMALL = MultimodalLadderConfig(
    layers=2, heads=2, width=4, channels=4, kernel=3, hidden=(6, 4), frames=32, visual_frames=12, batch_size=8
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus with descriptors, and visual features of all utterances but each speaker's first."""
    folder = tmp_path_factory.mktemp("prepared")
    table = make_table()
    write_table(folder / "a", replace(table, card={**table.card, "features": "lld_32_16"}))
    write_table(folder / "b", make_visual(table).table)
    (folder / "b" / "visual").rename(folder / "a" / "visual")
    return folder / "a"


@pytest.fixture(scope="module")
def table(root: Path) -> FeatureTable:
    return FeatureTable.open(root, "lld_32_16")


@pytest.fixture(scope="module")
def companion(table: FeatureTable) -> Companion:
    return Companion.open(table, "visual")


def section(root: Path, missing: str) -> dict[str, Any]:
    """A study's `data` section."""
    return {
        "path": str(root),
        "features": "lld_32_16",
        "target": "emotion",
        "aux": None,
        "protocol": asdict(Protocol("loso", test_speaker="s0")),
        "companions": {"visual": {"features": "visual", "hash": "?"}},
        "missing": missing,
        "synthetic": True,
    }


def test_features_are_found_by_the_utterance_s_id(table: FeatureTable, companion: Companion) -> None:
    lacking = [i for i, name in enumerate(table.utterances["id"]) if name.endswith("_00")]
    assert np.flatnonzero(companion.rows < 0).tolist() == lacking
    assert companion.of(lacking[0]) is None
    for row in (1, len(table) - 1):
        found = companion.of(row)
        assert found is not None
        assert companion.table.utterances["id"][companion.rows[row]] == table.utterances["id"][row]
        assert np.array_equal(found, companion.table[int(companion.rows[row])])


def test_the_paper_s_feature_set_comes_first(table: FeatureTable) -> None:
    assert choose(table, SETS) == {"visual": "visual"}
    assert choose(table, {}) == {}
    with pytest.raises(DataError, match=r"no visual features.*--features openface --visual FOLDER"):
        choose(table, {"visual": ("openface",)})


def test_another_corpus_s_features_are_refused(table: FeatureTable, root: Path, tmp_path: Path) -> None:
    other = make_visual(make_table()).table
    names = "x" + other.utterances["id"]
    write_table(tmp_path / "c", replace(other, utterances=other.utterances.assign(id=names)))
    with pytest.raises(DataError, match="no utterance has both lld_32_16 and visual features"):
        Companion.open(replace(table, root=tmp_path / "c"), "visual")


def test_what_lacks_an_input_is_left_out(table: FeatureTable, companion: Companion) -> None:
    split = Protocol("loso", test_speaker="s0").split(table)
    kept = without_missing(split, {"visual": companion})
    assert (companion.rows[kept.train] >= 0).all()
    assert len(split.train) - len(kept.train) == 2, "a training speaker's first utterance each"
    assert len(split.dev) - len(kept.dev) == 1
    none = replace(companion, rows=np.full(len(table), -1))
    with pytest.raises(DataError, match="no utterance of the train part has visual features"):
        without_missing(split, {"visual": none})


def test_zeros_need_somebody_who_has_the_input(table: FeatureTable, companion: Companion) -> None:
    split = Protocol("loso", test_speaker="s0").split(table)
    none = replace(companion, rows=np.where(np.isin(np.arange(len(table)), split.train), -1, companion.rows))
    views = {"visual": (none, SegmentView(4, 4, pad="mean", first_only=True))}
    labelled_alone = replace(split, unlabelled=split.unlabelled[:0])
    with pytest.raises(DataError, match="no training utterance has visual features"):
        training_data(table, labelled_alone, SegmentView(8, 8, first_only=True), companions=views)


def test_a_card_counts_what_is_used(table: FeatureTable, companion: Companion) -> None:
    protocol = Protocol("loso", test_speaker="s0")
    whole, used = split_card(protocol, table), split_card(protocol, table, used=complete({"visual": companion}))
    assert whole["parts"]["test"]["utterances"] - used["parts"]["test"]["utterances"] == 1
    assert whole["parts"]["train"]["utterances"] - used["parts"]["train"]["utterances"] == 2


@pytest.mark.parametrize(("missing", "lacking"), [("skip", 0), ("zero", 2)])
def test_a_batch_has_both_inputs(root: Path, companion: Companion, missing: str, lacking: int) -> None:
    data = load_data(section(root, missing), SMALL, "multimodal_ladder")
    batch = data.train.batch(np.arange(len(data.train)), CPU, torch.float32)
    assert batch["visual"].shape == (len(data.train), 8, 12)
    zero = batch["visual"].flatten(1).abs().sum(dim=1) == 0
    assert int(zero.sum()) == lacking
    seen = data.train.companions["visual"]
    rows = companion.rows[[i for i, n in enumerate(make_table().utterances["id"]) if n in set(data.train.ids)]]
    frames = np.concatenate([companion.table[int(row)] for row in rows if row >= 0])
    np.testing.assert_allclose(seen.normaliser.mean, frames.mean(axis=0), rtol=1e-5)
    data.train.reside(CPU, torch.float32)
    resident = data.train.batch(np.arange(5), CPU, torch.float32)
    assert torch.equal(resident["visual"], batch["visual"][:5])
    assert torch.equal(resident["x"], batch["x"][:5])


@pytest.fixture(scope="module", params=["skip", "zero"])
def study(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Engine]:
    """A study of one trial, as `tune` would have left it, and its engine."""
    data = load_data(section(root, request.param), SMALL, "multimodal_ladder")
    meta = {"family": "multimodal_ladder", "objective": {"metric": "dev_f1"}, "data": section(root, request.param)}
    study = Study.create("av", meta, tmp_path_factory.mktemp("studies"))
    (study.folder / "context.json").write_text(json.dumps(data.context()))
    engine = Engine(FAMILY, data, objective="dev_f1")
    lane = engine.join(SMALL, seed=0, epochs=2)
    study.append("start", 0, params=SMALL.to_dict(), searched={})
    for result in engine.epochs():
        fields = {"metrics": result.metrics, "value": result.value, "best": result.best, "seconds": 1.0}
        study.append("epoch", 0, epoch=result.epoch, checkpoint="ray/trial0", **fields)
    study.append("end", 0, state="complete", reason="all epochs done")
    engine.state(lane).save(study.folder / "ray" / "trial0")
    return study, engine


def test_a_bundle_predicts_what_the_engine_did(
    study: tuple[Study, Engine], table: FeatureTable, companion: Companion, tmp_path: Path
) -> None:
    made, engine = study
    predictor = Predictor.from_study(made)
    card = json.loads((export_bundle(made, tmp_path / "model") / "bundle.json").read_text())
    assert card["companions"]["visual"]["view"] == FAMILY.companion_views(SMALL)["visual"].to_dict()
    assert card["companions"]["visual"]["features"]["features"] == "visual"
    known = engine.predictions(1)
    row_of = {name: row for row, name in enumerate(table.utterances["id"])}
    for name, expected in zip(known.ids, known.outputs, strict=True):
        row = row_of[name]
        found = predictor.outputs(table[row], {"visual": companion.of(row)})
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        alone = predictor.outputs(table[row])
        assert torch.isfinite(alone).all()
        assert torch.equal(alone, found) == (companion.of(row) is None)


def test_the_test_part_lacks_what_training_lacked(study: tuple[Study, Engine]) -> None:
    made, _ = study
    utterances = 8 - (made.meta["data"]["missing"] == "skip")
    assert evaluate(made)["utterances"] == utterances, "the test speaker's first has no visual features"


def test_a_test_part_without_the_input_is_a_sentence(
    study: tuple[Study, Engine], companion: Companion, table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = study
    ours = (table.utterances["speaker"] == "s0").to_numpy(bool)
    monkeypatch.setattr(
        Companion, "open", lambda main, features: replace(companion, rows=np.where(ours, -1, companion.rows))
    )
    if made.meta["data"]["missing"] == "zero":
        assert evaluate(made, again=True)["utterances"] == 8
        return
    with pytest.raises(DataError, match="no utterance of the test part has visual features"):
        evaluate(made, again=True)


def test_a_bundle_whose_inputs_are_others_is_refused(study: tuple[Study, Engine], tmp_path: Path) -> None:
    made, _ = study
    card = export_bundle(made, tmp_path / "model") / "bundle.json"
    card.write_text(card.read_text().replace('"companions": {', '"companions_": {'))
    with pytest.raises(BundleError, match="inputs: none beside the first"):
        Predictor.load(tmp_path / "model")


def test_a_view_of_chunks_covers_an_utterance_evenly() -> None:
    view = SegmentView(62, 62, pad="wrap", chunks=11)
    assert view.starts(162) == [10 * chunk for chunk in range(11)], "Eq. 2: int((T - 62) / 10)"
    assert view.starts(171) == view.starts(162)
    assert view.starts(40) == [0] * 11
    short = np.arange(40, dtype=np.float32)[:, None]
    assert view.cut(short, np.zeros(1))[0, :, 0].tolist() == [*range(40), *range(22)]
