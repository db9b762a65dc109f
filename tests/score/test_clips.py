"""Scores of clips and of their frames: by hand, by the frames as images, and by what clips are worth."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from rdm import paths
from rdm.cli import main
from rdm.data import stage as data
from rdm.data.moving_digits import open_moving_digits
from rdm.data.sources import open_videos
from rdm.errors import UsageError
from rdm.params.evaluation import Classifier, Score
from rdm.params.files import load_protocols
from rdm.params.protocol import ClipRule, Clips
from rdm.params.schema import MovingDigitsData, VideosData
from rdm.randomness import generator
from rdm.sample import store
from rdm.score import classifier, stage
from rdm.score.classifier import ConvNet, Labelled, as_tensor
from rdm.score.evaluate import evaluate
from rdm.score.frechet import bias_corrected, frechet_distance, in_blocks, standard_error
from rdm.score.inputs import open_items
from rdm.score.pair import references_of
from rdm.score.reference import Reference
from rdm.score.sampling import error_of_mean
from rdm.score.scorer import Scorer
from rdm.score.statistics import FeatureStatistics
from tests.conftest import ROOT, altered
from tests.score.reference_formulas import frechet, inception, relu_features
from tests.score.test_pair import pictures, rdm, score

CPU = torch.device("cpu")
LATTE = "ci-ucf-latte-s0"


def protocol_of(name, *changes):
    return next(iter(load_protocols(ROOT / "params" / "protocols.yaml", [name], changes).values()))


def outputs(name, items):
    """pool, spatial and logits of the classifier of a score, from one call."""
    [folder] = (paths.RESULTS / "extractor").glob(f"*/{name}")
    network = classifier.load(folder / "model.safetensors")
    with torch.inference_mode():
        return [layer.numpy() for layer in network(as_tensor(np.asarray(items)))]


def read_score(path):
    content = json.loads(path.read_text())
    return {name: estimate["value"] for name, estimate in content["values"].items()}, content


# ---------------------------------------------------------------- a run's clips


def test_clips_score_as_the_textbook_says(workspace, experiment):
    """Which layers come from the network over whole clips; of 60 against the 60 held-out ones."""
    values, content = read_score(paths.score(LATTE, "clips", "ci_clips"))
    samples = store.load(experiment, LATTE, "clips")
    pool, _, logits = outputs("ucf-clips", samples.images)
    real = outputs("ucf-clips", data.load(experiment, "ucf", "test").images[:])[0]
    assert set(values) == {"fvd", "is", "accuracy"}
    assert values["fvd"] == pytest.approx(frechet(pool, real), rel=1e-5)
    assert values["is"] == pytest.approx(inception(logits), rel=1e-6)
    assert values["accuracy"] == (logits.argmax(1) == samples.labels).mean()
    assert content["samples"]["items"] == content["reference"]["items"] == 60


def test_frames_score_as_images_do(workspace, experiment):
    """240 frames of 60 clips against 240, each by itself through the network of frames."""
    values, content = read_score(paths.score(LATTE, "clips", "ci_frames"))
    pool, _, logits = outputs("ucf-frames", store.load(experiment, LATTE, "clips").images.reshape(-1, 16, 16, 1))
    test = data.load(experiment, "ucf", "test").images
    real = outputs("ucf-frames", test[:].reshape(-1, 16, 16, 1))[0]
    assert set(values) == {"fid", "identity"}
    assert values["fid"] == pytest.approx(frechet(pool, real), rel=1e-5)
    alike = [np.bincount(clip).max() == 4 for clip in logits.argmax(1).reshape(60, 4)]  # nine tenths of four are four
    assert values["identity"] == np.mean(alike)
    assert content["samples"]["items"] == content["reference"]["items"] == 60


def test_an_unconditional_set_has_no_accuracy(workspace, experiment):
    values, _ = read_score(paths.score("ci-sky-latte-s0", "clips", "ci_clips"))
    assert set(values) == {"fvd", "is"}  # nobody asked for a label


def test_the_floor_of_clips_is_that_of_training_clips(workspace, experiment):
    for name, metric in (("ucf-clips", "fvd"), ("ucf-frames", "fid")):
        values, content = read_score(paths.floor("ucf", experiment.score[name].protocol))
        items = [data.load(experiment, "ucf", split).images[:] for split in ("train", "test")]
        if metric == "fid":
            items = [clips.reshape(-1, 16, 16, 1) for clips in items]
        pools = [outputs(name, clips)[0] for clips in items]
        assert values[metric] == pytest.approx(frechet(*pools), rel=1e-5)  # of all 60, whatever their order
        assert content["samples"]["path"] == "results/data/ucf"


# ---------------------------------------------------------------- any pair of sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Clips of 24 videos, the same frames as images, and a classifier of images with random weights."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("samples", 1), ("reference", 0)):
        clips, labels = pictures(seed, 24, 4)
        np.savez(f"{name}_clips.npz", arr_0=clips, arr_1=labels)
        np.savez(f"{name}_frames.npz", arr_0=clips.reshape(96, 16, 16, 3))
    torch.manual_seed(0)
    save_file(ConvNet((8, 12, 20), 3, [10]).state_dict(), "net.safetensors")
    return tmp_path


FRAMES = ("--protocol", "ci_frames", "--weights", "net.safetensors", "--set", "samples=24")
IMAGES = ("--protocol", "ci", "--weights", "net.safetensors", "--set", "samples=96", "--set", "inception_score=null")


def test_frames_of_another_aspect_are_refused(folder):
    """I3D would stretch both to one square, as no evaluation of samples does that were cropped to squares."""
    np.savez("square.npz", arr_0=np.zeros((2, 16, 8, 8, 3), np.uint8))
    np.savez("larger.npz", arr_0=np.zeros((2, 16, 16, 16, 3), np.uint8))
    np.savez("wide.npz", arr_0=np.zeros((2, 16, 8, 12, 3), np.uint8))
    options = ("--protocol", "fvd2048_16f_stride1", "--set", "samples=2", "--weights", "none")
    said = rdm("square.npz", "--against", "wide.npz", *options, code=2)
    assert "square.npz holds items of 16x8x8: frames of another aspect; crop them alike first" in said
    assert "none is not there" in rdm("square.npz", "--against", "larger.npz", *options, code=2)


def test_frames_of_any_clips_score_as_images_do(folder):
    options = (*FRAMES, "--set", "sfid=true")
    of_clips, of_images = score("samples_clips.npz", "reference_clips.npz", options), None
    of_images = score("samples_frames.npz", "reference_frames.npz", IMAGES)
    for metric in ("fid", "sfid"):
        assert of_clips["values"][metric]["value"] == of_images["values"][metric]["value"]
    assert (of_clips["samples"]["items"], of_images["samples"]["items"]) == (24, 96)
    itself = score("samples_clips.npz", "samples_clips.npz", FRAMES)["values"]["fid"]["value"]
    assert abs(itself) < 1e-9 < of_clips["values"]["fid"]["value"]
    rdm("reference", "build", "reference_clips.npz", "ref.npz", *options)
    stored = score("samples_clips.npz", "ref.npz", options)["values"]
    assert stored["fid"]["value"] == pytest.approx(of_clips["values"]["fid"]["value"], rel=1e-9)


def test_a_frames_protocol_takes_the_first_clips_and_the_rules_frames(folder):
    few = score("samples_clips.npz", "reference_clips.npz", (*FRAMES[:4], "--set", "samples=20"))
    assert "the first 20 of 24 samples" in few["remarks"]
    images = np.load("samples_frames.npz")["arr_0"]
    np.savez("few.npz", arr_0=images[:80])
    expected = score("few.npz", "reference_frames.npz", (*IMAGES[:4], "--set", "samples=80", *IMAGES[6:]))
    assert few["values"]["fid"]["value"] == expected["values"]["fid"]["value"]
    rule = ("--set", "clips.frames=2", "--set", "clips.reference.stride=3")
    two = score("samples_clips.npz", "reference_clips.npz", (*FRAMES, *rule))
    clips = {side: np.load(f"{side}_clips.npz")["arr_0"] for side in ("samples", "reference")}
    np.savez("s.npz", arr_0=clips["samples"][:, :2].reshape(48, 16, 16, 3))
    np.savez("r.npz", arr_0=clips["reference"][:, ::3].reshape(48, 16, 16, 3))
    expected = score("s.npz", "r.npz", (*IMAGES[:4], "--set", "samples=48", *IMAGES[6:]))
    assert two["values"]["fid"]["value"] == expected["values"]["fid"]["value"]
    message = rdm("samples_clips.npz", "--against", "reference_clips.npz", *FRAMES[:4], "--set", "samples=25", code=2)
    assert "holds 24 samples, protocol 'ci_frames, samples=25' scores 25" in message


def test_frames_are_not_scored_in_parts(folder):
    message = rdm("features", "samples_clips.npz", "parts", *FRAMES, code=2)
    assert "scores the frames of clips, which is not done in parts; score them whole" in message
    assert message.count("\n") == 1
    assert not Path("parts").exists()


@pytest.mark.parametrize(("start", "stop"), [(0, 96), (0, 1), (3, 4), (5, 30), (7, 9), (94, 96)])
def test_any_range_of_frames(folder, start, stop):
    clips = np.load("samples_clips.npz")["arr_0"]
    frames = open_items(Path("samples_clips.npz"), protocol_of("ci_frames").clips, "samples")
    assert frames.shape == (96, 16, 16, 3)
    assert np.array_equal(frames.labels, pictures(1, 24, 4)[1])
    assert np.array_equal(frames.read(start, stop), clips.reshape(96, 16, 16, 3)[start:stop])


def test_images_and_clips_are_not_taken_for_each_other(folder):
    assert "videos" in rdm("samples_frames.npz", "--against", "reference_clips.npz", *FRAMES, code=2)
    assert "images" in rdm("samples_clips.npz", "--against", "reference_frames.npz", *IMAGES, code=2)


# ---------------------------------------------------------------- what the frames of a clip tell


def test_neighbours_are_one_draw():
    """By hand: the error of the mean of means; within classes, of deviations from their class's mean."""
    values = np.array([1.0, 3, 2, 6, 5, 9, 0, 0])  # means 2, 4, 7, 0
    assert error_of_mean(values, neighbours=2) == pytest.approx(np.sqrt((1.25**2 + 0.75**2 + 3.75**2 + 3.25**2) / 12))
    strata = np.array([0, 0, 1, 1])  # means of the classes: 3 and 3.5
    assert error_of_mean(values, strata, 2) == pytest.approx(np.sqrt((1 + 1 + 3.5**2 + 3.5**2) / 2 / 4))


