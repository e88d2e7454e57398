"""A trained model without its study: the bundle on disk and the Predictor that runs it.

A bundle is a folder of three files, none of which can run code when read:

- `model.safetensors`: weights and buffers by the names of the model's state dict;
- `bundle.json`: family, config, feature card, segment view, normaliser, labels, and where it all came from;
- `README.md`: the model card (:mod:`sersearch.modelcard`), for people.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sersearch.data.atomic import atomic, write_json
from sersearch.data.batches import LabelSpace, SegmentView
from sersearch.data.companions import one_segment
from sersearch.data.normaliser import Normaliser
from sersearch.errors import BundleError, ConfigError, StudyError, one_of
from sersearch.families import get_family
from sersearch.family import Batch, Family, ModelSpec
from sersearch.modelcard import model_card, origin
from sersearch.provenance import versions

if TYPE_CHECKING:
    from sersearch.audio import Extractor, Visual
    from sersearch.study import Study, TrialRecord
    from sersearch.training.lane import Weights

FORMAT = 3
_READABLE = (1, 2, 3)
"""Format 1 knew classes only, and one way of padding; format 2 a single input."""
BATCH = 64
"""Segments that go through the model at once: bounds the memory that an hour-long file takes."""
MOST_PARAMETERS, MOST_INPUTS = 2**28, 2**24
"""Numbers of a model, 1 GiB, and of an input of it: the papers' have up to 9 million, and 0.3 million."""


def export_bundle(
    study: Study, out: Path | str, trial: int | None = None, metric: str | None = None, data_licence: str | None = None
) -> Path:
    """Write the best epoch of `trial` (None: the study's best trial) as a bundle; returns its folder.

    The best by `metric`, one of :func:`winning_metrics` (None: the study's objective). The model card names the
    licence of the data as it is given here. Raises :class:`StudyError` when the trial has no checkpoint,
    :class:`ConfigError` for another metric and what :func:`write_bundle` raises.
    """
    predictor = Predictor.from_study(study, trial, metric)
    return write_bundle(replace(predictor, card=predictor.card | origin(study, predictor.card, data_licence)), out)


