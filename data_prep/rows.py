"""A corpus's rows as they go into the manifest: read and sifted, with visual files and noisy copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.noise import NoiseCopies, noisy
from data_prep.reading import Corpus, Reading
from data_prep.visual import with_visual
from sersearch.audio import VISUAL, Embeddings, Extractor, OpenFace, Visual, extractor
from sersearch.data.place import is_local
from sersearch.data.schema import Rejected, Utterance, manifest_table
from sersearch.errors import ConfigError


@dataclass(frozen=True)
class Rows:
    """What `prep` extracts features of."""

    reading: Reading  # without its utterances: half a million of them are not kept as objects
    manifest: pa.Table
    extractors: list[Extractor | Visual]
    notes: tuple[str, ...]  # what the user should know of the noises


def read_rows(
    reader: Corpus,
    root: Path | None,
    out: Path,
    options: Mapping[str, Any],
    features: Sequence[str],
    noise: NoiseCopies | None,
    visual: Path | None,
) -> Rows:
    """Read the corpus below `root`; of one that sersearch makes, first make it, below `out` or as `root`."""
    reading = _read(reader, root, out, options)
    utterances = reading.utterances
    if visual is not None:
        utterances = with_visual(utterances, visual, reading.rejected)
    extractors = _extractors(features, utterances)
    utterances, notes = noisy(utterances, noise) if noise else (utterances, ())
    return Rows(replace(reading, utterances=[]), manifest_table(utterances), extractors, notes)


def _read(reader: Corpus, root: Path | None, out: Path, options: Mapping[str, Any]) -> Reading:
    """Read the corpus, or first make the one that sersearch can make: below `out`, or as a `root` that isn't there."""
    if root is None:
        if reader.write is None:
            raise ConfigError(f"the corpus {reader.name} lies in a folder of yours: name it ({reader.summary})")
        if not is_local(out):
            raise ConfigError(
                f"{out}: the corpus {reader.name} is made on a disk; name a folder that all nodes reach, as in "
                f"`sersearch prep {reader.name} FOLDER --out {out}`"
            )
        root = out / "audio"
        reader.write(root)
    elif reader.write is not None and not root.exists():
        begun = root.with_name(f".{root.name}.tmp")  # so that a folder called `root` is complete, or somebody's
        reader.write(begun)
        begun.rename(root)
    reading = reader.read(root, **options)
    usable = [row for row in reading.utterances if _is_text(row.path)]
    odd = [
        Rejected(row.id, row.path, "its name is not in UTF-8; rename the file")
        for row in reading.utterances
        if not _is_text(row.path)
    ]
    off = {row.id: reason for row in usable if (reason := _off_scale(row, reading.attribute_scale))}
    odd += [Rejected(row.id, row.path, off[row.id]) for row in usable if row.id in off]
    rejected = [replace(row, id=_as_text(row.id), path=_as_text(row.path)) for row in reading.rejected + odd]
    return replace(reading, utterances=[row for row in usable if row.id not in off], rejected=rejected)


def _is_text(path: str) -> bool:
    return _as_text(path) == path


def _as_text(path: str) -> str:
    """A path whose bytes are not UTF-8, as old corpora have them, in a form that can be written down."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _off_scale(row: Utterance, scale: tuple[float, float] | None) -> str:
    """What is wrong with an utterance's attributes: a little outside the scale is rounding, or a rater's whim."""
    if scale is None:
        return ""
    low, high = scale
    slack = (high - low) / 8
    for name in ("activation", "valence", "dominance"):
        value = getattr(row, name)
        if value is not None and not low - slack <= value <= high + slack:
            return f"{name} {value:g} is outside the corpus's scale of {low:g} to {high:g}"
    return ""


def _extractors(names: Sequence[str], utterances: Sequence[Utterance]) -> list[Extractor | Visual]:
    """The feature sets by name; of arrays, most of the files decide on the dimension."""
    made: list[Extractor | Visual] = []
    for name in names:
        if name not in VISUAL:
            made.append(extractor(name))
            continue
        found = dict.fromkeys(Path(row.visual) for row in utterances if row.visual)
        if not found:
            raise ConfigError(f"--features {name} needs --visual, a folder of files called as the audio's are")
        made.append(Embeddings.of(found) if name == Embeddings.name else OpenFace())
    return made
