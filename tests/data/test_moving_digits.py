"""Clips of moving digits: a function of (seed, index), of whole digits, on courses that are the same every time."""

import json

import numpy as np
import pytest

from rdm import paths
from rdm.data import stage
from rdm.data.digits import read_digits
from rdm.data.moving_digits import DIRECTIONS, course, open_moving_digits
from rdm.params.schema import MovingDigitsData
from tests.conftest import altered

TINY = MovingDigitsData(
    source="moving_digits",
    image_size=16,
    frames=4,
    clips=9000,
    test_clips=50,
    speeds=("slow", "fast"),
    cell=2,
    test_fraction=0.2,
)
LARGE = TINY.model_copy(update={"image_size": 32, "frames": 16, "clips": 300, "cell": 4})
TRAIN = 1437  # of scikit-learn's 1,797 digits


def changed(parameters=TINY, **changes):
    return parameters.model_copy(update=changes)


def digits_of(split):
    """Its 8x8 digits as bytes, and their labels."""
    chosen = read_digits(8, 0.2, 0)[("train", "test").index(split)]
    return [image.tobytes() for image in chosen.pixels], chosen.labels


def positions(clips, digits):
    """Where each clip's digit (8, 8, 1) lies in every frame, found by looking for it: (N, T, 2) as (y, x)."""
    found = np.full((*clips.shape[:2], 2), -1)
    for y in range(9):
        for x in range(9):
            here = (clips[:, :, y : y + 8, x : x + 8] == digits[:, None]).all((2, 3, 4))
            alone = clips[:, :, y : y + 8, x : x + 8].sum((2, 3, 4)) == clips.sum((2, 3, 4))
            found[here & alone] = y, x
    return found


@pytest.fixture(scope="module")
def tiny():
    """Clips, digits' numbers among the 10 classes, motions, and the 8x8 image that each clip should show."""
    clips, labels, motions = open_moving_digits(TINY, "train")
    return clips, labels, motions


# ---------------------------------------------------------------- courses


@pytest.mark.parametrize(
    ("direction", "speed", "expected"),
    [  # 24 pixels in cells of 3, at 0, 1/6, 1/3 and 1/2 of the way: 24 d^1.5 = 0, 1.63, 4.62, 8.49 down
        ("right", "slow", [(0, 0), (3, 3), (6, 9), (9, 12)]),
        ("left", "slow", [(0, 24), (3, 21), (6, 15), (9, 12)]),
        # three times as far: on the ground and at the border in the third frame, half way up and back in the fourth
        ("right", "fast", [(0, 0), (9, 12), (24, 24), (12, 12)]),
        ("left", "fast", [(0, 24), (9, 12), (24, 0), (12, 12)]),
    ],
)
def test_a_course_by_hand(direction, speed, expected):
    assert course(direction, speed, frames=4, reach=24, cell=3).tolist() == [list(place) for place in expected]


def test_the_bounce_is_a_parabola_to_half_the_height():
    """8 pixels high: 8 d^1.5 down to the ground at d = 1; at 5/4 three quarters of the way up to 4, which is at 3/2."""
    places = [[0, 0], [1, 2], [3, 4], [5, 6], [8, 8], [5, 6], [4, 4]]
    assert course("right", "fast", frames=7, reach=8, cell=1).tolist() == places


@pytest.mark.parametrize(("frames", "reach", "cell"), [(4, 8, 2), (16, 16, 4), (16, 16, 1)])
def test_courses_are_on_the_grid_and_not_symmetric_in_time(frames, reach, cell):
    courses = [course(direction, speed, frames, reach, cell) for speed in ("slow", "fast") for direction in DIRECTIONS]
    assert len({one.tobytes() for one in courses}) == 4
    for one in courses:
        assert not (one % cell).any()
        assert one.min() == 0
        assert one.max() <= reach
        assert all(not np.array_equal(one[::-1], other) for other in courses)
        assert not np.array_equal(one, np.broadcast_to(one[0], one.shape))