def write_bundle(predictor: Predictor, out: Path | str) -> Path:
    """Write `predictor` as a bundle; returns its folder. An earlier bundle at `out` is replaced as a whole.

    Raises :class:`BundleError` when `out` is something else than a bundle or cannot be written.
    """
    out = Path(out).resolve()
    if out == Path.cwd():
        raise BundleError(f"--out {out}: the folder that you are in; name another one")
    if out.exists() and not ((out / "bundle.json").is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise BundleError(f"{out} exists and is not a bundle; choose another --out or remove it")
    temporary, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        # Not save_file, which on a full disk raises what is no OSError.
        weights = save({n: tensor.contiguous() for n, tensor in predictor.model.state_dict().items()})
        with atomic(temporary / "model.safetensors") as file:
            file.write_bytes(weights)
        with atomic(temporary / "README.md") as file:
            file.write_text(model_card(predictor.card, hashlib.sha256(weights).hexdigest()), "utf-8")
        write_json(temporary / "bundle.json", predictor.card)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    except OSError as error:
        raise BundleError(f"{out}: the bundle cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():  # the new bundle didn't get there
            with suppress(OSError):
                old.rename(out)
    return out


def winning_metrics(study: Study) -> tuple[str, ...]:
    """Metrics by which a study has a winner, with the weights of its best epoch: the objective first.

    Where several attributes are learnt at once, one search gives a winner for each (ladder paper, section V-A).
    """
    labels = LabelSpace.from_dict(study_context(study)["labels"])
    kept = get_family(study.meta["family"]).kept(labels)
    return tuple(dict.fromkeys([study.meta["objective"]["metric"], *kept]))


def chosen(study: Study, trial: int | None, metric: str | None) -> tuple[TrialRecord, str]:
    """`trial`, or the study's best one, and the metric by which its epoch is the best.

    Of one attribute the CCC has two names, dev_ccc and, say, dev_ccc_valence. Raises :class:`ConfigError` for a metric
    that is none of :func:`winning_metrics`.
    """
    objective, *others = winning_metrics(study)
    attributes = LabelSpace.from_dict(study_context(study)["labels"]).attributes
    names = {"dev_ccc", *(f"dev_ccc_{name}" for name in attributes)} if len(attributes) == 1 else set()
    metric = objective if metric is None or {metric, objective} <= names else metric
    if metric not in (objective, *others):
        whose = f"study {study.meta['name']} keeps no best epochs by it"
        raise ConfigError(f"metric {metric!r}: {whose}; {one_of(metric, (objective, *others))}")
    if trial is not None:
        return study.trial(trial), metric
    return study.best(None if metric == objective else metric), metric


@dataclass(frozen=True)
class Prediction:
    """What the model says about one file: a class, or attributes."""

    path: str
    label: str | None
    """The class with the largest posterior; None for attributes."""
    posteriors: dict[str, float]
    """By class: the mean over the file's segments."""
    values: dict[str, float]
    """By attribute, on the scale of the corpus that was trained on: the mean over the file's segments."""
    segments: int
    seconds: float
    """Of audio, before silence is removed."""
    without: tuple[str, ...] = ()
    """Further inputs that were not there, and taken as the training part's mean."""


@dataclass(frozen=True, eq=False)
class FurtherInput:
    """What turns a further feature set, such as the visual one, into an input of the model."""

    view: SegmentView
    normaliser: Normaliser
    features: Mapping[str, Any]
    """The feature set's card."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FurtherInput:
        """From what bundle.json holds; ValueError for moments that aren't the features'."""
        view, normaliser = SegmentView(**values["view"]), Normaliser.from_dict(values["normaliser"])
        made = cls(view, normaliser, values["features"])
        _check_input(view, normaliser, made.dims)
        return made

    @property
    def dims(self) -> int:
        """Feature dimension D."""
        return int(self.features["dims"])

    def segment(self, matrix_TD: np.ndarray | None) -> Tensor:
        """The one normalised segment (D, T) of an utterance's features (T, D); zeros where it has none."""
        return torch.from_numpy(one_segment(matrix_TD, self.view, self.normaliser))


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model with all that turns a file into its input: by :meth:`load`, :meth:`from_study`, :meth:`build`."""

    family: Family
    config: Any
    labels: LabelSpace
    view: SegmentView
    normaliser: Normaliser
    model: nn.Module
    """In evaluation mode, on the CPU."""
    card: dict[str, Any]
    """What bundle.json holds."""
    companions: Mapping[str, FurtherInput]
    """Further inputs by name."""

    @classmethod
    def load(cls, folder: Path | str) -> Predictor:
        """Read a bundle.

        Raises :class:`BundleError` for a folder that isn't one, a format, family or feature set that is unknown here,
        and weights that do not fit.
        """
        folder = Path(folder)
        card = _read_card(folder)
        path = folder / "model.safetensors"
        if not path.is_file():
            raise BundleError(f"{path}: cannot be read (no such file); export the model again")
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{path}: cannot be read ({error}); export the model again") from error
        predictor = cls.build(str(folder), card, weights)
        # A feature set that cannot be made here is an error now, not at the first file.
        predictor.extractor  # noqa: B018
        predictor.readers  # noqa: B018
        return predictor

    @classmethod
    def from_study(
        cls, study: Study, trial: int | None = None, metric: str | None = None, rotation: int = 0
    ) -> Predictor:
        """The best epoch of `trial`, or of the study's best trial, by `metric` (None: the objective).

        Of a trial with several members it is the model of the first seed, in a `rotation` of the protocol.
        Raises :class:`StudyError` when the trial has no checkpoint, and what :func:`chosen` raises.
        """
        record, metric = chosen(study, trial, metric)
        if record.checkpoint is None:
            whose = f"trial {record.number} of study {study.meta['name']}"
            if record.epochs:
                raise StudyError(f"{whose}: the files of its checkpoint are gone; choose another trial")
            reason = f": {record.reason}" if record.reason else ""
            raise StudyError(
                f"{whose} has no checkpoint (it is {record.state}{reason}); choose a trial that finished an epoch"
            )
        return cls.from_checkpoint(study, record, metric, record.checkpoint, rotation)

    @classmethod
    def from_checkpoint(
        cls, study: Study, record: TrialRecord, metric: str, checkpoint: Path, rotation: int = 0
    ) -> Predictor:
        """The best epoch by `metric` of the trial's `checkpoint`, or of one of its configuration and another seed."""
        epoch, weights = _best(checkpoint, metric, rotation)
        card = _card(study, record, metric, epoch, rotation)
        own = checkpoint == record.checkpoint
        return cls.build(str(checkpoint), card if own else card | {"metrics": {}}, weights)

    @classmethod
    def build(cls, where: str, card: dict[str, Any], weights: Mapping[str, Tensor]) -> Predictor:
        """From what bundle.json holds and the weights; :class:`BundleError`, at `where`, when they do not fit."""
        try:
            family = get_family(card["family"])
            config = family.config.from_dict(card["config"])
            labels, normaliser = LabelSpace.from_dict(card["labels"]), Normaliser.from_dict(card["normaliser"])
            view, dims = SegmentView(**card["view"]), int(card["features"]["dims"])
            _check_labels(labels)
            _check_input(view, normaliser, dims)
            further = {name: FurtherInput.from_dict(values) for name, values in card.get("companions", {}).items()}
            shapes = {name: (own.dims, own.view.frames) for name, own in further.items()}
            if shapes.keys() != family.companions.keys():
                raise ValueError(f"inputs: {', '.join(shapes) or 'none'} beside the first")
            spec = ModelSpec(dims=dims, frames=view.frames, labels=labels, companions=shapes)
            _check_fit(where, weights, _shapes(family, config, spec))
            model = family.build(config, spec)
        except ConfigError as error:
            raise BundleError(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{where}: bundle.json is incomplete or damaged ({error!r}); export it again") from error
        model.load_state_dict(dict(weights))
        return cls(family, config, labels, view, normaliser, model.eval(), card, further)

    @cached_property
    def extractor(self) -> Extractor:
        """From samples to features, as `prep` made them; BundleError when this version cannot."""
        from sersearch.audio import extractor_from_card

        return extractor_from_card(self.card["features"])

    @cached_property
    def readers(self) -> dict[str, Visual]:
        """Of the files of further inputs, by input; BundleError when this version has not got one."""
        from sersearch.audio import visual_from_card

        found = {name: (own.features, visual_from_card(own.features)) for name, own in self.companions.items()}
        if missing := [card.get("features") for card, reader in found.values() if reader is None]:
            raise BundleError(f"the model needs features called {missing[0]!r}, unknown here")
        return {name: reader for name, (_, reader) in found.items() if reader is not None}

    @torch.inference_mode()
    def outputs(self, matrix: np.ndarray, further: Mapping[str, np.ndarray | None] | None = None) -> Tensor:
        """What is predicted of an utterance's features (T, D): the mean over its segments.

        `further` holds those of further inputs; one that isn't there is taken as zeros, the training part's mean.
        Posteriors (C,), or attributes (A,) on the scale of the corpus that was trained on.
        """
        mean = self.mean(lambda batch: self.family.predict(self.model, batch)[self.labels.task], matrix, further)
        return self.labels.denormed(mean) if self.labels.attributes else mean

    @torch.inference_mode()
    def mean(
        self,
        read: Callable[[Batch], Tensor],
        matrix: np.ndarray,
        further: Mapping[str, np.ndarray | None] | None = None,
    ) -> Tensor:
        """What `read` makes of a batch of segments, (B, ...): its mean over all segments of an utterance."""
        return torch.cat([read(batch) for batch in self._batches(matrix, further or {})]).mean(dim=0)

    @torch.inference_mode()
    def embedding(self, matrix: np.ndarray) -> Tensor | None:
        """The d-vector (E,) of an utterance's features (T, D), mean over segments; None without a speaker task."""
        outputs = [self.family.embed(self.model, batch) for batch in self._batches(matrix, {})]
        vectors = [output for output in outputs if output is not None]
        return torch.cat(vectors).mean(dim=0) if vectors else None

    def predict(self, path: Path | str, visual: Path | None = None) -> Prediction:
        """The emotion, or its attributes, in an audio file, and the file of its `visual` features.

        Raises :class:`AudioError` when a file cannot be used, :class:`BundleError` for a model without visual input,
        and for one whose outputs are not finite.
        """
        from sersearch.audio import RATE, load_audio

        samples = load_audio(path)
        matrix = self.extractor(samples)
        further = {}
        if visual is not None:
            if "visual" not in self.companions:
                raise BundleError(f"{self.family.name} models have no visual input; leave --visual out")
            further["visual"] = self.readers["visual"].read(visual)
        values = self.outputs(matrix, further).tolist()
        if not all(map(math.isfinite, values)):
            raise BundleError(
                f"{path}: the model's outputs for it are not finite; choose another trial, or train it anew"
            )
        outputs = dict(zip(self.labels.emotion or self.labels.attributes, values, strict=True))
        classes = bool(self.labels.emotion)
        return Prediction(
            path=str(path),
            label=max(outputs, key=outputs.__getitem__) if classes else None,
            posteriors=outputs if classes else {},
            values={} if classes else outputs,
            segments=len(self.view.starts(len(matrix))),
            seconds=len(samples) / RATE,
            without=tuple(name for name in self.companions if name not in further),
        )

    def _batches(self, matrix: np.ndarray, further: Mapping[str, np.ndarray | None]) -> Iterator[Batch]:
        """Normalised segments: what `Segments.batch` gives in training."""
        mean, starts = self.normaliser.mean, self.view.starts(len(matrix))
        own = {name: companion.segment(further.get(name)) for name, companion in self.companions.items()}
        for first in range(0, len(starts), BATCH):
            cut = [self.view.segment(matrix, start, mean) for start in starts[first : first + BATCH]]
            x_BDT = torch.from_numpy(self.normaliser(np.stack(cut))).transpose(1, 2).contiguous()
            yield {"x": x_BDT} | {name: segment.expand(len(cut), -1, -1) for name, segment in own.items()}


def _best(checkpoint: Path, metric: str, rotation: int) -> tuple[int, Weights]:
    """The best epoch by `metric` and its weights."""
    from sersearch.training import LaneState
    from sersearch.training.members import MEMBERS, MembersState

    if (checkpoint / MEMBERS).is_file():
        return MembersState.load(checkpoint).best(metric, rotation)
    state = LaneState.load(checkpoint)
    if metric not in state.bests:  # the objective
        return state.progress.best_epoch, state.best_weights
    return state.bests[metric].epoch, state.bests[metric].weights


def study_context(study: Study, rotation: int = 0) -> dict[str, Any]:
    """context.json: what a prediction needs besides weights and config, in a rotation of the protocol.

    Raises :class:`StudyError` for damage.
    """
    path = study.folder / "context.json"
    try:
        context = json.loads(path.read_text("utf-8"))
        context = context["rotations"][rotation] if rotation else context
        known = {name: context[name] for name in ("features", "normaliser", "labels", "target")}
        return known | {"companions": context.get("companions", {})}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}), so the trial's input is unknown; run the study again"
        ) from error


