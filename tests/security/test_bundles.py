"""Models from strangers: a bundle or a checkpoint runs no code, and takes no more than its size is worth."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.io import savemat

from sersearch.audio import extractor
from sersearch.data.protocols import Protocol
from sersearch.errors import BundleError
from sersearch.export import Predictor, export_bundle
from sersearch.importing import import_deepemocluster
from tests.security.memory import at_most
from tests.synthetic import make_table
from tests.trained import make_study


class Harmful:
    """Makes the file `ran` where a pickle of it is executed."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = dataclasses.replace(make_table(dims=128), card={**extractor("spectrogram").card(), "hash": "0"})
    folder = tmp_path_factory.mktemp("study")
    return export_bundle(make_study(folder, table, Protocol("loso", "s0"), epochs=1), folder / "model")


@pytest.fixture
def bundle(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(exported, tmp_path / "model"))


def edit(bundle: Path, *keys: str, value: Any) -> None:
    """Set one value of bundle.json."""
    card = json.loads((bundle / "bundle.json").read_text())
    inner = card
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (bundle / "bundle.json").write_text(json.dumps(card))


def refusal(bundle: Path) -> str:
    with at_most(150), pytest.raises(BundleError) as error:
        Predictor.load(bundle)
    return str(error.value)


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_pickle_in_place_of_the_weights_is_not_read(bundle: Path) -> None:
    for content in (pickle.dumps(Harmful()), b"\x80\x02garbage"):
        (bundle / "model.safetensors").write_bytes(content)
        assert "model.safetensors: cannot be read" in refusal(bundle)
    torch.save(Harmful(), bundle / "model.safetensors")
    assert "model.safetensors: cannot be read" in refusal(bundle)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["os", "sersearch.families.aae", "../aae", "common", "aae/../aae", ["aae"], {}])
def test_a_family_is_one_of_ours_and_no_module_to_import(bundle: Path, name: object) -> None:
    edit(bundle, "family", value=name)
    assert "bundle.json is incomplete or damaged" in refusal(bundle) or "no family is called" in refusal(bundle)


@pytest.mark.parametrize("hidden", [10**7, 10**9, 10**18, 10**40])
def test_a_config_that_claims_a_huge_model_allocates_nothing(bundle: Path, hidden: int) -> None:
    edit(bundle, "config", "hidden", value=hidden)
    assert "the config makes a model of " in refusal(bundle)
    assert "parameters; expected at most 2.7e+08" in refusal(bundle)


def test_weights_that_are_not_of_the_config_s_shape_are_named_before_the_model_is_made(bundle: Path) -> None:
    edit(bundle, "config", "hidden", value=100_000)
    message = refusal(bundle)
    assert "the weights do not fit the model" in message
    assert "has shape (" in message
    assert "expected (100000, " in message


@pytest.mark.parametrize("size", [10**12, 2**62])
def test_a_safetensors_header_that_claims_terabytes(bundle: Path, size: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    for content in (len(header).to_bytes(8, "little") + header + bytes(64), (2**62).to_bytes(8, "little") + b"{}"):
        (bundle / "model.safetensors").write_bytes(content)
        assert "model.safetensors: cannot be read" in refusal(bundle)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("view", "frames"), 10**12),
        (("view", "frames"), 2.5),
        (("view", "frames"), 0),
        (("view", "hop"), 0),
        (("view", "hop"), -1),
        (("view", "chunks"), 10**9),
        (("view", "pad"), ["lowest"]),
        (("features", "dims"), 10**9),
        (("features", "dims"), -128),
        (("normaliser", "mean"), [float("nan")] * 128),
        (("normaliser", "std"), [float("inf")] * 128),
        (("normaliser", "std"), [0.0] * 128),
        (("normaliser", "std"), [-1.0] * 128),
        (("normaliser", "mean"), [[0.0] * 128] * 2),
        (("normaliser", "mean"), "0" * 128),
        (("labels", "emotion"), 7),
        (("labels", "emotion"), [["anger"]] * 4),
        (("labels", "emotion"), ["anger", "joy", "\x1b[2J", "sad"]),
        (("labels",), []),
        (("companions",), {"visual": {}}),
        (("companions",), [1]),
    ],
)
def test_numbers_and_names_that_are_none(bundle: Path, keys: tuple[str, ...], value: Any) -> None:
    edit(bundle, *keys, value=value)
    message = refusal(bundle)
    assert message.startswith(str(bundle))
    assert "\x1b" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("name", "value"), [("window", 10**12), ("fft", 2**40), ("shift", 0), ("top_db", float("inf")), ("window", "400")]
)
def test_parameters_of_features_that_would_take_all_memory(bundle: Path, name: str, value: Any) -> None:
    edit(bundle, "features", "parameters", name, value=value)
    assert f"the model's spectrogram features have {name} " in refusal(bundle)


def test_json_that_is_nested_without_end(bundle: Path) -> None:
    (bundle / "bundle.json").write_text("[" * 200_000)
    assert "bundle.json: cannot be read" in refusal(bundle)
    (bundle / "bundle.json").write_text('{"format": ' + "9" * 10_000 + "}")
    assert "bundle.json: cannot be read" in refusal(bundle)


def test_what_is_no_file_is_not_waited_for(bundle: Path) -> None:
    for name in ("bundle.json", "model.safetensors"):
        (bundle / name).rename(bundle / "kept")
        os.mkfifo(bundle / name)
        assert f"{name}" in refusal(bundle)
        (bundle / name).unlink()
        (bundle / name).symlink_to("/dev/zero")
        assert f"{name}" in refusal(bundle)
        (bundle / name).unlink()
        (bundle / "kept").rename(bundle / name)
    assert Predictor.load(bundle).family.name == "aae"


