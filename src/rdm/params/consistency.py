"""What must fit together in a parameter file: found when it is read, not after an hour of training."""

from __future__ import annotations

from collections.abc import Collection

from rdm.errors import ParameterError, nearest
from rdm.params.evaluation import Cell, Score
from rdm.params.experiment import CONTROL, FLOOR, UNSUPERVISED, Experiment
from rdm.params.protocol import Protocol
from rdm.params.schema import Baseline, ClipData, Data, DiT, Latte, Optimisation, VideosData
from rdm.params.shapes import check_shapes


def check(experiment: Experiment) -> None:
    """Every name that one section uses is declared in another, and sizes fit. Raises ParameterError for the first."""
    _check_seeds("seeds", experiment.seeds)
    for name, autoencoder in experiment.latents.items():
        _declared(f"latents.{name}.data", autoencoder.data, experiment.data)
    _check_systems(experiment)
    _check_scores(experiment)
    for table in ("table1", "table2"):
        _check_cells(experiment, table)
    _check_tables(experiment)
    _check_figures(experiment)
    check_shapes(experiment)


def _check_systems(experiment: Experiment) -> None:
    train = experiment.train
    for name, entry in {**train.baselines, **train.gated}.items():
        _check_name_and_snapshots(name, entry)
    for name, baseline in train.baselines.items():
        _declared(f"train.baselines.{name}.latents", baseline.latents, experiment.latents)
        _check_baseline(experiment, f"train.baselines.{name}", baseline)
    for name, gated in train.gated.items():
        _declared(f"train.gated.{name}.start", gated.start, train.baselines)
        if name in train.baselines:
            raise ParameterError(f"train.gated.{name}: a baseline has the same name; rename one of them.")
        if gated.gates is None:
            raise ParameterError(f"train.gated.{name}.gates is missing; the ungated control is made by itself.")


def _check_name_and_snapshots(name: str, entry: Optimisation) -> None:
    for ending in (CONTROL, UNSUPERVISED):
        if name.endswith(ending):
            raise ParameterError(f"train: {name!r} ends in {ending!r}, which is for derived twins; rename it.")
    if entry.warmup_steps + entry.cooldown_steps > entry.steps:
        raise ParameterError(
            f"train: {name}: warmup_steps and cooldown_steps are together more than its {entry.steps} steps."
        )
    for step in entry.snapshots:
        if step >= entry.steps:
            raise ParameterError(f"train: {name}: snapshots: {step} is not before the end, {entry.steps}.")


