"""Extraction: rates against bare libraries, what Ray costs, and how time and memory grow with a pool."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from benchmarks.rows import Row, paired, python, seconds, workplace
from sersearch.audio import FEATURES, RATE, extractor, load_audio
from sersearch.data.schema import feature_schema
from sersearch.training import CPU_ENVIRONMENT

PAPERS = {"ladder (300 h)": 175_000, "DeepEmoCluster's largest pool": 500_000}


def rows(quick: bool) -> Iterator[Row]:
    """All of them."""
    cores = os.cpu_count() or 1
    with workplace() as folder:
        yield functionals(folder, cores, 40 if quick else 2000, 1 if quick else 2)
        yield from mel(5 if quick else 40)
        yield ray_overhead(folder, 50 if quick else 500)
        yield from growth(folder, (500, 1000) if quick else (25_000, 50_000, 100_000, 200_000))
        yield from table(folder, 2000 if quick else 200_000)


# --- the extractors' own speed ----------------------------------------------------------------------------------------


def speech(folder: Path, count: int, length: float) -> Path:
    """A CSV corpus of `count` noises of `length` seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    samples = rng.normal(size=round(length * RATE)) / 10
    lines = ["path,speaker"]
    for number in range(count):
        soundfile.write(folder / f"u{number:06d}.wav", np.roll(samples, 97 * number), RATE)
        lines.append(f"u{number:06d}.wav,s{number % 50}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def functionals(folder: Path, cores: int, count: int, pairs: int) -> Row:
    """`prep` of ComParE functionals against a bare loop over some of the same files in one process."""
    corpus = speech(folder / "functionals", count, 2.0)
    sample = count // 10

    def bare() -> float:
        return float(python("benchmarks.prep", "bare", str(corpus), str(sample)).communicate()[0]) / sample

    def ours() -> float:
        out = corpus / f"out-{time.time_ns()}"
        return seconds(lambda: prep(corpus, "functionals", out)) / count

    one, all_ = paired(bare, ours, pairs)
    start = seconds(lambda: prep(speech(folder / "start", 1, 2.0), "functionals", folder / "start" / "out"))
    without = all_ - start / count
    return Row(
        f"functionals, {count} segments of 2 s, {cores} cores",
        f"x {one / without / cores:.2f} a core's bare opensmile",
        ">= 0.95",
        f"{1 / without:.0f} segments/s against {1 / one:.0f} of a bare loop, beside {start:.0f} s of start-up: "
        f"with it x {one / all_ / cores:.2f}; {pairs} pairs",
    )


def bare(corpus: str, count: str) -> None:
    """A child: seconds of a bare opensmile loop."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
    files = sorted(Path(corpus).glob("*.wav"))[: int(count)]
    smile.process_signal(soundfile.read(files[0], dtype="float32")[0], RATE)
    print(seconds(lambda: [smile.process_signal(soundfile.read(f, dtype="float32")[0], RATE) for f in files]))


def prep(corpus: Path, features: str, out: Path) -> None:
    """`sersearch prep csv` in a process of its own."""
    command = [sys.executable, "-m", "sersearch", "prep", "csv", str(corpus), "--features", features, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)


def mel(runs: int) -> Iterator[Row]:
    """The mel spectrogram against librosa's, on one core: a pool of utterances of all lengths, and of one length."""
    for what, lengths in (("1 to 11 s", range(1, 12)), ("2 s", [2]), ("5 s", [5]), ("11 s", [11])):
        child = python("benchmarks.prep", "mel_pairs", json.dumps(list(lengths)), str(runs))
        slow, fast = json.loads(child.communicate()[0])
        note = f"{1000 * fast:.1f} ms against {1000 * slow:.1f} ms an utterance, {runs} pairs"
        bound = ">= 2" if len(lengths) > 1 else ""
        yield Row(f"mel of utterances of {what} against librosa, one core", f"x {slow / fast:.1f} as fast", bound, note)


def mel_pairs(lengths: str, runs: str) -> None:
    """A child that stays on one core (librosa multiplies matrices on all): seconds of librosa's mel, and of ours."""
    import librosa

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    pool = [(rng.normal(size=length * RATE) / 10).astype(np.float32) for length in json.loads(lengths) * 3]
    theirs = partial(librosa.feature.melspectrogram, sr=RATE, n_fft=512, hop_length=256, n_mels=128)
    ours = extractor("mel")

    def over(mel: Callable[[np.ndarray], object]) -> float:
        return seconds(lambda: [mel(samples) for samples in pool]) / len(pool)

    slow, fast = lambda: over(lambda y: theirs(y=y)), lambda: over(ours)
    slow(), fast()
    print(json.dumps(paired(slow, fast, int(runs))))


def ray_overhead(folder: Path, count: int) -> Row:
    """What `prep` takes beyond the extraction itself."""
    corpus = speech(folder / "overhead", count, 2.0)
    took = seconds(lambda: prep(corpus, "mel", corpus / "out"))
    extract = extractor("mel")
    alone = seconds(lambda: [extract(load_audio(file)) for file in sorted(corpus.glob("*.wav"))])
    beyond = took - alone / (os.cpu_count() or 1)
    return Row(
        f"`prep` beyond extraction, {count} files",
        f"{beyond:.1f} s",
        "<= 15 s",
        f"{took:.1f} s in all, Ray's start too",
    )


# --- growth -----------------------------------------------------------------------------------------------------------


class Trivial:
    """An extractor that costs nothing."""

    name = "trivial"
    dims = 8

    def card(self) -> dict[str, Any]:
        """As extractors' cards are."""
        fixed = {"version": 1, "rate": RATE, "frame_rate": None, "dtype": "float32", "parameters": {}, "versions": {}}
        return {"features": self.name, "dims": self.dims, **fixed}

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The first samples."""
        return samples[None, : self.dims].astype(np.float32)


def register() -> None:
    """Make it known in a process."""
    FEATURES["trivial"] = Trivial  # type: ignore[assignment]


def growth(folder: Path, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Time and the driver's memory for pools of growing size, each row a span of a long file."""
    corpus = folder / "growth"
    corpus.mkdir()
    soundfile.write(corpus / "long.wav", np.random.default_rng(0).normal(size=3600 * RATE) / 10, RATE)
    times = []
    for size in sizes:
        starts = np.linspace(0, 3590, size)
        lines = [f"long.wav,s{n % 500},{start:.4f},{start + 0.1:.4f},u{n:06d}" for n, start in enumerate(starts)]
        (corpus / "manifest.csv").write_text("path,speaker,start,end,id\n" + "\n".join(lines))
        child = python("benchmarks.prep", "grow", str(corpus), str(corpus / f"out-{size}"))
        found = json.loads(child.communicate()[0].splitlines()[-1])
        times.append(found["seconds"])
        yield Row(
            f"`prep` of {size} rows, trivial extractor",
            f"{found['seconds']:.0f} s",
            "linear in rows",
            f"{1000 * found['seconds'] / size:.2f} ms a row; driver {found['mib']:.0f} MiB (bound 1024)",
        )
    slope = (times[-1] - times[0]) / (sizes[-1] - sizes[0])
    cost = "; ".join(f"{name}: {count * slope / 60:.0f} min" for name, count in PAPERS.items())
    yield Row(
        "cost of sersearch's own part for the papers' pools", cost, "", "on this machine, extraction not included"
    )


def grow(corpus: str, out: str) -> None:
    """A child: prepare with the trivial extractor; print seconds and the driver's peak memory."""
    import ray

    from data_prep.pipeline import prepare

    register()
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    hook = {"worker_process_setup_hook": "benchmarks.prep.register"}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, runtime_env=hook)
    took = seconds(lambda: prepare("csv", Path(corpus), "trivial", Path(out)))
    print(json.dumps({"seconds": took, "mib": memory("VmHWM")}))  # its peak


