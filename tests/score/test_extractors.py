"""Features against torch-fidelity, pytorch-fid and clean-fid on the same weights; TensorFlow's resize, bit for bit."""

import hashlib
import json

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from pytorch_fid import inception as pytorch_fid
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from rdm.errors import RdmError, UsageError
from rdm.params.protocol import Pixels
from rdm.score import weights
from rdm.score.extractors import Extractor, Inception, build_extractor
from rdm.score.neighbours import precision_recall
from rdm.score.resize import tf1
from rdm.score.weights import find_weights
from tests.conftest import ROOT
from tests.golden.inputs import CASES, SIZES, STRIDE, features, image

CPU = torch.device("cpu")
GOLDEN = ROOT / "tests" / "golden"
TF1 = Pixels(resize="tf1", scale="(v-128)/128")
IMAGES = np.stack([image(64), image(64)[::-1]])


@pytest.mark.parametrize("size", SIZES)
def test_resize_is_tensorflows_bit_for_bit(size):
    golden = np.load(GOLDEN / "resize_tf1.npz")
    pixels = torch.from_numpy(image(size)).permute(2, 0, 1)[None].float()
    resized = tf1(pixels, 299)[0].permute(1, 2, 0).contiguous().numpy()
    assert np.array_equal(resized[::STRIDE, ::STRIDE], golden[f"pixels_{size}"])
    assert hashlib.sha256(resized.tobytes()).hexdigest() == str(golden[f"sha256_{size}"])


@pytest.mark.parametrize("case", CASES)
def test_precision_and_recall_are_tensorflows(case):
    """float32: equal. float16, as in ADM's evaluator: TensorFlow adds up the norms in another order."""
    golden = json.loads((GOLDEN / "precision_recall_tf.json").read_text())["values"][case]
    reference, samples = features(case)
    single, half = (precision_recall(reference, samples, 3, half) for half in (False, True))
    assert vars(single) == golden["float32"]
    assert half.precision == pytest.approx(golden["float16"]["precision"], abs=0.004)
    assert half.recall == pytest.approx(golden["float16"]["recall"], abs=0.004)
    assert half != single


@pytest.fixture(scope="module")
def extractor(inception_weights):
    return build_extractor("inception", inception_weights, CPU)


@pytest.fixture(scope="module")
def theirs(inception_weights):
    """torch-fidelity's network as it is: unfolded, channels first."""
    layers = ["2048", "logits_unbiased"]
    return FeatureExtractorInceptionV3("theirs", layers, feature_extractor_weights_path=inception_weights)


def close(ours, expected):
    """To a millionth of the features' size: other kernels add up in another order."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_inceptions_layers_are_torch_fidelitys(extractor, theirs):
    outputs = {}
    theirs.Mixed_6d.register_forward_hook(lambda module, args, output: outputs.update(block=output))
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda module, args, output: outputs.update(branch=output))
    with torch.inference_mode():
        pool, logits = theirs(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous())
    found = extractor.features(IMAGES, TF1)
    assert {name: values.shape for name, values in found.items()} == {
        "pool": (2, 2048),
        "spatial": (2, 2023),
        "logits": (2, 1008),
    }
    close(found["pool"], pool)
    close(found["logits"], logits)
    # sFID's layer: the start of the block, after its ReLU, seven channels of 17x17, channels last
    assert torch.equal(outputs["block"][:, :7], outputs["branch"][:, :7])
    close(found["spatial"], outputs["block"][:, :7].permute(0, 2, 3, 1).flatten(1))
    assert found["spatial"].min() >= 0
    assert pool.std() > 0.01


def test_pytorch_fids_pixels(extractor, theirs, inception_weights, monkeypatch):
    """Its own network with the same weights, on its own preprocessing."""
    state = torch.load(inception_weights, weights_only=True)
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *args, **kwargs: state)
    network = pytorch_fid.InceptionV3([3]).eval()
    with torch.inference_mode():
        expected = network(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255)[0].flatten(1)
    found = extractor.features(IMAGES, Pixels(resize="half_pixel", scale="v/127.5-1"))["pool"]
    close(found, expected)
    assert np.abs(found - extractor.features(IMAGES, TF1)["pool"]).max() > 1e-3 * np.abs(found).max()


@pytest.mark.parametrize("size", [64, 299, 400])
def test_clean_fids_pixels(size):
    pixels = np.random.RandomState(0).randint(0, 256, (1, size, size, 3), np.uint8)
    expected = (build_resizer("clean")(pixels[0]) - 128) / 128
    rule = Pixels(resize="pil_bicubic", scale="(v-128)/128")
    found = Inception.prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2), rule)[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rounding_is_of_the_resized_values():
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    rounded = Inception.prepared(pixels, TF1.model_copy(update={"rounding": "uint8"})) * 128 + 128
    assert torch.equal(rounded, tf1(pixels.float(), 299).round())


def test_bfloat16_is_near_and_not_the_same(inception_weights, extractor):
    exact = extractor.features(IMAGES, TF1)["pool"]
    near = build_extractor("inception", inception_weights, CPU, precision="bfloat16").features(IMAGES, TF1)["pool"]
    error = np.linalg.norm(near - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.05
    with pytest.raises(UsageError, match="tf32 is for a GPU"):
        build_extractor("inception", inception_weights, CPU, precision="tf32")


def switches():
    """TF32 in products and in convolutions, and whether cuDNN tries kernels out, and takes those that repeat."""
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


@pytest.fixture
def switched():
    """Torch's switches as no stage of ours leaves them."""
    before = torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        torch.backends.cuda.matmul.allow_tf32 = True
        yield switches()
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_network_computes_in_its_precision_and_leaves_torch_as_it_was(switched, precision):
    seen = []

    def network(inputs, pixels):
        pool = inputs.float().mean((2, 3)) @ torch.eye(3)
        seen.extend([*switches(), pool.dtype])
        return {"pool": pool}

    extractor = Extractor("classifier", network, 3, False, 3, 2, "", CPU, precision)
    assert extractor.features(IMAGES)["pool"].dtype == np.float32
    assert switches() == switched == (True, True, True, False)
    fast, dtype = precision != "float32", torch.bfloat16 if precision == "bfloat16" else torch.float32
    assert seen == [fast, fast, False, True, dtype]
    with pytest.raises(RdmError, match="do they fit it"):
        extractor.features(IMAGES[..., :2])
    assert switches() == switched


