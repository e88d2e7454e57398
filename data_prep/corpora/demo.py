"""A small corpus that is synthesised: so that everything runs where no corpus is at hand.

Source-filter voices: a glottal pulse train with a moving pitch, a spectral tilt and some breath, through four
resonances a vowel, parted by bursts of noise. Eight speakers differ in pitch and vocal-tract length; four emotions
shift pitch, its range and slope, tempo, loudness and tilt about a speaker's own, as studies of acted speech report,
and every clip strays from its emotion, so that the classes overlap. Each has a face track as OpenFace writes it. It is
no speech, and results on it say nothing about speech.
"""

from __future__ import annotations

import csv as csv_format
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from data_prep.corpora import csv
from data_prep.faces import write_face
from data_prep.reading import Reading

SUMMARY = (
    "demo: synthetic voices made by sersearch, 8 speakers, 4 emotions, attributes, an unlabelled pool, face tracks"
)
README = "Synthetic speech-like sounds, made by sersearch's demo corpus: version {version}, seed {seed}.\n"
VERSION = 2
RATE = 16_000
SENTENCES = 8  # each spoken once a speaker and emotion
POOL = 16  # unlabelled clips of each training speaker

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Voice:
    """A speaker: mean pitch in Hz, the factor on all formants, and the loudness of the recordings in dB."""

    name: str
    gender: str
    pitch: float
    formants: float
    gain: float
    split: str


@dataclass(frozen=True)
class Style:
    """How an emotion is spoken, relative to the speaker's neutral voice."""

    pitch: float  # semitones
    span: float  # semitones that the pitch moves within the sentence
    slope: float  # semitones from start to end
    tempo: float  # factor on syllables a second
    loudness: float  # dB
    tilt: float  # 0 (bright) ... 1 (dull): pole of the source's low-pass filter
    breath: float  # noise in the source
    activation: float
    valence: float
    dominance: float


VOICES = [
    Voice("F01", "female", 205, 1.17, 0.0, "train"),
    Voice("F02", "female", 225, 1.12, -2.0, "train"),
    Voice("F03", "female", 190, 1.15, 2.0, "dev"),
    Voice("F04", "female", 215, 1.20, -1.0, "test"),
    Voice("M01", "male", 115, 1.00, 1.0, "train"),
    Voice("M02", "male", 130, 1.04, -1.0, "train"),
    Voice("M03", "male", 105, 0.97, -2.0, "dev"),
    Voice("M04", "male", 122, 1.01, 0.0, "test"),
]
STYLES = {
    "anger": Style(3.5, 4.5, -1.0, 1.15, 6.0, 0.35, 0.05, 4.3, 1.7, 4.2),
    "happiness": Style(5.0, 6.5, 1.5, 1.10, 3.0, 0.55, 0.08, 3.9, 4.3, 3.4),
    "neutral": Style(0.0, 2.5, -1.0, 1.00, 0.0, 0.75, 0.08, 2.8, 3.0, 3.0),
    "sadness": Style(-1.5, 1.2, -2.5, 0.80, -5.0, 0.88, 0.22, 1.8, 1.8, 2.0),
}
# How far a clip strays from its emotion: one standard deviation, in the order of Style's fields.
STRAY = Style(0.8, 0.8, 0.6, 0.06, 1.5, 0.05, 0.03, 0.35, 0.35, 0.35)
# Formants in Hz of a man's vowels (Peterson & Barney, 1952), the fourth assumed, with the bandwidths of all.
VOWELS = np.array(
    [
        [730, 1090, 2440, 3400],
        [530, 1840, 2480, 3500],
        [270, 2290, 3010, 3600],
        [570, 840, 2410, 3300],
        [300, 870, 2240, 3300],
    ]
)
BANDWIDTHS = np.array([80, 100, 140, 200])


def write(root: Path) -> None:
    """Synthesise the corpus below `root`: manifest.csv, a folder of wav files a speaker, `faces`; or it is there."""
    write_demo(root)


