"""Gates do nothing at the start, something afterwards, belong to the model that carries them, and come off again."""

import copy

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor2_0
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdm.errors import RdmError, UsageError
from rdm.models.gates import (
    Gating,
    attach_gates,
    detach_gates,
    gate_parameters,
    gate_table,
    gates_of,
    residual_units,
    split_state,
)
from tests.models.small import GATINGS, KINDS, OWN_UNITS, SHAPE, UNETS, Residual, build, run, units

CASES = [(kind, gating) for kind in KINDS for gating in GATINGS[kind]]
networks = st.tuples(st.sampled_from(CASES), st.integers(0, 2**31))
quickly = settings(max_examples=60, deadline=None, derandomize=True)


def gated(kind, gating, seed=0):
    return attach_gates(build(kind, seed), gating, units(kind, gating))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_identity_at_the_start_bit_for_bit(kind, dtype, training):
    """The embedding of labels drops some at random in training: so both runs start from one seed."""
    model = build(kind).to(dtype).train(training)

    def output():
        torch.manual_seed(3)
        with torch.no_grad():
            return run(model, dtype)

    before = output()
    assert before.std() > 0
    for gating in GATINGS[kind]:
        attach_gates(model, gating, units(kind, gating))
        after = output()
        assert after.dtype == dtype
        assert torch.equal(after, before), gating
        detach_gates(model)


@given(networks)
@quickly
@torch.no_grad()
def test_every_gate_parameter_changes_the_output(case):
    (kind, gating), seed = case
    model = gated(kind, gating, seed).double()
    before, random = run(model, torch.float64), torch.Generator().manual_seed(seed)
    last = list(gates_of(model).values())[-1]
    for parameter in gate_parameters(model):
        value = parameter.clone()
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
        change = (run(model, torch.float64) - before).abs().max()
        # a shift that is the same in every channel of a U-Net's last block is removed by the GroupNorm that follows
        removed = kind in UNETS and gating.shape == "scalar" and parameter is last.beta
        assert (change < 1e-12) if removed else (change > 1e-8)
        parameter.copy_(value)
    assert torch.equal(run(model, torch.float64), before)


@given(networks)
@quickly
def test_the_gradient_of_every_gate_is_that_of_finite_differences(case):
    (kind, gating), seed = case
    model = gated(kind, gating, seed).double()
    random = torch.Generator().manual_seed(seed)
    directions = [torch.randn(p.shape, generator=random, dtype=p.dtype) for p in gate_parameters(model)]
    with torch.no_grad():  # somewhere else than at the start
        for parameter in gate_parameters(model):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random, dtype=parameter.dtype))
    run(model, torch.float64).square().mean().backward()
    analytic = sum((p.grad * d).sum() for p, d in zip(gate_parameters(model), directions, strict=True))

    @torch.no_grad()
    def shifted(step):
        for parameter, direction in zip(gate_parameters(model), directions, strict=True):
            parameter.add_(step * direction)
        loss = run(model, torch.float64).square().mean()
        for parameter, direction in zip(gate_parameters(model), directions, strict=True):
            parameter.sub_(step * direction)
        return loss

    numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    torch.testing.assert_close(analytic, numeric, rtol=1e-5, atol=1e-8)


@given(networks)
@quickly
def test_detach_restores_the_object_graph(case):
    (kind, gating), seed = case
    model = build(kind, seed)

    def graph():
        modules = [(name, id(module), type(module), sorted(vars(module))) for name, module in model.named_modules()]
        return modules, [(name, id(p)) for name, p in model.named_parameters()], list(model.state_dict())

    before, output = graph(), run(model)
    attach_gates(model, gating, units(kind, gating))
    for parameter in gate_parameters(model):
        nn.init.normal_(parameter)
    assert not torch.equal(run(model), output)
    detach_gates(model)
    assert graph() == before
    assert torch.equal(run(model), output)