@pytest.mark.parametrize("strata", [None, np.arange(120) % 5], ids=["random", "fixed"])
def test_frames_that_repeat_one_frame_add_nothing(strata):
    """Moments with ddof = 0, error and bias are those of one frame of each clip."""
    frames, reference = relu_features(1, 120, 20), FeatureStatistics.of(relu_features(0, 500, 20)).moments()
    clips = frames.repeat(4, axis=0)
    one, four = (FeatureStatistics.of(features).moments(ddof=0) for features in (frames, clips))
    assert frechet_distance(four, reference) == pytest.approx(frechet_distance(one, reference), rel=1e-11)
    expected = standard_error(frames, one, reference, strata)
    assert standard_error(clips, four, reference, strata, neighbours=4) == pytest.approx(expected, rel=1e-9)
    unknown = standard_error(clips, four, reference, None if strata is None else strata.repeat(4))
    assert unknown == pytest.approx(expected / 2, rel=0.03)
    blocks = in_blocks(clips, 10, strata, neighbours=4)
    assert [block.count for block in blocks] == [48] * 10
    corrected = bias_corrected(in_blocks(frames, 10, strata), reference, ddof=0)
    assert bias_corrected(blocks, reference, ddof=0) == pytest.approx(corrected, rel=1e-9)


