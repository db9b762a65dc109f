"""The training loop: a pure function of (seed, step), interruptible anywhere, exact on resume."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from rdm.diffusion.process import forward_process, training_loss
from rdm.distributed import average, own_rows
from rdm.errors import RdmError
from rdm.latents.mapped import MappedLatents, Stored, place, sent
from rdm.models.gates import gate_parameters
from rdm.models.sensitivity import States, record_states
from rdm.models.supervision import (
    descend,
    exact_gradients,
    gradients,
    relative_size,
    share,
    twice_differentiable,
)
from rdm.params.gates import Gates, Supervision
from rdm.params.performance import Performance
from rdm.params.schema import Diffusion, Optimisation
from rdm.performance import compile_blocks, in_precision, lay_out, rounding
from rdm.progress import is_first, progress
from rdm.randomness import batch_items, generator, seed_of
from rdm.train.state import TrainingState

LOWEST = 0.05  # of the learning rate, to which it is cooled down
SAVE_EVERY = 30  # seconds between saves, at least: what a killed run loses
SAVE_SHARE = 0.02  # of the time, which saving may take at most: slow saves come less often


class Items(NamedTuple):
    """What is learned, on its device."""

    latents: Stored
    labels: Tensor
    spread: Stored | None = None


@dataclass(frozen=True)
class Job:
    """One training. stream: the seed of everything random in it.

    latents: (N, [T,] C, h, w). labels: int64 (N,); or, of each item some captions, their tokens (N, captions, length).
    null_label: the label that means none; or the tokens of the empty caption (length,).
    spread: standard deviations like `latents`, around which each step draws anew; None: there are none.
    """

    optimisation: Optimisation
    diffusion: Diffusion
    gates: Gates | None
    latents: Stored
    labels: Tensor
    null_label: int | Tensor
    stream: int
    digest: str
    state_path: Path
    spread: Stored | None = None
    performance: Performance = field(default_factory=Performance)


def fit(
    model: nn.Module, job: Job, device: torch.device, watch: Callable[[TrainingState], None] = lambda _: None
) -> TrainingState:
    """Train `model` in place; returns the final state, whose `ema` is the result.

    watch: sees the state before the first step and after each log line.
    Goes on from job.state_path if it holds a state of the same digest. Raises RdmError if the loss is not finite, and,
    with the state saved, when a signal asks it to stop, as a cluster does before it kills.
    """
    state, data = begin(model, job, device)
    if state.restore(job.state_path, job.digest):
        _set_rates(state, job.optimisation, state.step - 1)  # of its last step; they are no part of the state
        if is_first():
            print(f"Going on from step {state.step}.", file=sys.stderr)
    process = forward_process(job.diffusion)
    saved, pause = time.monotonic(), save_pause(0)
    watch(state)
    steps = progress("train", job.optimisation.steps, state.step)
    with steps as bar, _stop_signals() as received, rounding(job.performance.train):
        while state.step < job.optimisation.steps:
            _step(state, job, process, data)
            bar.update()
            if state.log and state.log[-1]["step"] == state.step:
                watch(state)
            now = time.monotonic()
            if is_first() and (received or now - saved > pause):  # the others wait, at the next step, for its gradients
                state.save(job.state_path, job.digest)
                saved = time.monotonic()
                pause = save_pause(saved - now)
            if is_first() and received:  # the others wait for the first one, and end with it
                raise RdmError(f"Stopped by {received[0]} at step {state.step}; the same command goes on from there.")
    return state


def save_pause(took: float) -> float:
    """Seconds to wait for the next save after one that took `took` seconds."""
    return max(SAVE_EVERY, took / SAVE_SHARE)


def begin(model: nn.Module, job: Job, device: torch.device) -> tuple[TrainingState, Items]:
    """Before the first step, on the device: the network as the switches ask, its average and optimiser; the data."""
    model = lay_out(model.to(device).train(), job.performance)
    ema = copy.deepcopy(model).eval().requires_grad_(False)  # before the blocks are compiled, which a copy would share
    if job.optimisation.checkpointing:
        model.enable_gradient_checkpointing()  # type: ignore[operator]
    compile_blocks(model, job.performance)
    state = TrainingState(model, ema, _optimiser(model, job), torch.zeros((), device=device), step=0, log=[])
    latents, spread = place(device, job.latents, job.spread)
    return state, Items(latents, job.labels.to(device), spread)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """The names of signals to stop that arrive in this block; they do nothing else."""
    received: list[str] = []
    usual = {
        number: signal.signal(number, lambda number, _: received.append(signal.Signals(number).name))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _optimiser(model: nn.Module, job: Job) -> torch.optim.Optimizer:
    """AdamW; gates are a group with a rate and decay of their own: delta and beta are zero where a gate does nothing.

    `base` is the rate between warm-up and cool-down.
    """
    gates = gate_parameters(model)
    gate_ids = {id(parameter) for parameter in gates}
    weights = [parameter for parameter in model.parameters() if id(parameter) not in gate_ids]
    optimisation = job.optimisation
    groups = [{"params": weights, "base": optimisation.learning_rate, "weight_decay": optimisation.weight_decay}]
    if job.gates is not None:
        groups.append({"params": gates, "base": job.gates.learning_rate, "weight_decay": job.gates.weight_decay})
    return torch.optim.AdamW(groups, lr=optimisation.learning_rate, betas=(0.9, optimisation.beta2), fused=True)


def _step(state: TrainingState, job: Job, process: DDIMScheduler, data: Items) -> None:
    """One optimiser step, with everything that belongs to it."""
    optimisation, step = job.optimisation, state.step
    factor = _set_rates(state, optimisation, step)
    supervision = job.gates.supervision if job.gates is not None else None
    model = in_precision(state.model, job.performance.train, data.latents.device)
    with _watched(state.model, supervision) as states:
        loss = training_loss(model, process, *draw_batch(job, data, step))
    state.optimiser.zero_grad()
    term = _backward(loss, states, supervision, state.model.parameters())
    if optimisation.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), optimisation.gradient_clip)
    if states and supervision and job.gates:
        descend(states, term, supervision, job.gates.learning_rate * factor)
    state.optimiser.step()
    update_ema(state.ema, state.model, ema_decay(optimisation, step + 1))
    state.loss_sum += loss.detach()
    state.step += 1
    if state.step in optimisation.snapshots:
        state.keep_snapshot()
    if state.step % optimisation.log_every == 0 or state.step == optimisation.steps:
        _log(state, _probe(state.model, job, process, data))


def _set_rates(state: TrainingState, optimisation: Optimisation, step: int) -> float:
    """Give the optimiser the learning rates of a step; returns what they were multiplied by."""
    factor = rate_factor(optimisation, step)
    for group in state.optimiser.param_groups:
        group["lr"] = group["base"] * factor
    return factor


def rate_factor(optimisation: Optimisation, step: int) -> float:
    """What the learning rate of a step, counted from 0, is multiplied by: a linear rise to 1, a cosine fall to 1/20."""
    rise, fall = optimisation.warmup_steps, optimisation.cooldown_steps
    factor = min(1.0, (step + 1) / rise) if rise else 1.0
    left = optimisation.steps - step - 1
    if left < fall:
        factor *= LOWEST + (1 - LOWEST) * 0.5 * (1 - math.cos(math.pi * left / fall))
    return factor


@contextlib.contextmanager
def _watched(model: nn.Module, supervision: Supervision | None) -> Iterator[States | None]:
    """A forward pass whose residual states are kept if the gates are supervised."""
    if supervision is None:
        yield None
        return
    with record_states(model) as states, twice_differentiable() if supervision.exact else contextlib.nullcontext():
        yield states


def _backward(
    loss: Tensor, states: States | None, supervision: Supervision | None, averaged: Iterable[nn.Parameter]
) -> list[Tensor]:
    """The gradients of the loss, and (returned) of the supervision on every gate.

    averaged: the parameters whose gradients are those of the batches of all processes, as the returned ones are.
    """
    term: list[Tensor] = []
    if states is not None and supervision is not None and supervision.exact:
        term = exact_gradients(states, loss, supervision)
    loss.backward()
    if states is not None and supervision is not None and not supervision.exact:
        term = gradients(states, supervision)
    average([parameter.grad for parameter in averaged])
    average([*term, loss])
    return term


def draw_batch(job: Job, data: Items, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, noise, timesteps and labels (some dropped to the null label) of a step: a function of (stream, step).

    Of several processes, each draws the whole batch and keeps its own rows. On a GPU nothing waits here for the step
    before: what is drawn is drawn while that is computed.
    """
    latents, labels, spread = data
    batch, random = job.optimisation.batch, generator(job.stream, "step", step)
    drawn = (
        batch_items(job.stream, step, batch, len(latents)),
        torch.randn(batch, *latents.shape[1:], generator=random),
        torch.randint(job.diffusion.timesteps, (batch,), generator=random),
        torch.rand(batch, generator=random) < job.optimisation.label_dropout,
    )
    rows = own_rows(batch)
    device = latents.device
    items, noise, timesteps, dropped = (sent(values[rows], device) for values in drawn)
    read = drawn[0][rows] if isinstance(latents, MappedLatents) else items
    chosen = latents[read]
    if spread is not None:  # drawn last: whoever has none sees the same noise
        around = sent(torch.randn(batch, *latents.shape[1:], generator=random)[rows], device)
        chosen = chosen.float() + spread[read].float() * around
    given = labels[items]
    if labels.ndim == 3:  # one of the captions of each
        which = sent(torch.randint(labels.shape[1], (batch,), generator=random)[rows], device)
        given = given[torch.arange(len(which), device=device), which]
    null = sent(torch.as_tensor(job.null_label), device)
    return chosen, noise, timesteps, torch.where(dropped.view(-1, *[1] * (given.ndim - 1)), null, given)


