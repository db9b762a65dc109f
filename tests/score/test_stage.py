"""Scores of runs against closed forms, second derivations and torch-fidelity."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity

from rdm import paths
from rdm.data import stage as data
from rdm.errors import ArtefactError, RdmError, UsageError
from rdm.params.evaluation import Classifier, Pretrained, Published, Row
from rdm.parts import Part
from rdm.sample import stage as sample
from rdm.score import classifier, stage
from rdm.score import scorer as scorers
from rdm.score.classifier import ConvNet, Labelled, as_tensor
from rdm.score.scorer import Scorer
from rdm.tables.build import build_table1
from tests.conftest import ROOT, altered
from tests.score.reference_formulas import frechet, inception

CPU = torch.device("cpu")


@pytest.fixture
def scorer(workspace, experiment):
    return Scorer(experiment, "images")


def with_score(experiment, **changes):
    """The experiment with other values in score.images."""
    return altered(
        experiment, score=experiment.score | {"images": experiment.score["images"].model_copy(update=changes)}
    )


def values_of(scorer, images, labels=None):
    items = scorer.items(images, np.arange(len(images)))
    estimates, _ = scorer.score(scorer.features(items, 0, len(images)), labels, scorer.reference)
    return {name: estimate.value for name, estimate in estimates.items()}


def pooled(scorer, images):
    return scorer.extractor.features(images)["pool"]


def test_a_set_against_itself(scorer):
    reference = scorer.real
    values = values_of(scorer, reference.images, reference.labels)
    assert abs(values["fid"]) < 1e-9
    assert abs(values["sfid"]) < 1e-9


def test_the_floors_accuracy_and_is_are_of_images_that_the_classifier_has_not_seen(workspace, experiment):
    """Those that FID of the floor is of are what it learned from."""
    content = json.loads(paths.floor("tiny", "ci").read_text())
    test = data.load(experiment, "tiny", "test")
    network = classifier.load(paths.extractor("tiny", "images") / "model.safetensors")
    with torch.inference_mode():
        logits = network(as_tensor(test.images[:]))[2].numpy()
    assert content["values"]["is"]["value"] == pytest.approx(inception(logits), rel=1e-6)
    assert content["values"]["accuracy"]["value"] == (logits.argmax(1) == test.labels).mean()
    assert f"what needs no reference is of {len(test.labels)} of its items" in content["remarks"][-1]


def test_labels_dealt_otherwise_than_the_protocol_says_are_remarked(workspace, experiment):
    """As LDM's are; not of a sampler that leaves them to the protocol, nor from text, where they are the captions'."""
    own = experiment.sample["plain"].model_copy(update={"labels": "balanced"})
    changed = altered(experiment, sample=experiment.sample | {"plain": own})
    sample.run(changed, "ci-dit-s0", overwrite=True)
    remarks = {
        (path.parent.parent.name, path.parent.name): json.loads(path.read_text())["remarks"]
        for path in stage.run(changed, ["ci-dit-s0", "ci-dit-text-s0"])
    }
    assert len(remarks) == 4
    assert "labels were balanced, as the system's own; the protocol says reference" in remarks["ci-dit-s0", "plain"]
    for name in (("ci-dit-s0", "guided"), ("ci-dit-text-s0", "plain"), ("ci-dit-text-s0", "guided")):
        assert not any(remark.startswith("labels were") for remark in remarks[name]), name


def test_values_equal_the_textbook(scorer, experiment):
    """From the network's own outputs, batch by batch as one call."""
    train = data.load(experiment, "tiny", "train")
    images, labels = train.images[:360], train.labels[:360]
    values = values_of(scorer, images, labels)
    network = classifier.load(paths.extractor("tiny", "images") / "model.safetensors")
    with torch.inference_mode():
        pool, spatial, logits = (t.numpy() for t in network(as_tensor(images)))
        reference = [t.numpy() for t in network(as_tensor(scorer.real.images))]
    assert values["fid"] == pytest.approx(frechet(pool, reference[0]), rel=1e-5)
    assert values["sfid"] == pytest.approx(frechet(spatial, reference[1]), rel=1e-5)
    assert values["is"] == pytest.approx(inception(logits), rel=1e-6)
    assert values["accuracy"] == (logits.argmax(1) == labels).mean()