def test_errors_of_frozen_clips_are_those_of_their_first_frames(folder):
    """Through the whole path: FID, its error and its correction, with 24 clips or 24 images."""
    images, labels = pictures(1, 24)
    np.savez("images.npz", arr_0=images, arr_1=labels)
    np.savez("frozen.npz", arr_0=images[:, None].repeat(4, axis=1), arr_1=labels)
    torch.manual_seed(1)
    save_file(ConvNet((8, 5), 3, [10]).state_dict(), "small.safetensors")
    own = ("--weights", "small.safetensors", "--set", "ddof=0", "--set", "samples=24")
    np.savez("real.npz", arr_0=pictures(0, 24)[0])
    np.savez("real_clips.npz", arr_0=pictures(0, 24)[0][:, None].repeat(4, axis=1))
    fids = [
        score("frozen.npz", "real_clips.npz", ("--protocol", "ci_frames", *own))["values"]["fid"],
        score("images.npz", "real.npz", ("--protocol", "ci", *own))["values"]["fid"],
    ]
    assert fids[0].keys() == fids[1].keys() == {"value", "standard_error", "bias_corrected", "dimension"}
    for key, found in fids[0].items():
        assert found == pytest.approx(fids[1][key], rel=1e-6), key


def test_the_error_of_frames_is_the_spread_over_draws():
    """Frames that are their clip's place and a little noise: taken for independent, they would promise too much."""

    def clips(seed):
        rng = np.random.default_rng(seed)
        places = rng.normal(0.5, 1, (150, 1, 3)) + rng.normal(0, 0.3, (150, 8, 3))
        return places.reshape(-1, 3)

    reference = FeatureStatistics.of(np.random.default_rng(0).normal(size=(20000, 3))).moments()
    draws = [clips(seed) for seed in range(1, 101)]
    moments = [FeatureStatistics.of(draw).moments() for draw in draws]
    spread = np.std([frechet_distance(own, reference) for own in moments], ddof=1)
    known, unknown = (
        np.mean([standard_error(d, own, reference, None, n) for d, own in zip(draws, moments, strict=True)])
        for n in (8, 1)
    )
    assert known == pytest.approx(spread, rel=0.2)
    assert unknown < 0.5 * spread


