"""Figure 4: emotion, gender and speaker recognition by the number of auxiliary speakers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sersearch.data.protocols import Protocol
from sersearch.evaluation.results import Spread
from sersearch.family import LAST_EPOCH
from sersearch.papers.declaration import Content, Figure, Part
from sersearch.papers.mtl_aae.parts import CORPORA, NOTES, model

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

ALONE = {"alpha": 0.4, "beta": 0.0}
"""Of Eq. 2 only the other task is left."""
TEN = Protocol("kfold", folds=10)
EMOTION = model("mtl", seeds=1)


def _alone(part: Part, name: str) -> Part:
    """A model of one auxiliary task, in its last epoch: emotion, which development figures are of, isn't learnt."""
    return replace(part, name=name, fixed=ALONE, objective=LAST_EPOCH)


GENDER = _alone(model("gender", seeds=1), "fig4-gender")
SPEAKER = _alone(model("speaker", seeds=1, protocol=TEN), "fig4-speaker")
VERIFICATION = _alone(model("speaker", seeds=1), "fig4-verification")
PANELS = {
    "Emotion, UA (%)": (replace(EMOTION, name="fig4-emotion"), "test_ua"),
    "Gender, accuracy (%)": (GENDER, "test_gender_accuracy"),
    "Speaker, accuracy (%)": (SPEAKER, "test_speaker_accuracy"),
    "Speaker verification, EER (%)": (VERIFICATION, "test_eer"),
}


def content(collected: Collected) -> Content:
    """A line a number of speakers."""
    found = {
        label: {
            number: Spread.of(100 * value for value in values)
            for number, values in collected.by_aux(part, figure).items()
        }
        for label, (part, figure) in PANELS.items()
    }
    numbers = sorted({number for values in found.values() for number in values})

    def text(label: str, number: int) -> str:
        spread = found[label].get(number)
        if spread is None:
            return "-"
        return f"{spread.mean:.1f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.1f}")

    def draw(canvas: Canvas) -> None:
        for panel, (label, spreads) in zip(canvas.subplots(2, 2).flat, found.items(), strict=True):
            xs = sorted(spreads)
            deviations = [spreads[x].deviation or 0.0 for x in xs]
            panel.errorbar(xs, [spreads[x].mean for x in xs], deviations, marker="o", capsize=2)
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
        "Gender and speaker are learnt by the model in single-task mode: beta 0 leaves of Eq. 2 only that task. No "
        "development figure is of it, so of these models the last epoch is tested, and the rate is never halved.",
        "The EER is of two speakers, the tested one and the one who develops, of whom neither trains: of each half of "
        "the utterances, 20 at most, enrol. The paper has LibriSpeech's 40 test speakers beside the tested ones.",
        "The text has no numbers of the figure, but that up to 600 speakers there is much to gain, and then little.",
    ),
    needs_aux="several",
    shown=tuple(part for part, _ in PANELS.values()),
    content=content,
)
