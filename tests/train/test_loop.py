"""Training is a function of (seed, step): exact on resume, the same for gated and ungated, averaged as promised."""

import copy
import math
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rdm.errors import RdmError
from rdm.models.gates import attach_gates, gate_parameters, gates_of, split_state
from rdm.models.zoo import build_network
from rdm.params.gates import Gates, Supervision
from rdm.params.schema import Diffusion, FineTuned
from rdm.train import loop
from rdm.train.loop import Items, Job, draw_batch, ema_decay, fit, update_ema
from rdm.train.state import TrainingState
from tests.models.small import CAPTIONS, CLASSES, NETWORKS, SHAPE, build

CPU = torch.device("cpu")
GATES = Gates(learning_rate=0.05, supervision=Supervision(kind="preserve"))


@pytest.fixture
def job(tmp_path):
    random = torch.Generator().manual_seed(0)
    optimisation = FineTuned(
        start="any", steps=9, batch=4, learning_rate=1e-3, warmup_steps=3, gradient_clip=1.0, ema_decay=0.8
    )
    return Job(
        optimisation,
        Diffusion(target="v"),
        gates=None,
        latents=torch.randn(10, *SHAPE, generator=random),
        labels=torch.arange(10) % CLASSES,
        null_label=CLASSES,
        stream=1,
        digest="this",
        state_path=tmp_path / "state" / "run.safetensors",
    )


def start(job, name="unet-add"):
    network = build_network(NETWORKS[name], SHAPE, CLASSES, seed=0)
    return attach_gates(network, job.gates) if job.gates else network


def weights(state):
    return {**state.model.state_dict(), **{f"ema.{name}": t for name, t in state.ema.state_dict().items()}}


def test_a_step_draws_one_of_the_captions_of_each_item(job):
    """And all else as of labels: the same items, noise, timesteps, and which are dropped."""
    captions = 100 * torch.arange(10)[:, None, None] + 10 * torch.arange(3)[:, None] + torch.arange(2)  # (10, 3, 2)
    from_text = replace(job, labels=captions, null_label=torch.tensor([-5, -1]))
    seen = set()
    for step in range(60):
        *plain, labels = draw_batch(job, Items(job.latents, job.labels), step)
        *other, tokens = draw_batch(from_text, Items(job.latents, captions), step)
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))
        assert tokens.shape == (4, 2)
        items = [next(i for i in range(10) if torch.equal(job.latents[i], latents)) for latents in plain[0]]
        for item, label, row in zip(items, labels.tolist(), tokens.tolist(), strict=True):
            if label == CLASSES:
                assert row == [-5, -1]
            else:
                assert row in captions[item].tolist()
                seen.add((item, row[0] % 100))
    assert len(seen) == 30


def test_the_frozen_encoder_does_not_move(job):
    """Trained on captions: what encodes them is what it was."""
    network = build("unet-text")
    before = copy.deepcopy(network.text._held[0].state_dict())
    tokens = network.text.tokens(CAPTIONS)[:, None]
    job = replace(job, latents=job.latents[:3], labels=tokens, null_label=network.text.null, gates=GATES)
    state = fit(attach_gates(network, GATES), job, CPU)
    after = network.text._held[0].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert state.ema.text is network.text
    assert any(gate.delta.any() for gate in gates_of(network).values())


@pytest.mark.parametrize("gates", [None, GATES], ids=["plain", "gated"])
def test_killed_and_resumed_is_the_same_to_the_last_bit(job, gates, monkeypatch):
    job = replace(job, gates=gates)
    whole = fit(start(job), replace(job, state_path=job.state_path.with_name("other")), CPU)

    monkeypatch.setattr(loop, "save_pause", lambda took: -1)
    step = loop._step

    def killed(state, *arguments):
        if state.step == 5:
            raise KeyboardInterrupt
        step(state, *arguments)

    monkeypatch.setattr(loop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(start(job), job, CPU)
    steps = []
    monkeypatch.setattr(loop, "_step", lambda state, *a: (steps.append(state.step), step(state, *a)))
    resumed = fit(start(job), job, CPU)
    assert steps == [5, 6, 7, 8]
    assert resumed.log == whole.log
    assert weights(resumed).keys() == weights(whole).keys()
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())


