"""Speaker verification by d-vectors: how well the speaker task carries over to speakers it never saw.

E. Variani et al., "Deep neural networks for small footprint text-dependent speaker verification", ICASSP 2014; used so
by Latif et al., TAFFC 2020, section 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from sersearch.data.table import FeatureTable
from sersearch.metrics import eer

if TYPE_CHECKING:
    from sersearch.export import Predictor

ENROLMENT = 20
"""Utterances, at most, of which a speaker's model is the mean."""
IMPOSTOR_UTTERANCES = 2 * ENROLMENT
"""Utterances, at most, of each speaker from a corpus of impostors."""

Rows = tuple[FeatureTable, np.ndarray]


def verification(
    predictor: Predictor,
    table: FeatureTable,
    test: np.ndarray,
    dev: np.ndarray,
    impostors: Path | str | None = None,
) -> dict[str, Any]:
    """Equal error rate (EER) of telling the test speakers apart, or why there is none. JSON-ready.

    An utterance's d-vector is the output of the speaker classifier's last hidden layer. Half of a speaker's utterances,
    20 at most, drawn by the speaker's name, enrol: the mean of their unit d-vectors is the speaker's model. Each other
    utterance is scored by its cosine with every model. A single test speaker (LOSO) is set against the development
    speakers, who did not train either. `impostors`, a prepared corpus, adds its speakers, as the paper adds
    LibriSpeech's test set; speakers who trained are left out. Speakers are named "<corpus>/<speaker>".
    """
    trained = set(predictor.labels.speaker)
    speakers = _by_speaker(table, test)
    if trained & speakers.keys():
        return _without("the test speakers also train under this protocol; verification needs unseen speakers")
    if len(speakers) < 2:
        speakers |= _by_speaker(table, dev)
    if impostors is not None:
        others = FeatureTable.open(impostors, predictor.card["features"]["features"])
        others.check_like(predictor.card["features"])
        for name, (_, rows) in _by_speaker(others, np.arange(len(others))).items():
            speakers.setdefault(name, (others, rows[:IMPOSTOR_UTTERANCES]))
    speakers = {
        name: (source, rows) for name, (source, rows) in speakers.items() if name not in trained and len(rows) > 1
    }
    if len(speakers) < 2:
        return _without("EER needs two unseen speakers with two utterances each; --impostors adds a corpus of them")
    return _score(predictor, speakers)


def _score(predictor: Predictor, speakers: dict[str, Rows]) -> dict[str, Any]:
    models, probes, owners = [], [], []
    for number, (source, rows) in enumerate(speakers.values()):
        found = [predictor.embedding(source[int(row)]) for row in rows]
        vectors = [vector for vector in found if vector is not None]
        if not vectors:
            return _without("the model has no speaker task")
        unit = normalize(torch.stack(vectors), dim=-1)
        enrolled = min(len(rows) // 2, ENROLMENT)
        models.append(unit[:enrolled].mean(dim=0))
        probes.append(unit[enrolled:])
        owners += [number] * (len(rows) - enrolled)
    scores = torch.cat(probes) @ normalize(torch.stack(models), dim=-1).T
    same = torch.tensor(owners)[:, None] == torch.arange(len(speakers))
    rate = float(eer(scores.flatten(), same.flatten()))
    return {"eer": rate, "speakers": sorted(speakers), "trials": same.numel(), "same_speaker_trials": len(owners)}


def _by_speaker(table: FeatureTable, rows: Iterable[int]) -> dict[str, Rows]:
    """Rows by speaker, in an order that is drawn by the speaker's name.

    Ids often begin with the emotion: in the table's order a speaker would be enrolled by one emotion alone.
    """
    columns = table.utterances[["corpus", "speaker"]]
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault("/".join(columns.iloc[row]), []).append(int(row))
    return {name: (table, _draw(name).permutation(np.array(own, np.int64))) for name, own in sorted(found.items())}


def _draw(name: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def _without(reason: str) -> dict[str, Any]:
    return {"eer": None, "reason": reason}
