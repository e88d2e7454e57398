"""Models of a nested protocol on the test part that they share: each fold's is tested, and figures are their means.

Latif et al., TAFFC 2020, section 5.2, cross-validate in five folds beside the speaker who is left out, and don't say
how a figure is made of the folds' models. None of them is chosen here, and they aren't made an ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch

from sersearch.data.protocols import Protocol
from sersearch.evaluation.look import Look, Outputs, intervals

Tested = tuple[dict[str, Any], list[list[Any]], Outputs]
"""What `test.json` says of a model, the rows of predictions.csv, and the utterances that the figures are of."""


def over_folds(look: Look, parts: Sequence[Tested]) -> Tested:
    """The folds' results as one: means of their figures, and, as `folds`, each fold's own of the whole test part.

    The confusion matrix and the table of predictions have each utterance once a fold.
    """
    results, clean = [result for result, _, _ in parts], [own for _, _, own in parts]
    first, header = results[0], parts[0][1][0]
    found: dict[str, Any] = mean(results)
    found["intervals"] = intervals(look, dict(enumerate(clean)), first["metric"])
    found["protocol"] = str(Protocol.from_dict(look.study.meta["data"]["protocol"]))
    found["folds"] = [own.figures() for own in clean]
    if "confusion" in first:
        matrices = [result["confusion"] for result in results]
        found["confusion"] = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]
    return found, [header, *(row for _, rows, _ in parts for row in rows[1:])], clean[0]


def together(parts: Sequence[Outputs]) -> Outputs:
    """What the folds' models say of the same utterances; that of a protocol that isn't nested as it is."""
    return parts[0] if len(parts) == 1 else replace(parts[0], outputs=torch.stack([own.outputs for own in parts]))


def mean(values: Sequence[Any]) -> Any:
    """What results have in common, and the means of the figures in which they differ; None where one has none."""
    first = values[0]
    if all(isinstance(value, dict) for value in values):
        return {name: mean([value.get(name) for value in values]) for name in first}
    if all(value == first for value in values):
        return first
    numbers = [value for value in values if isinstance(value, (int, float))]
    return fmean(numbers) if len(numbers) == len(values) else None


__all__ = ["Tested", "mean", "over_folds", "together"]