def test_saving_costs_two_percent_of_the_time_at_most(job, monkeypatch):
    """By a clock that steps of 7 seconds and saves alone move: 30 seconds after a save, or 50 times what it took."""
    clock, begun, ended, seconds = [0.0], [], [0.0], {2: 10.0}

    def step(state, *arguments):
        state.step += 1
        clock[0] += 7

    def save(state, path, digest):
        begun.append(clock[0])
        clock[0] += seconds.get(len(begun), 0.25)
        ended.append(clock[0])

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop, "_step", step)
    monkeypatch.setattr(TrainingState, "save", save)
    fit(start(job), replace(job, optimisation=job.optimisation.model_copy(update={"steps": 90})), CPU)
    assert [b - e for b, e in zip(begun, ended, strict=False)] == [35, 35, 504, 35]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_goes_on_from_there(job, monkeypatch, capsys, number):
    """As Slurm and Kubernetes ask before they kill."""
    step, usual = loop._step, signal.getsignal(number)

    def stopped(state, *arguments):
        step(state, *arguments)
        if state.step == 5:
            os.kill(os.getpid(), number)

    def rates(state):
        return [group["lr"] for group in state.optimiser.param_groups]

    job, seen = replace(job, gates=GATES), []
    whole = fit(start(job), replace(job, state_path=job.state_path.with_name("other")), CPU)
    monkeypatch.setattr(loop, "_step", stopped)
    with pytest.raises(RdmError, match=f"Stopped by {number.name} at step 5; the same command goes on from there"):
        fit(start(job), job, CPU)
    assert signal.getsignal(number) == usual
    monkeypatch.setattr(loop, "_step", step)
    resumed = fit(start(job), job, CPU, lambda state: seen.append((state.step, rates(state))))
    assert seen[0] == (5, [1e-3, 0.05])  # those of the step that was saved
    assert "Going on from step 5." in capsys.readouterr().err
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(resumed).items())


@pytest.mark.parametrize("gates", [None, GATES], ids=["plain", "gated"])
def test_a_snapshot_is_the_end_of_a_shorter_training(job, gates, monkeypatch):
    """To the last bit, whether the run is killed before it, after it, or not at all."""
    kept = replace(job, gates=gates, optimisation=job.optimisation.model_copy(update={"snapshots": (2, 5)}))
    expected = {}
    for steps in (2, 5):
        short = replace(kept, optimisation=job.optimisation.model_copy(update={"steps": steps}))
        expected[steps] = fit(start(short), short, CPU).ema.state_dict()
    whole = fit(start(kept), kept, CPU)
    last = {name: tensor.clone() for name, tensor in whole.ema.state_dict().items()}

    monkeypatch.setattr(loop, "save_pause", lambda took: -1)
    step, kills = loop._step, iter([2, 4, 5, 6, None])

    def killed(state, *arguments):
        if state.step == kill:
            raise KeyboardInterrupt
        step(state, *arguments)

    monkeypatch.setattr(loop, "_step", killed)
    for kill in kills:
        if kill is None:
            resumed = fit(start(kept), kept, CPU)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(start(kept), kept, CPU)
    for state in (whole, resumed):
        assert state.snapshots.keys() == expected.keys()
        for number, weights_then in expected.items():
            assert state.snapshots[number].keys() == weights_then.keys()
            assert all(torch.equal(state.snapshots[number][name], tensor) for name, tensor in weights_then.items())
        assert all(torch.equal(state.ema.state_dict()[name], tensor) for name, tensor in last.items())
    moved = [name for name, tensor in last.items() if not torch.equal(tensor, expected[5][name])]
    assert len(moved) > len(last) // 2


def test_a_state_of_other_parameters_or_a_damaged_one_is_discarded(job, monkeypatch):
    monkeypatch.setattr(loop, "save_pause", lambda took: -1)
    fit(start(job), job, CPU)
    assert job.state_path.is_file()
    steps = []
    step = loop._step
    monkeypatch.setattr(loop, "_step", lambda state, *a: (steps.append(state.step), step(state, *a)))
    fit(start(job), replace(job, digest="that"), CPU)
    assert steps[0] == 0
    job.state_path.write_bytes(job.state_path.read_bytes()[:1000])
    steps.clear()
    fit(start(job), job, CPU)
    assert steps[0] == 0


