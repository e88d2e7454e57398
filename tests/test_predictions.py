"""Tables of predictions: what is written is read again, and what is drawn of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from sersearch.data.batches import LabelSpace
from sersearch.errors import DataError
from sersearch.predictions import (
    Confusion,
    Scatter,
    prediction_artifacts,
    predictions_csv,
    read_predictions,
)
from sersearch.training import Predictions

CLASSES = LabelSpace(("anger", "joy"), (), ())
TWO = LabelSpace((), (), (), ("activation", "valence"), (4.0, 3.0), (0.5, 2.0))


def write_predictions(predictions: Predictions, path: Path) -> None:
    path.write_text(predictions_csv(predictions), newline="")


def classes(path: Path) -> Path:
    posteriors = torch.tensor([[0.9, 0.1], [0.25, 0.75], [0.0, 1.0]])
    write_predictions(Predictions(["a", "b", "c"], torch.tensor([0, 0, 1]), posteriors, CLASSES), path)
    return path


def attributes(path: Path, count: int = 3) -> Path:
    z = torch.tensor([[1.0, -1.0], [0.0, 0.5], [-2.0, 0.0]])[:count]
    write_predictions(Predictions(["a", "b", "c"][:count], z, z + 0.5, TWO), path)
    return path


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_class_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = classes(tmp_path / "dev_predictions.csv")
    rows = lines(path)
    assert rows[0] == ["id", "label", "predicted", "anger", "joy"]
    assert rows[2] == ["b", "anger", "joy", "0.25", "0.75"]
    shown = read_predictions(path)
    assert isinstance(shown, Confusion)
    assert (shown.classes, shown.counts.tolist(), shown.utterances) == (("anger", "joy"), [[1, 1], [0, 1]], 3)


def test_attributes_are_written_on_the_corpus_s_scale(tmp_path: Path) -> None:
    path = attributes(tmp_path / "dev_predictions.csv")
    rows = lines(path)
    assert rows[0] == ["id", "activation", "activation_predicted", "valence", "valence_predicted"]
    assert rows[1] == ["a", "4.5", "4.75", "1", "2"]
    shown = read_predictions(path)
    assert isinstance(shown, Scatter)
    assert shown.attributes == ("activation", "valence")
    np.testing.assert_allclose(shown.truth, [[4.5, 1], [4, 4], [3, 3]])
    np.testing.assert_allclose(shown.predicted, [[4.75, 2], [4.25, 5], [3.25, 4]])


def test_the_confusion_matrix_counts_utterances(tmp_path: Path) -> None:
    path = classes(tmp_path / "dev_predictions.csv")
    table, picture = prediction_artifacts(path, tmp_path / "out")
    assert table.read_text() == "true,anger,joy\nanger,1,1\njoy,0,1\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_panel_an_attribute_with_its_ccc(tmp_path: Path) -> None:
    shown = read_predictions(attributes(tmp_path / "dev_predictions.csv"))
    activation, valence = shown.draw().axes
    # By hand: 2 s_xy / (s_x + s_y + (difference of means)^2); predictions are the truth plus a constant.
    variance = np.var([4.5, 4, 3])
    expected = 2 * variance / (2 * variance + 0.25**2)
    assert activation.get_title() == f"activation: CCC {expected:.3f}, 3 utterances"
    assert valence.get_title().startswith("valence: CCC ")
    assert activation.collections[0].get_offsets().tolist() == [[4.5, 4.75], [4, 4.25], [3, 3.25]]
    assert activation.get_xlim() == activation.get_ylim()
    (picture,) = prediction_artifacts(tmp_path / "dev_predictions.csv", tmp_path / "out")
    assert (picture.name, picture.read_bytes()[:4]) == ("scatter.png", b"\x89PNG")


@pytest.mark.parametrize("count", [0, 1])
def test_few_utterances_are_drawn_too(tmp_path: Path, count: int) -> None:
    assert read_predictions(attributes(tmp_path / "dev_predictions.csv", count)).draw().axes[0].get_title()


def test_one_condition_alone(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("id,condition,valence,valence_predicted\na,clean,1,2\nb,snr5,3,4\n")
    whole, clean = read_predictions(path), read_predictions(path, "clean")
    assert isinstance(clean, Scatter)
    assert (whole.utterances, clean.truth.tolist()) == (2, [[1.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a table of predictions; expected the columns id, label, predicted .* found none"),
        ("id,valence,predicted\n", "expected .* NAME, NAME_predicted; found id, valence, predicted"),
        ("id,label,predicted,joy\na,anger,joy,1\n", "the class 'anger' has no column"),
        ("id,label,predicted,joy\na,,joy,1\n", "the class '' has no column"),
        ("id,valence,valence_predicted\na,1,high\n", "could not convert .*; expected a number for each attribute"),
        ("id,valence,valence_predicted\na,1\n", "expected a number for each attribute"),
    ],
)
def test_a_table_that_holds_no_predictions(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dev_predictions.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        prediction_artifacts(path, tmp_path)


def test_a_class_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "dev_predictions.csv"
    path.write_text("id,label,predicted,$x_$,[b]\na,$x_$,[b],0.1,0.9\n")
    table, _ = prediction_artifacts(path, tmp_path)
    assert table.read_text() == "true,$x_$,[b]\n$x_$,0,1\n[b],0,0\n"
