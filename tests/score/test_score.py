"""Scores against closed forms and second derivations."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from rdm import paths
from rdm.data import stage as data
from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.params.schema import Classifier, Inception, Row
from rdm.score import classifier, extractors, stage
from rdm.score.classifier import ConvNet, as_tensor
from rdm.score.extractors import build_extractor, extract
from rdm.tables.build import build_table1
from tests.conftest import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def scorer(workspace, experiment):
    return stage.Scorer(experiment)


def test_a_set_against_itself(scorer):
    reference = scorer.reference
    values = scorer.score(reference.images, reference.labels)
    assert abs(values["fid"]) < 1e-6
    assert abs(values["sfid"]) < 1e-3  # dead channels make the covariance singular; see the metric facts
    assert 1 <= values["is"] <= 10


def test_values_equal_the_textbook(scorer, experiment):
    """FID by scipy's matrix square root, IS by its definition, from the network's own outputs."""
    images = data.load(experiment, "tiny", "train").images[:700]
    labels = np.zeros(700, np.int64)
    values = scorer.score(images, labels)
    network = scorer.extractor.network
    with torch.inference_mode():
        pool, _, logits = (t.double().numpy() for t in network(as_tensor(images)))
        reference = network(as_tensor(scorer.reference.images))[0].double().numpy()
    covariances = np.cov(pool, rowvar=False), np.cov(reference, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    distance = np.square(pool.mean(0) - reference.mean(0)).sum()
    expected = distance + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert values["fid"] == pytest.approx(expected, rel=1e-5)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    divergence = (probabilities * np.log(probabilities / probabilities.mean(0))).sum(1).mean()
    assert values["is"] == pytest.approx(np.exp(divergence), rel=1e-6)
    assert values["accuracy"] == (logits.argmax(1) == labels).mean()


def test_shifted_features_move_the_fid_by_the_squared_shift(scorer):
    features = scorer._features(scorer.reference.images)
    shifted = scorer._statistics({**features, "pool": features["pool"] + 0.5})
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    value = fid_statistics_to_metric(shifted["pool"], scorer.statistics["pool"], False)[KEY_METRIC_FID]
    assert value == pytest.approx(0.25 * features["pool"].shape[1], rel=1e-4)


def test_noise_scores_worse_than_real(scorer, experiment):
    train = data.load(experiment, "tiny", "train")
    noisy = np.random.default_rng(0).integers(0, 256, train.images.shape, np.uint8)
    real, noise = (scorer.score(images, train.labels) for images in (train.images, noisy))
    assert noise["fid"] > 10 * real["fid"]
    assert noise["accuracy"] < real["accuracy"]


def test_layers_of_the_classifier():
    """Seven channels of the map before the last block, NHWC; the pooled map of the last block."""
    network = ConvNet((8, 9, 12), image_channels=1, classes=10).eval()
    images = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    hidden = images.float() / 127.5 - 1
    for block in network.blocks[:2]:
        hidden = torch.nn.functional.max_pool2d(block(hidden), 2)
    pool, spatial, logits = network(images)
    assert torch.equal(spatial.view(2, 4, 4, 7), hidden[:, :7].permute(0, 2, 3, 1))
    torch.testing.assert_close(pool, network.blocks[2](hidden).mean((2, 3)))
    torch.testing.assert_close(logits, network.classify(pool))


def test_pooled_features_are_standardised(scorer, experiment):
    train = data.load(experiment, "tiny", "train").images
    spread = extract(scorer.extractor, train, CPU)["pool"].std(0)
    live = spread > 1e-3
    torch.testing.assert_close(spread[live], torch.ones(int(live.sum())), atol=1e-3, rtol=0)


def test_batch_size_does_not_change_features(scorer, monkeypatch):
    images = scorer.reference.images[:50]
    whole = extract(scorer.extractor, images, CPU)
    monkeypatch.setattr(extractors, "BATCH", 7)
    parts = extract(scorer.extractor, images, CPU)
    for layer in whole:
        torch.testing.assert_close(whole[layer], parts[layer], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("change", [{"epochs": 2}, {"batch": 32}, {"learning_rate": 1e-2}, {"seed": 1}])
def test_every_key_of_the_classifier_changes_it(workspace, experiment, change):
    parameters = experiment.score.extractor
    train = data.load(experiment, "tiny", "train")
    before = classifier.fit(parameters, train, CPU).classify.weight
    after = classifier.fit(parameters.model_copy(update=change), train, CPU).classify.weight
    assert not torch.equal(before, after)


def test_score_refuses_samples_of_a_replaced_run(workspace, experiment):
    """The run was trained again, with other code or on another device: its old images are no longer its images."""
    folder = workspace / paths.train("ci-dit-s0")
    (folder / "log.jsonl").write_text("{}")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["log.jsonl"] = hashlib.sha256(b"{}").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"another version of results/train/ci-dit-s0; run `rdm sample ci-dit-s0"):
        stage.run(experiment, ["ci-dit-s0"])


def test_score_refuses_samples_of_other_parameters(workspace, experiment):
    other = experiment.sample["plain"].model_copy(update={"steps": 3})
    changed = experiment.model_copy(update={"sample": {**experiment.sample, "plain": other}})
    with pytest.raises(
        ArtefactError, match=r"other parameters \(sample.steps: 2 there, 3 now\).*rdm sample ci-ldm4-s0"
    ):
        stage.run(changed, ["ci-ldm4-s0"])


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """FID-Inception with random weights, in a file such as torch-fidelity publishes."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=folder / "empty.pth")
    torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"