def test_errors_are_those_of_labels_as_they_were_dealt(scorer, experiment):
    """In fixed proportions, though the protocol be of random ones, they vary less: by what lies between classes."""
    train = data.load(experiment, "tiny", "train")
    images, labels = train.images[:360], train.labels[:360]
    scorer.protocol = scorer.protocol.model_copy(update={"labels": "random"})
    layers = scorer.features(scorer.items(images, np.arange(len(images))), 0, len(images))
    found = {rule: scorer.score(layers, labels, scorer.reference, rule)[0] for rule in (None, "random", "balanced")}
    assert found[None] == found["random"]
    for metric in ("fid", "is"):
        assert found["balanced"][metric].value == found["random"][metric].value
        assert found["balanced"][metric].standard_error < 0.9 * found["random"][metric].standard_error


class TensorImages(torch.utils.data.Dataset):
    """uint8 images as torch-fidelity takes them."""

    def __init__(self, images):
        self.images = as_tensor(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_equals_torch_fidelity_with_the_same_extractor(scorer, experiment):
    """The classifier is registered with it; its FID is of a float32 mean."""
    images = data.load(experiment, "tiny", "train").images[:360]
    theirs = torch_fidelity.calculate_metrics(
        input1=TensorImages(images),
        input2=TensorImages(scorer.real.images),
        feature_extractor="rdm-classifier",
        feature_extractor_weights_path=paths.extractor("tiny", "images") / "model.safetensors",
        **{"fid": True, "isc": True, "isc_splits": 1, "samples_shuffle": False, "cuda": False, "verbose": False},
    )
    ours = values_of(scorer, images)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)


def test_noise_scores_worse_than_real(scorer, experiment):
    train = data.load(experiment, "tiny", "train")
    noisy = np.random.default_rng(0).integers(0, 256, train.images.shape, np.uint8)
    real, noise = (values_of(scorer, images, train.labels) for images in (train.images, noisy))
    assert noise["fid"] > 10 * real["fid"]
    assert noise["accuracy"] < real["accuracy"]