def write_demo(root: Path, seed: int = 0) -> None:
    """The corpus of `seed`, 320 clips in some seconds; README.txt, written last, says that it is complete."""
    readme, text = root / "README.txt", README.format(version=VERSION, seed=seed)
    if readme.is_file() and readme.read_text("utf-8") == text:
        return
    random = np.random.default_rng(seed)
    sentences = [_sentence(random) for _ in range(SENTENCES)]
    rows = []
    for voice in VOICES:
        (root / voice.name).mkdir(parents=True, exist_ok=True)
        for emotion in STYLES:
            for number, sentence in enumerate(sentences, start=1):
                rows.append(_labelled(root, voice, emotion, number, sentence, random))
        if voice.split == "train":
            rows += [_unlabelled(root, voice, number, random) for number in range(1, POOL + 1)]
    with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv_format.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    readme.write_text(text, "utf-8")


def read(root: Path) -> Reading:
    """Read what :func:`write_demo` wrote: a corpus in the format of the `csv` reader."""
    reading = csv.read(root)
    faces = (root / "faces").resolve()
    utterances = [replace(row, corpus="demo", visual=str(faces / f"{row.id}.csv")) for row in reading.utterances]
    return replace(reading, utterances=utterances, attribute_scale=(1.0, 5.0), synthetic=True)


def _labelled(
    root: Path, voice: Voice, emotion: str, number: int, sentence: NDArray[np.int64], random: np.random.Generator
) -> dict[str, str]:
    """Write a clip of `sentence`, and its row of the manifest."""
    style = _stray(STYLES[emotion], random)
    path = f"{voice.name}/{voice.name}_{emotion}_{number}.wav"
    _write(root / path, emotion, _speak(voice, style, sentence, random))
    attributes = {name: f"{np.clip(getattr(style, name), 1, 5):.2f}" for name in ("activation", "valence", "dominance")}
    return _row(voice, path, voice.split) | {"emotion": emotion, **attributes, "sentence": str(number)}


def _unlabelled(root: Path, voice: Voice, number: int, random: np.random.Generator) -> dict[str, str]:
    """Write a clip of the pool, a sentence of its own in any emotion, and its row of the manifest."""
    emotion = str(random.choice(list(STYLES)))
    style = _stray(STYLES[emotion], random)
    path = f"{voice.name}/{voice.name}_pool_{number:02d}.wav"
    _write(root / path, emotion, _speak(voice, style, _sentence(random), random))
    return _row(voice, path, "unlabelled")


def _row(voice: Voice, path: str, split: str) -> dict[str, str]:
    row = {"id": Path(path).stem, "path": path, "speaker": voice.name, "gender": voice.gender}
    return row | dict.fromkeys(("emotion", "activation", "valence", "dominance", "sentence"), "") | {"split": split}


def _stray(style: Style, random: np.random.Generator) -> Style:
    """A clip's own style: the emotion's, and some deviation of each of its numbers."""
    drawn = {
        field.name: getattr(style, field.name) + getattr(STRAY, field.name) * random.standard_normal()
        for field in fields(Style)
    }
    return Style(**drawn | {"tilt": float(np.clip(drawn["tilt"], 0.1, 0.95)), "breath": max(drawn["breath"], 0.01)})


def _sentence(random: np.random.Generator) -> NDArray[np.int64]:
    """Syllables (S, 3): the vowel, the place of the consonant before it, the consonant's length in ms."""
    count = random.integers(6, 9)
    vowels, places = random.integers(0, len(VOWELS), count), random.integers(1500, 6000, count)
    return np.stack([vowels, places, random.integers(40, 90, count)], axis=1)


