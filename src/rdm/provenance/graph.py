"""An experiment as jobs: each an `rdm` command, what it reads and what it makes. Snakefile and dvc.yaml follow from it.

An artefact stands for its folder; scores, tables and figures are files. No torch here, so that planning stays fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rdm import paths
from rdm.params import FLOOR, Experiment
from rdm.params import dependencies as of
from rdm.params.dependencies import Values
from rdm.params.evaluation import Classifier
from rdm.params.network import TextNetwork

PICTURES = {"table1": ["samples"], "table2": ["clips", "moving-clips"]}  # drawn beside the tables
WRITE_ANYWAY = ("score", "tables", "figures")  # seconds each; the other verbs leave what is current


@dataclass(frozen=True)
class Job:
    """One command. names: what follows the verb. makes: each output with the parameters that its recipe names."""

    verb: str
    names: tuple[str, ...]
    reads: tuple[Path, ...]
    makes: dict[Path, Values]

    @property
    def command(self) -> str:
        """As it is typed."""
        words = ["rdm", self.verb, *self.names, *(["--overwrite"] if self.verb not in WRITE_ANYWAY else [])]
        return " ".join(words)


def declared(output: Path) -> str:
    """The file that appears when an output is whole: an artefact's manifest, or itself."""
    return str(output / paths.MANIFEST if output.is_relative_to(paths.RESULTS) and not output.suffix else output)


def data(experiment: Experiment, dataset: str) -> Job:
    """A stored data set."""
    return Job("data", (dataset,), (), {paths.data(dataset): of.of_data(experiment, dataset)})


def autoencoder(experiment: Experiment, name: str) -> Job:
    """A trained autoencoder, of an entry that has its own."""
    dataset = experiment.latents[name].data
    makes = {paths.autoencoder(dataset, name): of.of_autoencoder(experiment, name)}
    return Job("autoencoder", (name,), (paths.data(dataset),), makes)


def latents(experiment: Experiment, name: str) -> Job:
    """An encoded data set."""
    dataset, lender = experiment.latents[name].data, experiment.lender(name)
    makes = {paths.latents(dataset, name): of.of_latents(experiment, name)}
    reads = paths.data(dataset), paths.autoencoder(experiment.latents[lender].data, lender)
    return Job("latents", (name,), reads, makes)


def extractor(experiment: Experiment, score: str) -> Job:
    """The classifier through which a score sees its data set."""
    dataset = experiment.score[score].data
    makes = {paths.extractor(dataset, score): of.of_extractor(experiment, score)}
    return Job("extractor", (score,), (paths.data(dataset),), makes)


def train(experiment: Experiment, run: str) -> Job:
    """A trained run: from its latents, from text their captions, and the run that it starts from, if there is one."""
    start, (system, _) = of.start_of(experiment, run), experiment.find_run(run)
    captions = isinstance(experiment.baseline(system).network, TextNetwork)
    reads = (
        _latents_of(experiment, run),
        *([paths.data(experiment.data_of(system))] if captions else []),
        *([paths.train(start)] if start else []),
    )
    return Job("train", (run,), reads, {paths.train(run): of.of_train(experiment, run)})


def sample(experiment: Experiment, run: str) -> Job:
    """The samples of a run, with each sampler that tables and figures ask for."""
    system, _ = experiment.find_run(run)
    reads = (paths.train(run), _latents_of(experiment, run), paths.data(experiment.data_of(system)))
    makes = {paths.sample(run, s): of.of_sample(experiment, run, s) for s in experiment.samplers_of(system)}
    return Job("sample", (run,), reads, makes)


def score(experiment: Experiment, system: str) -> Job:
    """The scores of a system: all its seeds in one process, which loads the extractor once."""
    runs, scores = runs_of(experiment, [system]), experiment.scores_of(experiment.data_of(system))
    makes = {
        paths.score(run, sampler, experiment.score[name].protocol): of.of_score(experiment, run, sampler, name)
        for run in runs
        for sampler in experiment.samplers_of(system)
        for name in scores
    }
    return Job("score", tuple(runs), _distinct(_samples_of(experiment, system), _judges(experiment, scores)), makes)


def floor(experiment: Experiment, score: str) -> Job:
    """The scores of real items."""
    parameters = experiment.score[score]
    makes = {paths.floor(parameters.data, parameters.protocol): of.of_scoring(experiment, score)}
    return Job("score", (FLOOR + score,), _distinct(_judges(experiment, [score])), makes)


def published(experiment: Experiment, name: str) -> Job:
    """The scores of a published sample set."""
    samples = experiment.published[name]
    scores = experiment.scores_of(samples.data)
    makes = {
        paths.published_score(name, experiment.score[s].protocol): of.of_published_score(experiment, name, s)
        for s in scores
    }
    return Job("score", (name,), _distinct([Path(samples.path)], _judges(experiment, scores)), makes)


def table(experiment: Experiment, name: str) -> Job:
    """A table, its runs and its pictures: from the runs of every row, of controls and floors, samples and scores."""
    systems = experiment.shown_systems(name)
    sets = dict.fromkeys(cell.samples for cell in experiment.cells(name) if cell.samples)
    quoted = [path for samples in sets for path in published(experiment, samples).makes]
    files = [
        *(paths.table(name, suffix) for suffix in ("csv", "md", "tex", "html")),
        *(paths.table_runs(name, suffix) for suffix in ("csv", "html")),
        *(paths.figure(picture) for picture in PICTURES[name]),
    ]
    reads = _distinct(quoted, _quality(experiment, systems, experiment.scores_in(name)))
    return Job("tables", (name,), reads, {file: {} for file in files})