@given(networks)
@quickly
def test_own_weights_keep_names_and_values(case):
    (kind, gating), seed = case
    model = build(kind, seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach_gates(model, gating, units(kind, gating))
    own, gate_weights = split_state(model)
    assert own.keys() == before.keys()
    assert all(torch.equal(own[name], before[name]) for name in before)
    assert len(gate_weights) == len(gate_parameters(model)) > 0
    assert len(model.state_dict()) == len(own) + len(gate_weights)


FORMULAS = {
    "rdm": lambda block, x, a, b: x + a * (block(x) - x) + b,
    "adaln": lambda block, x, a, b: x + block(a * x + b) - (a * x + b),
    "skip": lambda block, x, a, b: a * x + (block(x) - x) + b,
    "rezero": lambda block, x, a, b: x + a * (block(x) - x),
}


@pytest.mark.parametrize("variant", FORMULAS)
@torch.no_grad()
def test_the_formula_of_each_variant(variant):
    """Sec. 3.5 written out again, for one block."""
    model = build("own")
    block, state = copy.deepcopy(model.stages[0]), torch.randn(2, 8, 4, 4)
    attach_gates(model, Gating(variant=variant), ["stages.0"])
    gate = model.stages[0].residual_gate
    alpha, beta = torch.randn(8), torch.randn(8)
    gate.delta.copy_(alpha - 1)
    if gate.beta is not None:
        gate.beta.copy_(beta)
    expected = FORMULAS[variant](block, state, alpha[:, None, None], beta[:, None, None])
    torch.testing.assert_close(model.stages[0](state), expected)


@pytest.mark.parametrize("name", ["down_blocks.0.resnets.0", "down_blocks.1.resnets.0", "mid_block.resnets.0"])
@torch.no_grad()
def test_a_projection_is_the_identity_path(name):
    """A U-Net's residual block from its parts: (shortcut(z) + alpha * conv2(...) + beta) / scale."""
    model = attach_gates(build("resampling-unet"))
    block = model.get_submodule(name)
    state, embedding = torch.randn(2, block.in_channels, 4, 4), torch.randn(2, 32)
    branch = {}
    hook = block.conv2.register_forward_hook(lambda module, args, output: branch.update(output=output))
    block(state, embedding)  # gates at the start: the branch as it was
    hook.remove()
    block.conv2.residual_gate.delta.fill_(0.5)
    block.conv2.residual_gate.beta.fill_(0.25)
    gated_output = block(state, embedding)
    identity = state if block.conv_shortcut is None else block.conv_shortcut(state)
    expected = (identity + 1.5 * branch["output"] + 0.25) / block.output_scale_factor
    torch.testing.assert_close(gated_output, expected)
    assert (block.conv_shortcut is None) == (name != "down_blocks.1.resnets.0")


@torch.no_grad()
def test_branches_are_gated_apart():
    """adaLN-Zero's two branches written out again: z + a1 * g1 * attention + b1, then the same with the MLP."""
    model = attach_gates(build("dit"), Gating(unit="branch"))
    block = model.transformer_blocks[0]
    state, embedding = torch.randn(2, 16, 16), torch.randn(2, 16)
    for gate, value in ((block.attention_gate, 0.5), (block.mlp_gate, -0.25)):
        gate.delta.fill_(value)
        gate.beta.copy_(torch.linspace(-1, 1, 16) * value)
    rows = block.norm1.linear(nn.functional.silu(embedding)).view(2, 6, 1, 16)
    normed = nn.functional.layer_norm(state, (16,), eps=1e-6) * (1 + rows[:, 1]) + rows[:, 0]
    expected = state + 1.5 * rows[:, 2] * block.attn1(normed) + block.attention_gate.beta
    normed = nn.functional.layer_norm(expected, (16,), eps=1e-6) * (1 + rows[:, 4]) + rows[:, 3]
    expected = expected + 0.75 * rows[:, 5] * block.ff(normed) + block.mlp_gate.beta
    torch.testing.assert_close(block(state, timestep=embedding), expected)


@torch.no_grad()
def test_embedded_gates_depend_on_the_timestep():
    for kind in ("dit", "latte", "diffusers-dit", "unet-add"):
        model = gated(kind, Gating(time="embedded"))
        before = run(model)
        for gate in gates_of(model).values():
            nn.init.normal_(gate.time.weight, std=0.3)
        moved = (run(model) - before).flatten(1).norm(dim=1)
        assert moved.min() > 0
        assert len(set(moved.tolist())) == 3  # three timesteps, three shifts


def test_alpha_at_the_start_is_a_parameter():
    model = gated("own", Gating(variant="rezero", alpha=0.0))
    assert [row["alpha_mean"] for row in gate_table(model)] == [0.0, 0.0]
    with torch.no_grad():
        state = torch.randn(1, 8, 2, 2)
        torch.testing.assert_close(model.stages[0](state), state, atol=1e-6, rtol=0)


def test_the_resnet_variant_has_no_gates():
    model = build("dit")
    classes = [type(module) for module in model.modules()]
    attach_gates(model, Gating(variant="resnet"))
    assert [type(module) for module in model.modules()] == classes
    assert gate_parameters(model) == gate_table(model) == []


def test_the_table_says_what_the_gates_learnt():
    model = gated("diffusers-dit", Gating(unit="branch"))
    gate = model.transformer_blocks[1].mlp_gate
    with torch.no_grad():
        gate.delta.copy_(torch.linspace(-1, 1, 16))
        gate.beta.fill_(0.5)
    rows = gate_table(model)
    assert [row["unit"] for row in rows] == [
        f"transformer_blocks.{i}.{b}" for i in (0, 1) for b in ("attention", "mlp")
    ]
    assert rows[0] == {"unit": "transformer_blocks.0.attention"} | {
        f"{part}_{figure}": value
        for part, mean in (("alpha", 1.0), ("beta", 0.0))
        for figure, value in (("mean", mean), ("std", 0.0), ("min", mean), ("max", mean))
    }
    assert rows[3]["alpha_mean"] == pytest.approx(1)
    assert rows[3]["alpha_std"] == pytest.approx(torch.linspace(-1, 1, 16).std(correction=0).item())
    assert (rows[3]["alpha_min"], rows[3]["alpha_max"], rows[3]["beta_mean"]) == (0.0, 2.0, 0.5)


def test_a_unets_gates_are_listed_in_order_of_computation():
    names = list(gates_of(attach_gates(build("unet-add"))))
    assert [name.split("_")[0] for name in names] == ["down"] * 2 + ["mid"] * 2 + ["up"] * 4
    assert all(".resnets." in name for name in names)  # read-in and read-out branch alike
    inside = torch.nn.ModuleDict({"unet": build("unet-add")})
    assert list(gates_of(attach_gates(inside))) == [f"unet.{name}" for name in names]


@torch.no_grad()
def test_a_scalar_beta_does_nothing_to_a_transformer():
    """Reading R2, and why it is refused: LayerNorm removes a shift that is the same in every channel."""
    model = attach_gates(build("diffusers-dit"))
    before = run(model)
    for gate in gates_of(model).values():
        gate.beta.fill_(0.5)
    torch.testing.assert_close(run(model), before, atol=1e-4, rtol=1e-4)


REFUSED = [
    ("dit", Gating(shape="scalar"), None, "a scalar beta is a no-op in a pre-LayerNorm transformer.*shape: channel"),
    ("latte", Gating(shape="scalar"), None, "a scalar beta is a no-op in a pre-LayerNorm transformer"),
    ("diffusers-latte", Gating(shape="scalar"), None, "a scalar beta is a no-op in a pre-LayerNorm transformer"),
    ("dit", Gating(shape="scalar", variant="skip"), None, "a scalar beta is a no-op"),
    ("unet-add", Gating(shape="scalar", variant="adaln"), None, "no-ops before a normalisation layer"),
    ("unet-add", Gating(unit="branch"), None, "has one branch; set unit: block"),
    ("diffusers-latte", Gating(unit="branch"), None, "plain adaLN-Zero blocks; name the modules that return"),
    ("diffusers-latte", Gating(time="embedded"), None, "no embedding of the timestep; set time: static"),
    ("own", Gating(time="embedded"), OWN_UNITS["block"], "no embedding of the timestep; set time: static"),
    ("own", Gating(unit="branch", variant="skip"), OWN_UNITS["branch"], "needs the state z.*gate blocks"),
    ("own", Gating(), None, "no residual blocks of diffusers; name its residual units"),
    ("own", Gating(), [], "no residual blocks of diffusers; name its residual units"),
    ("own", Gating(), ["stages.0.branch.0"], "no linear or convolution layer"),
]


@pytest.mark.parametrize(("kind", "gating", "names", "message"), REFUSED, ids=[r[3][:30] for r in REFUSED])
def test_gates_that_would_do_nothing_are_refused(kind, gating, names, message):
    model = build(kind)
    classes = [type(module) for module in model.modules()]
    with pytest.raises(RdmError, match=message) as raised:
        attach_gates(model, gating, names)
    assert "\n" not in str(raised.value)
    assert [type(module) for module in model.modules()] == classes


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UsageError, match="no module 'stages.9'; did you mean 'stages."):
        attach_gates(build("own"), Gating(), ["stages.0", "stages.9"])


