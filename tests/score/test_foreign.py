"""Statistics files of other evaluators: what they hold, what is refused, and that nothing in them runs."""

import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from rdm.errors import UsageError
from rdm.score.foreign import check_layout, read_statistics
from rdm.score.unpickle import Unpickler

FEATURES = np.random.default_rng(0).gamma(2.0, size=(50, 6)).astype(np.float32)
MU, SIGMA = FEATURES.mean(0), np.cov(FEATURES, rowvar=False)
MU64 = FEATURES.mean(0, dtype=np.float64)
EXACT = FEATURES.astype(np.float64)
SUMS = {
    "capture_all": False,
    "num_items": len(FEATURES),
    "all_features": None,
    "raw_mean": EXACT.sum(0),
    "raw_cov": EXACT.T @ EXACT,
}
EDM2 = {
    "num_images": 50,
    "fid": {"mu": MU64, "sigma": SIGMA},
    "fd_dinov2": {"mu": np.zeros(3), "sigma": np.eye(3)},
}


def write(path, content):
    """A file of the kind that the suffix says."""
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".pt":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("suffix", "content", "format", "count", "note"),
    [
        (".npz", {"mu": MU64, "sigma": SIGMA}, "npz", None, ""),
        (".npz", {"mu": MU, "sigma": SIGMA}, "npz", None, "mean in float32"),
        (".pkl", EDM2, "EDM2 pickle", 50, ""),
        (".pickle", SUMS, "StyleGAN pickle", 50, "covariance multiplied by 50/49"),
        (".pt", {"mu": MU, "sigma": SIGMA}, "torch-fidelity cache", None, "mean in float32"),
    ],
    ids=["pytorch-fid", "clean-fid", "edm2", "stylegan", "torch-fidelity"],
)
def test_every_format_gives_the_same_moments(tmp_path, suffix, content, format, count, note):
    statistics = read_statistics(write(tmp_path / f"theirs{suffix}", content))
    assert (statistics.format, statistics.images, list(statistics.layers)) == (format, False, ["pool"])
    assert note in statistics.note
    assert bool(note) == bool(statistics.note)
    pool = statistics.layers["pool"]
    assert (type(pool.mean), pool.mean.dtype, pool.covariance.dtype) == (np.ndarray, np.float64, np.float64)
    np.testing.assert_allclose(pool.mean, MU64, rtol=1e-6 if "float32" in note else 1e-13)
    np.testing.assert_allclose(pool.covariance, SIGMA, rtol=1e-10)
    assert (pool.count, pool.root) == (count, None)


def test_adm_has_a_spatial_layer_and_images_that_are_not_read(tmp_path, monkeypatch):
    mean, sigma = spatial_mean().ravel(), np.eye(2023)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    path = write(tmp_path / "virtual.npz", {"arr_0": images, "mu": MU, "sigma": SIGMA, "mu_s": mean, "sigma_s": sigma})
    read, original = [], np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, key: read.append(key) or original(self, key))
    statistics = read_statistics(path)
    assert (statistics.format, statistics.images) == ("ADM npz", True)
    np.testing.assert_array_equal(statistics.layers["spatial"].mean, mean)
    np.testing.assert_array_equal(statistics.layers["spatial"].covariance, sigma)
    np.testing.assert_array_equal(statistics.layers["pool"].covariance, SIGMA)
    assert sorted(read) == ["mu", "mu_s", "sigma", "sigma_s"]