def test_gated_and_control_see_the_same_batches(job):
    data = Items(job.latents, job.labels)
    for step in (0, 3):
        pairs = zip(draw_batch(job, data, step), draw_batch(replace(job, gates=GATES), data, step), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(draw_batch(job, data, 0)[1], draw_batch(job, data, 1)[1])
    assert not torch.equal(draw_batch(job, data, 0)[1], draw_batch(replace(job, stream=2), data, 0)[1])


def test_labels_are_dropped_at_the_given_rate(job):
    optimisation = job.optimisation.model_copy(update={"batch": 2000, "label_dropout": 0.3})
    labels = draw_batch(replace(job, optimisation=optimisation), Items(job.latents, job.labels), 0)[3]
    assert (labels == CLASSES).float().mean().item() == pytest.approx(0.3, abs=0.04)
    never = job.optimisation.model_copy(update={"label_dropout": 0.0})
    assert CLASSES not in draw_batch(replace(job, optimisation=never), Items(job.latents, job.labels), 0)[3]


def test_ema_moves_every_parameter_the_gates_too(job):
    model = start(replace(job, gates=GATES))
    ema = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    update_ema(ema, model, 0.75)
    for name, parameter in ema.named_parameters():
        torch.testing.assert_close(parameter, dict(model.named_parameters())[name] - 0.75)


def test_the_ema_forgets_the_start_and_ends_at_its_decay(job):
    """(1 + n) / (10 + n), as latent-diffusion's ldm/modules/ema.py has it: nine tenths of the way is in the average."""
    optimisation = job.optimisation.model_copy(update={"ema_decay": 0.9999})
    decays = [ema_decay(optimisation, n) for n in range(1, 401)]
    assert decays[:2] == [2 / 11, 3 / 12]
    assert math.prod(decays) < 1e-12  # the share of the start
    drift = 0.0
    for n, decay in enumerate(decays, 1):
        drift = decay * drift + (1 - decay) * n / 400
    assert drift == pytest.approx(0.9, abs=0.01)
    assert ema_decay(optimisation, 10**6) == 0.9999


def test_the_ema_uses_its_own_gates(job):
    """A copied hook bound to the raw model's gates would silently change nothing."""
    state = fit(start(replace(job, gates=GATES)), replace(job, gates=GATES), CPU)
    inputs = torch.randn(2, *SHAPE), torch.tensor([3, 500]), torch.tensor([1, 2])
    with torch.no_grad():
        before = state.ema(*inputs)
        for parameter in gate_parameters(state.model):
            parameter.zero_()
        assert torch.equal(state.ema(*inputs), before)
        for parameter in gate_parameters(state.ema):
            parameter.zero_()
        assert not torch.equal(state.ema(*inputs), before)
    assert all(torch.count_nonzero(g) == 0 for g in split_state(state.ema)[1].values())


def trained(job, **changes):
    optimisation = job.optimisation.model_copy(update=changes)
    return fit(start(job), replace(job, optimisation=optimisation), CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 5e-4},
        {"warmup_steps": 0},
        {"cooldown_steps": 4},
        {"beta2": 0.9},
        {"weight_decay": 0.5},
        {"gradient_clip": None},
        {"label_dropout": 0.9},
        {"batch": 5},
        {"steps": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_key_of_the_recipe_changes_the_weights(job, changes):
    before, after = trained(job), trained(job, **changes)
    assert any(not torch.equal(a, b) for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True))


def test_ema_decay_changes_the_ema_alone(job):
    before, after = trained(job), trained(job, ema_decay=0.5)
    assert all(torch.equal(a, b) for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before.ema.parameters(), after.ema.parameters(), strict=True))