def test_shapes_that_do_not_fit_are_named():
    model = attach_gates(build("own"), Gating(), ["entry"])  # no residual unit: 4 channels in, 8 out
    with pytest.raises(
        RdmError, match=r"entry has a gate of 8 channels, an output of shape \(3, 8, 8, 8\) and a state of shape \(3, 4"
    ):
        run(model)


def test_units_that_return_no_tensor_are_named():
    class Pair(Residual):
        def forward(self, state):
            return super().forward(state), state

    model = build("own")
    model.stages[0] = Pair(model.stages[0].branch)
    attach_gates(model, Gating(), ["stages.0"])
    with pytest.raises(
        RdmError, match="stages.0 took a Tensor and returned a tuple; name units that take and return one tensor"
    ):
        run(model)


def unchanged(model, names, message, error=UsageError):
    classes = [type(module) for module in model.modules()]
    with pytest.raises(error, match=message):
        attach_gates(model, Gating(), names)
    assert [type(module) for module in model.modules()] == classes


def test_names_that_make_no_sense_are_refused():
    unchanged(build("own"), "stages.0", "units is the string 'stages.0'; give a list")
    unchanged(build("own"), [""], "no module ''")
    unchanged(build("own"), ["stages.0", "stages.0.branch"], "'stages.0' cannot be gated: 'stages.0.branch' is part")
    unchanged(build("own"), ["stages.0", "stages.0"], "'stages.0' cannot be gated: it is named twice")
    block = "down_blocks.0.resnets.0"
    unchanged(build("unet-add"), [block, f"{block}.conv2"], "'down_blocks.0.resnets.0.conv2' is part")
    unchanged(build("unet-add"), ["down_blocks"], "is not called through its class", RdmError)
    unchanged(build("unet-add"), ["mid_block.attentions.0"], "its channels have no place")


