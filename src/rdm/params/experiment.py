"""A whole parameter file: its sections, the systems and runs that follow from them, and what must fit together."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from rdm.errors import ParameterError, UsageError, nearest
from rdm.params.protocol import Protocol
from rdm.params.schema import (
    Autoencoder,
    Baseline,
    Data,
    Figures,
    FineTuned,
    Name,
    Sampler,
    Score,
    Tables,
    Train,
)
from rdm.params.section import Section
from rdm.params.shapes import check_shapes
from rdm.paths import run_name

DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"
CONTROL = "-control"
UNSUPERVISED = "-unsupervised"


class Experiment(Section):
    """A whole parameter file."""

    name: Name
    protocol: Protocol  # put in by `load`, from protocols.yaml beside the parameter file
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"
    threads: PositiveInt = 1  # per process
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    data: dict[Name, Data]
    latents: dict[Name, Autoencoder]
    train: Train
    sample: dict[Name, Sampler]
    score: Score
    tables: Tables
    figures: Figures

    @property
    def systems(self) -> dict[str, Baseline | FineTuned]:
        """All systems by name, the derived twins of the gated ones included."""
        systems: dict[str, Baseline | FineTuned] = {**self.train.baselines, **self.train.gated}
        for name, gated in self.train.gated.items():
            systems[name + CONTROL] = gated.model_copy(update={"gates": None})
            if gated.gates is not None and gated.gates.supervision is not None:
                unsupervised = gated.gates.model_copy(update={"supervision": None})
                systems[name + UNSUPERVISED] = gated.model_copy(update={"gates": unsupervised})
        return systems

    def baseline(self, system: str) -> Baseline:
        """The baseline that `system` is or starts from: it fixes latents, network and diffusion."""
        entry = self.systems[system]
        return entry if isinstance(entry, Baseline) else self.train.baselines[entry.start]

    @property
    def runs(self) -> dict[str, tuple[str, int]]:
        """All runs by name, as (system, seed)."""
        return {run_name(self.name, system, seed): (system, seed) for system in self.systems for seed in self.seeds}

    def find_run(self, name: str) -> tuple[str, int]:
        """System and seed of a run. Raises UsageError with the nearest name if there is none."""
        if name not in self.runs:
            raise UsageError(f"There is no run {name!r} in experiment {self.name!r}; {nearest(name, self.runs)}")
        return self.runs[name]

    def samplers_of(self, system: str) -> list[str]:
        """The samplers that the table asks for of `system` (of a control: those of its gated twin)."""
        twin = system.removesuffix(CONTROL)
        return sorted({row.sampler for row in self.tables.rows if row.system == twin and row.sampler})

    def arms_of(self, gated: str) -> dict[str, str]:
        """What the effect of a gated system is taken apart into: a label for each of its twins and itself."""
        gates = self.train.gated[gated].gates
        if gates is None or gates.variant == "resnet":
            return {"without gates": gated}
        if gates.supervision is None:
            return {"without gates": gated + CONTROL, "gates": gated}
        return {"without gates": gated + CONTROL, "gates": gated + UNSUPERVISED, "gates, supervised": gated}

    def figure_systems(self, figure: str) -> list[str]:
        """The systems whose runs a figure shows."""
        if figure == "figure5":
            return [system for gated in self.train.gated for system in self.arms_of(gated).values()]
        return [name for name, gated in self.train.gated.items() if gated.gates and gated.gates.variant != "resnet"]

    def find_samples(self, name: str) -> str:
        """The file of a published sample set. Raises UsageError if neither a run nor a sample set has this name."""
        if name not in self.score.samples:
            known = {*self.runs, *self.score.samples, "floor"}
            raise UsageError(f"There is nothing to score named {name!r}; {nearest(name, known)}")
        return self.score.samples[name]

    @model_validator(mode="after")
    def fits_together(self) -> Experiment:
        """Every name that one section uses is declared in another."""
        for name, autoencoder in self.latents.items():
            _declared(f"latents.{name}.data", autoencoder.data, self.data)
        _declared("score.data", self.score.data, self.data)
        if self.score.extractor.kind != self.protocol.extractor:
            raise ParameterError(
                f"score.extractor.kind: protocol {self.score.protocol!r} is for {self.protocol.extractor!r}."
            )
        if self.score.extractor.kind == "inception" and self.data[self.score.data].source != "folder":
            raise ParameterError(
                f"score.extractor.kind: inception is for photographs; {self.score.data!r} is greyscale."
            )
        for name in {*self.runs, "floor"} & self.score.samples.keys():
            raise ParameterError(f"score.samples.{name}: this name is taken; choose another.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ParameterError(f"seeds: {list(self.seeds)} names a seed twice; the spread would be too small.")
        self._check_systems()
        self._check_tables()
        self._check_figures()
        check_shapes(self.data, self.latents, self.train, self.sample, self.score)
        return self

    def _check_systems(self) -> None:
        for name in {**self.train.baselines, **self.train.gated}:
            for ending in (CONTROL, UNSUPERVISED):
                if name.endswith(ending):
                    raise ParameterError(f"train: {name!r} ends in {ending!r}, which is for derived twins; rename it.")
        for name, baseline in self.train.baselines.items():
            _declared(f"train.baselines.{name}.latents", baseline.latents, self.latents)
        for name, gated in self.train.gated.items():
            _declared(f"train.gated.{name}.start", gated.start, self.train.baselines)
            if name in self.train.baselines:
                raise ParameterError(f"train.gated.{name}: a baseline has the same name; rename one of them.")
            if gated.gates is None:
                raise ParameterError(f"train.gated.{name}.gates is missing; the ungated control is made by itself.")

    def _check_tables(self) -> None:
        names = [row.row for row in self.tables.rows]
        for name in names:
            if names.count(name) > 1:
                raise ParameterError(f"tables.rows: {name!r} is there twice; give each row a name of its own.")
        for row in self.tables.rows:
            if row.samples is not None:
                _declared(f"tables.rows: {row.row}: samples", row.samples, self.score.samples)
            if row.system is not None and row.sampler is not None:
                _declared(f"tables.rows: {row.row}: system", row.system, {**self.train.baselines, **self.train.gated})
                _declared(f"tables.rows: {row.row}: sampler", row.sampler, self.sample)
        _declared("tables.picture", self.tables.picture, self.sample)
        for name, gated in self.train.gated.items():
            for system in (name, gated.start):
                if self.tables.picture not in self.samplers_of(system):
                    raise ParameterError(
                        f"tables.picture: no row of the table samples {system!r} with {self.tables.picture!r}; add one."
                    )

    def _check_figures(self) -> None:
        for step in self.figures.figure5.steps:
            for name, gated in self.train.gated.items():
                if step > gated.steps or (step % gated.log_every and step != gated.steps):
                    raise ParameterError(
                        f"figures.figure5.steps: step {step} of {name!r} is not logged; name multiples of its "
                        f"log_every, {gated.log_every}, up to {gated.steps}."
                    )


def _declared(where: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise ParameterError(f"{where}: {name!r} is not declared; {nearest(name, known)}")
