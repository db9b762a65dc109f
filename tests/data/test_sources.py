"""Data sets: what comes in is what is stored, and what is wrong is named."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from rdm.data import fashion
from rdm.data.digits import open_digits
from rdm.data.fashion import open_fashion
from rdm.data.folder import open_folder
from rdm.data.images import centre_crop
from rdm.errors import RdmError
from rdm.params.schema import DigitsData, FashionData, FolderData


def test_digits_are_all_there_once():
    source = open_digits(DigitsData(source="digits", image_size=8, test_fraction=0.2))
    images = np.array([*source.train.pixels, *source.test.pixels])[..., 0]
    expected = np.rint(load_digits().images * 255 / 16)
    assert images.shape == (1797, 8, 8)
    assert sorted(image.tobytes() for image in images) == sorted(e.astype(np.uint8).tobytes() for e in expected)
    assert len(source.test.labels) == 360
    train, test = (np.bincount(split.labels) / len(split.labels) for split in (source.train, source.test))
    np.testing.assert_allclose(train, test, atol=0.002)
    assert (np.diff(source.test.labels) < 0).sum() > 100  # not sorted by class


def test_the_split_is_a_function_of_its_seed():
    labels = [
        open_digits(DigitsData(source="digits", image_size=8, test_fraction=0.2, split_seed=seed)).test.labels
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_split_without_one_of_each_digit_is_refused(fraction):
    with pytest.raises(RdmError, match=f"test_fraction: {fraction} of 1797 digits leaves a split without one of each"):
        open_digits(DigitsData(source="digits", image_size=8, test_fraction=fraction))


@pytest.fixture
def idx_files(tmp_path, monkeypatch):
    """Six images in Fashion-MNIST's four files, and their hashes in place of the real ones."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 4), ("t10k", 2)):
        arrays[f"{split}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = random.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(content).hexdigest())
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return tmp_path, arrays


def test_fashion_reads_idx_and_pads(idx_files):
    folder, arrays = idx_files
    source = open_fashion(FashionData(source="fashion", image_size=32, folder=str(folder)))
    images = np.array(list(source.train.pixels))
    assert images.shape == (4, 32, 32, 1)
    assert np.array_equal(images[:, 2:30, 2:30, 0], arrays["train-images-idx3-ubyte"])
    assert images.sum() == arrays["train-images-idx3-ubyte"].sum(dtype=np.int64)
    assert source.test.labels.tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()


def test_fashion_refuses_what_is_damaged_or_missing(idx_files):
    folder, _ = idx_files
    parameters = FashionData(source="fashion", image_size=32, folder=str(folder))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(RdmError, match="t10k-labels-idx1-ubyte.gz cannot be read"):
        open_fashion(parameters)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1] + b"\xff"))
    with pytest.raises(RdmError, match="sha256 differs"):
        open_fashion(parameters)
    path.unlink()
    with pytest.raises(RdmError, match="does not hold t10k-labels-idx1-ubyte.gz"):
        open_fashion(parameters)


@pytest.fixture
def photographs(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for name in ("n01", "n02"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 256, (40, 70, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.JPEG")
    (tmp_path / "train" / "n01" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder_reads_imagenets_layout(photographs):
    source = open_folder(FolderData(source="folder", image_size=16, folder=str(photographs)))
    assert np.array(list(source.train.pixels)).shape == (4, 16, 16, 3)
    assert source.train.labels.tolist() == [0, 0, 1, 1]
    assert source.classes == ["n01", "n02"]
    assert source.skipped == {"train/n01/notes.txt": "not an image suffix"}


def test_folder_names_what_is_wrong(photographs):
    parameters = FolderData(source="folder", image_size=16, folder=str(photographs))
    broken = photographs / "train" / "n02" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(RdmError, match=r"n02/1.JPEG cannot be read"):
        list(open_folder(parameters).train.pixels)
    (photographs / "val" / "n02").rename(photographs / "val" / "n03")
    with pytest.raises(RdmError, match="different class folders"):
        open_folder(parameters)
    with pytest.raises(RdmError, match="holds no class folders"):
        open_folder(parameters.model_copy(update={"folder": str(photographs / "nowhere")}))


def test_centre_crop_takes_the_centre():
    """A wide image of three vertical stripes: only the middle one survives, at any of the halvings."""
    stripes = np.zeros((64, 192, 3), np.uint8)
    stripes[:, 64:128] = 200
    for size in (64, 16):
        cropped = centre_crop(Image.fromarray(stripes), size)
        assert cropped.shape == (size, size, 3)
        assert (cropped[:, 2:-2] == 200).all()