class FakeI3D(nn.Module):
    """Takes what StyleGAN-V's TorchScript takes."""

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale
        assert resize
        assert return_features
        return x.mean((2, 3, 4)).repeat(1, 134)[:, :400]


def test_i3d_is_called_with_clips_channels_first(tmp_path):
    torch.jit.script(FakeI3D()).save(tmp_path / "i3d.pt")
    extractor = build_extractor("i3d", tmp_path / "i3d.pt", CPU)
    clips = np.random.default_rng(0).integers(0, 256, (3, 9, 16, 16, 3), np.uint8)
    found = extractor.features(clips)
    assert list(found) == ["pool"]
    np.testing.assert_allclose(found["pool"][:, :3], clips.mean((1, 2, 3)), rtol=1e-5)


class Evil:
    """A pickle that wants to run code."""

    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


@pytest.mark.parametrize("kind", ["inception", "i3d", "classifier"])
def test_damaged_weights_are_refused(tmp_path, kind):
    with pytest.raises(UsageError, match="none.pth is not there; (download|run)"):
        build_extractor(kind, tmp_path / "none.pth", CPU)
    bad = tmp_path / "bad.pth"
    torch.save({"weights": Evil()}, bad)
    with pytest.raises(UsageError, match=f"bad.pth is not a file of {kind} weights"):
        build_extractor(kind, bad, CPU)
    bad.write_bytes(b"neither")
    with pytest.raises(UsageError, match=f"bad.pth is not a file of {kind} weights"):
        build_extractor(kind, bad, CPU)
    assert not Evil.ran


def test_weights_must_be_those_of_the_protocol(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"hello\n")
    sha256 = hashlib.sha256(b"hello\n").hexdigest()
    for digest in (f"sha256:{sha256}", f"sha256:{sha256[:8]}", "git:ce013625030ba8dba906f756967f9e9ca394464a", None):
        assert find_weights("inception", digest, file) == (file, sha256)
    for digest in ("sha256:00000000", "git:" + 40 * "0"):
        with pytest.raises(UsageError, match=rf"is not the inception file that the protocol names \({digest}") as told:
            find_weights("inception", digest, file)
        assert str(told.value).endswith("and name its path with --weights.")
    with pytest.raises(UsageError, match=r"is not the classifier file .*; name another\.$"):
        find_weights("classifier", "sha256:00000000", file)
    with pytest.raises(UsageError, match="is no published file; name one with --weights"):
        find_weights("classifier", None, None)


def test_a_download_stays_only_if_it_is_the_right_one(tmp_path, monkeypatch, serve):
    """From a server on this machine."""
    (serve.folder / "net.pth").write_bytes(b"hello\n")
    monkeypatch.setattr(weights, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(weights.URLS, "inception", f"{serve.url}/net.pth")
    with pytest.raises(UsageError, match="is not the inception file"):
        find_weights("inception", "sha256:00000000", None)
    assert not list((tmp_path / "cache").iterdir())
    sha256 = hashlib.sha256(b"hello\n").hexdigest()
    assert find_weights("inception", f"sha256:{sha256}", None) == (tmp_path / "cache" / "net.pth", sha256)
    with pytest.raises(UsageError, match="remove it, and it is downloaded again"):
        find_weights("inception", "sha256:00000000", None)  # the cached one is another
    (serve.folder / "net.pth").unlink()
    assert find_weights("inception", f"sha256:{sha256}", None)[1] == sha256  # from the cache
    monkeypatch.setitem(weights.URLS, "inception", f"{serve.url}/gone.pth")
    with pytest.raises(RdmError, match=r"Downloading .*gone.pth failed"):
        find_weights("inception", None, None)
