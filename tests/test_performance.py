"""Every switch of the section `performance` changes what it says, and nothing without it."""

import functools
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.decomposition import select_decomp_table
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from rdm import params
from rdm.errors import ParameterError, UsageError
from rdm.latents.codec import LatentCodec, build_autoencoder
from rdm.models.gates import attach_gates, gates_of
from rdm.models.sensitivity import record_states
from rdm.models.zoo import build_network
from rdm.params.autoencoder import Autoencoder, PublishedAutoencoder
from rdm.params.dependencies import of_autoencoder, of_latents, of_sample, of_score, of_train
from rdm.params.gates import Gates, Gating, Supervision
from rdm.params.performance import Performance
from rdm.params.schema import Diffusion, FineTuned
from rdm.performance import compile_blocks, computing, in_precision, lay_out
from rdm.runtime import choose_device
from rdm.train.loop import Job, fit
from tests.conftest import altered
from tests.models.small import CLASSES, NETWORKS, build, inputs, run, shape_of

COMPILE = torch.compile
CPU = torch.device("cpu")
DEFAULT = Performance()
SEEN = {  # precision: dtype of a layer's output, and whether products in float32 may be TF32
    "float32": (torch.float32, False),
    "tf32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, True),
}


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch):
    """torch.compile as far as its own backward graph, without a C++ compiler's minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):  # `compile_blocks` sets them
        yield


@pytest.fixture
def job(tmp_path):
    """job(kind, performance, **optimisation): three steps of a small network."""

    def make(kind, performance=DEFAULT, gates=None, **changes):
        shape, random = shape_of(kind), torch.Generator().manual_seed(0)
        optimisation = FineTuned(start="any", steps=3, batch=4, learning_rate=1e-3, ema_decay=0.8, **changes)
        latents, labels = torch.randn(10, *shape, generator=random), torch.arange(10) % CLASSES
        what = optimisation, Diffusion(target="v"), gates, latents, labels, CLASSES, 1, "this", tmp_path / "state"
        return Job(*what, performance=performance)

    return make


def trained(job, kind):
    network = build_network(NETWORKS[kind], shape_of(kind), CLASSES, seed=0)
    return fit(attach_gates(network, job.gates) if job.gates else network, job, CPU)


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


@contextmanager
def watched(network, layer=nn.Linear):
    """What every such layer computes in, and whether its products may be TF32, forward and backward."""
    seen = set()

    def note(dtype):
        seen.add((dtype, torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32))

    def hook(module, args, output):
        assert module.weight.dtype == torch.float32
        note(output.dtype)
        if output.requires_grad:
            output.register_hook(lambda gradient: note(gradient.dtype))

    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, layer)]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.fixture(autouse=True)
def without_tf32():
    """As `rdm.runtime.prepare` sets it."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_precision_needs_no_diffusers():
    """Whose import takes seconds: a score computes in a precision, and has no network of theirs."""
    code = "import sys, rdm.performance; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("precision", SEEN)
def test_training_computes_in_its_precision_forward_and_backward(job, precision):
    network = build_network(NETWORKS["dit"], shape_of("dit"), CLASSES, seed=0)
    with watched(network.transformer_blocks[0].ff) as seen:
        state = fit(network, job("dit", Performance(train=precision)), CPU)
    assert seen == {SEEN[precision]}
    assert {p.dtype for p in (*state.model.parameters(), *state.ema.parameters())} == {torch.float32}
    assert {m["exp_avg"].dtype for m in state.optimiser.state.values()} == {torch.float32}
    assert not torch.backends.cuda.matmul.allow_tf32


def test_bfloat16_trains_as_float32_does_up_to_rounding(job):
    losses = [trained(job("unet-cross", Performance(train=p)), "unet-cross").log[-1]["loss"] for p in SEEN]
    assert losses[0] == losses[1] != losses[2]
    assert losses[2] == pytest.approx(losses[0], rel=0.01)