def changed(matrix, place, value):
    matrix = matrix.copy()
    matrix[place] = value
    return matrix


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".npz", {"mu": MU}, "has no sigma, only mu; make the statistics anew"),
        (".npz", {"sigma": SIGMA}, "has no mu, only sigma;"),
        (".npz", {"arr_0": np.zeros((2, 4, 4, 3), np.uint8)}, "has no mu, only arr_0;"),
        (".npz", {"mu": MU, "sigma": SIGMA, "mu_s": MU}, "has no sigma_s, only mu, sigma, mu_s;"),
        (".npz", {"mu": MU, "sigma": SIGMA[:, :5]}, r"has a mean of shape \(6,\) and a covariance of \(6, 5\)"),
        (".npz", {"mu": MU[None], "sigma": SIGMA}, r"has a mean of shape \(1, 6\)"),
        (".npz", {"mu": MU[:0], "sigma": SIGMA[:0, :0]}, r"has a mean of shape \(0,\)"),
        (".npz", {"mu": changed(MU, 2, np.nan), "sigma": SIGMA}, "has a mu with 1 values that are not finite"),
        (".npz", {"mu": MU, "sigma": changed(SIGMA, 0, np.inf)}, "has a sigma with 6 values that are not finite"),
        (".npz", {"mu": MU, "sigma": changed(SIGMA, (0, 1), 9)}, "has a sigma that is not symmetric: up to 8.*; make"),
        (".npz", {"mu": MU, "sigma": SIGMA + np.eye(6, k=1) * 2e-5}, "has a sigma that is not symmetric: up to 2e-05"),
        (".npz", {"mu": MU, "sigma": changed(SIGMA, (3, 3), -0.5)}, "has a sigma with a variance of -0.5, below zero"),
        (".npz", {"mu": MU.astype(str), "sigma": SIGMA}, "has a mu of <U.*, where an array of real numbers"),
        (".npz", {"mu": MU.astype(complex), "sigma": SIGMA}, "has a mu of complex128"),
        (".npz", {"mu": MU.astype(object), "sigma": SIGMA}, "is not a whole .npz of numbers .*; fetch it again"),
        (".pkl", [MU, SIGMA], "holds a list, not a dict"),
        (".pkl", {"weights": MU}, "holds weights, where StyleGAN's statistics have num_items, raw_mean"),
        (".pkl", {}, "holds nothing, where"),
        (".pkl", {"num_images": 50, "fid": {"mu": MU}}, "has no sigma, only mu;"),
        (".pkl", {"fid": {"mu": MU, "sigma": SIGMA}}, "has a num_images of None, where a covariance needs two items"),
        (".pkl", {**SUMS, "num_items": 1}, "has a num_items of 1, where a covariance needs two items"),
        (".pkl", {**SUMS, "num_items": "50"}, "has a num_items of '50'"),
        (".pkl", {**SUMS, "raw_mean": None}, "has a raw_mean of NoneType, where"),
        (".pkl", {**SUMS, "raw_cov": SUMS["raw_cov"][:2]}, r"has a mean of shape \(6,\) and a covariance of \(2, 6\)"),
        (".pkl", {**SUMS, "raw_cov": SUMS["raw_cov"] / 50}, "has a raw_cov with a variance of -.*, below zero"),
        (".pt", {"mu": MU}, "has no sigma, only mu;"),
        (".pt", torch.zeros(3), r"wants to run code \(torch._utils._rebuild_tensor_v2\)"),
    ],
)
def test_content_that_makes_no_sense_is_refused(tmp_path, suffix, content, message):
    path = write(tmp_path / f"theirs{suffix}", content)
    with pytest.raises(UsageError, match=f"^{path} {message}") as caught:
        read_statistics(path)
    assert caught.value.exit_code == 2


def test_rounding_is_not_taken_for_an_error(tmp_path):
    """Sums in another order leave a covariance symmetric, and the variances of dead channels zero, only nearly."""
    sigma = SIGMA * (np.arange(6) < 5) * (np.arange(6) < 5)[:, None] + np.eye(6, k=1) * 1e-7
    sigma[5, 5] = -1e-7
    read_statistics(write(tmp_path / "theirs.npz", {"mu": MU, "sigma": sigma}))


def test_negative_eigenvalues_are_refused(tmp_path):
    """All variances are fine, but no data has these correlations."""
    path = write(tmp_path / "theirs.npz", {"mu": np.zeros(20), "sigma": np.eye(20) - 0.4 * np.ones((20, 20))})
    with pytest.raises(UsageError, match="no covariance: it has the eigenvalue -7"):
        read_statistics(path)