# --- the table --------------------------------------------------------------------------------------------------------


def table(folder: Path, count: int) -> Iterator[Row]:
    """A table of functionals as training opens it."""
    root = folder / "table"
    (root / "functionals").mkdir(parents=True)
    card = {**extractor("functionals").card(), "hash": "0" * 64}
    plain = feature_schema(card)
    plain = plain.remove(plain.get_field_index("features"))
    names = [f"u{n:06d}" for n in range(count)]
    columns: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in plain}
    columns |= dict.fromkeys(("id", "path", "audio_sha256"), names)
    columns |= {"speaker": ["s"] * count, "corpus": ["big"] * count}
    columns |= {"duration": np.ones(count), "frames": np.ones(count, np.int32)}
    with pa.ipc.new_file(root / "functionals" / f"rows-{'0' * 16}.arrow", plain) as file:
        file.write_table(pa.table(columns, schema=plain))
    frames = np.lib.format.open_memmap(
        root / "functionals" / f"frames-{'0' * 16}.npy", "w+", np.float32, (count, card["dims"])
    )
    rng = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        frames[start : start + 10_000] = rng.random((min(10_000, count - start), card["dims"]), np.float32)
    frames.flush()
    size = frames.nbytes
    card["shards"] = [{"file": "part-00000.parquet", "rows": count, "frames": count, "bytes": 0, "sha256": "0"}]
    (root / "functionals" / "card.json").write_text(json.dumps(card))
    (root / "corpus.json").write_text(json.dumps({"corpus": "big", "root": "", "synthetic": True}))
    child = partial(python, "benchmarks.prep", "open_table", str(root), environment=CPU_ENVIRONMENT)
    found = [json.loads(child().communicate()[0]) for _ in "123"]
    took, grown = (statistics.median(f[key] for f in found) for key in ("open", "mib"))
    yield Row(
        f"table of {count} x 6373 ({size / 2**30:.1f} GiB): opened, first batch of 256",
        f"{took:.2f} s",
        "< 1 s",
        f"resident memory grew by {grown:.0f} MiB, {100 * grown * 2**20 / size:.1f}% of the table (bound 5%)",
    )
    ratio = statistics.median(f["ours"] / f["plain"] for f in found)
    yield Row(
        "a shuffled pass in batches of 256 against reading the map's rows in that order",
        f"x {ratio:.2f}",
        "<= 1.5",
        f"normalised x {statistics.median(f['normalised'] / f['plain'] for f in found):.2f}; from the page cache",
    )


