"""Published weights of other people's code as bundles of ours: so far, DeepEmoCluster's (Lin et al., ICASSP 2021).

Its authors publish checkpoints for arousal, dominance and valence, and beside them the moments that their features and
labels were normalised by. Nothing of theirs is run: checkpoints are read without executing what a pickle may hold.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import LabelSpace
from sersearch.data.normaliser import Normaliser
from sersearch.errors import BundleError, ConfigError, one_of
from sersearch.export import FORMAT, Predictor, write_bundle
from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.families.deepemocluster.family import FAMILY
from sersearch.families.deepemocluster.networks import STRIDES
from sersearch.family import ModelSpec
from sersearch.provenance import versions

ATTRIBUTES = {"activation": "act", "dominance": "dom", "valence": "val"}
"""Our names of the attributes, and what those of the authors' files begin with."""

_LAYERS = {
    "cnn_out.0": "encoder.linear",
    "classifier.0": "cluster",
    "top_layer_class": "top",
    "emo_regressor.0": "regressor.0",
    "top_layer_attri": "regressor.2",
}
"""The authors' linear layers, and ours. Convolutions and batch norms are numbered alike."""

MOST_BYTES = 2**16
"""Of a .mat file of moments, which hold 128 numbers; it may be compressed, at most a thousand times."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def import_deepemocluster(checkpoint: Path, moments: Path, out: Path, attribute: str | None = None) -> Path:
    """Write the authors' `checkpoint` (.pth.tar) as a bundle; returns its folder.

    `moments` is the folder of their .mat files (NormTerm). `attribute` is activation, dominance or valence, on the
    scale from 1 to 7; None: the checkpoint's name says it. Raises :class:`BundleError` for files that aren't theirs and
    when `out` cannot be written, :class:`ConfigError` for another attribute.
    """
    attribute = attribute or _attribute(checkpoint)
    if attribute not in ATTRIBUTES:
        raise ConfigError(f"attribute {attribute!r}: there are no such weights; {one_of(attribute, ATTRIBUTES)}")
    theirs = _read(checkpoint)
    if "top_layer_class.weight" not in theirs:
        raise BundleError(_not_theirs(checkpoint, "it lacks top_layer_class.weight"))
    config = DeepEmoClusterConfig(clusters=max([2, *theirs["top_layer_class.weight"].shape[:1]]))
    card = _card(config, moments, attribute)
    card["imported"] = {"checkpoint": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    dims, frames = card["features"]["dims"], card["view"]["frames"]
    spec = ModelSpec(dims=dims, frames=frames, labels=LabelSpace.from_dict(card["labels"]))
    with torch.device("meta"):  # only shapes: nothing is allocated for what a checkpoint claims
        shapes = {name: tensor.shape for name, tensor in FAMILY.build(config, spec).state_dict().items()}
    weights = _converted(checkpoint, theirs, shapes)
    return write_bundle(Predictor.build(str(checkpoint), card, weights), out)


def _attribute(checkpoint: Path) -> str:
    """The attribute that a name such as Vgg16DeepEmoCluster_epoch50_batch64_10clusters_Act.pth.tar ends in."""
    match = re.search(r"_(act|dom|val)(?=\.|$)", checkpoint.name, re.IGNORECASE)
    if match is None:
        raise BundleError(
            f"{checkpoint}: its name does not say for which attribute it is (..._Act, _Dom or _Val); say so with "
            "--attribute activation, dominance or valence"
        )
    return next(name for name, short in ATTRIBUTES.items() if short == match[1].lower())


def _not_theirs(checkpoint: Path, why: str) -> str:
    expected = "expected a checkpoint of DeepEmoClusters, such as Vgg16DeepEmoCluster_..._Act.pth.tar"
    return f"{checkpoint}: not weights of DeepEmoCluster ({why}); {expected}"


# --- weights ----------------------------------------------------------------------------------------------------------


def _read(checkpoint: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors by the authors' names, without the `module.` of nn.DataParallel."""
    try:
        _check_packed(checkpoint)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        harmful = "GLOBAL" in str(error)  # a pickle's word for a function or a class
        why = "it holds more than weights, which could be code" if harmful else "no checkpoint"
        raise BundleError(_not_theirs(checkpoint, why)) from error
    except OSError as error:
        raise BundleError(f"{checkpoint}: cannot be read ({error.strerror})") from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
        BadZipFile,
    ) as error:
        raise BundleError(_not_theirs(checkpoint, "damaged, or no checkpoint")) from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise BundleError(_not_theirs(checkpoint, "it has no state_dict of tensors"))
    named = {str(name).replace("module.", ""): tensor for name, tensor in weights.items()}
    for name, tensor in named.items():
        if fault := _fault(tensor, counts=name.endswith(".num_batches_tracked")):
            raise BundleError(_not_theirs(checkpoint, f"{name} {fault}"))
    return named


def _check_packed(checkpoint: Path) -> None:
    """Refuse a zip whose members hold more than it: PyTorch compresses none, and lets none lie in another's place."""
    if not is_zipfile(checkpoint):
        return
    with ZipFile(checkpoint) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > checkpoint.stat().st_size:
        raise BundleError(
            _not_theirs(checkpoint, f"{checkpoint.stat().st_size} bytes that unpack to {size}; PyTorch packs no closer")
        )


