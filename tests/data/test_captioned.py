"""Captions: of digits a function of the seed, of COCO and JourneyDB what their files say."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from rdm import params
from rdm.data import stage as data
from rdm.data.captioned import open_captioned
from rdm.data.digits import TEMPLATES, WORDS, open_digits
from rdm.data.images import centre_crop
from rdm.errors import RdmError
from rdm.params.captions import CocoData, JourneyDBData
from rdm.params.schema import DigitsData

NAMES = ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000000002.jpg", "COCO_val2014_000000000005.jpg"]


def digits(**changes):
    return open_digits(DigitsData(source="digits", image_size=8, test_fraction=0.2, **changes))


def test_a_digit_s_caption_names_it():
    source = digits()
    for split in (source.train, source.test):
        for label, [caption] in zip(split.labels, split.captions, strict=True):
            assert [word for word in WORDS if word in caption.split()] == [WORDS[label]]
    used = {caption.replace(WORDS[label], "{}") for label, [caption] in zip(split.labels, split.captions, strict=True)}
    assert used == set(TEMPLATES)


def test_a_digit_s_caption_is_a_function_of_seed_and_number():
    """In whichever split it is: the image tells its number."""

    def by_image(source):
        pairs = [(s.pixels, s.captions) for s in (source.train, source.test)]
        return {p.tobytes(): c for pixels, captions in pairs for p, c in zip(pixels, captions, strict=True)}

    first, again, cut_elsewhere, other = (
        by_image(digits()),
        by_image(digits()),
        by_image(open_digits(DigitsData(source="digits", image_size=8, test_fraction=0.5))),
        by_image(digits(split_seed=1)),
    )
    assert len(first) == len(np.unique(load_digits().images.reshape(1797, -1), axis=0))
    assert first == again == cut_elsewhere
    assert 0.6 < np.mean([first[image] != other[image] for image in first]) < 0.9  # three of four


# ---------------------------------------------------------------- COCO


def photograph(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(file)


@pytest.fixture
def coco(tmp_path):
    """COCO 2014 in small: three images a split, of which one has six captions; annotations in no order."""
    for part in ("train2014", "val2014"):
        images = [{"id": int(name[-6:-4]), "file_name": name.replace("val2014", part)} for name in NAMES]
        annotations = [
            {"id": 100 - 10 * number - k, "image_id": image["id"], "caption": f" {part} {image['id']}\n no {k} "}
            for number, image in enumerate(images)
            for k in range(6 if number == 0 else 5)
        ]
        for image in images:
            photograph(tmp_path / part / image["file_name"], 10 * image["id"])
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        (tmp_path / "annotations" / f"captions_{part}.json").write_text(json.dumps(content))
    return tmp_path


def read_coco(folder):
    return open_captioned(CocoData(source="coco", image_size=16, folder=str(folder), year=2014))


def test_coco_has_images_by_id_and_five_captions_each(coco):
    source = read_coco(coco)
    for split, part in ((source.train, "train2014"), (source.test, "val2014")):
        pixels = list(split.pixels)
        assert [int(image.mean().round(-1)) for image in pixels] == [20, 50, 70]
        assert {image.shape for image in pixels} == {(16, 16, 3)}
        assert split.labels.tolist() == [0, 0, 0]
        assert split.captions[0] == [f"{part} 2 no {k}" for k in (4, 3, 2, 1, 0)]  # by the captions' ids
        assert split.captions[2] == [f"{part} 7 no {k}" for k in (5, 4, 3, 2, 1)]  # the first five of six
    assert source.classes == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: shutil.rmtree(f / "annotations"), "captions_train2014.json is not there; `rdm datasets fetch`"),
        (lambda f: (f / "val2014" / NAMES[1]).unlink(), "000000000002.jpg is not there, and the annotations name it"),
        (lambda f: (f / "annotations" / "captions_val2014.json").write_text("{"), "captions_val2014.json is damaged"),
        (lambda f: (f / "annotations" / "captions_val2014.json").write_text("{}"), "no file of COCO captions"),
        (lambda f: fewer(f / "annotations" / "captions_train2014.json"), "image 5 has 4 captions, not 5"),
    ],
    ids=["no annotations", "no image", "damaged", "another file", "a caption too few"],
)
def test_coco_that_is_not_whole_is_refused(coco, change, message):
    change(coco)
    with pytest.raises(RdmError, match=message):
        read_coco(coco)


def fewer(file):
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("stored", [True, False])
def test_coco_as_a_data_set_has_pixels_and_captions_stored_or_not(stored, coco, write_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = {"source": "coco", "year": 2014, "folder": str(coco), "image_size": 8, "stored": stored}
    experiment = params.load(write_params(lambda content: content["data"].update(coco=entry)))
    folder = data.run(experiment, "coco")
    assert (folder / "test_images.npy").exists() == stored
    found, source = data.load(experiment, "coco", "test"), open_captioned(experiment.data["coco"])
    assert np.array_equal(found.images[:], np.stack(list(source.test.pixels)))
    assert data.load_captions(experiment, "coco", "test") == source.test.captions


def test_a_damaged_photograph_is_named(coco):
    (coco / "val2014" / NAMES[0]).write_bytes(b"no")
    with pytest.raises(RdmError, match=f"{NAMES[0]} cannot be read as an image"):
        list(read_coco(coco).test.pixels)


# ---------------------------------------------------------------- JourneyDB


@pytest.fixture
def journeydb(tmp_path):
    """JourneyDB in small: of the second image of a split there is no caption."""
    for part, name in (("train", "train_anno_realease_repath"), ("valid", "valid_anno_repath")):
        lines = []
        for number in range(3):
            photograph(tmp_path / part / "imgs" / f"00{number}" / f"{part}{number}.jpg", 50 * number)
            answers = {} if number == 1 else {"Caption": f"{part} caption {number}"}
            image = {"img_path": f"./00{number}/{part}{number}.jpg", "prompt": f"{part}  prompt {number} --v 4"}
            lines.append(json.dumps(image | {"Task1": {}, "Task2": answers}))
        (tmp_path / part / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def read_journeydb(folder, text="prompt"):
    return open_captioned(JourneyDBData(source="journeydb", image_size=16, folder=str(folder), text=text))


def test_journeydb_has_prompts_or_captions(journeydb):
    source = read_journeydb(journeydb)
    assert source.test.captions == [[f"valid prompt {number} --v 4"] for number in range(3)]
    assert [int(image.mean().round(-1)) for image in source.train.pixels] == [0, 50, 100]
    with Image.open(journeydb / "valid" / "imgs" / "001" / "valid1.jpg") as image:
        assert np.array_equal(list(source.test.pixels)[1], centre_crop(image, 16))
    described = read_journeydb(journeydb, "caption")
    assert described.train.captions == [["train caption 0"], ["train caption 2"]]
    assert described.skipped == {f"{p}/imgs/001/{p}1.jpg": "it has no caption" for p in ("train", "valid")}


def test_journeydb_that_is_not_whole_is_refused(journeydb):
    annotations = journeydb / "valid" / "valid_anno_repath.jsonl"
    whole = annotations.read_text()
    annotations.write_text(whole[:-20])
    with pytest.raises(RdmError, match="valid_anno_repath.jsonl: line 3 is damaged"):
        read_journeydb(journeydb)
    annotations.write_text("")
    with pytest.raises(RdmError, match="names no image with a prompt"):
        read_journeydb(journeydb)
    annotations.unlink()
    with pytest.raises(RdmError, match="valid_anno_repath.jsonl is not there"):
        read_journeydb(journeydb)