def seen(frames, logits, labels):
    """The values of these logits under a protocol of whole clips (1) or of so many frames of each."""
    rule = {"stride": 1, "offset": "first", "videos": "sorted"}
    clips = Clips(frames=max(frames, 2), reference=rule, samples=rule, as_frames=frames > 1)
    protocol = protocol_of("ci_clips").model_copy(update={"clips": clips, "inception_score": None})
    pool = relu_features(0, len(logits), 4)
    reference = Reference({"pool": FeatureStatistics.of(pool).moments()}, None, {})
    return evaluate(protocol, reference, {"pool": pool, "logits": logits}, labels, CPU)


def test_identity_by_hand():
    """Ten frames: ten, nine and eight of one class, five and five; nine tenths are enough."""
    classes = np.array([[2] * 10, [0] * 9 + [1], [1, 1, 0, 1, 1, 1, 0, 1, 1, 1], [0, 1] * 5])
    logits = np.eye(3, dtype=np.float32)[classes.reshape(-1)]
    found = seen(10, logits, np.array([0, 1, 2, 0]))
    assert set(found) == {"fid", "identity"}
    assert found["identity"].value == 0.5
    error = np.sqrt(0.5 * 0.5 / (4 + 4))  # of four clips, not 40 frames, and two of either kind more
    assert found["identity"].standard_error == pytest.approx(error)
    assert seen(5, logits, None)["identity"].value == 3 / 8  # of halves: twice all 2, once all 0, else mixed


@pytest.mark.parametrize(
    ("labels", "expected"), [(np.array([0, 1, 2, 2]), 0.75), (np.zeros(4, np.int64), None), (None, None)]
)
def test_accuracy_is_for_several_labels(labels, expected):
    found = seen(1, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], labels)
    assert set(found) == {"fvd"} | ({"accuracy"} if expected else set())
    if expected:
        assert found["accuracy"].value == expected


# ---------------------------------------------------------------- the classifier


def brightening(count, seed):
    """Clips (count, 4, 8, 8, 1) of three brightnesses that grow or fade: label 0 the brightness, label 1 growing."""
    rng = np.random.default_rng(seed)
    level, grows = rng.integers(3, size=count), rng.integers(2, size=count)
    course = (np.arange(4) - 1.5) * (2 * grows[:, None] - 1) * 12
    clips = 60 + 60 * level[:, None] + course + rng.normal(0, 3, (count, 4))
    noise = rng.normal(0, 5, (count, 4, 8, 8, 1))
    return (clips[:, :, None, None, None] + noise).clip(0, 255).astype(np.uint8), [level, grows]