@pytest.mark.parametrize("name", ["none.npz", "none.txt"])
def test_missing_file(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name} is not there; name a statistics file"):
        read_statistics(tmp_path / name)


def test_unknown_suffix(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("1,2")
    with pytest.raises(UsageError, match=r"theirs.csv ends in '.csv'; .* from .npz, .pickle, .pkl, .pt"):
        read_statistics(path)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".npz", {"mu": MU, "sigma": SIGMA}), (".pkl", SUMS), (".pickle", EDM2), (".pt", {"mu": MU, "sigma": SIGMA})],
)
@pytest.mark.parametrize("kept", [0, 0.5, 0.97])
def test_truncated_file(tmp_path, suffix, content, kept):
    path = write(tmp_path / f"theirs{suffix}", content)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(UsageError, match=f"theirs{suffix} is not a whole {suffix} of numbers .*; fetch it again"):
        read_statistics(path)


def spatial_mean(seed=0):
    """A mean (17, 17, 7) such as ADM's: every channel at its own level, all of them smooth in space."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.linspace(-1, 1, 17)] * 2, indexing="ij")
    shapes = np.stack([y, x, y * x, y * y, x * x, np.cos(3 * y)], -1) @ random.normal(0, 0.1, (6, 7))
    return random.gamma(1.0, 0.5, 7) + shapes


@pytest.mark.parametrize("seed", range(10))
def test_channels_first_statistics_are_refused(seed):
    mean = spatial_mean(seed)
    check_layout(mean.ravel(), "ours.npz")
    with pytest.raises(UsageError, match=r"ours.npz holds channels-first .*explain \d+% .*, \d% in ADM's.*NHWC order"):
        check_layout(mean.transpose(2, 0, 1).ravel(), "ours.npz")


def test_only_means_of_2023_have_a_layout():
    check_layout(spatial_mean().transpose(2, 0, 1).ravel()[:-7], "ours.npz")


@pytest.mark.parametrize("keys", [("mu_s", "sigma_s"), ("mu", "sigma")], ids=["spatial", "pool"])
def test_files_of_channels_first_statistics_are_refused(tmp_path, keys):
    content = {"mu": MU, "sigma": SIGMA, keys[0]: spatial_mean().transpose(2, 0, 1).ravel(), keys[1]: np.eye(2023)}
    layer = "spatial" if "mu_s" in keys else "pool"
    with pytest.raises(UsageError, match=rf"theirs.npz \({layer}\) holds channels-first"):
        read_statistics(write(tmp_path / "theirs.npz", content))


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path):
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


ATTACKS = {
    "system": lambda mark: Call(os.system, f"touch '{mark}'"),
    "eval": lambda mark: Call(eval, touch(mark)),
    "exec": lambda mark: Call(exec, touch(mark)),
    "method": lambda mark: Call(Path.touch, Path(mark)),
    "popen": lambda mark: Call(subprocess.getoutput, f"touch '{mark}'"),
    "numpy": lambda mark: Call(np.savetxt, str(mark), np.zeros(1)),
    "method of an admitted class": lambda mark: Call(np.ndarray.tofile, np.zeros(1), str(mark)),
    "in an array of objects": lambda mark: np.array([Call(os.system, f"touch '{mark}'")]),
    "in a structure": lambda mark: np.array([(Call(os.system, f"touch '{mark}'"), 1)], "O,i4"),
    "in a list": lambda mark: [1, {"a": (Call(os.system, f"touch '{mark}'"),)}],
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_nothing_in_a_pickle_runs(tmp_path, attack, suffix):
    mark = tmp_path / "mark"
    content = {"mu": MU, "sigma": SIGMA, "extra": ATTACKS[attack](mark)}
    path = write(tmp_path / f"theirs{suffix}", content)
    with pytest.raises(
        UsageError, match=r"(wants to run code \([\w.]+\)|array of dtype '[OV]\d+').*nothing of it was run"
    ):
        read_statistics(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(content))  # the attack works on those who do not look
    assert mark.exists()


def test_nothing_in_an_npz_runs(tmp_path):
    mark = tmp_path / "mark"
    path = write(tmp_path / "theirs.npz", {"mu": np.array([Call(os.system, f"touch '{mark}'")]), "sigma": SIGMA})
    with pytest.raises(UsageError, match="is not a whole .npz of numbers"):
        read_statistics(path)
    assert not mark.exists()


def forged(*, code="f8", data=b"\0" * 16, kept=False):
    """A pickle of a numpy array of two, with a dtype and a content of choice."""
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    dtype = f"cnumpy\ndtype\n(V{code}\nI00\nI01\ntR(I3\nV|\nNNNI-1\nI-1\nI{0 if kept else 63}\ntb".encode()
    return array + dtype + b"I00\n" + pickle.dumps(data, 3)[2:-1] + b"tb."


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (forged(code="O8"), "array of dtype 'O8'"),
        (forged(code="O8", kept=True), "array of dtype 'O8'"),
        (forged(code="V16"), "array of dtype 'V16'"),
        (forged(code="f8,O"), "array of dtype 'f8,O'"),
        (forged(data=b"\0" * 8), "is not a whole .pkl of numbers"),
        (forged(data=[1, 2]), "is not a whole .pkl of numbers"),
        (b"c_codecs\nencode\n(Vabc\nVzip\ntR.", "bytes are encoded as 'zip'"),
        (b"cnumpy\ndtype\nN}Vvalue\nI1\ns\x86b.", "is not a whole .pkl of numbers"),
        (b"Pname\n.", "is not a whole .pkl of numbers"),
    ],
    ids=["objects", "flags", "void", "structure", "short", "list", "codec", "attribute", "persistent"],
)
def test_forged_arrays_are_refused(tmp_path, pickled, message):
    path = tmp_path / "theirs.pkl"
    path.write_bytes(pickled)
    with pytest.raises(UsageError, match=message):
        read_statistics(path)


def unpickled(path, data):
    path.write_bytes(data)
    with path.open("rb") as stream:
        return Unpickler(stream, path).load()


GRID = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        GRID,
        GRID.transpose(2, 1, 0),
        GRID.transpose(1, 0, 2),
        GRID[:, ::2],
        GRID.astype(">f4"),
        GRID > 3,
        GRID + 1j,
        GRID.astype(np.uint8),
        np.array(3.5),
    ],
    ids=["c", "fortran", "mixed", "strided", "big-endian", "bool", "complex", "bytes", "scalar"],
)
def test_arrays_of_numbers_survive_pickling(tmp_path, protocol, value):
    result = unpickled(tmp_path / "a.pkl", pickle.dumps(value, protocol))
    assert (result.dtype.kind, result.dtype.itemsize) == (value.dtype.kind, value.dtype.itemsize)
    np.testing.assert_array_equal(result, value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_survive_pickling(tmp_path, protocol):
    value = {"a": [1, 2.5, None, True], "b": ("text", b"\xff\0"), "c": np.float32(1.5), "d": np.int64(-7), 3: 2**70}
    result = unpickled(tmp_path / "a.pkl", pickle.dumps(value, protocol))
    assert result == value
    assert [type(result[key]) for key in "cd"] == [np.float32, np.int64]


def test_numpy_1_pickles(tmp_path):
    data = pickle.dumps({"array": GRID, "scalar": np.float64(2)}, 2).replace(b"numpy._core", b"numpy.core")
    result = unpickled(tmp_path / "a.pkl", data)
    np.testing.assert_array_equal(result["array"], GRID)
    assert result["scalar"] == 2


def test_easydict_becomes_a_dict_without_dnnlib(tmp_path):
    module = types.ModuleType("dnnlib.util")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "dnnlib", types.ModuleType("dnnlib"))
        patch.setitem(sys.modules, "dnnlib.util", module)
        data = pickle.dumps(module.EasyDict(mu=MU))
    result = unpickled(tmp_path / "a.pkl", data)
    assert type(result) is dict
    np.testing.assert_array_equal(result["mu"], MU)
    assert "dnnlib" not in sys.modules
