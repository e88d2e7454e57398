"""What stands in several parts of a split, and the refusal of what must not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sersearch.data.joined import Joined
from sersearch.data.rules import parts, recordings
from sersearch.errors import DataError

if TYPE_CHECKING:
    from sersearch.data.protocols import Protocol
    from sersearch.data.table import FeatureTable

SHOWN = 20
"""Values of a leak that a split card lists."""
NAMED = 3
"""Values of a leak that the refusal names."""

_PAIRS = (("train", "dev"), ("train", "test"), ("dev", "test"))


def leaks(protocol: Protocol, table: FeatureTable, rows: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Each speaker, audio and sentence that stands in two parts, `rows` being the row numbers by part. JSON-ready.

    `between` are the two parts, `train` being all that is trained on, labelled or not; where protocol `cross` trains on
    all of the tested corpus's audio, as its caption says, what is labelled. `count` says how many there are, `values`
    names the first 20: of audio, which may have several ids, the one in the first part. `utterances` are for each an id
    in either part. `allowed` says whether the protocol means it to be so: sentences always, speakers in kfold and in an
    official split with shared speakers, audio never.
    """
    utterances, columns, sides = table.utterances, _columns(table), dict(rows)
    if protocol.target_audio != "all":
        sides["train"] = np.sort(np.concatenate([rows["train"], rows["unlabelled"]]))
    for kind, column in columns.items():
        for first, second in _PAIRS:
            known = [own[pd.notna(column[own])] for own in (sides[first], sides[second])]
            found = [dict(zip(column[own[::-1]], own[::-1], strict=True)) for own in known]  # the first row of each
            shared = sorted(found[0].keys() & found[1].keys())
            if shared:
                ids = [[str(utterances["id"].iloc[own[value]]) for own in found] for value in shared[:SHOWN]]
                yield {
                    "kind": kind,
                    "between": [first, second],
                    "values": [pair[0] for pair in ids] if kind == "audio" else shared[:SHOWN],
                    "utterances": ids,
                    "count": len(shared),
                    "allowed": _allowed(protocol, kind),
                }


def check_leaks(
    protocol: Protocol, table: FeatureTable, target: str = "emotion", used: np.ndarray | None = None
) -> None:
    """Raise :class:`DataError` where parts share audio or speakers that `protocol` doesn't mean them to.

    The message names them, the utterances, and the ways out. `used` (N,) bool says which utterances aren't left out,
    None: all. To be called before anything is trained or tested.
    """
    protocol, rows = parts(protocol, table, target)
    found = [leak for leak in leaks(protocol, table, _used(rows, used)) if not leak["allowed"]]
    if not found:
        return
    problems = [_problem(leak) for leak in found]
    ways = [_way_out(protocol, kind) for kind in dict.fromkeys(leak["kind"] for leak in found)]
    raise DataError(f"{table.root}: {protocol}: {'; '.join(problems)}. {' '.join(ways)}")


def check_unseen(
    protocol: Protocol, table: FeatureTable, target: str, earlier: tuple[Protocol, FeatureTable, str]
) -> None:
    """Raise :class:`DataError` where `earlier`, a study's protocol, table and target, knows what `protocol` tests.

    It knows what it was trained on or developed on: what was searched by that was chosen by the test part. Speakers are
    told apart by corpus; recordings by their audio and by the span of a file, which noisy copies share.
    """
    own, theirs = parts(protocol, table, target)[1], parts(*earlier)[1]
    known = [theirs["train"], theirs["dev"]] + ([theirs["unlabelled"]] if protocol.target_audio != "all" else [])
    for kind, of_tested, of_known in zip(
        ("speaker", "recording", "recording"),
        _known(table, own["test"]),
        _known(earlier[1], np.concatenate(known)),
        strict=True,
    ):
        if (both := of_tested & of_known) and not _allowed(protocol, kind):
            raise DataError(
                f"it learnt from, or was developed on, {len(both)} {kind}{'s' * (len(both) > 1)} that this study "
                f"tests, such as {min(both)}"
            )


def _known(table: FeatureTable, rows: np.ndarray) -> tuple[set[str], set[str], set[str]]:
    """Speakers, audio, and spans of files of `rows`."""
    own = table.utterances.iloc[rows]
    spans = own[["corpus", "path", "start", "end"]].itertuples(index=False)
    return set(table.speakers[rows]), set(own["audio_sha256"].dropna()), {" ".join(map(str, span)) for span in spans}


def _columns(table: FeatureTable) -> dict[str, np.ndarray]:
    """What may leak (N,), by kind."""
    utterances = table.utterances
    speaker, sentence = (utterances[name].to_numpy(object) for name in ("speaker", "sentence"))
    if isinstance(table, Joined):
        speaker = table.speakers
    return {"speaker": speaker, "audio": recordings(table).astype(object), "sentence": sentence}


def _used(rows: Mapping[str, np.ndarray], used: np.ndarray | None) -> Mapping[str, np.ndarray]:
    return rows if used is None else {name: own[used[own]] for name, own in rows.items()}


def _allowed(protocol: Protocol, kind: str) -> bool:
    return kind == "sentence" or (kind == "speaker" and (protocol.name == "kfold" or protocol.shared_speakers))


def _problem(leak: Mapping[str, Any]) -> str:
    """What stands in two parts, and where."""
    pairs = zip(leak["values"], leak["utterances"], strict=True)
    if leak["kind"] == "audio":
        named = [f"{first} = {second}" for _, (first, second) in pairs][:NAMED]
    else:
        named = [f"{value} ({first}, {second})" for value, (first, second) in pairs][:NAMED]
    more = [f"and {leak['count'] - NAMED} more"] if leak["count"] > NAMED else []
    what = "recording" if leak["kind"] == "audio" else "speaker"
    several, stand = ("s", "stand") if leak["count"] > 1 else ("", "stands")
    first, second = leak["between"]
    return f"{leak['count']} {what}{several} {stand} in the {first} and the {second} part: {', '.join([*named, *more])}"


def _way_out(protocol: Protocol, kind: str) -> str:
    """What to do, in a sentence."""
    if kind == "audio":
        return (
            "What is held out must not be learnt from: --drop-duplicates leaves the copies out of training and "
            "development, or correct the corpus's manifest."
        )
    if protocol.name == "official":
        return (
            "A split that shares speakers doesn't show how a model does on new ones: use --protocol speaker or loso, "
            "correct the split in the corpus's manifest, or, if it is meant to be so, say --shared-speakers, which "
            "every result's caption then names."
        )
    return "Speakers of corpora of one name count as the same: learn from a corpus of other speakers."


__all__ = ["check_leaks", "check_unseen", "leaks"]