def test_a_classifier_learns_every_label_and_shows_the_first(tmp_path):
    parameters = Classifier(kind="classifier", channels=(8, 12), epochs=8, batch=32, learning_rate=1e-2)
    clips, labels = brightening(600, 0)
    network = classifier.fit(parameters, Labelled(clips, labels), CPU)
    fresh, wanted = brightening(200, 1)
    with torch.inference_mode():
        pool, _, logits = network(as_tensor(fresh))
        heads = network.predict(network.embed(as_tensor(fresh))[0])
        assert [head.shape for head in heads] == [(200, 3), (200, 2)]
        for head, label in zip(heads, wanted, strict=True):
            assert (head.argmax(1).numpy() == label).mean() > 0.9
        assert torch.equal(logits, heads[0])
        save_file(network.state_dict(), tmp_path / "model.safetensors")
        again = classifier.load(tmp_path / "model.safetensors")
        assert all(torch.equal(a, b) for a, b in zip(again(as_tensor(fresh)), (pool, _, logits), strict=True))
    # a classifier of brightness alone has no reason to see the course: its features are others
    alone = classifier.fit(parameters, Labelled(clips, labels[:1]), CPU)
    assert alone.classes.tolist() == [3]
    assert not torch.equal(alone(as_tensor(fresh))[0], pool)


