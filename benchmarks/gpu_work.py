"""What benchmarks/gpu.py times: this package's own steps of training, sampling and encoding, each beside its peers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gates import randomised
from peers import COMPILED, EAGER, encoding, sampling, training
from torch import Tensor

from rdm import params
from rdm.diffusion.process import forward_process
from rdm.diffusion.sampling import draw_latents
from rdm.latents.codec import LatentCodec, build_autoencoder
from rdm.models.gates import attach_gates
from rdm.models.zoo import build_network
from rdm.params.gates import Gates, Supervision
from rdm.params.performance import Performance
from rdm.params.schema import DiT, FineTuned, UNet
from rdm.performance import compile_blocks, in_precision, lay_out, rounding
from rdm.plan.stage import Plan
from rdm.train import loop

ROOT = Path(__file__).resolve().parents[1]
OURS = "rdm"
FAST = Performance(train="bfloat16", sample="bfloat16", autoencoder="bfloat16", compile=True, channels_last=True)
GATES = Gates(learning_rate=1e-6, supervision=None)
SUPERVISED = GATES.model_copy(update={"supervision": Supervision()})
SAMPLED, STEPS = 5, 250  # so many steps are timed of so many: one takes as long as any other
# training steps, or batches encoded, in a call: what comes next is drawn while the GPU is at the one before
AT_ONCE = 4
Call = Callable[[], object]


@dataclass(frozen=True)
class Scale:
    """Which networks of which parameter file, and batches: ours, and those of the official scripts on one GPU."""

    file: str
    latte: str
    autoencoder: str
    batches: dict[str, tuple[int, int]]
    seconds: float  # for the rounds beside each peer
    product: int
    copied: int  # bytes


# the U-Net last: its twenty kinds of blocks take longest to compile
FULL_BATCHES = {"DiT": (256, 32), "Latte": (16, 5), "encode": (100, 32), "sample": (64, 32), "U-Net": (96, 64)}
FULL = Scale("paper.yaml", "ucf101-latte", "kl-f8", FULL_BATCHES, 8, 8192, 1 << 31)
TINY = Scale("ci.yaml", "ucf-latte", "f4", dict.fromkeys(FULL_BATCHES, (2, 2)), 0.1, 64, 1 << 16)


@dataclass(frozen=True)
class Pair:
    """Two contestants at one kind of work: how each is made with a batch, and the batches wanted."""

    work: str
    makers: dict[str, Callable[[int], Call]]
    batches: tuple[int, int]


def repeated(step: Call) -> Call:
    """Some in a row, as a training makes steps, and official scripts encode batches."""
    return lambda: [step() for _ in range(AT_ONCE)]


class Bench:
    """The work of one scale on one device."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale, self.device = scale, device
        self.large = device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory > 100e9
        experiment = params.load(ROOT / "params" / scale.file)
        plan = Plan(experiment, {}, 0)
        systems = {"DiT": "dit", "Latte": scale.latte, "U-Net": "ldm4"}
        self.networks: dict[str, DiT | UNet] = {w: experiment.baseline(s).network for w, s in systems.items()}
        self.items = {work: (plan.shape_of(s), plan.classes_of(s)) for work, s in systems.items()}
        self.autoencoder = experiment.autoencoder(scale.autoencoder)
        self.size = experiment.data[experiment.latents[scale.autoencoder].data].image_size
        self.diffusion = experiment.baseline("dit").diffusion
        self.sampler = experiment.samplers["guided"].model_copy(update={"steps": SAMPLED})
        costs = {work: plan.cost_of(system) for work, system in systems.items()}
        self.flops = {work: 3 * cost.forward_flops for work, cost in costs.items()}
        self.flops |= {"sample": 2 * STEPS * costs["DiT"].forward_flops}
        self.flops |= {"encode": plan.codec_cost(scale.autoencoder).encoder_flops}

    def first_batch(self, wanted: int) -> int:
        """Half of a large one on a GPU of 80 GB: to see that it does not fit would cost a compilation."""
        return wanted // 2 if wanted > 64 and not self.large else wanted

    def train(self, work: str, gates: Gates | None, batch: int) -> Call:
        """`rdm train`'s step: the batch drawn, the loss, AdamW, the average."""
        shape, classes = self.items[work]
        with self.device:
            network = randomised(build_network(self.networks[work], shape, classes, seed=0))
        if gates is not None:
            attach_gates(network, gates)
        optimisation = FineTuned(
            start="any", steps=10**6, batch=batch, learning_rate=1e-6, ema_decay=0.9999, log_every=10**6
        )
        latents, labels = torch.randn(2 * batch, *shape), torch.zeros(2 * batch, dtype=torch.int64)
        what = optimisation, self.diffusion, gates, latents, labels, classes, 0, "", Path()
        # of a KL autoencoder, as DiT's and Latte's, every step draws the latents anew
        spread = torch.rand_like(latents) if work != "U-Net" else None
        job = loop.Job(*what, spread, FAST)
        state, data = loop.begin(network, job, self.device)
        process = forward_process(job.diffusion)

        def step() -> None:
            with rounding(FAST.train):  # as the training loop as a whole
                loop._step(state, job, process, data)

        return repeated(step)

    def draw(self, denoise: Callable[..., Tensor], batch: int) -> Call:
        """`rdm sample`'s batch, a few of its steps."""
        shape, classes = self.items["DiT"]
        labels, keys = torch.zeros(batch, dtype=torch.int64, device=self.device), [(0, i) for i in range(batch)]
        return lambda: draw_latents(denoise, self.diffusion, self.sampler, shape, labels, classes, keys)

    def sample(self, batch: int) -> Call:
        """The same with our network."""
        shape, classes = self.items["DiT"]
        with self.device:
            network = randomised(build_network(self.networks["DiT"], shape, classes, seed=0)).eval()
        compile_blocks(lay_out(network, FAST), FAST)
        return self.draw(in_precision(network, FAST.sample, self.device), batch)

    def encode(self, batch: int) -> Call:
        """`rdm latents`' batches: from bytes in the host's memory, and once a shard back to it."""
        with self.device:
            network = build_autoencoder(self.autoencoder, 3, self.size).to(self.device).eval()
            zero, one = torch.zeros(1), torch.ones(1)
        codec = LatentCodec(compile_blocks(lay_out(network, FAST), FAST), zero, one, FAST.autoencoder)
        images = np.random.default_rng(0).integers(256, size=(batch, self.size, self.size, 3), dtype=np.uint8)
        return lambda: torch.cat([codec.encode_raw(images) for _ in range(AT_ONCE)]).cpu()

    def peer(self, work: str, peer: str, batch: int) -> Call:
        """The same work by a peer."""
        if work == "encode":
            return repeated(encoding(peer, self.autoencoder, self.size, self.device, batch))
        kind = "DiT" if work == "sample" else work
        what = self.networks[kind], *self.items[kind], self.device
        return self.draw(sampling(peer, *what), batch) if work == "sample" else repeated(training(peer, *what, batch))

    def ours(self, work: str) -> Callable[[int], Call]:
        """What stands against the peers; of the transformers, gated, as Table 1 and 2 train them."""
        if work in ("sample", "encode"):
            return getattr(self, work)  # type: ignore[no-any-return]
        return functools.partial(self.train, work, None if work == "U-Net" else GATES)

    def pairs(self) -> list[Pair]:
        """What decides a target comes first."""
        own, ours, ungated = self.scale.batches, self.ours("DiT"), functools.partial(self.train, "DiT", None)
        supervised, batch = functools.partial(self.train, "DiT", SUPERVISED), own["DiT"][0]
        beside = [
            Pair(work, {OURS: self.ours(work), peer: functools.partial(self.peer, work, peer)}, (ours, theirs))
            for peer in (EAGER, COMPILED)
            for work, (ours, official) in own.items()
            for theirs in (official if peer == EAGER else ours,)
        ]
        gates = Pair("gates", {f"{OURS}, gated": ours, f"{OURS}, ungated": ungated}, (batch, batch))
        extra = Pair("supervision", {f"{OURS}, supervised": supervised, f"{OURS}, gated": ours}, (batch, batch))
        return [gates, *beside[:-1], extra, beside[-1]]  # the last compiles longest, and may find no time