def open_table(root: str) -> None:
    """A child: seconds to open and take a batch, resident memory, and of a shuffled pass."""
    import torch

    from sersearch.data.batches import Segments, SegmentView
    from sersearch.data.normaliser import Normaliser
    from sersearch.data.table import FeatureTable

    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    before = memory("RssAnon", "RssFile")
    began = time.perf_counter()
    opened = FeatureTable.open(root, "functionals")
    count = len(opened)
    segments = Segments(SegmentView(1, 1), Normaliser(np.zeros(6373, np.float32), np.ones(6373, np.float32)))
    none = np.full(count, -1)
    segments.add(opened, np.arange(count), {"emotion": none, "gender": none, "speaker": none})
    order = np.random.default_rng(0).permutation(count)
    segments.batch(order[:256], cpu, torch.float32)
    took, grown = time.perf_counter() - began, memory("RssAnon", "RssFile") - before
    batches = np.array_split(order[: min(count, 50_000)], max(1, min(count, 50_000) // 256))

    def every(read: Callable[[np.ndarray], object]) -> float:
        return seconds(lambda: [read(batch) for batch in batches])

    every(lambda batch: opened.frames[batch])  # from the disk, once
    plain, ours = paired(lambda: every(lambda b: opened.frames[b]), lambda: every(segments.cut), 3)
    normalised = every(lambda b: segments.batch(b, cpu, torch.float32))
    print(json.dumps({"open": took, "mib": grown, "plain": plain, "ours": ours, "normalised": normalised}))


def memory(*kinds: str) -> float:
    """MiB of this process, by the names of /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(kinds)) / 1024


CHILDREN: dict[str, Callable[..., None]] = {
    "bare": bare,
    "mel_pairs": mel_pairs,
    "grow": grow,
    "open_table": open_table,
}

if __name__ == "__main__":
    CHILDREN[sys.argv[1]](*sys.argv[2:])