def _fault(tensor: Tensor, *, counts: bool) -> str | None:
    """What keeps `tensor` from being weights, or a counter if it `counts`; None: nothing."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        return "is no dense tensor"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"claims a shape of {tuple(tensor.shape)}, more than is stored"
    if tensor.dtype not in ((torch.int64,) if counts else _FLOATS):
        return f"holds {tensor.dtype}, expected {'integers' if counts else 'floating-point numbers'}"
    return None if tensor.float().isfinite().all() else "has numbers that are not finite"


def _converted(checkpoint: Path, theirs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Weights by our names, of our `shapes`.

    The input's orientation and the order in which the encoder's output is flattened (channels, frames, bands) are
    theirs. Our convolutions have no bias: what theirs adds before batch norm is taken off the mean that it subtracts.
    """
    names = {name: _their_name(name) for name in shapes if not name.startswith("top_unlabelled.")}
    convolutions = [f"encoder.convolutions.{3 * number}" for number in range(len(STRIDES))]
    biases = {_their_name(f"{name}.bias"): shapes[f"{name}.weight"][:1] for name in convolutions}
    expected = {name: shapes[ours] for ours, name in names.items()} | biases
    problems = [f"{name} is missing" for name in expected if name not in theirs]
    problems += [f"{name} is unknown" for name in theirs if name not in expected]
    problems += [
        f"{name} has shape {tuple(theirs[name].shape)}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in theirs and theirs[name].shape != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise BundleError(_not_theirs(checkpoint, "; ".join(problems[:3]) + more))
    weights = {ours: theirs[name].clone() for ours, name in names.items()}
    for number, bias in enumerate(biases):
        weights[f"encoder.convolutions.{3 * number + 1}.running_mean"] -= theirs[bias]
    # Both stages of the authors' epochs use one output layer, renewed in between: the checkpoint holds the last.
    return weights | {f"top_unlabelled.{part}": weights[f"top.{part}"].clone() for part in ("weight", "bias")}


def _their_name(name: str) -> str:
    """The authors' name of one of our tensors."""
    if name.startswith("encoder.convolutions."):
        return name.replace("encoder.convolutions", "cnn_features")
    layer, _, part = name.rpartition(".")
    return f"{next(theirs for theirs, ours in _LAYERS.items() if ours == layer)}.{part}"


# --- moments and card -------------------------------------------------------------------------------------------------


def _card(config: DeepEmoClusterConfig, moments: Path, attribute: str) -> dict[str, Any]:
    """bundle.json, as far as it isn't about the checkpoint."""
    from sersearch.audio import extractor

    features = extractor("mel").card()
    mean, std = (_moment(moments, "feat", which, features["dims"]) for which in ("means", "stds"))
    if (std < 0).any():
        raise BundleError(f"{moments}: the deviation of a feature is {std.min():g}; expected none below 0")
    label_mean, label_std = (_moment(moments, ATTRIBUTES[attribute], which, 1) for which in ("means", "stds"))
    # Bands too narrow for any frequency are always 0: theirs come out as 0 / 0, and are set to 0.
    normaliser = Normaliser(mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32))
    if not label_std[0] > 0:
        raise BundleError(f"{moments}: the deviation of {attribute} is {label_std[0]:g}; expected a positive one")
    labels = LabelSpace((), (), (), (attribute,), tuple(label_mean.tolist()), tuple(label_std.tolist()))
    return {
        "format": FORMAT,
        "family": FAMILY.name,
        "config": config.to_dict(),
        "features": features,
        "normaliser": normaliser.to_dict(),
        "labels": labels.to_dict(),
        "target": attribute,
        "view": FAMILY.view(config).to_dict(),
        "companions": {},
        "metrics": {},
        "synthetic": False,
        "versions": versions(),
    }


def _moment(moments: Path, what: str, which: str, size: int) -> np.ndarray:
    """The numbers (size,) in a .mat file of the authors', float64."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = moments / f"{what}_norm_{which}.mat"
    if not path.is_file():
        raise BundleError(
            f"{path}: not there; expected the folder of the authors' moments (NormTerm), with feat_norm_means.mat, "
            "feat_norm_stds.mat and the same of the attribute"
        )
    if path.stat().st_size > MOST_BYTES:
        raise BundleError(f"{path}: {path.stat().st_size} bytes for {size} numbers; expected at most {MOST_BYTES}")
    try:
        content = loadmat(path)
    except (MatReadError, OSError, ValueError, TypeError, NotImplementedError, LookupError, MemoryError) as error:
        raise BundleError(f"{path}: not a .mat file that can be read ({error})") from error
    found = np.asarray(content.get("normal_para", ()))
    if found.dtype.kind not in "buif":
        kind = {"U": "text", "c": "complex numbers"}.get(found.dtype.kind, "a cell array or the like")
        raise BundleError(f"{path}: expected {size} finite numbers called normal_para, found {kind}")
    values = found.astype(np.float64).ravel()
    if values.shape != (size,) or not np.isfinite(values).all():
        raise BundleError(f"{path}: expected {size} finite numbers called normal_para, found {_seen(content, values)}")
    return values


def _seen(content: Mapping[str, object], values: np.ndarray) -> str:
    if "normal_para" not in content:
        return ", ".join(name for name in content if not name.startswith("__")) or "nothing"
    return f"{len(values)}, of which {np.isfinite(values).sum()} are finite"


__all__ = ["import_deepemocluster"]
