"""Gates do nothing at the start, something afterwards, and belong to the model that carries them."""

import copy

import pytest
import torch

from rdm.errors import RdmError
from rdm.models.gates import attach_gates, gate_parameters, gates_of, residual_units, split_state
from rdm.models.zoo import build_network
from rdm.params.schema import DiT, Gates, UNet

SHAPE, CLASSES = [4, 8, 8], 5
UNET = {"kind": "unet", "block_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4, "attention": (False, True)}
NETWORKS = {
    "dit": DiT(kind="dit", width=16, depth=3, heads=2, patch=2),
    "unet-add": UNet(**UNET, heads=2),
    "unet-cross": UNet(**UNET, heads=2, label="cross"),
}
GATES = {shape: Gates(shape=shape, learning_rate=1e-3) for shape in ("channel", "scalar")}


@pytest.fixture(params=NETWORKS)
def network(request):
    """A small network whose every weight is random: at DiT's own start its blocks are identities."""
    model = build_network(NETWORKS[request.param], SHAPE, CLASSES, seed=0)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.1)
    return model.eval()


@pytest.fixture(params=GATES)
def gates(request, network):
    if request.param == "scalar" and type(network).__name__ == "DiT":
        pytest.skip("refused: see test_scalar_gates_on_a_transformer_are_refused")
    return GATES[request.param]


def run(model, dtype=torch.float32):
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(3, *SHAPE, generator=random).to(dtype)
    return model(latents, torch.tensor([0, 17, 999]), torch.tensor([0, 4, CLASSES]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_identity_at_the_start_bit_for_bit(network, gates, dtype, training):
    network = network.to(dtype).train(training)
    before = run(network, dtype)
    attach_gates(network, gates).to(dtype)
    assert torch.equal(run(network, dtype), before)
    assert before.std() > 0


@torch.no_grad()
def test_every_gate_parameter_changes_the_output(network, gates):
    attach_gates(network, gates)
    before = run(network)
    for name in gates_of(network):
        for part in ("delta", "beta"):
            changed = copy.deepcopy(network)
            getattr(gates_of(changed)[name], part).add_(0.1)
            assert not torch.equal(run(changed), before), f"{name}.{part}"


@torch.no_grad()
def test_scalar_gates_on_a_transformer_are_refused():
    """Reading R2: LayerNorm removes a shift that is the same in every channel, so a scalar beta would be dead."""
    network = build_network(NETWORKS["dit"], SHAPE, CLASSES, seed=0)
    with pytest.raises(RdmError, match="a scalar beta is a no-op in a pre-LayerNorm transformer.*shape: channel"):
        attach_gates(network, GATES["scalar"])
    attach_gates(network, GATES["channel"])
    torch.nn.init.normal_(network.proj_out_2.weight)
    before = run(network)
    for gate in gates_of(network).values():
        gate.beta.fill_(0.5)
    torch.testing.assert_close(run(network), before, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_formula(network, gates):
    """One unit against z + alpha * F(z) + beta, where z is the unit's input or its projection."""
    unit_output = {}

    def keep(unit, args, output):
        unit_output[unit] = (args[0], output)

    hooks = [unit.register_forward_hook(keep) for unit in residual_units(network).values()]
    run(network)
    for hook in hooks:
        hook.remove()
    ungated = dict(unit_output)
    first = next(iter(residual_units(network).values()))
    attach_gates(network, gates)
    first.gate.delta.add_(0.5)
    first.gate.beta.add_(0.25)
    hook = first.register_forward_hook(keep)
    run(network)
    hook.remove()
    identity, output = ungated[first]
    if getattr(first, "conv_shortcut", None) is not None:
        identity = first.conv_shortcut(identity)
    torch.testing.assert_close(unit_output[first][1], identity + 1.5 * (output - identity) + 0.25)


@torch.no_grad()
def test_a_copy_uses_its_own_gates(network, gates):
    attach_gates(network, gates)
    duplicate = copy.deepcopy(network)
    before = run(network)
    for gate in gates_of(duplicate).values():
        gate.delta.sub_(0.5)
    assert torch.equal(run(network), before)
    assert not torch.equal(run(duplicate), before)


def test_own_weights_keep_names_and_values(network, gates):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    attach_gates(network, gates)
    own, gate_weights = split_state(network)
    assert own.keys() == before.keys()
    assert all(torch.equal(own[name], before[name]) for name in before)
    assert len(gate_weights) == len(gate_parameters(network)) == 2 * len(gates_of(network)) > 0
    assert sum(p.numel() for p in network.parameters()) == sum(t.numel() for t in own.values()) + sum(
        t.numel() for t in gate_weights.values()
    )


def test_attaching_twice_or_to_nothing_is_refused(network, gates):
    attach_gates(network, gates)
    with pytest.raises(RdmError, match="has gates already"):
        attach_gates(network, gates)
    with pytest.raises(RdmError, match="no residual units"):
        attach_gates(torch.nn.Linear(2, 2), gates)