def test_a_link_to_another_file_shows_nothing_of_it(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2 and more of it")
    for name in ("bundle.json", "model.safetensors"):
        (bundle / name).rename(bundle / "kept")
        (bundle / name).symlink_to(tmp_path / "secret")
        assert "hunter2" not in refusal(bundle)
        (bundle / name).unlink()
        (bundle / "kept").rename(bundle / name)


def test_a_cache_s_bundle_of_links_is_read(bundle: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in bundle.iterdir():
        (linked / path.name).symlink_to(path)
    assert Predictor.load(linked).family.name == "aae"


def test_an_overlapping_view_of_a_long_file_goes_through_bit_by_bit(bundle: Path) -> None:
    edit(bundle, "view", "hop", value=1)
    predictor = Predictor.load(bundle)
    matrix = np.random.default_rng(0).normal(size=(8_000, 128)).astype(np.float32)
    with at_most(100):  # all segments at once are 125 MiB, and as much normalised
        assert predictor.outputs(matrix).sum().item() == pytest.approx(1, abs=1e-4)


def test_weights_that_are_not_finite_give_no_figures(bundle: Path, tmp_path: Path) -> None:
    import soundfile

    weights = load_file(bundle / "model.safetensors")
    save_file({name: tensor * torch.nan for name, tensor in weights.items()}, bundle / "model.safetensors")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(size=16_000) / 10, 16_000)
    with pytest.raises(BundleError, match=r"a\.wav: the model's outputs for it are not finite"):
        Predictor.load(bundle).predict(tmp_path / "a.wav")


# --- published weights ------------------------------------------------------------------------------------------------


NAME = "x_10clusters_Act.pth.tar"


def refused(path: Path) -> str:
    with at_most(200), pytest.raises(BundleError) as error:
        import_deepemocluster(path, path.parent, path.parent / "out")
    assert not (path.parent / "out").exists()
    return str(error.value)


def test_a_small_zip_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    weights = {"top_layer_class.weight": torch.zeros(50_000, 1000), "b": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "plain")
    with zipfile.ZipFile(tmp_path / "plain") as plain, zipfile.ZipFile(tmp_path / NAME, "w", zipfile.ZIP_DEFLATED) as z:
        for member in plain.infolist():
            z.writestr(member.filename, plain.read(member))
    (tmp_path / "plain").unlink()
    del weights
    assert (tmp_path / NAME).stat().st_size < 2**20
    assert "bytes that unpack to 200" in refused(tmp_path / NAME)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_tensor_that_claims_more_than_is_stored(tmp_path: Path, legacy: bool) -> None:
    for name in ("top_layer_class.weight", "other"):
        weights = {"top_layer_class.weight": torch.zeros(10, 256), name: torch.zeros(1).expand(10**12, 256)}
        torch.save({"state_dict": weights}, tmp_path / NAME, _use_new_zipfile_serialization=not legacy)
        assert f"{name} claims a shape of (1000000000000, 256), more than is stored" in refused(tmp_path / NAME)


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file:UserWarning", "ignore::DeprecationWarning")
def test_formats_that_could_run_code_or_unpack_files(tmp_path: Path) -> None:
    import tarfile

    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / NAME))
    assert "not weights of DeepEmoCluster" in refused(tmp_path / NAME)
    with tarfile.open(tmp_path / NAME, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(link)
    assert "not weights of DeepEmoCluster" in refused(tmp_path / NAME)
    with zipfile.ZipFile(tmp_path / NAME, "w") as z:
        z.writestr("../../escaped", b"x")
    assert "not weights of DeepEmoCluster" in refused(tmp_path / NAME)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-8] + bytes(8))
    assert "not weights of DeepEmoCluster" in refused(tmp_path / NAME)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def checkpoint(folder: Path) -> Path:
    from tests.test_importing import save, theirs

    return save(folder / NAME, theirs())


def test_moments_that_unpack_to_much_or_claim_it(tmp_path: Path) -> None:
    path, mat = checkpoint(tmp_path), tmp_path / "feat_norm_means.mat"
    savemat(mat, {"normal_para": np.zeros(20_000_000)}, do_compression=True)
    assert mat.stat().st_size < 200_000
    assert "bytes for 128 numbers; expected at most 65536" in refused(path)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for size in (2**31 - 1, 2**32 - 1):
        claims = (14).to_bytes(4, "little") + size.to_bytes(4, "little")
        packed = zlib.compress(claims + bytes(64))
        for body in (claims + bytes(64), (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed):
            mat.write_bytes(header + body)
            assert "feat_norm_means.mat" in refused(path)
    level4 = np.array([0, 2**31 - 1, 2**31 - 1, 0, 12], "<i4").tobytes() + b"normal_para\0"
    mat.write_bytes(level4)
    assert "feat_norm_means.mat" in refused(path)


def test_a_pickle_called_mat_or_npz_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mat = checkpoint(tmp_path), tmp_path / "feat_norm_means.mat"
    monkeypatch.chdir(tmp_path)
    mat.write_bytes(pickle.dumps(Harmful()))
    assert "not a .mat file that can be read" in refused(path)
    with mat.open("wb") as file:
        np.savez(file, normal_para=np.array([Harmful()], dtype=object))
    assert "not a .mat file that can be read" in refused(path)
    assert not Path("ran").exists()