def _check_baseline(experiment: Experiment, where: str, baseline: Baseline) -> None:
    """A Latte is for clips, and starts from a DiT of its own sizes; ReZero does not start dead."""
    if baseline.seeds is not None:
        _check_seeds(f"{where}.seeds", baseline.seeds)
        if baseline.start is not None and baseline.start in experiment.train.baselines:
            missing = set(baseline.seeds) - set(experiment.seeds_of(baseline.start))
            if missing:
                raise ParameterError(
                    f"{where}.seeds: {baseline.start!r}, its start, is not trained with {min(missing)}."
                )
    network, data = baseline.network, experiment.data[experiment.latents[baseline.latents].data]
    if isinstance(network, Latte) and not isinstance(data, ClipData):
        raise ParameterError(f"{where}.network.kind: latte is for clips, {baseline.latents!r} are of images; take dit.")
    if baseline.start is not None:
        _declared(f"{where}.start", baseline.start, experiment.train.baselines)
        start = experiment.train.baselines[baseline.start]
        alike = {"depth": network.depth // 2, "kind": "dit"} if isinstance(network, Latte) else {}
        wanted = {**network.model_dump(), **alike}
        if not alike or start.latents != baseline.latents or start.network.model_dump() != wanted:
            raise ParameterError(
                f"{where}.start: a Latte starts from a dit on the same latents with the same values and half the "
                f"depth, so that its blocks become the spatial ones; {baseline.start!r} is none."
            )
    gates = baseline.gates
    if gates is not None and gates.alpha == 0 and isinstance(network, DiT) and not network.block_scale:
        raise ParameterError(
            f"{where}.gates.alpha: 0 before a branch that adaLN-Zero starts at 0, too, never learns; "
            "set network.block_scale: 1."
        )


def _check_scores(experiment: Experiment) -> None:
    for name, score in experiment.score.items():
        where, protocol = f"score.{name}", experiment.protocols[name]
        _declared(f"{where}.data", score.data, experiment.data)
        _check_extractor(where, score, protocol, experiment.data[score.data])
        _check_protocol(where, score, protocol, experiment.data[score.data])
        others = [experiment.score[other] for other in experiment.scores_of(score.data) if other != name]
        if score.protocol in [other.protocol for other in others]:
            raise ParameterError(f"{where}.protocol: {score.data!r} is scored by {score.protocol!r} twice.")
        first = experiment.dealing(score.data)
        for key in ("samples", "labels", "reference"):
            if getattr(protocol, key) != getattr(first, key):
                raise ParameterError(f"{where}.protocol: the protocols of {score.data!r} differ in {key}.")
    for name, published in experiment.published.items():
        _declared(f"published.{name}.data", published.data, experiment.data)
        if name in experiment.runs or name.startswith(FLOOR):
            raise ParameterError(f"published.{name}: this name is taken; choose another.")


def _check_extractor(where: str, score: Score, protocol: Protocol, data: Data) -> None:
    kind = score.extractor.kind
    if kind != protocol.extractor:
        raise ParameterError(f"{where}.extractor.kind: protocol {score.protocol!r} is for {protocol.extractor!r}.")
    if kind != "classifier" and data.source not in ("folder", "videos"):
        raise ParameterError(f"{where}.extractor.kind: {kind} is for photographs; {score.data!r} is greyscale.")
    if kind == "classifier" and isinstance(data, VideosData) and not data.labelled:
        raise ParameterError(f"{where}.extractor.kind: {score.data!r} has no labels that a classifier could learn.")


def _check_protocol(where: str, score: Score, protocol: Protocol, data: Data) -> None:
    if isinstance(data, ClipData) != (protocol.clips is not None):
        kind = "clips" if isinstance(data, ClipData) else "images"
        raise ParameterError(f"{where}.protocol: {score.data!r} holds {kind}, {score.protocol!r} is for others.")
    if isinstance(data, ClipData) and protocol.clips is not None and protocol.clips.frames != data.frames:
        raise ParameterError(
            f"{where}.protocol: {score.protocol!r} is for clips of {protocol.clips.frames} frames, {score.data!r} has "
            f"{data.frames}."
        )
    stride = protocol.clips.reference.stride if protocol.clips is not None else 1
    if isinstance(data, VideosData) and data.stride != stride:
        raise ParameterError(
            f"{where}.protocol: {score.protocol!r} is for clips of stride {stride}, {score.data!r} has {data.stride}."
        )
    if isinstance(data, VideosData) and data.test is None and protocol.reference == "test":
        raise ParameterError(f"{where}.protocol: its reference is the test split, {score.data!r} has none.")


def _check_cells(experiment: Experiment, table: str) -> None:
    """Every row's system or sample set is there, and is scored."""
    declared = getattr(experiment.tables, table)
    rows = declared.rows if declared else ()
    names = [row.row for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"tables.{table}.rows: {name!r} is there twice; give each row a name of its own.")
    for row in rows:
        for cell in getattr(row, "cells", (row,)):
            _check_cell(experiment, f"tables.{table}.rows: {row.row}", cell)
    if table == "table1":
        score = experiment.tables.table1.score
        _declared("tables.table1.score", score, experiment.score)
    elif declared:
        for name, column in declared.columns.items():
            _declared(f"tables.table2.columns.{name}.score", column.score, experiment.score)
    columns = {experiment.score[score].data for score in experiment.scores_in(table)}
    for cell in experiment.cells(table):
        dataset = _dataset(experiment, cell)
        if dataset not in columns:
            what = cell.system or cell.samples
            raise ParameterError(f"tables.{table}.rows: {what!r} is of {dataset!r}, which no column scores.")


def _check_cell(experiment: Experiment, where: str, cell: Cell) -> None:
    if cell.samples is not None:
        _declared(f"{where}: samples", cell.samples, experiment.published)
    if cell.system is not None and cell.sampler is not None:
        _declared(f"{where}: system", cell.system, {**experiment.train.baselines, **experiment.train.gated})
        _declared(f"{where}: sampler", cell.sampler, experiment.sample)
        _check_guidance(experiment, where, cell.system, cell.sampler)


def _check_guidance(experiment: Experiment, where: str, system: str, sampler: str) -> None:
    data = experiment.data[experiment.data_of(system)]
    if experiment.sample[sampler].guidance > 1 and isinstance(data, ClipData) and not data.labelled:
        raise ParameterError(f"{where}: {sampler!r} is guided, {experiment.data_of(system)!r} has no labels.")


def _dataset(experiment: Experiment, cell: Cell) -> str:
    return experiment.data_of(cell.system) if cell.system else experiment.published[str(cell.samples)].data


def _check_tables(experiment: Experiment) -> None:
    """Table 1's picture shows systems that are sampled; Table 2 has one cell for each row and data set."""
    first = experiment.tables.table1
    _declared("tables.table1.picture", first.picture, experiment.sample)
    for name in {row.system for row in first.rows if row.system in experiment.train.gated}:
        for system in (name, experiment.train.gated[str(name)].start):
            if first.picture not in experiment.samplers_of(system):
                raise ParameterError(
                    f"tables.table1.picture: no row samples {system!r} with {first.picture!r}; add one."
                )
    for row in experiment.tables.table2.rows if experiment.tables.table2 else ():
        datasets = [_dataset(experiment, cell) for cell in row.cells]
        if len(set(datasets)) < len(datasets):
            raise ParameterError(f"tables.table2.rows: {row.row}: two cells are of one data set; leave one out.")


def _check_figures(experiment: Experiment) -> None:
    fifth = experiment.figures.figure5
    for name in fifth.systems:
        _declared("figures.figure5.systems", name, experiment.train.gated)
        gated = experiment.train.gated[name]
        for step in fifth.steps:
            if step > gated.steps or (step % gated.log_every and step != gated.steps):
                raise ParameterError(
                    f"figures.figure5.steps: step {step} of {name!r} is not logged; name multiples of its "
                    f"log_every, {gated.log_every}, up to {gated.steps}."
                )
    curves = {"figure6": experiment.figures.figure6, "figure7": experiment.figures.figure7}
    for figure, curve in curves.items():
        if curve is None:
            continue
        where = f"figures.{figure}"
        _declared(f"{where}.base", curve.base, experiment.train.baselines)
        _declared(f"{where}.sampler", curve.sampler, experiment.sample)
        _declared(f"{where}.score", curve.score, experiment.score)
        base = experiment.train.baselines[curve.base]
        if base.start is not None or not isinstance(base.network, DiT):
            raise ParameterError(f"{where}.base: {curve.base!r} is no transformer trained from random weights.")
        if experiment.data_of(curve.base) != experiment.score[curve.score].data:
            raise ParameterError(f"{where}.score: {curve.score!r} does not score the data of {curve.base!r}.")
        _check_guidance(experiment, where, curve.base, curve.sampler)
    declared = {**experiment.train.baselines, **experiment.train.gated}
    for name in experiment.figure_systems("figure6") + experiment.figure_systems("figure7"):
        if name in declared:
            raise ParameterError(f"train: {name!r} is the name of a system that a figure derives; rename it.")


def _check_seeds(where: str, seeds: tuple[int, ...]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"{where}: {list(seeds)} names none, or one twice; the spread would be too small.")


def _declared(where: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ParameterError(f"{where}: {name!r} is not declared; {nearest(name, known)}")