# ---------------------------------------------------------------- clips


def test_a_clip_depends_on_seed_and_index_alone(tiny):
    clips = tiny[0]
    assert clips.shape == (9000, 4, 16, 16, 1)
    assert len(clips) == 9000
    chosen = np.array([8999, 5, 5, 40])
    fancy = clips[chosen]
    assert fancy.dtype == np.uint8
    for index, clip in zip(chosen, fancy, strict=True):
        assert np.array_equal(clip, clips[index : index + 1][0])
    assert np.array_equal(clips[38:42][2], fancy[3])
    fewer, labels, motions = open_moving_digits(changed(clips=100), "train")
    assert np.array_equal(fewer[:], clips[:100])
    assert np.array_equal(labels, tiny[1][:100])
    assert np.array_equal(motions, tiny[2][:100])
    other, other_labels, _ = open_moving_digits(changed(seed=1), "train")
    assert not np.array_equal(other[:20], clips[:20])
    assert not np.array_equal(other_labels, tiny[1])


def test_every_combination_comes_once_before_one_repeats(tiny):
    """1,437 digits in four motions are 5,748 clips."""
    clips = [clip.tobytes() for clip in tiny[0][:]]
    combinations = 4 * TRAIN
    assert len(set(clips[:combinations])) == combinations
    second = clips[combinations:]
    assert len(set(second)) == len(second)
    assert set(second) < set(clips[:combinations])
    assert second[:100] != clips[:100]
    assert (np.bincount(tiny[2][:combinations]) == TRAIN).all()
    assert np.array_equal(np.bincount(tiny[1][:combinations]), 4 * np.bincount(digits_of("train")[1]))


def test_a_set_of_some_digits(tiny):
    """Has every combination of these with a motion once, as the whole set has them, and none of others."""
    some, labels, _ = open_moving_digits(changed(digits=(7, 1), clips=len(tiny[1])), "train")
    wanted = {clip.tobytes() for clip in tiny[0][:][np.isin(tiny[1], (1, 7))]}
    assert set(labels.tolist()) == {1, 7}
    assert wanted <= {clip.tobytes() for clip in some[:]}