def test_a_batch_larger_than_the_set_is_refused():
    parameters = Classifier(kind="classifier", channels=(4, 4), epochs=3, batch=21, learning_rate=1e-2)
    with pytest.raises(UsageError, match="batch of 21 needs as many items, there are 20; set a smaller batch"):
        classifier.fit(parameters, Labelled(*brightening(20, 0)), CPU)
    assert classifier.fit(parameters, Labelled(*brightening(21, 0)), CPU).classes.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("name", "classes", "of_clips"),
    [("ucf-clips", [10, 4], True), ("sky-clips", [10, 2], True), ("ucf-frames", [10], False), ("images", [10], False)],
)
def test_what_each_classifier_learns(workspace, experiment, name, classes, of_clips):
    """Of clips the digit and the motion, also if they are unlabelled for the generator; a frame shows no motion."""
    own = experiment.score[name].model_copy(update={"extractor": experiment.extractor(name)})
    folder = classifier.run(altered(experiment, score=experiment.score | {name: own}), name)
    network = classifier.load(folder / "model.safetensors")
    assert network.classes.tolist() == classes
    assert network.clips == of_clips
    dataset = data.load(experiment, experiment.score[name].data, "test")
    items = dataset.images[:]
    items = items if of_clips or items.ndim == 4 else items.reshape(-1, 16, 16, 1)
    logits = outputs(name, items)[2]
    digits = np.array([digit for digit in dataset.kinds[0] for _ in range(len(items) // len(dataset.kinds[0]))])
    told = json.loads((folder / "manifest.json").read_text())["facts"]["test_accuracy"]
    assert told == pytest.approx((logits.argmax(1) == digits).mean())


def test_fvd_sees_time():
    """After some epochs: real clips in another order, standing still or played backwards are far from real ones."""
    parameters = MovingDigitsData(
        source="moving_digits",
        image_size=16,
        frames=8,
        clips=600,
        test_clips=300,
        speeds=("slow", "fast"),
        cell=2,
        test_fraction=0.2,
    )
    clips, digits, motions = open_moving_digits(parameters, "train")
    recipe = Classifier(kind="classifier", channels=(8, 16), epochs=4, batch=32, learning_rate=1e-2)
    network = classifier.fit(recipe, Labelled(clips, [digits, motions]), CPU)

    def distance(items):
        with torch.inference_mode():
            return frechet(*(network(as_tensor(side))[0].numpy() for side in (items, real)))

    real, train = open_moving_digits(parameters, "test")[0][:], clips[:300]
    order = np.random.default_rng(0).permuted(np.tile(np.arange(8), (300, 1)), axis=1)
    shuffled = np.take_along_axis(train, order[:, :, None, None, None], axis=1)
    frozen = train[:, :1].repeat(8, axis=1)
    floor = distance(train)
    for broken in (shuffled, frozen, train[:, ::-1]):
        assert distance(broken) > 5 * floor


# ---------------------------------------------------------------- a set without a held-out split


@pytest.fixture
def videos(tmp_path, monkeypatch, experiment):
    """videos(clips, **rule) -> an experiment about 31 videos of one's own in two classes, all of them for training.

    clips: of each video. Scored as clips and by frames, with `rule` in place of the protocols' rule for clips.
    """
    monkeypatch.chdir(tmp_path)
    for number, video in enumerate(pictures(3, 31, 9)[0]):
        place = Path("mine", "ab"[number // 16], f"{number:02d}")
        place.mkdir(parents=True)
        for frame, image in enumerate(video):
            Image.fromarray(image).save(place / f"{frame}.png")
    own = VideosData(source="videos", image_size=16, train="mine", frames=4, stride=1, offset="first", labelled=True)
    extractor = Classifier(kind="classifier", channels=(4, 5), epochs=1, batch=8, learning_rate=1e-3)

    def made(clips, test=None, **rule):
        names, protocols = {"clips": "ci_clips", "frames": "ci_frames"}, {}
        for name, protocol in names.items():
            plain = protocol_of(protocol)
            changes = {"reference": "train", "samples": 31, "clips": plain.clips.model_copy(update=rule)}
            protocols[name] = plain.model_copy(update=changes)
        score = {name: Score(data="mine", protocol=protocol, extractor=extractor) for name, protocol in names.items()}
        mine = {"mine": own.model_copy(update={"clips_per_video": clips, "test": test})}
        changed = altered(experiment, data=experiment.data | mine, score=score, protocols=protocols)
        data.run(changed, "mine")
        for name in names:
            classifier.run(changed, name)
        return changed

    return made


@pytest.mark.parametrize("clips", [1, 2])
def test_without_a_held_out_split_the_floor_is_half_against_half(videos, clips):
    """Half of the videos against the other half, one clip of each."""
    experiment = videos(clips)
    written = stage.run(experiment, ["floor-clips", "floor-frames"])
    assert written == [paths.floor("mine", "ci_clips"), paths.floor("mine", "ci_frames")]
    train = data.load(experiment, "mine", "train")
    assert train.images.shape == (31 * clips, 4, 16, 16, 3)
    assert len(data.load(experiment, "mine", "test").labels) == 0
    order = torch.randperm(31, generator=generator("floor")).numpy()
    halves = [train.images[clips * np.sort(half)] for half in (order[:15], order[15:])]
    for path, metric, name in zip(written, ("fvd", "fid"), ("clips", "frames"), strict=True):
        values, content = read_score(path)
        items = [half.reshape(-1, 16, 16, 3) for half in halves] if name == "frames" else halves
        assert values[metric] == pytest.approx(frechet(*(outputs(name, half)[0] for half in items)), rel=1e-5)
        assert (content["samples"]["items"], content["reference"]["items"]) == (15, 16)
        assert any(
            remark.startswith("no held-out split: one half of the training split") for remark in content["remarks"]
        )
        assert any(remark.startswith("15 items, where the protocol scores 31") for remark in content["remarks"])
    labels = train.labels[clips * np.sort(order[:15])]
    accuracy = (outputs("clips", halves[0])[2].argmax(1) == labels).mean()
    assert read_score(written[0])[0]["accuracy"] == pytest.approx(accuracy)


def test_the_floor_of_a_held_out_split_takes_one_clip_of_each_video(videos):
    shutil.copytree("mine", "held-out")
    experiment = videos(2, test="held-out")
    _, order, _ = stage.floor_items(Scorer(experiment, "clips"))
    assert sorted(order) == list(range(0, 62, 2))


@pytest.mark.parametrize("choice", ["sorted", "random"])
@pytest.mark.parametrize("wanted", [None, 12])
def test_the_stored_reference_is_what_the_protocol_takes_of_the_videos(videos, choice, wanted):
    """The same videos, one clip of each, as `--against` the folder itself; that they are stored changes nothing."""
    rule = {"stride": 1, "offset": "first", "videos": choice}
    experiment = videos(2, reference=ClipRule(**rule), reference_videos=wanted, seed=5)
    for name in ("clips", "frames"):
        scorer = Scorer(experiment, name)
        [direct] = references_of(Path("mine"), {name: scorer.protocol}, scorer.extractor).values()
        moments, expected = scorer.reference.moments["pool"], direct.moments["pool"]
        assert moments.count == expected.count == (wanted or 31) * (4 if name == "frames" else 1)
        np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-5)
        np.testing.assert_allclose(moments.covariance, expected.covariance, rtol=1e-3, atol=1e-6)
    train = data.load(experiment, "mine", "train")
    taken = np.random.default_rng(5).permutation(31) if choice == "random" else np.arange(31)
    pool = outputs("clips", train.images[2 * taken[: wanted or 31]])[0]
    np.testing.assert_allclose(Scorer(experiment, "clips").reference.moments["pool"].mean, pool.mean(0), rtol=1e-5)


# ---------------------------------------------------------------- clips of others


@pytest.fixture
def published(workspace, write_params):
    """The parameter file that names a folder of clips, here those of a run of ours, as published ones of `ucf`."""
    (workspace / "theirs").mkdir()
    for shard in paths.sample(LATTE, "clips").glob("*.npz"):
        shutil.copy(shard, "theirs")
    return write_params(lambda content: content.update(published={"theirs": {"data": "ucf", "path": "theirs"}}))


def test_published_clips_are_scored_in_every_way_of_their_data_set(published):
    done = CliRunner().invoke(main, ["score", "theirs", "--params", str(published)])
    assert done.exit_code == 0, done.output
    assert done.output.split() == [f"results/score/published/theirs/{name}.json" for name in ("ci_clips", "ci_frames")]
    for name in ("ci_clips", "ci_frames"):
        own, content = read_score(paths.score(LATTE, "clips", name))
        theirs, said = read_score(paths.published_score("theirs", name))
        assert theirs == own
        assert said["values"] == content["values"]
        assert said["samples"] == {"sha256": open_videos(Path("theirs")).digest, "items": 60, "path": "theirs"}
        assert said["reference"] == content["reference"]


def rewritten(images, labels=None):
    for shard in Path("theirs").iterdir():
        shard.unlink()
    np.savez("theirs/0.npz", arr_0=images, **({} if labels is None else {"arr_1": labels}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clips: clips[:59], "theirs holds 59 samples, protocol 'ci_clips' scores 60"),
        (lambda clips: clips[:, :3], "video 0 has 3 frames; a clip of 4 frames at stride 1 needs 4"),
        (lambda clips: clips[:, :, ::2, ::2], "items of 4x8x8x1, the reference's are 4x16x16x1"),
        (lambda clips: clips.repeat(3, axis=-1), "items of 4x16x16x3, the reference's are 4x16x16x1"),
        (lambda clips: clips[:, 0], "score it by a protocol for images"),
    ],
    ids=["few", "short", "small", "colour", "images"],
)
def test_published_clips_of_another_kind_are_refused(published, change, message):
    rewritten(change(np.concatenate([np.load(shard)["arr_0"] for shard in sorted(Path("theirs").iterdir())])))
    done = CliRunner().invoke(main, ["score", "theirs", "--params", str(published)])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not paths.published_score("theirs", "ci_clips").exists()


def test_longer_published_clips_without_labels_are_cut(published):
    """More frames than the protocol takes, and more clips than it scores: the first ones of both."""
    clips = np.concatenate([np.load(shard)["arr_0"] for shard in sorted(Path("theirs").iterdir())])
    longer = np.concatenate([clips, clips[:, ::-1]], axis=1)
    rewritten(np.concatenate([longer, longer[:5]]))
    assert CliRunner().invoke(main, ["score", "theirs", "--params", str(published)]).exit_code == 0
    for name in ("ci_clips", "ci_frames"):
        own, _ = read_score(paths.score(LATTE, "clips", name))
        theirs, said = read_score(paths.published_score("theirs", name))
        assert theirs == {metric: value for metric, value in own.items() if metric != "accuracy"}
        assert said["remarks"][0] == "the first 60 of 65 samples"
        assert any(remark.startswith("labels unknown") for remark in said["remarks"])
