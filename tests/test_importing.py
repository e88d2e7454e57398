"""The import of DeepEmoCluster's published weights, against the authors' architecture built anew."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.io import savemat
from torch import Tensor, nn

from sersearch.audio import extractor, load_audio
from sersearch.errors import BundleError, ConfigError
from sersearch.export import Predictor
from sersearch.importing import import_deepemocluster

NAME = "Vgg16DeepEmoCluster_epoch50_batch64_10clusters_Act.pth.tar"


class Theirs(nn.Module):
    """The authors' network by their names: with biases, and two parts within nn.DataParallel."""

    def __init__(self, clusters: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for outputs, stride in ((32, 1), (32, 1), (64, 2), (64, 2), (128, 2), (128, 2), (128, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.cnn_features = nn.DataParallel(nn.Sequential(*layers))
        self.cnn_out = nn.DataParallel(nn.Sequential(nn.Linear(1024, 256), nn.ReLU(), nn.Dropout(0.5)))
        self.classifier = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
        self.emo_regressor = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
        self.top_layer_class = nn.Linear(256, clusters)
        self.top_layer_attri = nn.Linear(256, 1)

    def forward(self, x_B1TD: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cnn_out.module(self.cnn_features.module(x_B1TD).flatten(1))
        return self.top_layer_class(self.classifier(h)), self.top_layer_attri(self.emo_regressor(h))


def theirs(clusters: int = 10) -> Theirs:
    """Random weights, with biases and running moments that matter."""
    torch.manual_seed(0)
    model = Theirs(clusters).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
    return model


def save(path: Path, model: nn.Module, *, legacy: bool = True) -> Path:
    content = {"arch": "vgg16", "state_dict": OrderedDict(model.state_dict())}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture
def moments(tmp_path: Path) -> Path:
    """The authors' .mat files; a band that is always 0 has a deviation of 0."""
    folder = tmp_path / "NormTerm"
    folder.mkdir()
    draws = np.random.default_rng(0)
    mean, std = draws.uniform(0, 2, 128), draws.uniform(0.5, 4, 128)
    mean[3], std[3] = 0, 0
    named = {"feat": (mean, std), "act": (4.1, 0.9), "dom": (4.3, 0.8), "val": (3.9, 1.1)}
    for what, (means, stds) in named.items():
        savemat(folder / f"{what}_norm_means.mat", {"normal_para": means})
        savemat(folder / f"{what}_norm_stds.mat", {"normal_para": stds})
    return folder


def their_prediction(model: Theirs, matrix_TD: np.ndarray, moments: Path, attribute: str) -> float:
    """What the authors' code says of power mel features (T, 128), in their order of steps."""
    from scipy.io import loadmat

    def moment(name: str) -> np.ndarray:
        return loadmat(moments / f"{name}.mat")["normal_para"]

    with np.errstate(invalid="ignore"):
        x = (matrix_TD - moment("feat_norm_means")) / moment("feat_norm_stds")
    x[np.isnan(x)] = 0
    x = np.clip(x, -3, 3)
    step = int((len(x) - 62) / 10)
    chunks = np.stack([x[step * c : step * c + 62] for c in range(11)])
    with torch.inference_mode():
        mean = model(torch.from_numpy(chunks).float()[:, None])[1].mean().item()
    std, shift = moment(f"{attribute}_norm_stds")[0][0], moment(f"{attribute}_norm_means")[0][0]
    return float(std * mean + shift)


def speech(path: Path) -> Path:
    rng = np.random.default_rng(0)
    times = np.arange(3 * 16000) / 16000
    wave = sum(np.sin(2 * np.pi * 140 * k * times) / k for k in range(1, 20))
    soundfile.write(path, 0.1 * wave * (1 + 0.5 * np.sin(7 * times)) + 0.01 * rng.normal(size=len(times)), 16000)
    return path


@pytest.mark.parametrize("legacy", [True, False])
def test_a_bundle_predicts_what_the_authors_code_does(tmp_path: Path, moments: Path, legacy: bool) -> None:
    model = theirs()
    out = import_deepemocluster(save(tmp_path / NAME, model, legacy=legacy), moments, tmp_path / "model")
    predictor, path = Predictor.load(out), speech(tmp_path / "a.wav")
    draws = np.random.default_rng(1)
    matrices = [extractor("mel")(load_audio(path)), *(draws.exponential(3, (n, 128)) for n in (62, 75, 400))]
    predictions = []
    for matrix in matrices:
        matrix[:, 3] = 0
        predictions.append(predictor.outputs(matrix.astype(np.float32)).item())
        assert predictions[-1] == pytest.approx(their_prediction(model, matrix, moments, "act"), abs=1e-4)
    assert np.std(predictions) > 1e-2
    prediction = predictor.predict(path)
    assert list(prediction.values) == ["activation"]
    assert prediction.segments == 11


def test_the_hidden_layers_are_theirs_too(tmp_path: Path, moments: Path) -> None:
    model = theirs(30)
    out = import_deepemocluster(save(tmp_path / "x_30clusters_Dom.pth.tar", model), moments, tmp_path / "model")
    ours = Predictor.load(out).model
    x_BDT = torch.randn(4, 128, 62, generator=torch.Generator().manual_seed(1)) * 2
    with torch.inference_mode():
        expected, _ = model(x_BDT.transpose(1, 2)[:, None].clamp(-3, 3))
        found = ours.top(ours.hidden(ours.encoder(x_BDT)).relu())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_card_says_what_it_is(tmp_path: Path, moments: Path) -> None:
    path = save(tmp_path / NAME.replace("Act", "Val").replace("10c", "30c"), theirs(30))
    card = json.loads((import_deepemocluster(path, moments, tmp_path / "model") / "bundle.json").read_text())
    assert (card["family"], card["target"], card["synthetic"]) == ("deepemocluster", "valence", False)
    assert card["labels"]["mean"] == [3.9]
    assert card["labels"]["std"] == [1.1]
    assert card["config"]["clusters"] == 30
    assert card["features"]["features"] == "mel"
    assert (card["view"]["frames"], card["view"]["chunks"], card["view"]["pad"]) == (62, 11, "wrap")
    assert card["imported"]["checkpoint"] == path.name
    assert len(card["imported"]["sha256"]) == 64


def test_the_attribute_is_in_the_name_or_is_asked_for(tmp_path: Path, moments: Path) -> None:
    path = save(tmp_path / "model.pth.tar", theirs())
    with pytest.raises(BundleError, match=r"does not say for which attribute it is.*--attribute"):
        import_deepemocluster(path, moments, tmp_path / "model")
    with pytest.raises(ConfigError, match=r"attribute 'arousal': .*expected one of activation, dominance, valence"):
        import_deepemocluster(path, moments, tmp_path / "model", "arousal")
    out = import_deepemocluster(path, moments, tmp_path / "model", "dominance")
    assert Predictor.load(out).labels.attributes == ("dominance",)


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path, moments: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        import_deepemocluster(save(tmp_path / NAME, theirs()), moments, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# --- files that aren't theirs -----------------------------------------------------------------------------------------


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, moments: Path, legacy: bool) -> None:
    path = tmp_path / NAME
    torch.save({"state_dict": Harmful()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BundleError, match="holds more than weights, which could be code"):
        import_deepemocluster(path, moments, tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no checkpoint"),
        (b"not at all", "no checkpoint"),
        (b"PK\x03\x04 half a zip", "no checkpoint"),
        ({"weights": 1}, "it has no state_dict of tensors"),
        ([1, 2], "it has no state_dict of tensors"),
        ({"state_dict": {"a": 1}}, "it has no state_dict of tensors"),
        ({"state_dict": {"a": torch.zeros(1)}}, "it lacks top_layer_class.weight"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_theirs(tmp_path: Path, moments: Path, content: object, message: str) -> None:
    path = tmp_path / NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(BundleError, match=rf"{NAME}: not weights of DeepEmoCluster \(.*{message}\); expected"):
        import_deepemocluster(path, moments, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_file_that_is_not_there(tmp_path: Path, moments: Path) -> None:
    with pytest.raises(BundleError, match=f"{NAME}: cannot be read"):
        import_deepemocluster(tmp_path / NAME, moments, tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.0.weight": None}, "classifier.0.weight is missing"),
        ({"cnn_features.module.9.bias": None}, "cnn_features.9.bias is missing"),
        ({"extra": torch.zeros(1)}, "extra is unknown"),
        (
            {"cnn_out.module.0.weight": torch.zeros(256, 512)},
            r"cnn_out.0.weight has shape \(256, 512\), expected \(256, 1024\)",
        ),
        ({"top_layer_class.weight": torch.zeros(())}, r"top_layer_class.weight has shape \(\), expected \(2, 256\)"),
        ({"top_layer_attri.weight": torch.zeros(3, 256)}, r"has shape \(3, 256\), expected \(1, 256\)"),
    ],
)
def test_weights_of_another_architecture(
    tmp_path: Path, moments: Path, change: dict[str, Tensor | None], message: str
) -> None:
    weights = {name: tensor for name, tensor in {**theirs().state_dict(), **change}.items() if tensor is not None}
    torch.save({"state_dict": weights}, tmp_path / NAME)
    with pytest.raises(BundleError, match=message):
        import_deepemocluster(tmp_path / NAME, moments, tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("classifier.0.weight", torch.eye(256).to_sparse(), "classifier.0.weight is no dense tensor"),
        ("classifier.0.bias", torch.zeros(256, device="meta"), "classifier.0.bias is no dense tensor"),
        ("classifier.0.bias", torch.zeros(256, dtype=torch.complex64), "holds torch.complex64, expected floating-poi"),
        ("classifier.0.bias", torch.zeros(256, dtype=torch.int64), "holds torch.int64, expected floating-point numb"),
        ("classifier.0.bias", torch.full((256,), torch.nan), "classifier.0.bias has numbers that are not finite"),
        ("classifier.0.bias", torch.full((256,), torch.inf), "classifier.0.bias has numbers that are not finite"),
        ("classifier.0.bias", torch.full((256,), 1e300, dtype=torch.float64), "has numbers that are not finite"),
        ("cnn_features.module.1.num_batches_tracked", torch.tensor(0.5), "holds torch.float32, expected integers"),
    ],
)
def test_tensors_that_are_no_weights(tmp_path: Path, moments: Path, name: str, tensor: Tensor, message: str) -> None:
    torch.save({"state_dict": {**theirs().state_dict(), name: tensor}}, tmp_path / NAME)
    with pytest.raises(BundleError, match=rf"not weights of DeepEmoCluster \(.*{message}") as raised:
        import_deepemocluster(tmp_path / NAME, moments, tmp_path / "model")
    assert "\n" not in str(raised.value)


def test_moments_that_are_missing_or_are_others(tmp_path: Path, moments: Path) -> None:
    path, mat = save(tmp_path / NAME, theirs()), moments / "feat_norm_means.mat"

    def refused(message: str) -> None:
        with pytest.raises(BundleError, match=message):
            import_deepemocluster(path, moments, tmp_path / "model")

    savemat(mat, {"normal_para": np.zeros(40)})
    refused("feat_norm_means.mat: expected 128 finite numbers called normal_para, found 40, of which 40 are finite")
    savemat(mat, {"normal_para": np.full(128, np.nan)})
    refused("found 128, of which 0 are finite")
    for other, words in (
        ("abc", "text"),
        (np.full(128, 1j), "complex numbers"),
        ({"a": 1}, "a cell array or the like"),
    ):
        savemat(mat, {"normal_para": other})
        refused(f"feat_norm_means.mat: expected 128 finite numbers called normal_para, found {words}")
    cells = np.empty((1, 128), dtype=object)
    cells[:] = 1.0
    savemat(mat, {"normal_para": cells})
    refused("called normal_para, found a cell array or the like")
    savemat(mat, {"other": np.zeros(128)})
    refused("called normal_para, found other")
    mat.write_bytes(b"nothing of the kind")
    refused(r"feat_norm_means.mat: not a \.mat file that can be read")
    mat.unlink()
    refused(r"feat_norm_means.mat: not there; expected the folder of the authors' moments \(NormTerm\)")


def test_a_feature_with_a_negative_deviation(tmp_path: Path, moments: Path) -> None:
    savemat(moments / "feat_norm_stds.mat", {"normal_para": np.linspace(-0.5, 2, 128)})
    with pytest.raises(BundleError, match=r"the deviation of a feature is -0\.5; expected none below 0"):
        import_deepemocluster(save(tmp_path / NAME, theirs()), moments, tmp_path / "model")


def test_a_label_without_deviation(tmp_path: Path, moments: Path) -> None:
    savemat(moments / "act_norm_stds.mat", {"normal_para": 0.0})
    with pytest.raises(BundleError, match="the deviation of activation is 0; expected a positive one"):
        import_deepemocluster(save(tmp_path / NAME, theirs()), moments, tmp_path / "model")
