"""Clips of real videos: the frames that the parameters ask for, of all videos or of those that can be used."""

import re

import av
import numpy as np
import pytest
from PIL import Image

from rdm.data.sources import numbering_fault
from rdm.data.videos import open_videos_source, square
from rdm.errors import UsageError
from rdm.params.schema import VideosData


def save_film(path, frames=20, size=(32, 48), noise=False):
    """Frame k of a film is of the grey value 10 k, or of noise, which compresses badly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif" if path.suffix == ".gif" else "mpeg4", rate=8)
        stream.height, stream.width = size
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        for number in range(frames):
            pixels = np.full((*size, 3), 10 * number % 256, np.uint8)
            if noise:
                pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def save_frames(folder, numbers=range(20), size=(32, 48), suffix=".png", grey=False):
    """Frame k is of the grey value 10 k."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pixels = np.full(size if grey else (*size, 3), 10 * number % 256, np.uint8)
        Image.fromarray(pixels).save(folder / f"frame_{number:04d}{suffix}")


def damage(path, frame):
    """Overwrite a part of one frame of an avi: the header still tells the film's length."""
    content = bytearray(path.read_bytes())
    chunks = [match.start() for match in re.finditer(b"00dc", content)]  # the first is in the header
    place = chunks[frame + 1] + 30
    content[place : place + 100] = np.random.default_rng(0).bytes(100)
    path.write_bytes(content)


def open_source(folder, **changes):
    defaults = {"source": "videos", "image_size": 8, "frames": 3, "stride": 2, "offset": "first", "labelled": False}
    return open_videos_source(VideosData(**(defaults | {"train": str(folder)} | changes)))


def shown(split):
    """The numbers of the frames that each clip shows, by their grey value."""
    clips = list(split.pixels)
    assert all(clip.shape == (len(clip), 8, 8, 3) and clip.dtype == np.uint8 for clip in clips)
    assert all(np.ptp(clip.astype(int), axis=(1, 2, 3)).max() <= 6 for clip in clips)
    assert len(clips) == len(split.labels)
    return [np.rint(clip.mean((1, 2, 3)) / 10).astype(int).tolist() for clip in clips]


def refused(call, *messages):
    with pytest.raises(UsageError) as caught:
        call()
    for message in messages:
        assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


# ---- what is right


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mov", "gif"])
def test_class_folders_of_films(tmp_path, suffix):
    """UCF-101's layout."""
    for name in ("b/0", "a/1", "a/0"):
        save_film(tmp_path / f"{name}.{suffix}", frames=5)
    source = open_source(tmp_path, labelled=True)
    assert source.classes == ["a", "b"]
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.train.labels.dtype == np.int64
    assert [len(clip) for clip in source.train.pixels] == [3] * 3
    assert source.channels == 3
    assert source.origin == f"local folder {tmp_path}"
    assert source.licence == "that of the files in the folder"
    assert source.skipped == {}


def test_frame_folders_of_two_levels(tmp_path):
    """SkyTimelapse's layout, whose numbers start anywhere."""
    for name, start in (("x/x_1", 3), ("x/x_2", 0), ("w/w_1", 7)):
        save_frames(tmp_path / name, range(start, start + 6), suffix=".jpg")
    source = open_source(tmp_path)
    assert shown(source.train) == [[7, 9, 11], [3, 5, 7], [0, 2, 4]]
    assert source.classes == []
    assert source.train.labels.tolist() == [0, 0, 0]
    assert open_source(tmp_path, labelled=True).train.labels.tolist() == [0, 1, 1]


def test_frame_folders_of_one_level(tmp_path):
    """Taichi-HD's layout."""
    save_frames(tmp_path / "v1", range(5))
    save_frames(tmp_path / "v2", range(1, 6), grey=True)  # grey becomes RGB
    assert shown(open_source(tmp_path).train) == [[0, 2, 4], [1, 3, 5]]