def figure(experiment: Experiment, name: str) -> Job:
    """A figure and its numbers: from the runs that it shows, and where it shows quality their scores."""
    systems = experiment.figure_systems(name)
    runs = [paths.train(run) for run in runs_of(experiment, systems)]
    shown = {**experiment.curves, "rates": experiment.figures.rates}.get(name)
    quality = _quality(experiment, systems, [shown.score]) if shown else []
    return Job("figures", (name,), _distinct(runs, quality), {paths.figure(name): {}, paths.figure(name, "csv"): {}})


def claims(experiment: Experiment) -> Job:
    """A verdict on each claim: from the scores of all tables and curves, and the logs that Figure 5 shows."""
    tables, curves = _tables(experiment), experiment.curves
    systems = [s for name in tables for s in experiment.shown_systems(name)]
    systems = list(dict.fromkeys([*systems, *(s for name in curves for s in experiment.figure_systems(name))]))
    sets = dict.fromkeys(cell.samples for name in tables for cell in experiment.cells(name) if cell.samples)
    judged = [*(s for name in tables for s in experiment.scores_in(name)), *(curve.score for curve in curves.values())]
    quoted = [path for samples in sets for path in published(experiment, samples).makes]
    logged = [paths.train(run) for run in runs_of(experiment, experiment.figure_systems("figure5"))]
    makes = {paths.table("claims", suffix): Values() for suffix in ("csv", "md", "html")}
    return Job("tables", ("claims",), _distinct(quoted, _quality(experiment, systems, judged), logged), makes)


def runs_of(experiment: Experiment, systems: list[str]) -> list[str]:
    """The runs of these systems, one per seed."""
    return [run for run, (system, _) in experiment.runs.items() if system in systems]


def targets(experiment: Experiment) -> list[str]:
    """The tables and figures that an experiment has, and the claims."""
    rates = ["rates"] if experiment.figures.rates else []
    return [*_tables(experiment), "figure5", "gates", "losses", *experiment.curves, *rates, "claims"]


def target(experiment: Experiment, name: str) -> Job:
    """The job that makes one of these; the first file that it makes stands for the others."""
    if name == "claims":
        return claims(experiment)
    return table(experiment, name) if name in PICTURES else figure(experiment, name)


def makers(experiment: Experiment) -> dict[Path, Job]:
    """The job that makes each output: of every stage, tables included, figures excluded."""
    tables = [table(experiment, name) for name in targets(experiment) if name in PICTURES]
    return {path: job for job in [*_all(experiment), *tables] for path in job.makes}


def jobs(experiment: Experiment, wanted: list[str]) -> Iterator[Job]:
    """The jobs that these tables and figures need, each after those that it reads from."""
    by_output = makers(experiment)
    done: set[str] = set()

    def with_inputs(job: Job) -> Iterator[Job]:
        if job.command not in done:
            done.add(job.command)
            for path in job.reads:
                if path in by_output:  # published samples are there already
                    yield from with_inputs(by_output[path])
            yield job

    for name in wanted:
        yield from with_inputs(target(experiment, name))


def _all(experiment: Experiment) -> Iterator[Job]:
    """Every job but those of tables and figures."""
    yield from (data(experiment, name) for name in experiment.data)
    for name in experiment.latents:
        if name in experiment.autoencoders:
            yield autoencoder(experiment, name)
        yield latents(experiment, name)
    for name, parameters in experiment.score.items():
        if isinstance(parameters.extractor, Classifier):
            yield extractor(experiment, name)
        yield floor(experiment, name)
    yield from (published(experiment, name) for name in experiment.published)
    yield from (train(experiment, run) for run in experiment.runs)
    for system in experiment.systems:
        if experiment.samplers_of(system):
            yield from (sample(experiment, run) for run in runs_of(experiment, [system]))
            yield score(experiment, system)


def _tables(experiment: Experiment) -> list[str]:
    return [name for name in PICTURES if getattr(experiment.tables, name) is not None]


def _latents_of(experiment: Experiment, run: str) -> Path:
    """The latents that a run learns from."""
    system, _ = experiment.find_run(run)
    name = experiment.baseline(system).latents
    return paths.latents(experiment.latents[name].data, name)


def _quality(experiment: Experiment, systems: list[str], scores: list[str]) -> list[Path]:
    """What shows the scores of systems reads: them, and the floors, samples and weights that they must be of."""
    jobs = [
        *(score(experiment, system) for system in systems),
        *(floor(experiment, name) for name in dict.fromkeys(scores)),
    ]
    scored = [path for job in jobs for path in job.makes]
    samples = [path for system in systems for path in _samples_of(experiment, system)]
    return [*scored, *samples, *(paths.train(run) for run in runs_of(experiment, systems))]


def _samples_of(experiment: Experiment, system: str) -> list[Path]:
    """The sample sets of a system."""
    return [path for run in runs_of(experiment, [system]) for path in sample(experiment, run).makes]


def _judges(experiment: Experiment, scores: list[str]) -> Iterator[Path]:
    """What samples are compared with: real items, and the classifier whose features are compared."""
    for name in scores:
        yield paths.data(experiment.score[name].data)
        # a published network's file is no input: a plan can be made without it, and `rdm score` asks for it
        if experiment.extractor(name).kind == "classifier":
            judge = experiment.judge(name)
            yield paths.extractor(experiment.score[judge].data, judge)


def _distinct(*groups: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for group in groups for path in group))