def test_inception_layers(inception_weights, tmp_path):
    """sFID's layer is the start of Mixed_6d's output, in NHWC order, after its ReLU."""
    extractor = build_extractor(Inception(kind="inception", weights=str(inception_weights)), tmp_path, CPU)
    outputs = []
    extractor.Mixed_6d.register_forward_hook(lambda module, args, output: outputs.append(output))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    features = extract(extractor, images, CPU)
    assert {name: f.shape[1] for name, f in features.items()} == {"pool": 2048, "spatial": 2023, "logits": 1008}
    assert torch.equal(features["spatial"].view(2, 17, 17, 7), outputs[0][:, :7].permute(0, 2, 3, 1))
    assert features["spatial"].min() >= 0
    torch.testing.assert_close(features["logits"], features["pool"] @ extractor.fc.weight.T)


def test_inception_weights_are_looked_at_before_they_are_loaded(tmp_path):
    missing = Inception(kind="inception", weights=str(tmp_path / "none.pth"))
    with pytest.raises(RdmError, match="is not there; download"):
        build_extractor(missing, tmp_path, CPU)
    bad = tmp_path / "bad.pth"
    torch.save({"weights": Evil()}, bad)
    with pytest.raises(RdmError, match="is not a file of weights"):
        build_extractor(Inception(kind="inception", weights=str(bad)), tmp_path, CPU)
    assert not Evil.ran


class Evil:
    """A pickle that wants to run code."""

    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_extractor_verb_is_for_classifiers(workspace, experiment):
    score = experiment.score.model_copy(update={"extractor": Inception(kind="inception", weights="x")})
    with pytest.raises(UsageError, match="'inception', which is not trained here"):
        classifier.run(experiment.model_copy(update={"score": score}))
    assert isinstance(experiment.score.extractor, Classifier)
    assert paths.extractor("tiny").is_dir()


@pytest.fixture
def with_published(workspace, experiment):
    """The ci experiment with a published sample set: here, images that it drew itself."""
    source = workspace / paths.sample("ci-dit-s0", "guided") / "00000.npz"
    shutil.copy(source, workspace / "theirs.npz")
    score = experiment.score.model_copy(update={"samples": {"theirs": "theirs.npz"}})
    row = Row(row="ADM", samples="theirs")
    tables = experiment.tables.model_copy(update={"rows": (*experiment.tables.rows, row)})
    return experiment.model_copy(update={"score": score, "tables": tables})


def test_published_samples_get_the_same_scores_as_our_own(with_published):
    [path] = stage.run(with_published, ["theirs"])
    ours = json.loads(paths.score("ci-dit-s0", "guided", "ci").read_text())["values"]
    theirs = json.loads(path.read_text())["values"]
    assert theirs == {name: ours[name] for name in ("fid", "sfid", "is")}
    table = build_table1(with_published, ROOT / "params" / "published.csv").set_index("method")
    assert table.loc["ADM", "c2i_fid_ours"] == theirs["fid"]
    assert table.loc["ADM", "c2i_fid_origin"] == "samples"
    with Path("theirs.npz").open("ab") as stream:
        stream.write(b"other images")
    with pytest.raises(ArtefactError, match="is the score of earlier samples; run `rdm score theirs`"):
        build_table1(with_published, ROOT / "params" / "published.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there; download"),
        (b"not an npz", "is not a whole npz"),
        ({"arr_0": np.zeros((360, 16, 16, 1), np.float32)}, "holds float32"),
        ({"arr_0": np.zeros((360, 16, 16, 3), np.uint8)}, "uint8 images of 16x16x1 are needed"),
        ({"arr_0": np.zeros((300, 16, 16, 1), np.uint8)}, "holds 300 images; the protocol scores 360"),
        ({"images": np.zeros((360, 16, 16, 1), np.uint8)}, "is not a whole npz"),
    ],
    ids=["missing", "broken", "float", "colour", "few", "name"],
)
def test_published_samples_of_another_kind_are_refused(workspace, with_published, content, message):
    file = workspace / "theirs.npz"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.savez(file, **content)
    with pytest.raises(RdmError, match=message):
        stage.run(with_published, ["theirs"])