def test_supervised_gates_train_and_are_probed_in_bfloat16_as_in_float32(job):
    """What Figure 5 draws, and the gates that came of it."""
    gates = Gates(learning_rate=0.05, supervision=Supervision(kind="preserve"))
    kind, precisions = "unet-cross", ("float32", "bfloat16")
    exact, rounded = (trained(job(kind, Performance(train=p), gates), kind) for p in precisions)
    assert rounded.log[-1]["sensitivity"] != exact.log[-1]["sensitivity"]
    assert rounded.log[-1]["sensitivity"] == pytest.approx(exact.log[-1]["sensitivity"], abs=0.1)  # to -2.3
    assert rounded.log[-1]["supervision_to_loss"] == pytest.approx(exact.log[-1]["supervision_to_loss"], rel=0.1)
    moved = [torch.cat([g.delta.flatten() for g in gates_of(s.model).values()]) for s in (exact, rounded)]
    assert (moved[1] - moved[0]).norm() < 0.2 * moved[0].norm()


@pytest.mark.parametrize("precision", SEEN)
def test_a_network_answers_in_float32_whatever_it_computes_in(precision):
    network = build("dit")
    with watched(network) as seen, torch.inference_mode():
        output = in_precision(network, precision, CPU)(*inputs(shape_of("dit")))
    assert seen == {SEEN[precision]}
    assert output.dtype == torch.float32


@pytest.mark.parametrize("precision", SEEN)
@pytest.mark.parametrize("codebook_size", [None, 32])
def test_the_autoencoder_encodes_and_decodes_in_its_precision(precision, codebook_size):
    common = {"layers_per_block": 1, "norm_groups": 4, "latent_channels": 4}
    parameters = Autoencoder(
        data="any", block_channels=(8, 8), codebook_size=32, steps=1, batch=1, learning_rate=1, l1_weight=0, **common
    ).model_copy(update={"codebook_size": codebook_size})
    torch.manual_seed(0)
    network = build_autoencoder(parameters, 3, 16).eval()
    exact, codec = (LatentCodec(network, torch.zeros(1), torch.ones(1), p) for p in ("float32", precision))
    images = np.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=np.uint8)
    with watched(network, nn.Conv2d) as seen:
        latents = codec.encode_raw(images)
        decoded = codec.decode(exact.encode_raw(images)[:, :4])
    assert SEEN[precision] in seen
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, exact.encode_raw(images), rtol=0, atol=0.05)
    difference = np.abs(decoded.astype(int) - exact.decode(exact.encode_raw(images)[:, :4]))
    assert difference.mean() < 1.5  # of 255 levels
    assert (difference.max() > 0) == (precision == "bfloat16")


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_switches_nothing_is_touched(kind):
    network, twin = build(kind), build(kind)
    compile_blocks(lay_out(network, DEFAULT), DEFAULT)
    assert not any("forward" in vars(module) for module in network.modules())
    for own, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert own.stride() == other.stride()
    assert torch.equal(in_precision(network, "float32", CPU)(*inputs(shape_of(kind))), run(twin))


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_attention_is_fused(kind, monkeypatch):
    """Without a switch: diffusers calls torch's own. (Few frames are an exception on a GPU.)"""
    network, fused, calls = build(kind), F.scaled_dot_product_attention, []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(a) or fused(*a, **k))
    run(network)
    assert len(calls) == sum(isinstance(module, Attention) for module in network.modules()) > 0


class Products(TorchDispatchMode):
    """The dtypes of all batched products, forward and backward."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.bmm.default:
            self.dtypes.add(output.dtype)
        return output


@pytest.mark.parametrize("precision", SEEN)
def test_attention_too_wide_for_fused_kernels_computes_in_its_precision(precision):
    """As LDM-4's, whose heads have 384 channels and more."""
    queries, keys, values = torch.randn(3, 2, 1, 16, 384, dtype=torch.float64).requires_grad_()
    exact = F.scaled_dot_product_attention(queries, keys, values)
    with computing(precision, CPU), sdpa_kernel(SDPBackend.MATH), Products() as products:
        attended = F.scaled_dot_product_attention(queries.float(), keys.float(), values.float())
        attended.float().sum().backward()
    assert products.dtypes == {SEEN[precision][0]}
    assert (attended - exact).norm() / exact.norm() < (1e-2 if precision == "bfloat16" else 1e-6)
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()


def test_cudnns_attention_is_for_forward_passes_alone():
    """Its backward pass does not repeat itself."""
    choose_device("cpu")
    cuda = torch.backends.cuda
    with computing("bfloat16", CPU):
        assert not cuda.cudnn_sdp_enabled()
    with torch.no_grad(), computing("bfloat16", CPU):
        assert cuda.cudnn_sdp_enabled()
    assert not cuda.cudnn_sdp_enabled()


