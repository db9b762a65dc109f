"""`rdm score SAMPLES --against REFERENCE`, as a user types it."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from pytorch_fid.fid_score import compute_statistics_of_path
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from rdm.cli import main
from rdm.params.files import load_protocols
from rdm.params.protocol import Pixels
from rdm.provenance.files import file_digest
from rdm.score import (
    FeatureStatistics,
    features,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    verify,
)
from rdm.score.classifier import ConvNet
from rdm.score.evaluate import remarks_on
from rdm.score.extractors import build_extractor
from rdm.score.features import extract
from tests.conftest import ROOT
from tests.score.test_extractors import FakeI3D

CPU = torch.device("cpu")
COUNT, SIZE = 60, 16


def pictures(seed, count=COUNT, frames=None):
    """Blobs of ten brightnesses; uint8 (count, [frames,] SIZE, SIZE, 3), and the brightness as label."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    shape = (count, *([frames] if frames else []), SIZE, SIZE, 3)
    images = rng.normal(20.0 * labels.reshape(-1, *[1] * (len(shape) - 1)), 25 + 3 * seed, shape)
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Samples, a reference and two small extractors with random weights, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("samples", 1), ("reference", 0)):
        images, labels = pictures(seed)
        np.savez(f"{name}.npz", arr_0=images, arr_1=labels)
        np.savez(f"{name}_clips.npz", arr_0=pictures(seed, 24, 18)[0])
    torch.manual_seed(0)
    save_tensors(ConvNet((8, 12, 20), 3, [10]).state_dict(), "net.safetensors")
    save_tensors(ConvNet((4, 6), 3, [10], clips=True).state_dict(), "clips.safetensors")
    return tmp_path