def test_a_module_under_two_names_is_one():
    model = build("own")
    model.again = model.stages[0]
    unchanged(model, ["stages.0", "again"], "it is named twice")
    attach_gates(model, Gating(), ["again"])
    own, gate_weights = split_state(model)
    assert len(gate_weights) == 2
    assert not any("gate" in name for name in own)


def test_a_unit_with_an_attribute_of_the_gates_name_is_left_alone():
    model = build("own")
    model.stages[2].residual_gate = nn.Identity()
    unchanged(model, ["stages.0", "stages.2"], "stages.2 has an attribute 'residual_gate' of its own", RdmError)


def test_a_hook_that_took_the_place_of_forward_is_named():
    """As accelerate's and diffusers' hooks do: the gated class would never be called."""
    model = build("own")
    model.stages[0].forward = model.stages[0].forward
    unchanged(model, ["stages.0"], "stages.0 is not called through its class.*attach gates before the hook", RdmError)


@torch.no_grad()
def test_arguments_of_the_attention_reach_it():
    class Scaled(AttnProcessor2_0):
        def __call__(self, *args, boost=1.0, **kwargs):
            return super().__call__(*args, **kwargs) * boost

    model = build("diffusers-dit")
    for block in model.transformer_blocks:
        block.attn1.set_processor(Scaled())
    block, inputs = model.transformer_blocks[0], (torch.randn(2, 16, 16),)
    known = {"timestep": torch.tensor([3, 4]), "class_labels": torch.tensor([0, 1])}
    expected = block(*inputs, **known, cross_attention_kwargs={"boost": 5.0})
    for unit in ("block", "branch"):
        attach_gates(model, Gating(unit=unit))
        assert torch.equal(block(*inputs, **known, cross_attention_kwargs={"boost": 5.0}), expected)
        detach_gates(model)


@torch.no_grad()
def test_inputs_without_a_batch_keep_their_shape():
    model, state = build("own"), torch.randn(8, 4, 4)
    expected = model.stages[0](state)
    attach_gates(model, Gating(), ["stages.0"])
    assert torch.equal(model.stages[0](state), expected)


def test_a_state_given_by_keyword_is_named():
    model = attach_gates(build("own"), Gating(), ["stages.0"])
    with pytest.raises(RdmError, match="stages.0 was called with keywords alone; pass the state as first positional"):
        model.stages[0](x=torch.randn(1, 8, 4, 4))


def test_a_container_of_two_gated_networks_has_the_gates_of_both():
    first = gated("own", Gating())
    both = nn.ModuleDict({"model": first, "ema": copy.deepcopy(first)})
    assert len(gate_parameters(both)) == 2 * len(gate_parameters(first))
    assert next(iter(gates_of(both))) == "model.stages.0"


def test_attaching_twice_and_detaching_nothing_are_refused():
    model = gated("dit", Gating())
    with pytest.raises(RdmError, match="has gates already; attach them once"):
        attach_gates(model)
    with pytest.raises(RdmError, match="no gates to detach"):
        detach_gates(build("dit"))


def test_units_are_blocks_of_a_unet_else_of_a_transformer():
    assert all(isinstance(unit, BasicTransformerBlock) for unit in residual_units(build("dit")).values())
    unet = build("unet-cross")
    assert any(isinstance(module, BasicTransformerBlock) for module in unet.modules())
    assert not any(isinstance(unit, BasicTransformerBlock) for unit in residual_units(unet).values())
    assert residual_units(nn.Conv2d(SHAPE[0], 2, 1)) == {}
