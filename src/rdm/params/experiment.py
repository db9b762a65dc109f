"""A whole parameter file: its sections, and the systems, runs and samplers that follow from them."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field, PositiveInt

from rdm.errors import UsageError, nearest
from rdm.params.autoencoder import AnyAutoencoder, Borrowed, Encoding
from rdm.params.derived import ByDepth, ByRate, by_depth, by_rate, by_unit
from rdm.params.evaluation import Cell, Curve, Extractor, Figures, Published, Score, Tables
from rdm.params.network import TextNetwork
from rdm.params.performance import Performance
from rdm.params.protocol import Protocol
from rdm.params.sampler import Sampler
from rdm.params.schema import Baseline, Data, Denoiser, Distinct, FineTuned, PublishedBaseline, Train, channels
from rdm.params.section import Name, Section
from rdm.paths import run_name

DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
CONTROL = "-control"
CONTROL_ROW = ": ungated control"  # after the name of a gated row of a table: its twin's
UNSUPERVISED = "-unsupervised"
FLOOR = "floor-"  # before the name of a score: real items of the other split, scored like a run
System = Baseline | PublishedBaseline | FineTuned


class Parts(Section):
    """Into how many jobs, side by side on a cluster, the sampling of a run and the scoring of a system are cut.

    Nothing that is drawn or scored depends on it.
    """

    sample: PositiveInt = 1
    score: PositiveInt = 1


class Experiment(Section):
    """A whole parameter file."""

    name: Name
    protocols: dict[str, Protocol]  # by the name of the score; put in by `load`, from protocols.yaml beside the file
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"
    threads: PositiveInt = 1  # per process
    parts: Parts = Parts()
    gpus: dict[Name, PositiveInt] = Field(default={})  # that train a system together, where one does not hold its batch
    performance: Performance = Performance()
    seeds: Distinct[int]
    data: dict[Name, Data]
    latents: dict[Name, Encoding]
    train: Train
    sample: dict[Name, Sampler]
    score: Annotated[dict[Name, Score], Field(min_length=1)]
    published: dict[Name, Published] = Field(default={})
    tables: Tables
    figures: Figures

    @cached_property
    def systems(self) -> dict[str, System]:
        """All systems by name: the declared ones, the twins of the gated ones, and those that figures derive."""
        systems: dict[str, System] = {**self.train.baselines, **self.train.gated, **self.twins, **self.variants}
        systems |= {name: entry for name, _, _, entry in self.by_depth}
        return systems | {name: entry for name, _, _, entry in self.by_rate}

    @cached_property
    def twins(self) -> dict[str, FineTuned]:
        """Of each gated system the one without gates, and, if it is supervised, the one without supervision."""
        twins = {}
        for name, gated in self.train.gated.items():
            twins[name + CONTROL] = gated.model_copy(update={"gates": None})
            if gated.gates is not None and gated.gates.supervision is not None:
                unsupervised = gated.gates.model_copy(update={"supervision": None})
                twins[name + UNSUPERVISED] = gated.model_copy(update={"gates": unsupervised})
        return twins

    @cached_property
    def variants(self) -> dict[str, Baseline]:
        """The systems of Figure 6."""
        figure = self.figures.figure6
        return by_unit(figure, self.train) if figure else {}

    @cached_property
    def by_depth(self) -> list[ByDepth]:
        """The systems of Figure 7: (name, depth, gated, system)."""
        figure = self.figures.figure7
        return by_depth(figure, self.train) if figure else []

    @cached_property
    def by_rate(self) -> list[ByRate]:
        """The systems of the figure `rates` that it derives: (name, gated system, factor, system)."""
        figure = self.figures.rates
        return by_rate(figure, {**self.train.gated, **self.twins}) if figure else []

    @property
    def curves(self) -> dict[str, Curve]:
        """Those of Figures 6 and 7 that this experiment has."""
        figures = {"figure6": self.figures.figure6, "figure7": self.figures.figure7}
        return {name: figure for name, figure in figures.items() if figure is not None}

    @cached_property
    def samplers(self) -> dict[str, Sampler]:
        """The declared samplers, and those of Figure 6's snapshots, `<sampler>-step<n>`."""
        figure = self.figures.figure6
        if figure is None:
            return self.sample
        chosen = self.sample[figure.sampler]
        steps = [step for step in figure.steps if step < max(figure.steps)]
        return self.sample | {figure.at(step): chosen.model_copy(update={"step": step}) for step in steps}

    def baseline(self, system: str) -> Denoiser:
        """The baseline that `system` is or starts from: it fixes latents, network and diffusion."""
        entry = self.systems[system]
        return self.train.baselines[entry.start] if isinstance(entry, FineTuned) else entry

    @cached_property
    def autoencoders(self) -> dict[str, AnyAutoencoder]:
        """All autoencoders, by the name of the entry of `latents` whose own they are."""
        return {name: entry for name, entry in self.latents.items() if not isinstance(entry, Borrowed)}

    def lender(self, latents: str) -> str:
        """The entry of `latents` whose autoencoder encodes: itself, or the one that it names."""
        own = self.latents[latents]
        return own.autoencoder if isinstance(own, Borrowed) else latents

    def autoencoder(self, latents: str) -> AnyAutoencoder:
        """The autoencoder that encodes."""
        return self.autoencoders[self.lender(latents)]

    def is_mirrored(self, latents: str) -> bool:
        """Whether mirrored images or clips are encoded, too, and learned as often."""
        return bool(getattr(self.latents[latents], "mirror", False))

    def latent_channels(self, latents: str) -> int:
        """Of one item's latents; where these are pixels, of the images."""
        return self.autoencoder(latents).latent_channels or channels(self.data[self.latents[latents].data])

    def judge(self, score: str) -> str:
        """The score whose extractor judges in it: itself, or the one that it names."""
        named = self.score[score].extractor
        return named if isinstance(named, str) else score

    def extractor(self, score: str) -> Extractor:
        """The extractor that judges in a score."""
        own = self.score[self.judge(score)].extractor
        assert not isinstance(own, str)  # `check_scores` has seen to it
        return own

    def data_of(self, system: str) -> str:
        """The data set that a system learns."""
        return self.latents[self.baseline(system).latents].data

    def gpus_of(self, system: str) -> int:
        """How many GPUs train a system: as many as its gated twin, or the one that a figure changes to make it."""
        derived = {name: gated for name, gated, _, _ in self.by_rate}
        declared = derived.get(system, system).removesuffix(CONTROL).removesuffix(UNSUPERVISED)
        for figure, curve in self.curves.items():
            if system in self.figure_systems(figure):
                declared = curve.base
        return self.gpus.get(declared, 1)

    @cached_property
    def runs(self) -> dict[str, tuple[str, int]]:
        """All runs by name, as (system, seed)."""
        pairs = [(system, seed) for system in self.systems for seed in self.seeds_of(system)]
        return {run_name(self.name, system, seed): (system, seed) for system, seed in pairs}

    def seeds_of(self, system: str) -> tuple[int, ...]:
        """The seeds with which a system is trained: the experiment's, unless its baseline has its own."""
        return self.baseline(system).seeds or self.seeds

    def find_run(self, name: str) -> tuple[str, int]:
        """System and seed of a run. Raises UsageError with the nearest name if there is none."""
        if name not in self.runs:
            raise UsageError(f"There is no run {name!r} in experiment {self.name!r}; {nearest(name, self.runs)}")
        return self.runs[name]

    def scores_of(self, dataset: str) -> list[str]:
        """The names of the ways in which samples of a data set are scored."""
        return [name for name, score in self.score.items() if score.data == dataset]

    def scored_in(self, name: str) -> list[str]:
        """The scores in which a run, a floor or published samples are scored. Raises UsageError for other names."""
        if name in self.runs:
            return self.scores_of(self.data_of(self.runs[name][0]))
        if name.startswith(FLOOR) and name.removeprefix(FLOOR) in self.score:
            return [name.removeprefix(FLOOR)]
        return self.scores_of(self.find_samples(name).data)

    def dealing(self, dataset: str) -> Protocol:
        """A protocol of the data set: how many samples are drawn, of which labels. All of one set agree in this."""
        return self.protocols[self.scores_of(dataset)[0]]

    def label_rule(self, system: str, sampler: str) -> str:
        """How the labels of a system's samples are dealt: from text as the captions are, by the protocol."""
        own, text = self.samplers[sampler].labels, isinstance(self.baseline(system).network, TextNetwork)
        return own if own and not text else self.dealing(self.data_of(system)).labels

    def cells(self, table: str) -> list[Cell]:
        """What stands in the rows of `table1` or `table2`."""
        if table == "table1":
            return [cell for row in self.tables.table1.rows for cell in (row, row.text) if cell is not None]
        return [cell for row in self.tables.table2.rows for cell in row.cells] if self.tables.table2 else []

    def scores_in(self, table: str) -> list[str]:
        """The names of the scores that stand in the columns of `table1` or `table2`."""
        if table == "table1":
            first = self.tables.table1
            return list(dict.fromkeys(score for score in (first.score, first.text_score) if score))
        second = self.tables.table2
        return list(dict.fromkeys(column.score for column in second.columns.values())) if second else []

    def shown_systems(self, table: str) -> list[str]:
        """The systems of a table, with the controls of the gated ones."""
        named = dict.fromkeys(cell.system for cell in self.cells(table) if cell.system)
        return [s for name in named for s in ([name, name + CONTROL] if name in self.train.gated else [name])]

    def samplers_of(self, system: str) -> list[str]:
        """The samplers that tables and figures ask for of `system` (of a control: those of its gated twin)."""
        twin = system.removesuffix(CONTROL)
        cells = [*self.cells("table1"), *self.cells("table2")]
        wanted = {cell.sampler for cell in cells if cell.system == twin and cell.sampler}
        sixth, seventh = self.figures.figure6, self.figures.figure7
        if sixth is not None and system in self.variants:
            wanted |= {sixth.at(step) for step in sixth.steps}
        if seventh is not None and system in [name for name, *_ in self.by_depth]:
            wanted.add(seventh.sampler)
        if self.figures.rates is not None and system in self.figure_systems("rates"):
            wanted.update(self.figures.rates.samplers)
        return sorted(wanted)

    def pictured(self, gated: str) -> str | None:
        """The sampler by which Table 1's picture shows a gated system; None if no row of it has one of these."""
        return next((name for name in self.tables.table1.picture if name in self.samplers_of(gated)), None)

    def arms_of(self, gated: str) -> dict[str, str]:
        """What the effect of a gated system is taken apart into: a label for each of its twins and itself."""
        gates = self.train.gated[gated].gates
        if gates is None or gates.variant == "resnet":
            return {"without gates": gated}
        if gates.supervision is None:
            return {"without gates": gated + CONTROL, "gates": gated}
        return {"without gates": gated + CONTROL, "gates": gated + UNSUPERVISED, "gates, supervised": gated}

    def control_of(self, gated: str) -> str:
        """The ungated twin of a gated system, or of its twin without supervision."""
        return gated.removesuffix(UNSUPERVISED) + CONTROL

    def trio_of(self, gated: str) -> dict[str, str]:
        """What pictures and losses show side by side: a label for what a gated system starts from, its twin, itself."""
        return {"baseline": self.train.gated[gated].start, "control": gated + CONTROL, "gated": gated}

    def figure_systems(self, figure: str) -> list[str]:
        """The systems whose runs a figure shows."""
        if figure == "figure6":
            return list(self.variants)
        if figure == "figure7":
            return [name for name, *_ in self.by_depth]
        if figure == "rates":
            shown = [s for name, gated, _, _ in self.by_rate for s in (self.control_of(gated), gated, name)]
            return list(dict.fromkeys(shown))
        chosen = {name: self.train.gated[name] for name in self.figures.figure5.systems}
        if figure == "figure5":
            return [system for gated in chosen for system in self.arms_of(gated).values()]
        if figure == "losses":
            return list(dict.fromkeys(system for gated in chosen for system in self.trio_of(gated).values()))
        return [name for name, gated in chosen.items() if gated.gates and gated.gates.variant != "resnet"]

    def find_samples(self, name: str) -> Published:
        """A published sample set. Raises UsageError if nothing that can be scored has this name."""
        if name not in self.published:
            known = {*self.runs, *self.published, *(FLOOR + score for score in self.score)}
            raise UsageError(f"There is nothing to score named {name!r}; {nearest(name, known)}")
        return self.published[name]