def test_train_and_test_folders(tmp_path):
    save_film(tmp_path / "one/a/0.mp4")
    save_film(tmp_path / "two/a/0.mp4")
    save_film(tmp_path / "two/a/1.mp4")
    source = open_source(tmp_path / "one", test=str(tmp_path / "two"), labelled=True)
    assert len(source.train.labels) == 1
    assert shown(source.test) == [[0, 2, 4]] * 2
    assert source.origin == f"local folder {tmp_path / 'one'} and {tmp_path / 'two'}"


def test_without_a_test_folder_the_test_split_is_empty(tmp_path):
    save_film(tmp_path / "0.mp4")
    source = open_source(tmp_path)
    assert list(source.test.pixels) == []
    assert source.test.labels.shape == (0,)
    assert source.test.labels.dtype == np.int64


@pytest.fixture
def ucf(tmp_path):
    """UCF-101's layout with an official split: labels in the training list alone, and a name in another case."""
    folder, lists = tmp_path / "UCF-101", tmp_path / "ucfTrainTestlist"
    for number, name in enumerate(("Archery/v_Archery", "HandstandPushups/v_HandstandPushups")):
        for group in (1, 2, 3):
            save_film(folder / f"{name}_g{group:02d}_c01.avi", frames=8 + 2 * number + group)
    lists.mkdir()
    train = ["Archery/v_Archery_g02_c01.avi 1", "HandstandPushups/v_HandStandPushups_g03_c01.avi 37"]
    (lists / "trainlist01.txt").write_text("\r\n".join([*train, "Archery/v_Archery_g03_c01.avi 1", ""]))
    test = ["Archery/v_Archery_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    (lists / "testlist01.txt").write_text("\n".join(test))
    split = {"test": str(folder), "labelled": True, "offset": "random"}
    return folder, lists, split | {f"{s}_list": str(lists / f"{s}list01.txt") for s in ("train", "test")}


def test_the_official_splits_of_ucf101(ucf):
    """A listed video gives the clips that it gives where all are taken."""
    folder, _, split = ucf
    source = open_source(folder, **split)
    assert source.classes == ["Archery", "HandstandPushups"]
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.test.labels.tolist() == [0, 1]
    assert source.origin == f"local folder {folder}"
    everything = shown(open_source(folder, labelled=True, offset="random").train)
    assert shown(source.train) == [everything[1], everything[2], everything[5]]
    assert shown(source.test) == [everything[0], everything[3]]


def test_a_video_in_both_splits_is_refused(ucf):
    """A forgotten list is all that it takes, since UCF-101's splits share a folder."""
    folder, lists, split = ucf
    refused(
        lambda: open_source(folder, **split | {"test_list": None}),
        "3 videos are in the train and the test split, the first",
    )
    (lists / "testlist01.txt").write_text(
        "Archery/v_Archery_g02_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi"
    )
    refused(lambda: open_source(folder, **split), "1 videos are in the .*first Archery.v_Archery_g02_c01.avi")


def test_lists_that_do_not_fit(ucf):
    folder, lists, split = ucf
    next(folder.rglob("*g03_c01.avi")).unlink()
    refused(lambda: open_source(folder, **split), r"trainlist01.txt lists 1 videos that .*UCF-101 has not, the first ")
    (lists / "trainlist01.txt").write_text("Archery/v_Archery_g02_c01.avi 1")
    refused(
        lambda: open_source(folder, **split),
        "folder .*HandstandPushups holds no video that .*trainlist01.txt names; put some there, or remove the folder",
    )
    (lists / "trainlist01.txt").write_text("\n")
    refused(lambda: open_source(folder, **split), "trainlist01.txt lists no videos; check that the list")
    (lists / "trainlist01.txt").unlink()
    refused(lambda: open_source(folder, **split), "trainlist01.txt is not there; name the list of the videos in")
    with pytest.raises(ValueError, match="test_list would change nothing without test"):
        open_source(folder, test_list="x")


def test_videos_of_different_and_odd_sizes(tmp_path):
    for number, size in enumerate([(27, 35), (64, 32), (6, 4), (8, 8)]):  # larger and smaller than the clips
        save_film(tmp_path / f"{number}.mp4", size=size)
    assert shown(open_source(tmp_path).train) == [[0, 2, 4]] * 4
    for number, size in enumerate([(27, 35), (6, 4), (1, 5)]):
        save_frames(tmp_path / "frames" / f"{number}", size=size)
    assert shown(open_source(tmp_path / "frames").train) == [[0, 2, 4]] * 3


def test_square_takes_the_centre_and_then_resizes():
    stripes = np.zeros((30, 90, 3), np.uint8)
    stripes[:, 30:60] = (200, 100, 50)
    for frame in (stripes, stripes.transpose(1, 0, 2)):
        for size in (10, 60):
            assert (square(frame, size) == (200, 100, 50)).all()
            assert square(frame, size).shape == (size, size, 3)
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    small = np.asarray(Image.fromarray(ramp[..., 0]).resize((2, 2), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(square(ramp, 2), np.repeat(small[..., None], 3, axis=2))


# ---- which frames


def test_first_takes_consecutive_windows(tmp_path):
    save_film(tmp_path / "films/0.mp4", frames=15)
    save_frames(tmp_path / "frames/0", range(15))
    for folder in ("films", "frames"):
        train = open_source(tmp_path / folder, clips_per_video=3).train
        assert shown(train) == [[0, 2, 4], [5, 7, 9], [10, 12, 14]]


def test_random_windows_are_drawn_from_seed_video_and_clip(tmp_path):
    for number in range(4):
        save_frames(tmp_path / f"{number}", range(20))

    def windows(seed):
        return shown(open_source(tmp_path, offset="random", clips_per_video=3, seed=seed).train)

    starts = [
        int(np.random.default_rng([5, video, clip]).integers(20 - 5 + 1)) for video in range(4) for clip in range(3)
    ]
    assert windows(5) == [[start, start + 2, start + 4] for start in starts]
    assert windows(5) == windows(5) != windows(6)
    assert len({tuple(window) for window in windows(5)}) > 4


def test_random_windows_reach_both_ends(tmp_path):
    save_frames(tmp_path / "0", range(7))
    train = open_source(tmp_path, offset="random", clips_per_video=40).train
    assert {window[0] for window in shown(train)} == {0, 1, 2}


def test_a_skipped_video_changes_no_other(tmp_path):
    for number in range(4):
        save_film(tmp_path / f"{number}.mp4", frames=20)
    whole = shown(open_source(tmp_path, offset="random", clips_per_video=2).train)
    (tmp_path / "1.mp4").write_bytes(b"no video")
    source = open_source(tmp_path, offset="random", clips_per_video=2, unusable="skip")
    assert shown(source.train) == whole[:2] + whole[4:]
    assert list(source.skipped) == ["train/1.mp4"]


def test_a_film_is_decoded_no_further_than_needed(tmp_path):
    """What is damaged behind the last frame that is needed does no harm."""
    save_film(tmp_path / "0.avi", frames=40, noise=True)
    damage(tmp_path / "0.avi", 17)
    assert len(list(open_source(tmp_path, clips_per_video=3).train.pixels)) == 3
    refused(lambda: list(open_source(tmp_path, clips_per_video=8).train.pixels), "0.avi cannot be read as a video")


# ---- what is wrong


def short_film(folder):
    save_film(folder / "c1/bad.avi", frames=4)
    return "c1/bad.avi", "has 4 frames, but a clip of 3 frames at stride 2 needs 5"


def no_film(folder):
    (folder / "c1/bad.avi").write_bytes(b"no video" * 99)
    return "c1/bad.avi", "cannot be read as a video"


def empty_film(folder):
    (folder / "c1/bad.avi").write_bytes(b"")
    return "c1/bad.avi", "cannot be read as a video"


def damaged_film(folder):
    save_film(folder / "c1/bad.avi", frames=5, noise=True)
    damage(folder / "c1/bad.avi", 2)
    return "c1/bad.avi", "cannot be read as a video"


def film_that_ends_early(folder):
    save_film(folder / "c1/bad.avi", frames=5, noise=True)
    content = (folder / "c1/bad.avi").read_bytes()
    (folder / "c1/bad.avi").write_bytes(content[: content.rindex(b"00dc", 0, content.rindex(b"idx1"))])
    return "c1/bad.avi", "ends after 4 frames, before frame 4"


def few_frames(folder):
    save_frames(folder / "c1/bad", range(4))
    return "c1/bad", "has 4 frames, but a clip of 3 frames at stride 2 needs 5"


def one_frame(folder):
    save_frames(folder / "c1/bad", range(1))
    return "c1/bad", "has 1 frames, but a clip"


def frames_with_a_gap(folder):
    save_frames(folder / "c1/bad", [8, 9, 10, 12, 13, 14, 16, 17])
    return "c1/bad", "has no frame 11, but some before and after"


def no_frames(folder):
    (folder / "c1/bad").mkdir()
    (folder / "c1/bad/notes.txt").write_text("to come")
    return "c1/bad", "holds no frames"


def damaged_frame(folder):
    save_frames(folder / "c1/bad")
    (folder / "c1/bad/frame_0002.png").write_bytes(b"no image")
    return "c1/bad", r"frame_0002.png cannot be read as an image \(cannot identify image file\)"


def frames_of_two_sizes(folder):
    save_frames(folder / "c1/bad")
    save_frames(folder / "c1/bad", [2], size=(10, 10))
    return "c1/bad", "frame_0002.png is 10x10x3 .* but .*frame_0000.png is 32x48x3"


FILMS = [short_film, no_film, empty_film, damaged_film, film_that_ends_early]
FRAMES = [few_frames, one_frame, frames_with_a_gap, no_frames, damaged_frame, frames_of_two_sizes]
LATE = [damaged_film, film_that_ends_early, damaged_frame, frames_of_two_sizes]  # seen only when clips are read


@pytest.fixture(params=[*FILMS, *FRAMES], ids=lambda make: make.__name__)
def bad(request, tmp_path):
    """A set of two classes, of which the first has one unusable video: its folder, that video and what is wrong."""
    for name in ("c1/good", "c2/good"):
        if request.param in FILMS:
            save_film(tmp_path / f"{name}.avi")
        else:
            save_frames(tmp_path / name)
    return (tmp_path, *request.param(tmp_path), request.param in LATE)


def test_refuse_names_what_is_unusable(bad):
    folder, name, message, late = bad
    expected = (f"^{folder}/{name}", message, r", or leave it out by `unusable: skip`\.$")
    if late:
        source = open_source(folder)
        refused(lambda: list(source.train.pixels), *expected)
    else:
        refused(lambda: open_source(folder), *expected)


def test_skip_leaves_it_out_and_says_why(bad):
    folder, name, message, _ = bad
    source = open_source(folder, unusable="skip", labelled=True)
    assert list(source.skipped) == [f"train/{name}"]
    (why,) = source.skipped.values()
    assert why.startswith(name)
    assert re.search(message, why)
    assert str(folder) not in why
    assert source.train.labels.tolist() == [0, 1]
    assert shown(source.train) == [[0, 2, 4]] * 2


def test_a_class_without_usable_videos_is_an_error(bad):
    folder = bad[0]
    good = next(folder.glob("c1/good*"))
    good.rename(folder / "c2" / f"more{good.suffix}")
    refused(
        lambda: open_source(folder, unusable="skip", labelled=True),
        "class folder .*/c1 holds no (usable )?video; put some there",
    )
    assert len(open_source(folder, unusable="skip").train.labels) == 2  # no classes, none missing


def test_refuse_counts_what_is_known_to_be_unusable(tmp_path):
    for name, frames in (("a", 20), ("b", 4), ("c", 20), ("d", 3)):
        save_film(tmp_path / f"{name}.mp4", frames=frames)
    refused(lambda: open_source(tmp_path), "/b.mp4 has 4 frames", "leave 2 of 4 videos out by `unusable: skip`")


def test_skipped_files_of_both_splits_are_kept_apart(tmp_path):
    for folder in ("one", "two"):
        save_film(tmp_path / folder / "0.mp4", frames=4)
        save_film(tmp_path / folder / "1.mp4")
    source = open_source(tmp_path / "one", test=str(tmp_path / "two"), unusable="skip")
    assert list(source.skipped) == ["train/0.mp4", "test/0.mp4"]
    assert len(source.train.labels) == len(source.test.labels) == 1


def test_clips_one_after_another_need_room(tmp_path):
    save_film(tmp_path / "0.mp4", frames=14)
    message = "has 14 frames, but 3 clips of 3 frames at stride 2 need 15"
    refused(lambda: open_source(tmp_path, clips_per_video=3), message)
    assert len(open_source(tmp_path, clips_per_video=3, offset="random").train.labels) == 3


@pytest.mark.parametrize("unusable", ["refuse", "skip"])
def test_a_class_folder_without_videos_is_an_error(tmp_path, unusable):
    save_film(tmp_path / "a/0.mp4")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/notes.txt").write_text("to come")
    refused(lambda: open_source(tmp_path, unusable=unusable, labelled=True), "class folder .*/b holds no video; put")
    assert len(open_source(tmp_path).train.labels) == 1


def test_classes_must_be_the_same_in_both_splits(tmp_path):
    for name in ("one/a", "one/b", "two/a", "two/c"):
        save_film(tmp_path / name / "0.mp4")
    both = {"test": str(tmp_path / "two")}
    refused(
        lambda: open_source(tmp_path / "one", labelled=True, **both), "one and .*two must have .* has b, c; make them"
    )
    assert len(open_source(tmp_path / "one", **both).test.labels) == 2


@pytest.mark.parametrize("save", [lambda path: save_film(path.with_suffix(".mp4")), save_frames])
def test_labels_need_class_folders(tmp_path, save):
    save(tmp_path / "a/0")
    save(tmp_path / "1")
    refused(lambda: open_source(tmp_path, labelled=True), r"/1(.mp4)? is in no class folder; .*`labelled: false`")


def test_a_set_without_any_usable_video(tmp_path):
    save_film(tmp_path / "0.mp4", frames=3)
    save_film(tmp_path / "1.mp4", frames=2)
    refused(
        lambda: open_source(tmp_path, unusable="skip"),
        "none of the 2 videos in .* can be used, the first since 0.mp4 has 3 frames, but",
    )


def test_folders_that_hold_no_set(tmp_path):
    refused(lambda: open_source(tmp_path / "none"), "none is not a folder; name the one that holds the videos")
    refused(lambda: open_source(tmp_path), r"holds none of videos \(.mp4, .*images \(.png, ")
    save_film(tmp_path / "0.mp4")
    save_frames(tmp_path / "1")
    refused(lambda: open_source(tmp_path), r"holds videos .*such as 0.mp4, and images .*such as 1/frame_0000.png, ")
    save_frames(tmp_path / "set")
    save_frames(tmp_path / "set/a")
    refused(lambda: open_source(tmp_path / "set"), "holds frame_0000.png, which is in no video's folder")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["f_1.png", "f_2.png", "f_4.png"], "has no frame 3, but some before and after"),
        (["f_0009.png", "f_0010.png", "f_0011.png"], None),  # from anywhere
        (["9.jpg", "11.jpg", "10.jpg"], None),  # in any order
        (["1.png", "2.jpg", "4.png", "9.png"], "has no frame 3, but some before and after"),
        (["0.png", "3.png", "6.png"], None),  # every third was kept
        (["0.png", "3.png", "9.png"], "has no frame 6, but some before and after"),
        (["a_1.png", "b_3.png"], None),  # not the same before the number
        (["1.png", "2.png", "cover.png"], "holds cover.png, which has no number, among numbered frames"),
        (["0.png", "0.jpg", "1.png"], "holds frame 0 twice"),
        (["1a.png", "3a.png"], None),
        (["v2_x7.png", "v2_x8.png", "v2_x10.png"], "has no frame 9, but some before and after"),
        (["7.png"], None),
    ],
)
def test_numbering(names, fault):
    assert numbering_fault([f"folder/{name}" for name in names]) == fault