def _card(study: Study, record: TrialRecord, metric: str, epoch: int, rotation: int = 0) -> dict[str, Any]:
    """bundle.json of a trial's epoch, the best by `metric`."""
    context = study_context(study, rotation)
    family = get_family(study.meta["family"])
    # Views are the trial's own: a study may search the length of a segment.
    config = family.config.from_dict(record.params)
    views = {name: view.to_dict() for name, view in family.companion_views(config).items()}
    companions = {name: {**values, "view": views[name]} for name, values in context["companions"].items()}
    best: dict[str, Any] = next((event["metrics"] for event in record.epochs if event["epoch"] == epoch), {})
    return {
        "format": FORMAT,
        "family": study.meta["family"],
        "config": record.params,
        **context,
        "view": family.view(config).to_dict(),
        "companions": companions,
        "study": study.meta["name"],
        "trial": record.number,
        "epoch": epoch,
        "best_by": metric,
        "metrics": {
            name: value if value is not None and math.isfinite(value) else None for name, value in best.items()
        },
        "synthetic": study.meta["data"]["synthetic"],
        "versions": versions(),
    }


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / "bundle.json"
    if not path.is_file():
        what = "it has no bundle.json" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder} is not a bundle ({what}); `sersearch export STUDY --out {folder}` makes one")
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the model again") from error
    if not isinstance(card, dict) or card.get("format") not in _READABLE:
        seen = card.get("format") if isinstance(card, dict) else "none"
        known = ", ".join(map(str, _READABLE))
        raise BundleError(f"{path}: bundle format {seen}; this version of sersearch reads {known}: export it again")
    return card