@pytest.mark.parametrize(
    "gates",
    [
        GATES.model_copy(update={"learning_rate": 0.01}),
        GATES.model_copy(update={"weight_decay": 5.0}),
        GATES.model_copy(update={"supervision": None}),
        GATES.model_copy(update={"supervision": Supervision(kind="preserve", weight=0.7)}),
        GATES.model_copy(update={"supervision": Supervision(kind="preserve", exact=True)}),
        GATES.model_copy(update={"alpha": 0.5}),
    ],
    ids=["learning_rate", "weight_decay", "supervision", "weight", "exact", "alpha"],
)
def test_every_key_of_the_gates_changes_the_gates(job, gates):
    before = fit(start(replace(job, gates=GATES)), replace(job, gates=GATES), CPU)
    after = fit(start(replace(job, gates=gates)), replace(job, gates=gates), CPU)
    pairs = zip(gate_parameters(before.model), gate_parameters(after.model), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_a_loss_that_is_not_finite_stops_the_run(job):
    with pytest.raises(RdmError, match="loss is nan at step 9; lower the learning rates"):
        fit(start(job), replace(job, latents=job.latents * float("nan")), CPU)


def test_decay_pulls_the_gates_to_where_they_do_nothing(job):
    """With nothing else to move them: alpha -> 1, beta -> 0."""
    gates = Gates(learning_rate=0.1, weight_decay=2.0, supervision=None, alpha=0.0, variant="rdm")
    still = replace(job, gates=gates, latents=torch.zeros_like(job.latents))
    optimisation = still.optimisation.model_copy(update={"steps": 2, "warmup_steps": 0, "learning_rate": 1e-12})
    model = start(still)
    nn.init.zeros_(model.conv_out.weight)  # no gradient reaches the gates
    state = fit(model, replace(still, optimisation=optimisation), CPU)
    for gate in gates_of(state.model).values():
        torch.testing.assert_close(gate.delta.detach(), torch.full_like(gate.delta, -0.64))  # -1 * 0.8 * 0.8


@pytest.mark.parametrize("variant", ["adaln", "skip", "resnet", "rezero"])
def test_every_variant_trains(job, variant):
    gates = Gates(learning_rate=0.05, variant=variant, supervision=None)
    state = fit(start(replace(job, gates=gates)), replace(job, gates=gates), CPU)
    assert all(torch.count_nonzero(parameter) for parameter in gate_parameters(state.model))
    assert bool(gate_parameters(state.model)) == (variant != "resnet")


def test_the_log_holds_loss_and_sensitivity(job):
    logged = replace(job, optimisation=job.optimisation.model_copy(update={"log_every": 4}))
    state = fit(start(logged), logged, CPU)
    assert [line["step"] for line in state.log] == [4, 8, 9]
    assert all(line["loss"] > 0 for line in state.log)
    assert len(state.log[0]["sensitivity"]) > 3
    assert 0 < state.log[0]["supervised_share"] <= 1  # what the supervision would do, without gates
    assert state.log[0]["supervision_to_loss"] is None


@pytest.mark.parametrize("gates", [None, GATES], ids=["plain", "gated"])
def test_logging_leaves_the_training_alone(job, gates):
    job = replace(job, gates=gates)
    often = replace(job, optimisation=job.optimisation.model_copy(update={"log_every": 1}))
    first, second = fit(start(job), job, CPU), fit(start(often), often, CPU)
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in weights(first).items())
    assert second.log[-1]["sensitivity"] == first.log[-1]["sensitivity"]


def test_sensitivity_is_probed_on_one_batch(job):
    """At a rate of nothing the network stays what it is, and so does its sensitivity, whatever batch it trains on."""
    still = replace(job, optimisation=job.optimisation.model_copy(update={"log_every": 1, "learning_rate": 1e-12}))
    lines = fit(start(still, "unet-cross"), still, CPU).log
    assert lines[0]["loss"] != lines[8]["loss"]
    assert lines[0]["sensitivity"] == pytest.approx(lines[8]["sensitivity"], abs=1e-4)


def test_supervision_is_logged_whether_it_acts_or_not(job):
    gated = replace(job, gates=GATES.model_copy(update={"supervision": None}))
    assert fit(start(gated), gated, CPU).log[-1]["supervision_to_loss"] > 0