def test_labels_and_motions_are_those_that_are_seen():
    """The digit is known by its pixels, the direction by where it starts, the speed by how far it goes."""
    for split, count in (("train", 400), ("test", 50)):
        images, own = digits_of(split)
        clips, labels, motions = open_moving_digits(TINY, split)
        seen = clips[:count]
        starts = [(seen[i, 0, :8, :8], seen[i, 0, :8, 8:]) for i in range(count)]
        sides = np.array([right.any() for _, right in starts]) * 1
        digits = np.stack([pair[side] for pair, side in zip(starts, sides, strict=True)])
        assert [own[images.index(digit.tobytes())] for digit in digits] == labels[:count].tolist()
        assert np.array_equal(sides, motions[:count] % 2)  # right starts at the left border, left at the right one
        x = positions(seen, digits)[:, :, 1]
        assert (x >= 0).all()
        crossed = np.abs(x - x[:, :1]).max(1)  # a fast digit reaches the other border, a slow one the middle
        assert crossed.tolist() == [(4, 8)[speed] for speed in motions[:count] // 2]
        assert set(motions) == {0, 1, 2, 3}


@pytest.mark.parametrize("parameters", [TINY, LARGE, changed(LARGE, cell=1, speeds=("fast",))])
def test_the_digit_is_whole_in_every_frame_and_on_the_grid(parameters):
    clips = open_moving_digits(parameters, "train")[0][:200].astype(int)
    sums = clips.sum((2, 3, 4))
    assert (sums == sums[:, :1]).all()
    squares = np.square(clips).sum((2, 3, 4))
    assert (squares == squares[:, :1]).all()
    half = parameters.image_size // 2
    for clip in clips[:, :, :, :, 0]:
        side = int(clip[0, :, half:].any() and not clip[0, :, :half].any())
        digit = clip[0, :half, side * half : side * half + half]
        ys, xs = (np.flatnonzero(digit.any(axis)) for axis in (1, 0))
        for frame in clip:
            y, x = (np.flatnonzero(frame.any(axis))[0] - own[0] for axis, own in ((1, ys), (0, xs)))
            assert y % parameters.cell == x % parameters.cell == 0
            assert np.array_equal(frame[y : y + half, x : x + half], digit)


def test_train_and_test_share_no_digit():
    train, test = (set(digits_of(split)[0]) for split in ("train", "test"))
    shown = {}
    for split in ("train", "test"):
        clips = open_moving_digits(changed(clips=400, test_clips=400), split)[0][:]
        side = clips[:, 0, :8, 8:].any((1, 2, 3))
        digits = np.where(side[:, None, None, None], clips[:, 0, :8, 8:], clips[:, 0, :8, :8])
        shown[split] = {digit.tobytes() for digit in digits}
    assert shown["train"] <= train
    assert shown["test"] <= test
    assert not train & test


# ---------------------------------------------------------------- the stage


@pytest.fixture
def stored(tmp_path, monkeypatch, experiment):
    """stored(name, **changes) -> the ci experiment with that data set changed, which it stored below a new folder."""
    monkeypatch.chdir(tmp_path)

    def run(name="ucf", overwrite=False, **changes):
        data = experiment.data | {name: experiment.data[name].model_copy(update=changes)}
        changed_experiment = altered(experiment, data=data)
        stage.run(changed_experiment, name, overwrite)
        return changed_experiment

    return run


def test_nothing_is_stored_but_what_the_clips_are(stored):
    experiment = stored()
    folder = paths.data("ucf")
    assert sorted(path.name for path in folder.iterdir()) == ["clips.json", "manifest.json"]
    first = json.loads((folder / "clips.json").read_text())
    assert {split: said["clips"] for split, said in first.items()} == {"train": 60, "test": 60}
    for split in ("train", "test"):
        dataset = stage.load(experiment, "ucf", split)
        clips, digits, motions = open_moving_digits(experiment.data["ucf"], split)
        assert np.array_equal(dataset.images[:], clips[:])
        assert np.array_equal(dataset.labels, digits)
        assert all(np.array_equal(a, b) for a, b in zip(dataset.kinds, (digits, motions), strict=True))
        assert dataset.classes == [str(digit) for digit in range(10)]
    stored(overwrite=True)
    assert json.loads((folder / "clips.json").read_text()) == first
    stored(overwrite=True, seed=1)
    other = json.loads((folder / "clips.json").read_text())
    assert all(other[split]["sha256"] != first[split]["sha256"] for split in ("train", "test"))
    stored(overwrite=True, frames=5)
    assert json.loads((folder / "clips.json").read_text())["train"]["sha256"] != first["train"]["sha256"]


def test_an_unlabelled_set_has_no_classes(stored):
    """But a classifier still learns what the clips show."""
    experiment = stored("sky")
    dataset = stage.load(experiment, "sky", "test")
    assert not dataset.labels.any()
    assert len(dataset.labels) == 60
    assert dataset.classes == []
    _, digits, motions = open_moving_digits(experiment.data["sky"], "test")
    assert np.array_equal(dataset.kinds[0], digits)
    assert np.array_equal(dataset.kinds[1], motions)
    assert set(motions) == {0, 1}  # slow ones alone


def test_frames_are_clips_reshaped(tiny):
    clips = tiny[0][:50]
    flat = clips.reshape(-1, 16, 16, 1)
    for source in (clips, open_moving_digits(changed(clips=50), "train")[0]):
        frames = stage.Frames(source)
        assert frames.shape == flat.shape
        assert len(frames) == 200
        for index in (slice(None), slice(3, 30), slice(150, 999), np.array([7, 199, 6, 7, 0]), np.arange(0)):
            assert np.array_equal(frames[index], flat[index])
        assert stage.as_images(source).shape == flat.shape
    assert stage.as_images(flat) is flat