def test_checkpointing_computes_wide_heads_again_in_bfloat16(job):
    """On a GPU, LDM-4's heads take no fused kernel; here the same path is asked for."""
    performance, states = Performance(train="bfloat16"), []
    with sdpa_kernel(SDPBackend.MATH):
        for checkpointing in (False, True):
            states.append(trained(job("unet-cross", performance, checkpointing=checkpointing), "unet-cross"))
    assert same_weights(*states)


@pytest.mark.parametrize("kind", ["dit", "latte", "unet-add", "unet-cross"])
def test_compiled_blocks_compute_the_same_and_are_seen_by_hooks(kind):
    """The supervision of the gates records what goes in and out of every block."""
    torch._dynamo.utils.counters.clear()
    network, plain = (attach_gates(build(kind), Gating()) for _ in range(2))
    compile_blocks(network, Performance(compile=True))
    compiled = [name for name, module in network.named_modules() if "forward" in vars(module)]
    assert len(compiled) >= 3
    assert not any(name.startswith(f"{other}.") for name in compiled for other in compiled)
    found = []
    for model in (plain, network):
        with record_states(model) as states:
            loss = run(model).square().mean()
        loss.backward()
        found.append((loss, states.profile(), [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]


def test_supervised_gates_train_compiled(job):
    gates = Gates(learning_rate=0.05, supervision=Supervision(kind="preserve"))
    plain, compiled = (trained(job("dit", Performance(compile=c), gates), "dit") for c in (False, True))
    for own, other in zip(compiled.ema.parameters(), plain.ema.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
    assert not any("forward" in vars(module) for module in compiled.ema.modules())


def test_the_convolutional_networks_compute_channels_last(job):
    switched = Performance(channels_last=True)

    def layouts(performance):
        network, seen = build_network(NETWORKS["unet-cross"], shape_of("unet-cross"), CLASSES, seed=0), set()
        layer = network.down_blocks[0].resnets[0].conv1
        last = torch.channels_last
        layer.register_forward_hook(lambda m, args, output: seen.add(output.is_contiguous(memory_format=last)))
        state = fit(network, job("unet-cross", performance), CPU)
        return seen, state

    (seen, state), (before, plain) = layouts(switched), layouts(DEFAULT)
    assert (seen, before) == ({True}, {False})
    for network in (state.model, state.ema):  # of one layout, so that their mean is taken in one go
        assert network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    for own, other in zip(state.ema.parameters(), plain.ema.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    dit = build("dit")
    assert [p.stride() for p in lay_out(dit, switched).parameters()] == [p.stride() for p in build("dit").parameters()]


@pytest.mark.parametrize("kind", NETWORKS)
def test_checkpointing_keeps_less_and_trains_the_same(job, kind):
    kept = {}

    def keep(sizes, tensor):
        sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    states = []
    for checkpointing in (False, True):
        sizes = kept.setdefault(checkpointing, {})
        with torch.autograd.graph.saved_tensors_hooks(functools.partial(keep, sizes), lambda tensor: tensor):
            states.append(trained(job(kind, checkpointing=checkpointing), kind))
    assert same_weights(*states)
    first, second = (sum(storage.nbytes() for storage in kept[c].values()) for c in (False, True))
    assert second < first


@pytest.mark.parametrize("kind", ["dit", "unet-cross"])
def test_all_at_once_gates_change_nothing_at_the_start(kind):
    performance = Performance(compile=True, channels_last=True)
    outputs = []
    for gated in (False, True):
        network = build(kind).train()
        if gated:
            attach_gates(network)
        network.enable_gradient_checkpointing()
        compile_blocks(lay_out(network, performance), performance)
        with computing("bfloat16", CPU):
            outputs.append(run(network))
    assert torch.equal(*outputs)


@torch.no_grad()
def test_an_autoencoder_is_compiled_in_two_halves_and_computes_the_same():
    sizes = {"block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "latent_channels": 3}
    parameters = PublishedAutoencoder(data="any", weights="any", scale=1.0, **sizes)
    pixels, networks = torch.randn(2, 3, 16, 16), []
    for compiled in (False, True):
        torch.manual_seed(0)
        performance = Performance(compile=compiled, channels_last=compiled)
        networks.append(compile_blocks(lay_out(build_autoencoder(parameters, 3, 16).eval(), performance), performance))
    assert [name for name, module in networks[1].named_modules() if "forward" in vars(module)] == ["encoder", "decoder"]
    plain, compiled = (network.encode(pixels).latent_dist.mean for network in networks)
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)
    plain, compiled = (network.decode(plain).sample for network in networks)
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("training", "compiled"), [(True, False), (False, True)])
def test_a_block_that_upsamples_is_not_compiled_to_be_trained(training, compiled):
    block = ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, up=True).train(training)
    compile_blocks(nn.ModuleList([block]), Performance(compile=True))
    assert ("forward" in vars(block)) == compiled


@pytest.mark.parametrize("kind", ["unet-cross", "resampling-unet", "dit", "latte"])
def test_no_compiled_gradient_is_an_index_put(monkeypatch, kind):
    """Which deterministic algorithms sort for; the gradient of compiled nearest upsampling would be one."""
    seen = set()

    def collect(module, _):
        seen.update(str(node.target) for node in module.graph.nodes)
        return make_boxed_func(module.forward)

    backend = aot_autograd(fw_compiler=collect, decompositions=select_decomp_table())
    monkeypatch.setattr(torch, "compile", functools.partial(COMPILE, backend=backend))
    run(compile_blocks(build(kind).train(), Performance(compile=True))).square().mean().backward()
    assert "aten.sigmoid.default" in seen or "aten.tanh.default" in seen
    assert not any("index_put" in name for name in seen)
    torch.compile(nn.Upsample(scale_factor=2))(torch.randn(1, 1, 2, 2, requires_grad=True)).sum().backward()
    assert any("index_put" in name for name in seen)


def test_without_a_compiler_one_sentence_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match="'no-such-compiler' is not here; install a C.. compiler"):
        compile_blocks(build("dit"), Performance(compile=True))


def test_more_shapes_than_are_compiled_are_an_error_rather_than_slow(monkeypatch):
    monkeypatch.setattr("rdm.performance.SHAPES", 1)
    network = compile_blocks(build("unet-cross"), Performance(compile=True))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        run(network)


def test_manifests_and_scores_record_what_each_stage_used(experiment):
    """And what a switch does not concern is not made anew."""
    run_name = next(name for name in experiment.runs if name.endswith("rdm-f-s0"))
    system, _ = experiment.find_run(run_name)
    latents, sampler = experiment.baseline(system).latents, experiment.samplers_of(system)[0]
    stages = {
        "autoencoder": lambda e: of_autoencoder(e, latents),
        "latents": lambda e: of_latents(e, latents),
        "train": lambda e: of_train(e, run_name),
        "sample": lambda e: of_sample(e, run_name, sampler),
        "score": lambda e: of_score(e, run_name, sampler, e.scores_of(e.data_of(system))[0]),
    }
    changed = {
        "train": ("bfloat16", {"train", "sample", "score"}),
        "sample": ("tf32", {"sample", "score"}),
        "autoencoder": ("bfloat16", {"latents", "train", "sample", "score"}),
        "compile": (True, {"latents", "train", "sample", "score"}),
        "channels_last": (True, {"latents", "train", "sample", "score"}),
    }
    assert changed.keys() == Performance.model_fields.keys()
    for key, (value, expected) in changed.items():
        other = altered(experiment, performance=Performance(**{key: value}))
        assert {stage for stage, of in stages.items() if of(other) != of(experiment)} == expected, key


def test_states_within_a_compiled_block_are_not_recorded(write_params):
    def change(content):
        content["train"]["gated"]["rdm-f"]["gates"]["unit"] = "branch"
        content["performance"] = {"compile": True}

    with pytest.raises(ParameterError, match=r"rdm-f.gates.unit: the state between the branches"):
        params.load(write_params(change))


@pytest.mark.parametrize("switch", ["compile", "checkpointing"])
def test_a_second_derivative_is_not_compiled_nor_checkpointed(write_params, switch):
    def change(content):
        gated = content["train"]["gated"]["rdm-f"]
        gated["gates"]["supervision"] = {"kind": "hinge", "exact": True}
        (content.setdefault("performance", {}) if switch == "compile" else gated)[switch] = True

    with pytest.raises(ParameterError, match=r"rdm-f.gates.supervision.exact differentiates twice"):
        params.load(write_params(change))