def ema_decay(optimisation: Optimisation, updates: int) -> float:
    """Shorter at first, as in LDM's LitEma: weights that a short training starts from must not dominate its average."""
    return min(optimisation.ema_decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * model, for every parameter, the gates' included."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


def _probe(model: nn.Module, job: Job, process: DDIMScheduler, data: Items) -> dict[str, Any]:
    """r_i by depth (None while no gradient reaches the states), share of states supervised, and how strongly.

    Measured on one batch, the same at every log line and in every twin, so that what changes is the network. Of runs
    without supervision it says what the default one would do.
    """
    supervision = (job.gates.supervision if job.gates is not None else None) or Supervision()
    batch = draw_batch(replace(job, stream=seed_of(job.stream, "probe")), data, 0)
    model.zero_grad()
    with _watched(model, supervision) as states:
        loss = training_loss(in_precision(model, job.performance.train, data.latents.device), process, *batch)
    term = _backward(loss, states, supervision, gate_parameters(model))
    assert states is not None
    profile = states.profile().tolist()
    line = {
        "sensitivity": [float(f"{r:.6g}") for r in profile] if all(map(math.isfinite, profile)) else None,
        "supervised_share": round(float(share(states, supervision)), 6),
        "supervision_to_loss": float(f"{relative_size(states, term, supervision):.4g}") if term else None,
    }
    model.zero_grad()
    return line


def _log(state: TrainingState, line: dict[str, Any]) -> None:
    """Append a log line: what was measured after this step, and the mean loss since the last line."""
    steps = state.step - (state.log[-1]["step"] if state.log else 0)
    loss = float(state.loss_sum) / steps
    if loss != loss or abs(loss) == float("inf"):
        raise RdmError(f"The loss is {loss} at step {state.step}; lower the learning rates or set gradient_clip.")
    state.loss_sum.zero_()
    state.log.append({"step": state.step, "loss": loss, **line})