def test_layers_of_the_classifier():
    """Seven channels of the map before the last block, channels last; the pooled map of the last block."""
    for clips, shape in ((False, (16, 16)), (True, (8, 16, 16))):
        network = ConvNet((8, 9, 12), image_channels=1, classes=[10], clips=clips).eval()
        images = torch.randint(0, 256, (2, 1, *shape), dtype=torch.uint8)
        hidden = images.float() / 127.5 - 1
        for block in network.blocks[:2]:
            hidden = (torch.nn.functional.max_pool3d if clips else torch.nn.functional.max_pool2d)(block(hidden), 2)
        pool, spatial, logits = network(images)
        assert torch.equal(spatial.view(2, *(size // 4 for size in shape), 7), hidden[:, :7].movedim(1, -1))
        torch.testing.assert_close(pool, network.blocks[2](hidden).flatten(2).mean(2))
        torch.testing.assert_close(logits, network.classify(pool))


def test_pooled_features_are_standardised(scorer, experiment):
    train = data.load(experiment, "tiny", "train").images
    spread = pooled(scorer, train).std(0, ddof=1)
    np.testing.assert_allclose(spread[spread > 1e-3], 1, atol=1e-3)


@pytest.mark.parametrize("change", [{"epochs": 2}, {"batch": 32}, {"learning_rate": 1e-2}, {"seed": 1}])
def test_every_key_of_the_classifier_changes_it(workspace, experiment, change):
    parameters, dataset = experiment.score["images"].extractor, data.load(experiment, "tiny", "train")
    train = Labelled(dataset.images, [dataset.labels])
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
    changed = altered(experiment, sample=experiment.sample | {"plain": other})
    with pytest.raises(
        ArtefactError, match=r"other parameters \(sample.steps: 2 there, 3 now\).*rdm sample ci-ldm4-s0"
    ):
        stage.run(changed, ["ci-ldm4-s0"])


def test_extractor_verb_is_for_classifiers(workspace, experiment):
    changed = with_score(experiment, extractor=Pretrained(kind="inception", weights="x"))
    with pytest.raises(UsageError, match=r"score\.images\.extractor is 'inception', which is not trained;"):
        classifier.run(changed, "images")
    assert isinstance(experiment.score["images"].extractor, Classifier)
    assert paths.extractor("tiny", "images").is_dir()


def test_a_reference_of_ones_own(workspace, experiment):
    """Any file of images or statistics instead of the data set's split."""
    np.savez("ours.npz", arr_0=data.load(experiment, "tiny", "test").images)
    np.savez("other.npz", arr_0=data.load(experiment, "tiny", "train").images[:400])
    values = []
    for file in (None, "ours.npz", "other.npz"):
        [path, *_] = stage.run(with_score(experiment, reference=file), ["ci-dit-s0"])
        content = json.loads(path.read_text())
        values.append(content["values"])
        if file is not None:
            assert content["reference"]["path"] == file
    assert values[0] == values[1]
    assert values[0]["fid"] != values[2]["fid"]


@pytest.fixture
def with_published(workspace, experiment):
    """The ci experiment with a published sample set: here, images that it drew itself."""
    source = workspace / paths.sample("ci-dit-s0", "guided") / "00000.npz"
    shutil.copy(source, workspace / "theirs.npz")
    first = experiment.tables.table1
    first = first.model_copy(update={"rows": (*first.rows, Row(row="ADM", samples="theirs"))})
    tables = experiment.tables.model_copy(update={"table1": first})
    return altered(experiment, published={"theirs": Published(data="tiny", path="theirs.npz")}, tables=tables)


def test_published_samples_get_the_same_scores_as_our_own(with_published):
    [path] = stage.run(with_published, ["theirs"])
    ours = json.loads(paths.score("ci-dit-s0", "guided", "ci").read_text())["values"]
    theirs = json.loads(path.read_text())["values"]
    assert theirs == ours
    table = build_table1(with_published, ROOT / "params" / "published.csv").set_index("method")
    assert table.loc["ADM", "c2i_fid_ours"] == theirs["fid"]["value"]
    assert table.loc["ADM", "c2i_fid_origin"] == "samples"
    with Path("theirs.npz").open("ab") as stream:
        stream.write(b"other images")
    with pytest.raises(ArtefactError, match="is the score of earlier samples; run `rdm score theirs`"):
        build_table1(with_published, ROOT / "params" / "published.csv")


def test_published_samples_of_other_proportions_have_the_errors_of_random_labels(with_published):
    with np.load("theirs.npz") as content:
        images, labels = content["arr_0"], content["arr_1"]
    errors, remarks = [], []
    for given in ({"arr_1": labels}, {"arr_1": np.where(labels == 0, 1, labels)}, {}):
        np.savez("theirs.npz", arr_0=images, **given)
        [path] = stage.run(with_published, ["theirs"])
        content = json.loads(path.read_text())
        errors.append(content["values"]["fid"]["standard_error"])
        remarks.append(str(content["remarks"]))
    assert errors[0] != errors[1] == errors[2]
    assert ["in the reference's proportions" in text for text in remarks] == [False, True, False]
    assert "labels unknown" in remarks[2]


def test_a_part_does_not_look_at_the_reference(workspace, experiment, monkeypatch):
    """Which is for the call that joins the parts: it may be of more items than all parts together."""
    wanted = json.loads(paths.score("ci-dit-s0", "guided", "ci").read_text())["values"]
    with monkeypatch.context() as patch:
        patch.setattr(scorers, "measure_items", lambda *_: pytest.fail("the reference was measured"))
        for number in (1, 2):
            stage.run(experiment, ["ci-dit-s0"], part=Part(number, 2))
    stage.run(experiment, ["ci-dit-s0"])
    assert json.loads(paths.score("ci-dit-s0", "guided", "ci").read_text())["values"] == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there"),
        (b"not an npz", "cannot be read as a whole .npz"),
        ({"arr_0": np.zeros((360, 16, 16, 1), np.float32)}, "float32"),
        ({"arr_0": np.zeros((360, 16, 16, 3), np.uint8)}, "items of 16x16x3, the reference's are 16x16x1"),
        ({"arr_0": np.zeros((300, 16, 16, 1), np.uint8)}, "holds 300 samples, protocol 'ci' scores 360"),
        ({"images": np.zeros((360, 16, 16, 1), np.uint8)}, "holds no arr_0"),
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
    assert not (workspace / paths.published_score("theirs", "ci")).exists()