def _check_labels(labels: LabelSpace) -> None:
    attributes = len(labels.attributes)
    if bool(labels.emotion) == bool(attributes) or not len(labels.mean) == len(labels.std) == attributes:
        raise ValueError("labels: expected the classes of emotion, or attributes with a mean and a std each")
    for name in (*labels.emotion, *labels.attributes):
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError(f"labels: expected names that can be printed, found {name!r}")
    if not np.isfinite([*labels.mean, *labels.std]).all():
        raise ValueError("labels: their moments are not finite")


def _check_input(view: SegmentView, normaliser: Normaliser, dims: int) -> None:
    """Refuse an input that no file could be made into, or that would take all memory."""
    chunks = 1 if view.chunks is None else view.chunks
    if not all(type(number) is int and number >= 1 for number in (dims, view.frames, view.hop, chunks)):
        raise ValueError(f"view: expected whole numbers from 1, found {view} of {dims} features")
    if view.pad not in (known := get_args(get_type_hints(SegmentView)["pad"])):
        raise ValueError(f"view: pad is {view.pad!r}; {one_of(view.pad, known)}")
    if dims * view.frames * chunks > MOST_INPUTS:
        raise ValueError(f"view: an input of {dims * view.frames * chunks} numbers; expected at most {MOST_INPUTS}")
    if normaliser.mean.shape != (dims,) or normaliser.std.shape != (dims,):
        raise ValueError(f"the normaliser has {normaliser.mean.size} dimensions, the features have {dims}")
    if not (np.isfinite(normaliser.mean).all() and np.isfinite(normaliser.std).all() and (normaliser.std > 0).all()):
        raise ValueError("normaliser: expected finite means and positive deviations")


def _shapes(family: Family, config: Any, spec: ModelSpec) -> dict[str, torch.Size]:
    """The shapes of a model's tensors, of which none is made. Raises :class:`ConfigError` for one that is too large."""
    try:
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in family.build(config, spec).state_dict().items()}
        total = float(sum(map(math.prod, shapes.values())))
    except (RuntimeError, TypeError, OverflowError):  # PyTorch has no number for so many
        total = math.inf
    if total > MOST_PARAMETERS:
        raise ConfigError(f"the config makes a model of {total:.2g} parameters; expected at most {MOST_PARAMETERS:.2g}")
    return shapes


def _check_fit(where: str, weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> None:
    problems = [f"{name} is missing" for name in sorted(shapes.keys() - weights.keys())]
    problems += [f"{name} is not in the model" for name in sorted(weights.keys() - shapes.keys())]
    for name in sorted(shapes.keys() & weights.keys()):
        seen, expected = tuple(weights[name].shape), tuple(shapes[name])
        if seen != expected:
            problems.append(f"{name} has shape {seen}, expected {expected}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BundleError(
            f"{where}: the weights do not fit the model: {'; '.join(problems[:5])}{more}; export it again"
        )