def _speak(voice: Voice, style: Style, sentence: NDArray[np.int64], random: np.random.Generator) -> Samples:
    """The sound of a sentence: its syllables with their pauses at the ends, at the style's loudness."""
    lengths = (np.array([0.17 * random.uniform(0.8, 1.25) for _ in sentence]) / style.tempo * RATE).astype(int)
    total = int(lengths.sum())
    time = np.linspace(0, 1, total)
    melody = style.span / 2 * np.sin(2 * np.pi * (random.uniform(1.2, 2.2) * time + random.uniform()))
    semitones = style.pitch + melody + style.slope * (time - 0.5)
    pitch = (
        voice.pitch * 2 ** (semitones / 12) * (1 + 0.01 * lfilter([0.05], [1, -0.95], random.standard_normal(total)))
    )
    source = _glottis(pitch, style, random)
    pieces, state, start = [], np.zeros((4, 2)), 0
    for (vowel, place, consonant), length in zip(sentence, lengths, strict=True):
        voiced, state = _vowel(source[start : start + length], VOWELS[vowel] * voice.formants, state)
        burst = _consonant(int(consonant * RATE / 1000 / style.tempo), float(place), random)
        pieces += [burst, voiced * _envelope(length)]
        start += length
    silence = [np.zeros(int(random.uniform(0.05, 0.2) * RATE)) for _ in range(2)]
    spoken = np.concatenate(pieces)
    gain = 10 ** ((style.loudness + voice.gain) / 20) / spoken.std()
    return np.concatenate([silence[0], gain * spoken, silence[1]])


def _glottis(pitch: Samples, style: Style, random: np.random.Generator) -> Samples:
    """Pulses at `pitch` (Hz a sample) with breath, through the tilt's low-pass; of one power for every tilt."""
    phase = np.cumsum(pitch / RATE) % 1
    flow = np.where(phase < 0.6, np.sin(np.pi * phase / 0.6) ** 2, 0.0)  # the glottis is open for 60% of a period
    source = np.diff(flow, prepend=0.0)
    source = source / source.std() + style.breath * random.standard_normal(len(source)) * (0.3 + flow)
    tilted = lfilter([1 - style.tilt], [1, -style.tilt], source)
    return np.asarray(tilted / tilted.std())


def _vowel(source: Samples, formants: Samples, state: Samples) -> tuple[Samples, Samples]:
    """The source through four resonances in a row; `state` (4, 2) is carried from vowel to vowel."""
    after = np.empty_like(state)
    for i, (frequency, bandwidth) in enumerate(zip(formants, BANDWIDTHS, strict=True)):
        radius, angle = np.exp(-np.pi * bandwidth / RATE), 2 * np.pi * frequency / RATE
        poles = [1, -2 * radius * np.cos(angle), radius**2]
        source, after[i] = lfilter([sum(poles)], poles, source, zi=state[i])
    return source, after


def _consonant(length: int, place: float, random: np.random.Generator) -> Samples:
    """A burst of noise about the frequency `place`."""
    angle = 2 * np.pi * place / RATE
    noise = lfilter([0.15], [1, -1.6 * np.cos(angle), 0.64], random.standard_normal(length))
    return np.asarray(0.5 * noise * _envelope(length))


def _envelope(length: int) -> Samples:
    """A rise and a fall of 15 ms."""
    ramp = min(int(0.015 * RATE), length // 2)
    envelope = np.ones(length)
    envelope[:ramp] = np.linspace(0, 1, ramp)
    envelope[length - ramp :] = np.linspace(1, 0, ramp)
    return envelope


def _write(path: Path, emotion: str, sound: Samples) -> None:
    """Write 16-bit samples, 26 dB below full scale for a neutral voice, over a faint noise of the room; and a face."""
    room = np.random.default_rng(len(sound)).standard_normal(len(sound)) * 10 ** (-62 / 20)
    soundfile.write(path, np.clip(0.05 * sound + room, -1, 1), RATE, subtype="PCM_16")
    write_face(path.parent.parent / "faces" / f"{path.stem}.csv", emotion, sound, RATE)