def rdm(*arguments, code=0, params=ROOT / "params"):
    arguments = [*map(str, arguments)]
    if arguments[:2] != ["reference", "explain"]:
        arguments += ["--params", str(params / "digits.yaml")]
    done = CliRunner().invoke(main, ["score", *arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output


NET = ("--protocol", "ci", "--weights", "net.safetensors", "--set", f"samples={COUNT}")
INCEPTION = ("--set", "weights=null", "--set", "samples=20")


def score(samples, reference="reference.npz", options=NET):
    return json.loads(rdm(samples, "--against", reference, *options, "--json"))


def test_values_are_those_of_the_features(folder):
    result = score("samples.npz")
    extractor = build_extractor("classifier", Path("net.safetensors"), CPU)
    images, labels = pictures(1)
    samples, reference = extractor.features(images), extractor.features(pictures(0)[0])
    values = {name: estimate["value"] for name, estimate in result["values"].items()}
    for metric, layer in (("fid", "pool"), ("sfid", "spatial")):
        sides = (FeatureStatistics.of(side[layer]) for side in (samples, reference))
        assert values[metric] == pytest.approx(frechet_distance(*sides), rel=1e-12)
    assert values["is"] == inception_score(samples["logits"], splits=1).value
    assert values["accuracy"] == (samples["logits"].argmax(1) == labels).mean()


def test_a_result_is_never_a_bare_number(folder):
    result = score("samples.npz")
    estimate = result["values"]["fid"]
    assert estimate["standard_error"] > 0
    assert estimate["bias_corrected"] < estimate["value"]
    assert estimate["dimension"] == 20
    assert result["protocol"]["name"] == f"ci, samples={COUNT}"
    assert result["protocol"]["samples"] == COUNT
    assert len(result["protocol"]["sha256"]) == 64
    assert result["samples"] == {"path": "samples.npz", "sha256": file_digest(Path("samples.npz")), "items": COUNT}
    assert result["reference"]["sha256"] == file_digest(Path("reference.npz"))
    assert result["extractor"] == {"kind": "classifier", "sha256": file_digest(Path("net.safetensors"))}
    assert result["precision"] == {"network": "float32", "statistics": "float64", "mean": "float64"}
    assert {"torch", "numpy", "rdm", "python"} <= result["versions"].keys()
    assert result["seconds"] > 0
    assert "mostly bias" in result["remarks"][0]  # sFID: more dimensions than samples
    assert "bias_corrected" not in result["values"]["sfid"]


def test_errors_are_those_of_dealt_labels_only_where_they_are_dealt(folder):
    """By the protocol in the reference's proportions; drawn at random, they vary more."""
    images, labels = pictures(1)
    np.savez("other.npz", arr_0=pictures(0)[0], arr_1=np.roll(labels, 7))
    np.savez("unlike.npz", arr_0=images, arr_1=np.where(labels == 0, 1, labels))
    options = (*NET, "--set", "labels=reference")
    found = {name: score(f"{name}.npz", "other.npz", options) for name in ("samples", "unlike")}
    random = score("samples.npz", "other.npz", (*NET, "--set", "labels=random"))
    assert not any("proportions" in remark for remark in found["samples"]["remarks"])
    assert any("proportions" in remark for remark in found["unlike"]["remarks"])
    errors = {name: result["values"]["fid"]["standard_error"] for name, result in found.items()}
    assert errors["samples"] < random["values"]["fid"]["standard_error"] == errors["unlike"]
    for name in found:  # the same of features that were extracted before
        rdm("features", f"{name}.npz", name, *options)
        assert score(name, "other.npz", options)["values"] == found[name]["values"]
        assert ("proportions" in str(score(name, "other.npz", options)["remarks"])) == (name == "unlike")
    rdm("reference", "build", "other.npz", "ref.npz", *options)
    for name in found:
        stored = score(f"{name}.npz", "ref.npz", options)
        assert stored["values"]["fid"]["standard_error"] == pytest.approx(errors[name], rel=1e-6)
        assert ("proportions" in str(stored["remarks"])) == (name == "unlike")
    np.save("other.npy", pictures(0)[0])  # without labels
    unknown = score("samples.npz", "other.npy", options)
    assert "the reference's labels are unknown" in str(unknown["remarks"])
    assert unknown["values"]["fid"]["standard_error"] == pytest.approx(errors["unlike"], rel=1e-6)


def test_the_printed_table_and_the_file_say_the_same(folder):
    text = rdm("samples.npz", "--against", "reference.npz", *NET, "--out", "out.json")
    result = json.loads(Path("out.json").read_text())
    for metric, estimate in result["values"].items():
        assert metric in text
        assert f"{estimate['value']:.6g}" in text
    for digest in (result["samples"]["sha256"], result["protocol"]["sha256"], result["extractor"]["sha256"]):
        assert digest[:12] in text
    assert "remark" in text


def as_npy(images, path):
    np.save(path, images)


def as_safetensors(images, path):
    save_file({"arr_0": images}, path)


def as_folder(images, path):
    path.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(path / f"{number:04d}.png")


def as_zip(images, path):
    as_folder(images, path.with_suffix(""))
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(path.with_suffix("").iterdir()):
            archive.write(file, file.name)


def as_shards(images, path):
    path.mkdir()
    for start in range(0, len(images), 25):
        np.savez(path / f"{start:05d}.npz", arr_0=images[start : start + 25])


@pytest.mark.parametrize(
    ("write", "name"),
    [(as_npy, "s.npy"), (as_safetensors, "s.safetensors"), (as_folder, "s"), (as_zip, "s.zip"), (as_shards, "s")],
)
def test_every_kind_of_source_gives_the_same_score(folder, write, name):
    np.savez("alone.npz", arr_0=pictures(1)[0])
    write(pictures(1)[0], folder / name)
    assert score(name)["values"] == score("alone.npz")["values"]
    expected = score("samples.npz")["values"]
    assert all(estimate["value"] == expected[metric]["value"] for metric, estimate in score(name)["values"].items())
    assert score("samples.npz", name)["values"]["fid"]["value"] < 1e-9


def test_parts_give_the_bits_of_one_job(folder, monkeypatch):
    """An index range each, in any order; their batches are those of the whole."""
    many, labels = pictures(1, 730)
    np.savez("many.npz", arr_0=many, arr_1=labels)
    options = ("--protocol", "ci", "--weights", "net.safetensors", "--set", "samples=730")
    for part in (3, 1, 2):
        if part == 2:
            message = rdm("parts", "--against", "reference.npz", *options, code=2)
            assert "items 200 to 500 are not there" in message
        rdm("features", "many.npz", "parts", *options, "--part", f"{part}/3")
    together, whole = score("parts", options=options), score("many.npz", options=options)
    assert together["values"] == whole["values"]
    assert together["samples"]["sha256"] == whole["samples"]["sha256"]
    message = rdm("parts", "--against", "reference.npz", *options[:4], "--set", "samples=800", code=2)
    assert "parts holds 730 samples, protocol 'ci, samples=800' scores 800" in message
    torch.manual_seed(1)
    save_tensors(ConvNet((8, 12, 20), 3, [10]).state_dict(), "other.safetensors")
    message = rdm("parts", "--against", "reference.npz", *options, "--weights", "other.safetensors", code=2)
    assert "parts was made for another protocol" in message
    Path("parts/features-00000000-00000200.safetensors").write_bytes(b"cut")
    assert "is no whole part" in rdm("parts", "--against", "reference.npz", *options, code=2)


def test_parts_of_another_number_take_the_place_of_those_there(folder):
    """An interrupted run of two parts, then four: what is written last holds, and nothing is there twice."""
    np.savez("many.npz", arr_0=pictures(1, 730)[0])
    options = ("--protocol", "ci", "--weights", "net.safetensors", "--set", "samples=730")
    rdm("features", "many.npz", "parts", *options, "--part", "1/2")
    old = Path("parts/features-00000000-00000400.safetensors")
    kept = old.read_bytes()
    for part in ("3/4", "2/4"):
        rdm("features", "many.npz", "parts", *options, "--part", part)
    message = rdm("parts", "--against", "reference.npz", *options, code=2)
    assert "items 0 to 200 are not there yet; run their part, or all parts if N was another." in message
    rdm("features", "many.npz", "parts", *options, "--part", "1/4")
    assert "items 600 to 730 are not there yet" in rdm("parts", "--against", "reference.npz", *options, code=2)
    rdm("features", "many.npz", "parts", *options, "--part", "4/4")
    whole = score("many.npz", options=options)
    assert score("parts", options=options)["values"] == whole["values"]
    old.write_bytes(kept)  # as two jobs of different N at the same time may leave it
    message = rdm("parts", "--against", "reference.npz", *options, code=2)
    assert "features-00000000-00000200.safetensors and features-00000000-00000400.safetensors hold some" in message
    assert message.endswith("remove one of them.\n")
    old.unlink()
    assert score("parts", options=options)["values"] == whole["values"]


def test_parts_of_another_set_are_never_removed(folder):
    """Nor damaged ones: a slip of the pen would cost what others computed."""
    np.savez("many.npz", arr_0=pictures(1, 730)[0])
    np.savez("others.npz", arr_0=pictures(2, 730)[0])
    options = ("--protocol", "ci", "--weights", "net.safetensors", "--set", "samples=730")
    rdm("features", "others.npz", "parts", *options, "--part", "1/2")
    damaged = Path("parts/features-00000100-00000300.safetensors")
    damaged.write_bytes(b"cut")
    rdm("features", "many.npz", "parts", *options, "--part", "1/4")
    assert len(list(Path("parts").iterdir())) == 3
    message = rdm("parts", "--against", "reference.npz", *options, code=2)
    assert f"{damaged} is no whole part" in message
    assert message.endswith("remove it, and run its part again.\n")
    damaged.unlink()
    assert "are of different samples" in rdm("parts", "--against", "reference.npz", *options, code=2)


@pytest.mark.parametrize(
    ("part", "message"), [("0/3", "numbered from 1"), ("4/3", "numbered"), ("1/9", "are 1 batches"), ("x", "give I/N")]
)
def test_parts_that_do_not_exist(folder, part, message):
    assert message in rdm("features", "samples.npz", "parts", *NET, "--part", part, code=2)
    assert not Path("parts").exists()


class Items:
    """730 pictures; `read_at` holds where reading began."""

    def __init__(self):
        self.images, _ = pictures(1, 730)
        self.shape, self.read_at = self.images.shape, []

    def read(self, start, stop):
        self.read_at.append(start)
        return self.images[start:stop]


def test_items_are_read_a_few_batches_ahead(folder, monkeypatch):
    """What the network makes of each batch is what it makes of the batch alone; whoever stops asking stops reading."""
    monkeypatch.setattr(features, "READERS", 1)
    extractor, items = build_extractor("classifier", Path("net.safetensors"), CPU), Items()
    batches = features.stream(items, extractor, [None], ["pool"], 100, 730, "test")
    assert items.read_at == []
    for start in (100, 200):
        [layers] = next(batches)
        assert np.array_equal(layers["pool"], extractor.features(items.images[start : start + 100])["pool"])
    batches.close()
    assert items.read_at == [100, 200, 300, 400][: len(items.read_at)]
    [whole] = extract(items, extractor, [None], ["pool"], 100, 730, "test")
    alone = [extractor.features(items.images[start : min(start + 100, 730)])["pool"] for start in range(100, 730, 100)]
    assert np.array_equal(whole["pool"], np.concatenate(alone))


def test_statistics_of_parts_merge_to_those_of_the_whole(folder):
    extractor = build_extractor("classifier", Path("net.safetensors"), CPU)
    [whole] = extract(Items(), extractor, [None], ["pool"], 0, 730, "test")
    total = FeatureStatistics(20)
    for start, stop in ((0, 200), (200, 700), (700, 730)):
        [part] = extract(Items(), extractor, [None], ["pool"], start, stop, "test")
        total.merge(FeatureStatistics.of(part["pool"]))
    reference = FeatureStatistics.of(extractor.features(pictures(0)[0])["pool"])
    expected = frechet_distance(FeatureStatistics.of(whole["pool"]), reference)
    assert frechet_distance(total, reference) == pytest.approx(expected, rel=1e-12)


def test_protocols_are_at_hand_everywhere(folder, tmp_path):
    """Away from any parameter file, the package's own are taken; one beside --params goes before them."""
    result = json.loads(rdm("samples.npz", "--against", "reference.npz", *NET, "--json", params=tmp_path / "none"))
    assert result["protocol"] == score("samples.npz")["protocol"]
    Path("protocols.yaml").write_text("mine: {samples: 60, labels: random, reference: test, extractor: classifier}")
    options = ("--protocol", "mine", "--weights", "net.safetensors")
    assert list(
        json.loads(rdm("samples.npz", "--against", "reference.npz", *options, "--json", params=tmp_path))["values"]
    ) == ["fid", "accuracy"]


# ---------------------------------------------------------------- references


def test_a_reference_file_stands_for_its_items(folder):
    assert rdm("reference", "build", "reference.npz", "ref.npz", *NET).strip() == "ref.npz"
    direct, stored = score("samples.npz"), score("samples.npz", "ref.npz")
    for metric, estimate in stored["values"].items():
        assert estimate["value"] == pytest.approx(direct["values"][metric]["value"], rel=1e-9)
    assert stored["reference"]["built_from"]["sha256"] == direct["reference"]["sha256"]
    mean, covariance = compute_statistics_of_path("ref.npz", None, None, None, None)  # pytorch-fid reads it, too
    pool = build_extractor("classifier", Path("net.safetensors"), CPU).features(pictures(0)[0])["pool"]
    np.testing.assert_allclose(mean, pool.mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(pool, rowvar=False), atol=1e-9)
    explained = rdm("reference", "explain", "ref.npz")
    for what in ("rdm score reference", "d = 20, n = 60", direct["reference"]["sha256"], "preparation: weights"):
        assert what in explained
    assert rdm("reference", "verify", "ref.npz", "reference.npz", *NET).count("True") == 2
    message = rdm("reference", "verify", "ref.npz", "samples.npz", *NET, code=1)
    assert "pool, spatial do not agree" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--protocol", "ci", "--weights", "other.safetensors"), "another protocol than 'ci, samples=60' (weights"),
        ((*NET[:4], "--set", "ddof=0"), "another protocol than 'ci, ddof=0, samples=60' (ddof: 1 there, 0 here)"),
        ((*NET[:4], "--set", "mean=float32"), "(mean: float64 there, float32 here)"),
        ((*NET[:4], "--set", "sfid=true"), "has no mu_s_sigma_s"),
        ((*NET[:4], "--set", "kernel_distance={}", "--set", "sfid=false"), "keeps the features of 0 items"),
    ],
)
def test_a_reference_of_another_protocol_is_refused(folder, options, message):
    torch.manual_seed(1)
    save_tensors(ConvNet((8, 12, 20), 3, [10]).state_dict(), "other.safetensors")
    rdm("reference", "build", "reference.npz", "ref.npz", *NET, "--set", "sfid=false")
    found = rdm("samples.npz", "--against", "ref.npz", *options, "--set", f"samples={COUNT}", "--out", "o.json", code=2)
    assert message in found
    assert not Path("o.json").exists()


def test_foreign_statistics(folder, inception_weights):
    """pytorch-fid's npz, StyleGAN's pickle, and ADM's npz with images for precision and recall."""
    extractor = build_extractor("inception", inception_weights, CPU)
    rule = Pixels(resize="tf1", scale="(v-128)/128")
    samples, reference = (extractor.features(pictures(seed, 20)[0], rule) for seed in (1, 0))
    np.savez("twenty.npz", arr_0=pictures(1, 20)[0])
    pool, spatial = (FeatureStatistics.of(reference[layer]).moments() for layer in ("pool", "spatial"))
    expected = frechet_distance(FeatureStatistics.of(samples["pool"]), pool)
    np.savez("ttur.npz", mu=pool.mean, sigma=pool.covariance)
    rows = reference["pool"].astype(np.float64)
    sums = {"num_items": 20, "raw_mean": rows.sum(0), "raw_cov": rows.T @ rows}
    Path("stylegan.pkl").write_bytes(pickle.dumps(sums))
    options = ("--protocol", "pytorch_fid", "--weights", inception_weights, *INCEPTION, "--set", "pixels.resize=tf1")
    options = (*options, "--set", "pixels.scale=(v-128)/128")
    for file in ("ttur.npz", "stylegan.pkl"):
        result = score("twenty.npz", file, options)
        assert result["values"]["fid"]["value"] == pytest.approx(expected, rel=1e-6)
        assert "taken on trust" in result["reference"]["remark"]
    adm = {"mu": pool.mean, "sigma": pool.covariance, "mu_s": spatial.mean, "sigma_s": spatial.covariance}
    np.savez("adm.npz", arr_0=pictures(0, 20)[0], **adm)
    options = ("--protocol", "adm50k", "--weights", inception_weights, *INCEPTION)
    result = score("twenty.npz", "adm.npz", options)
    values, said = result["values"], result["reference"]
    assert ("items" in said, said["feature_items"]) == (False, 20)  # of how many the moments are, the file does not say
    assert values["fid"]["value"] == pytest.approx(expected, rel=1e-6)
    found = precision_recall(reference["pool"], samples["pool"], 3, half=True)
    assert (values["precision"]["value"], values["recall"]["value"]) == (found.precision, found.recall)
    rdm("reference", "import", "adm.npz", "mine.npz", *options)
    imported = score("twenty.npz", "mine.npz", options)["values"]
    assert {m: e["value"] for m, e in imported.items()} == pytest.approx({m: e["value"] for m, e in values.items()})
    message = rdm("twenty.npz", "--against", "ttur.npz", *options, code=2)
    assert "ttur.npz has no mu_s_sigma_s, which protocol 'adm50k" in message


def test_a_reference_of_another_dimension_is_refused(folder):
    np.savez("ref.npz", mu=np.zeros(5), sigma=np.eye(5))
    options = (*NET, "--set", "sfid=false")
    message = rdm("samples.npz", "--against", "ref.npz", *options, code=2)
    assert "ref.npz has 5 dimensions, the classifier 20" in message


def test_protocols_side_by_side(folder, inception_weights):
    """Each value is what the protocol alone gives, from one pass over the images."""
    np.savez("twelve.npz", arr_0=pictures(1, 12)[0])
    np.savez("ten.npz", arr_0=pictures(0, 10)[0])
    names = ["adm50k", "torch_fidelity50k", "pytorch_fid", "clean_fid"]
    options = (
        "--weights",
        inception_weights,
        "--set",
        "weights=null",
        "--set",
        "samples=12",
        "--set",
        "kernel_distance=null",
    )
    compared = ("twelve.npz", "--against", "ten.npz", "--compare-protocols", ",".join(names), *options)
    results = json.loads(rdm(*compared, "--json"))
    for name, result in zip(names, results, strict=True):
        alone = score("twelve.npz", "ten.npz", ("--protocol", name, *options))
        assert result["values"] == alone["values"]
        assert result["protocol"] == alone["protocol"]
    assert len({result["values"]["fid"]["value"] for result in results}) == 4 - 1  # two share pixels and mean
    text = rdm(*compared)
    for what in ("rule", "resize half_pixel", "split_size 5000", "shuffle_seed 2020", "All with weights=null"):
        assert what in text
    difference = results[2]["values"]["fid"]["value"] - results[0]["values"]["fid"]["value"]
    assert f"({difference:+.3g})" in text
    message = rdm(*compared[:4], "adm50k,digits", *options, code=2)
    assert "need different extractors (adm50k" in message


def test_kernel_distance_in_a_protocol(folder):
    options = (*NET, "--set", "kernel_distance={}", "--set", "precision_recall={k: 3}")
    values = score("samples.npz", options=options)["values"]
    extractor = build_extractor("classifier", Path("net.safetensors"), CPU)
    samples, reference = (extractor.features(pictures(seed)[0])["pool"] for seed in (1, 0))
    assert values["kid"]["value"] == kernel_distance(reference, samples).value
    assert values["recall"]["value"] == precision_recall(reference, samples).recall
    rdm("reference", "build", "reference.npz", "ref.npz", *options)  # keeps the features
    assert score("samples.npz", "ref.npz", options)["values"]["kid"] == values["kid"]


def test_parts_of_a_reference_stand_for_it(folder):
    options = (*NET, "--set", "precision_recall={k: 3, reference: 12}")
    rdm("features", "reference.npz", "parts", *options)
    assert score("samples.npz", "parts", options)["values"] == score("samples.npz", options=options)["values"]
    rdm("reference", "build", "parts", "ref.npz", *options)
    stored, direct = score("samples.npz", "ref.npz", options)["values"], score("samples.npz", options=options)["values"]
    assert stored["fid"]["value"] == pytest.approx(direct["fid"]["value"], rel=1e-9)
    assert "holds statistics already" in rdm("reference", "build", "ref.npz", "again.npz", *options, code=2)
    rdm("features", "reference.npz", "poor", *options, "--set", "sfid=false")
    assert "poor lacks the layer 'spatial'" in rdm("samples.npz", "--against", "poor", *options, code=2)


def test_features_keep_the_size_of_their_items(folder):
    """The classifier takes images as they are: of two sizes they are no more alike than before."""
    images, labels = pictures(1)
    np.savez("small.npz", arr_0=images[:, ::2, ::2], arr_1=labels)
    rdm("features", "small.npz", "parts", *NET)
    message = "holds items of 16x16, parts holds items of 8x8; scale one of them"
    assert message in rdm("parts", "--against", "reference.npz", *NET, code=2)


def test_features_of_clips_are_no_reference(folder):
    """They were chosen by the rule for samples."""
    rdm("features", "reference_clips.npz", "parts", *CLIPS)
    assert score("parts", "reference_clips.npz", CLIPS)["values"]["fvd"]["value"] < 1e-9
    message = rdm("samples_clips.npz", "--against", "parts", *CLIPS, code=2)
    assert "parts holds features of clips that were chosen as samples are" in message
    assert message.endswith("give the videos, or a file of `rdm score reference`.\n")


def test_precision_and_recall_take_references_from_all_classes(folder):
    """Of a reference sorted by class, every class counts; a reference file that keeps too few items is refused."""
    images, labels = pictures(0)
    order = np.argsort(labels, kind="stable")
    np.savez("sorted.npz", arr_0=images[order], arr_1=labels[order])
    options = (*NET, "--set", "precision_recall={k: 3, reference: 20}")
    extractor = build_extractor("classifier", Path("net.safetensors"), CPU)
    real = extractor.features(images[order][np.arange(20) * 3])["pool"]
    found = precision_recall(real, extractor.features(pictures(1)[0])["pool"])
    assert score("samples.npz", "sorted.npz", options)["values"]["recall"]["value"] == found.recall
    rdm("reference", "build", "sorted.npz", "ref.npz", *options)
    more = (*NET, "--set", "precision_recall={k: 3, reference: 30}")
    assert "features of 20 items, protocol" in rdm("samples.npz", "--against", "ref.npz", *more, code=2)


def test_a_protocol_with_a_change_is_not_the_papers(folder):
    [protocol] = load_protocols(ROOT / "params" / "protocols.yaml", ["adm50k"], ["samples=20"]).values()
    assert not protocol.paper_scale


# ---------------------------------------------------------------- clips

CLIPS = ("--protocol", "moving_digits", "--weights", "clips.safetensors", "--set", "samples=24")


def test_clips_follow_the_protocols_rule(folder):
    values = score("samples_clips.npz", "reference_clips.npz", CLIPS)["values"]
    extractor = build_extractor("classifier", Path("clips.safetensors"), CPU)
    samples, reference = (pictures(seed, 24, 18)[0] for seed in (1, 0))

    def expected(taken):
        sides = (extractor.features(clips)["pool"] for clips in (samples[:, :16], taken))
        return frechet_distance(*map(FeatureStatistics.of, sides))

    assert values["fvd"]["value"] == pytest.approx(expected(reference[:, :16]), rel=1e-9)
    few = (*CLIPS, "--set", "clips.frames=8")
    strided = score("samples_clips.npz", "reference_clips.npz", (*few, "--set", "clips.reference.stride=2"))["values"]
    samples = samples[:, :8]
    assert strided["fvd"]["value"] == pytest.approx(expected(reference[:, :16:2]), rel=1e-9)
    result = score("samples_clips.npz", "reference_clips.npz", (*few, "--set", "clips.reference_videos=10"))
    assert result["values"]["fvd"]["value"] == pytest.approx(expected(reference[:10, :8]), rel=1e-9)


@pytest.mark.parametrize("change", ["clips.seed=1", "clips.reference.videos=random"])
def test_random_clips_depend_on_the_seed_alone(folder, change):
    base = (*CLIPS, "--set", "clips.frames=8", "--set", "clips.reference_videos=12")
    base = (*base, "--set", "clips.reference.offset=random")
    values = [score("samples_clips.npz", "reference_clips.npz", base)["values"] for _ in range(2)]
    assert values[0] == values[1]
    other = score("samples_clips.npz", "reference_clips.npz", (*base, "--set", change))["values"]
    assert other["fvd"] != values[0]["fvd"]


def test_fvd_through_i3d(folder):
    """The divisor of StyleGAN's statistics is n; the network sees clips channels first."""
    torch.jit.script(FakeI3D()).save("i3d.pt")
    options = (
        "--protocol",
        "fvd2048_16f_stride1",
        "--weights",
        "i3d.pt",
        "--set",
        "samples=24",
        "--set",
        "weights=null",
    )
    options = (*options, "--set", "clips.reference.offset=first")
    values = score("samples_clips.npz", "reference_clips.npz", options)["values"]
    sides = (pictures(seed, 24, 18)[0][:, :16].mean((1, 2, 3)) for seed in (1, 0))
    three = [FeatureStatistics.of(side).moments(ddof=0) for side in sides]
    # 400 features that repeat 3: the distance is counted 134, 133 and 133 times
    assert values["fvd"]["value"] == pytest.approx(133.33 * frechet_distance(*three), rel=0.02)
    assert values["fvd"]["dimension"] == 400
    too_long = rdm(
        "samples_clips.npz", "--against", "reference_clips.npz", *options, "--set", "clips.samples.stride=2", code=2
    )
    assert "video 0 has 18 frames; a clip of 16 frames at stride 2 needs 31" in too_long


# ---------------------------------------------------------------- what a protocol does not admit


def by_class(images, labels):
    order = np.argsort(labels, kind="stable")
    np.savez("sorted.npz", arr_0=images[order], arr_1=labels[order])


def test_samples_sorted_by_class(folder):
    by_class(*pictures(1))
    order = ("--set", "order=random")
    assert "sorted.npz is sorted by class" in rdm("sorted.npz", "--against", "reference.npz", *NET, *order, code=2)
    parts = ("--set", "inception_score.splits=5")
    remarks = score("sorted.npz", options=(*NET, *parts))["remarks"]
    assert any(remark.startswith("sorted by class: the Inception Score") for remark in remarks)
    assert not any("sorted" in remark for remark in score("sorted.npz")["remarks"])  # one part: the order is nothing
    fewer = rdm("sorted.npz", "--against", "reference.npz", *NET, "--set", "samples=50", code=2)
    assert "is sorted by class" in fewer  # the first 50 would be five classes


def test_logits_tell_an_order_that_labels_do_not():
    [protocol] = load_protocols(ROOT / "params" / "protocols.yaml", ["fashion"], ["sfid=false"]).values()
    labels = np.random.default_rng(0).integers(0, 10, 500)
    layers = {"pool": np.zeros((500, 20)), "logits": np.eye(10)[labels]}
    assert remarks_on(protocol, layers, labels) == []
    [remark] = remarks_on(protocol, {**layers, "logits": np.eye(10)[np.sort(labels)]}, labels)
    assert remark.startswith("98% of neighbours look like one class, 10% would by chance")


def test_unequal_classes_where_the_protocol_wants_equal(folder):
    images, labels = pictures(1)
    np.savez("unequal.npz", arr_0=images, arr_1=np.minimum(labels, 3))
    balanced = ("--set", "labels=balanced")
    assert "unequal numbers" in rdm("unequal.npz", "--against", "reference.npz", *NET, *balanced, code=2)
    score("samples.npz", options=(*NET, *balanced))


def test_more_samples_than_the_protocol_scores(folder):
    result = score("samples.npz", options=(*NET[:4], "--set", "samples=40"))
    assert "the first 40 of 60 samples" in result["remarks"]
    np.savez("forty.npz", arr_0=pictures(1)[0][:40], arr_1=pictures(1)[1][:40])
    assert result["values"] == score("forty.npz", options=(*NET[:4], "--set", "samples=40"))["values"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.npz", "--against", "reference.npz", *NET), "none.npz is not there"),
        (("samples.npz", "--against", "none.npz", *NET), "none.npz is not there"),
        (("samples.npz", "--against", "reference.npz", *NET[:4]), "holds 60 samples, protocol 'ci' scores 360"),
        (("grey.npz", "--against", "reference.npz", *NET), "grey.npz: greyscale images, but the classifier takes RGB"),
        (("float.npz", "--against", "reference.npz", *NET), "float"),
        (("cut.npz", "--against", "reference.npz", *NET), "cut.npz cannot be read as a whole .npz"),
        (("samples.npz", "--against", "evil.pkl", *NET), "wants to run code"),
        (("samples.npz", "--against", "reference.npz", *NET, "--set", "sample=3"), "did you mean 'samples'?"),
        (("samples.npz", "--against", "reference.npz", *NET, "--set", "a.b=3"), "no section 'a'"),
        (("samples.npz", "--against", "reference.npz", *NET, "--set", "samples=-3"), "greater than 0"),
        (("samples.npz", "--against", "reference.npz", *NET, "--set", "samples=[3"), "is not a value"),
        (("samples.npz", "--against", "reference.npz", "--protocol", "adm50"), "did you mean 'adm50k'?"),
        (("samples.npz", "--against", "reference.npz"), "either --protocol or --compare-protocols"),
        (("a", "b", "--against", "reference.npz", *NET), "Give one SAMPLES"),
        (("samples.npz", "--protocol", "ci"), "add --against"),
        (("samples.npz",), "samples.npz is no run; say with --against what to compare it with"),
        (("samples.npz", "--against", "reference.npz", *NET[:2], *NET[4:]), "name one with --weights"),
        (("samples.npz", "--against", "reference.npz", *NET, "--device", "tpu"), "device: 'tpu' is not known"),
        (
            ("samples.npz", "--against", "small.npz", *NET),
            "small.npz holds items of 8x8, samples.npz holds items of 16x16",
        ),
        (("verify", "adm50k"), "download into it: https://openaipublic"),
        (("verify", "adm"), "did you mean 'adm50k'?"),
        (("verify", "clean_fid"), "no published files for protocol 'clean_fid'"),
        (("reference", "import", "reference.npz", "o.npz", *NET), "holds no statistics"),
        (("reference", "build", "reference.npz", "o.json", *NET), "ends in .npz"),
        (("samples.npz", "--against", "reference.npz", *NET, "--out", "."), "ends in .json"),
        (("features", "samples.npz", "samples.npz", *NET), "where a folder is needed"),
        (("samples.npz", "--against", "broken.npz", *NET), "broken.npz cannot be read as"),
        (("samples.npz", "--against", "unlike.npz", *NET), "cannot be read as a reference file"),
        (("samples.npz", "--against", "reference.npz", *NET, "--weights", "list.pth"), "is not a file of classifier"),
        (("samples.npz", "--against", "reference.npz", *NET, "--weights", "clips.safetensors"), "takes clips"),
        (("samples.npz", "--against", "reference.npz", *NET, "--set", "weights=sha256:00000000"), "name another"),
        (
            ("samples.npz", "--against", "reference.npz", *NET, "--set", "inception_score.shuffle_seed=-1"),
            "or equal to 0",
        ),
        (("samples.npz", "--against", "reference.npz", "--protocol", "ci,digits"), "'ci,digits' is not in"),
        (("features", "samples.npz", "o", *NET, "--part", "1/" + 5000 * "9"), "give I/N"),
        (("reference", "explain", "none.npz"), "none.npz is not there"),
        (("--compare-protocols", "ci", "samples.npz"), "add --against"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(folder, arguments, message):
    images, _ = pictures(1)
    np.savez("grey.npz", arr_0=images[..., :1])
    np.savez("float.npz", arr_0=images / 255)
    np.savez("small.npz", arr_0=images[:, :8, :8])
    Path("cut.npz").write_bytes(Path("samples.npz").read_bytes()[:5000])
    Path("evil.pkl").write_bytes(pickle.dumps(shutil.rmtree))
    Path("broken.npz").write_bytes(Path("samples.npz").read_bytes()[:-30] + b"0" * 8 + b"PK" + b"1" * 20)
    np.savez("unlike.npz", mu=np.zeros(20), sigma=np.eye(20), rdm=np.array("{}"))
    torch.save([1, 2], "list.pth")
    before = sorted(Path().iterdir())
    scores = "--against" in arguments and "--out" not in arguments
    extra = ("--out", "o.json") if scores else ()
    found = rdm(*arguments, *extra, code=2)
    assert message in found
    assert found.startswith("Error: ")
    assert found.count("\n") == 1
    assert sorted(Path().iterdir()) == before


def test_golden_files_are_scored_and_compared(folder, inception_weights, monkeypatch):
    """With stand-ins for the published files: what agrees is told from what does not."""
    np.savez("VIRTUAL_imagenet256_labeled.npz", arr_0=pictures(0, 20)[0])
    np.savez("admnet_guided_upsampled_imagenet256.npz", arr_0=pictures(1, 20)[0])
    protocols = yaml.safe_load((ROOT / "params" / "protocols.yaml").read_text())
    protocols["adm50k"] |= {"weights": None, "samples": 20}
    Path("protocols.yaml").write_text(yaml.safe_dump(protocols))
    options = ("verify", "adm50k", "--folder", ".", "--weights", inception_weights)
    found = rdm(*options, code=1, params=Path())
    assert "fid, sfid, is, precision, recall do not agree" in found
    rows = json.loads(rdm(*options, "--json", code=1, params=Path()).partition("Error")[0])
    golden = verify.GOLDEN["adm50k"]
    exact = {row["metric"]: (row["here"], 1e-6) for row in rows}
    monkeypatch.setitem(verify.GOLDEN, "adm50k", verify.Golden(golden.reference, golden.samples, exact))
    assert rdm(*options, params=Path()).count("True") == 5
