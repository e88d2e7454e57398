"""Figure 4: emotion, gender and speaker recognition by the number of auxiliary speakers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import Content, Figure
from sersearch.papers.mtl_aae.parts import CORPORA, NOTES, model

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

ALONE = {"alpha": 0.4, "beta": 0.0}
"""Of Eq. 2 only the other task is left."""
TEN = Protocol("kfold", folds=10)
EMOTION = model("mtl", seeds=1)
GENDER = replace(model("gender", seeds=1), name="fig4-gender", fixed=ALONE)
SPEAKER = replace(model("speaker", seeds=1, protocol=TEN), name="fig4-speaker", fixed=ALONE)
VERIFICATION = replace(model("speaker", seeds=1), name="fig4-verification", fixed=ALONE)
PANELS = {
    "Emotion, UA (%)": (replace(EMOTION, name="fig4-emotion"), "test_ua"),
    "Gender, accuracy (%)": (GENDER, "test_gender_accuracy"),
    "Speaker, accuracy (%)": (SPEAKER, "test_speaker_accuracy"),
    "Speaker verification, EER (%)": (VERIFICATION, "test_eer"),
}


def content(collected: Collected) -> Content:
    """A line a number of speakers."""
    found = {
        label: {number: 100 * np.array(values) for number, values in collected.by_aux(part, figure).items()}
        for label, (part, figure) in PANELS.items()
    }
    numbers = sorted({number for values in found.values() for number in values})

    def text(label: str, number: int) -> str:
        values = found[label].get(number)
        return "-" if values is None else f"{values.mean():.1f} ± {values.std():.1f}"

    def draw(canvas: Canvas) -> None:
        for panel, (label, values) in zip(canvas.subplots(2, 2).flat, found.items(), strict=True):
            xs = sorted(values)
            panel.errorbar(xs, [values[x].mean() for x in xs], [values[x].std() for x in xs], marker="o", capsize=2)
            panel.set_xlabel("auxiliary speakers")
            panel.set_title(label, fontsize=9)

    lines = [(str(number), *(text(label, number) for label in found)) for number in numbers]
    return Content(("speakers", *found), tuple(lines), draw)


PIECE = Figure(
    title="Impact of additional data: emotion, gender and speaker recognition by the number of auxiliary speakers",
    source="Latif et al., TAFFC 2020, figure 4, section 6.2",
    corpora=CORPORA,
    protocol=(
        "leave one speaker out, the next speaker develops, and for speaker identification ten folds with all speakers "
        "in each; one training a speaker, or fold"
    ),
    notes=(
        *NOTES,
        "Gender and speaker are learnt by the model in single-task mode: beta 0 leaves of Eq. 2 only that task. The "
        "epoch is chosen by the development UA of emotion all the same, which then isn't learnt: an arbitrary one.",
        "The text has no numbers of the figure, but that up to 600 speakers there is much to gain, and then little.",
    ),
    needs_aux="several",
    shown=tuple(part for part, _ in PANELS.values()),
    content=content,
)
