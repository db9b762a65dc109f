"""What tables and figures show must be there, sampled, and scored: found when the parameters are read."""

from __future__ import annotations

from rdm.errors import ParameterError, nearest
from rdm.params.autoencoder import Pixels
from rdm.params.consistency import declared, has_null_label, learns_variance
from rdm.params.evaluation import Cell, Row
from rdm.params.experiment import Experiment
from rdm.params.network import TextNetwork
from rdm.params.protocol import Protocol
from rdm.params.sampler import Sampler
from rdm.params.schema import ClipData, Latte


def check_presentation(experiment: Experiment) -> None:
    """Every row, column and curve is of something that is sampled and scored. Raises ParameterError."""
    _check_columns(experiment)
    for table in ("table1", "table2"):
        _check_rows(experiment, table)
    _check_picture(experiment)
    _check_figure5(experiment)
    _check_curves(experiment)
    _check_rates(experiment)
    _check_derived(experiment)


def metrics_of(protocol: Protocol) -> set[str]:
    """The metrics that a protocol gives, by which a column or curve may ask for them."""
    clips = protocol.clips is not None and protocol.frames == 1
    found = {"fvd" if clips else "fid"}
    found |= {"sfid"} if protocol.sfid else set()
    found |= {"is"} if protocol.inception_score else set()
    return found | ({"identity"} if protocol.frames > 1 and protocol.extractor == "classifier" else set())


def _check_columns(experiment: Experiment) -> None:
    first = experiment.tables.table1
    for key in ("score", "text_score"):
        if (name := getattr(first, key)) is not None:
            declared(f"tables.table1.{key}", name, experiment.score)
    second = experiment.tables.table2
    for name, column in second.columns.items() if second else ():
        declared(f"tables.table2.columns.{name}.score", column.score, experiment.score)
        _check_metric(experiment, f"tables.table2.columns.{name}", column.score, column.metric)


def _check_metric(experiment: Experiment, where: str, score: str, metric: str) -> None:
    known = metrics_of(experiment.protocols[score])
    if metric not in known:
        protocol = experiment.score[score].protocol
        raise ParameterError(f"{where}.metric: protocol {protocol!r} gives no {metric!r}; {nearest(metric, known)}")


def _check_rows(experiment: Experiment, table: str) -> None:
    """Every row has a name of its own, and its systems or sample sets are those of a column."""
    section = getattr(experiment.tables, table)
    rows = section.rows if section else ()
    names = [row.row for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"tables.{table}.rows: {name!r} is there twice; give each row a name of its own.")
    columns = {experiment.score[score].data for score in experiment.scores_in(table)}
    for row in rows:
        where, seen = f"tables.{table}.rows: {row.row}", set[str]()
        if isinstance(row, Row):
            _check_image_row(experiment, where, row)
            continue
        for cell in row.cells:
            dataset = _check_cell(experiment, where, cell)
            if dataset not in columns:
                raise ParameterError(f"{where}: {cell.system or cell.samples!r} is of {dataset!r}, not of a column.")
            if dataset in seen:
                raise ParameterError(f"{where}: two cells are of {dataset!r}; leave one out.")
            seen.add(dataset)


def _check_image_row(experiment: Experiment, where: str, row: Row) -> None:
    """What stands in the columns of labels and in those of text is of their data sets, and of its kind."""
    first = experiment.tables.table1
    if row.text is not None and first.text_score is None:
        raise ParameterError(f"{where}: text: tables.table1.text_score is missing; name the score of these columns.")
    for cell, score, text in ((row, first.score, False), (row.text, first.text_score, True)):
        if cell is None or score is None:
            continue
        dataset, name = _check_cell(experiment, where, cell), cell.system or cell.samples
        if dataset != experiment.score[score].data:
            raise ParameterError(f"{where}: {name!r} is of {dataset!r}, not of a column.")
        if cell.system is not None and isinstance(experiment.baseline(cell.system).network, TextNetwork) != text:
            kind = "text" if text else "labels"
            raise ParameterError(f"{where}: {name!r} is not conditioned on {kind}, as this column is; name another.")


def _check_cell(experiment: Experiment, where: str, cell: Cell) -> str:
    """The data set of a cell."""
    if cell.system is not None and cell.sampler is not None:
        declared(f"{where}: system", cell.system, {**experiment.train.baselines, **experiment.train.gated})
        declared(f"{where}: sampler", cell.sampler, experiment.sample)
        _check_sampled(experiment, where, cell.system, cell.sampler)
        return experiment.data_of(cell.system)
    declared(f"{where}: samples", str(cell.samples), experiment.published)
    return experiment.published[str(cell.samples)].data


def _check_sampled(experiment: Experiment, where: str, system: str, name: str) -> None:
    """A sampler fits to a system: its data, latents, timesteps and snapshots."""
    baseline, sampler = experiment.baseline(system), experiment.sample[name]
    dataset, text = experiment.data_of(system), isinstance(baseline.network, TextNetwork)
    data = experiment.data[dataset]
    dealt = {experiment.protocols[score].labels for score in experiment.scores_of(dataset)}
    if text and dealt - {"reference", "captions"}:
        raise ParameterError(
            f"{where}: {system!r} draws from captions, which a protocol of labels: reference or captions deals; that "
            f"of {dataset!r} is of labels: {dealt.pop()}."
        )
    if isinstance(data, ClipData) and not isinstance(baseline.network, Latte):
        raise ParameterError(f"{where}: {system!r} makes single frames of {experiment.data_of(system)!r}, not clips.")
    if not text and not getattr(data, "labelled", True):
        _check_unconditional(where, name, sampler, dataset)
    _check_pixels_and_classifier(experiment, name, system)
    channels = experiment.latent_channels(baseline.latents)
    if sampler.guided_channels is not None and sampler.guided_channels >= channels:
        raise ParameterError(
            f"sample.{name}.guided_channels: the latents of {system!r} have {channels}; name fewer, or leave it out."
        )
    if sampler.guidance > 1 and not has_null_label(baseline):
        raise ParameterError(
            f"{where}: {name!r} is guided, which needs a null label; {system!r} has network.null_label: false."
        )
    if sampler.solver == "ddpm" and not learns_variance(baseline):
        raise ParameterError(
            f"{where}: {name!r} takes the variance from the network, {system!r} has no network.learned_sigma; take "
            "solver: ddim with eta: 1."
        )
    if sampler.steps > baseline.diffusion.timesteps:
        raise ParameterError(
            f"sample.{name}.steps: {sampler.steps} is more than the {baseline.diffusion.timesteps} timesteps of "
            f"{system!r}."
        )
    _check_division(name, sampler, baseline.diffusion.timesteps, system)
    if sampler.step is not None and sampler.step not in experiment.systems[system].snapshots:
        raise ParameterError(f"sample.{name}.step: {system!r} keeps no snapshot of step {sampler.step}.")


def _check_unconditional(where: str, name: str, sampler: Sampler, dataset: str) -> None:
    """Without labels there is nothing to guide by, and nothing to deal."""
    if sampler.guidance > 1:
        raise ParameterError(f"{where}: {name!r} is guided, {dataset!r} has no labels.")
    if sampler.labels is not None:
        raise ParameterError(f"sample.{name}.labels: {dataset!r}, of which it draws, has none; leave it out.")


def _check_division(name: str, sampler: Sampler, timesteps: int, system: str) -> None:
    if not sampler.divides(timesteps, sampler.steps):
        others = [steps for steps in range(1, timesteps + 1) if sampler.divides(timesteps, steps)]
        closest = [n for n in others if n < sampler.steps][-1:] + [n for n in others if n > sampler.steps][:1]
        raise ParameterError(
            f"sample.{name}.steps: {sampler.solver} cannot divide the {timesteps} timesteps of {system!r} into "
            f"{sampler.steps} steps; take {' or '.join(map(str, closest))}."
        )


def _check_pixels_and_classifier(experiment: Experiment, name: str, system: str) -> None:
    """Pixels alone are clipped; a classifier knows the labels of images."""
    baseline, sampler = experiment.baseline(system), experiment.sample[name]
    data = experiment.data[experiment.data_of(system)]
    if sampler.clip and not isinstance(experiment.autoencoder(baseline.latents), Pixels):
        raise ParameterError(f"sample.{name}.clip: {system!r} makes latents, which no bounds hold for; leave it out.")
    if sampler.classifier is not None and (isinstance(data, ClipData) or isinstance(baseline.network, TextNetwork)):
        raise ParameterError(f"sample.{name}.classifier: it is for images of a label; {system!r} makes others.")


def _check_picture(experiment: Experiment) -> None:
    """Table 1's picture shows each gated system, and its start, by a sampler of both."""
    first = experiment.tables.table1
    for name in first.picture:
        declared("tables.table1.picture", name, experiment.sample)
    for name in {cell.system for cell in experiment.cells("table1") if cell.system in experiment.train.gated}:
        for system in (str(name), experiment.train.gated[str(name)].start):
            if experiment.pictured(str(name)) not in experiment.samplers_of(system):
                raise ParameterError(
                    f"tables.table1.picture: no row samples {system!r} with {' or '.join(first.picture)}; add one."
                )


def _check_figure5(experiment: Experiment) -> None:
    figure = experiment.figures.figure5
    for name in figure.systems:
        declared("figures.figure5.systems", name, experiment.train.gated)
        gated = experiment.train.gated[name]
        for step in figure.steps:
            if step > gated.steps or (step % gated.log_every and step != gated.steps):
                raise ParameterError(
                    f"figures.figure5.steps: step {step} of {name!r} is not logged; name multiples of its "
                    f"log_every, {gated.log_every}, up to {gated.steps}."
                )


def _check_curves(experiment: Experiment) -> None:
    """Figures 6 and 7 train a transformer from random weights, and are scored on its data."""
    for figure, curve in experiment.curves.items():
        where = f"figures.{figure}"
        declared(f"{where}.sampler", curve.sampler, experiment.sample)
        declared(f"{where}.score", curve.score, experiment.score)
        if experiment.data_of(curve.base) != experiment.score[curve.score].data:
            raise ParameterError(f"{where}.score: {curve.score!r} does not score the data of {curve.base!r}.")
        _check_metric(experiment, where, curve.score, curve.metric)
        _check_sampled(experiment, where, curve.base, curve.sampler)
        if experiment.sample[curve.sampler].step is not None:
            raise ParameterError(
                f"{where}.sampler: {curve.sampler!r} draws with a snapshot, which this figure's systems do not keep; "
                "name a sampler without `step`."
            )
    sixth = experiment.figures.figure6
    if sixth is not None and getattr(experiment.train.baselines[sixth.base], "cooldown_steps", False):
        raise ParameterError(
            f"figures.figure6.base: {sixth.base!r} is cooled down at its end, so its earlier steps could not be "
            "compared with it; take one of a constant rate."
        )
    for name in {sixth.at(step) for step in sixth.steps} - {sixth.sampler} if sixth is not None else ():
        if name in experiment.sample:
            raise ParameterError(f"sample: {name!r} is the name of a sampler that a figure derives; rename it.")


def _check_rates(experiment: Experiment) -> None:
    """The systems of the figure `rates` are sampled, and scored on their data."""
    figure = experiment.figures.rates
    if figure is None:
        return
    declared("figures.rates.score", figure.score, experiment.score)
    for sampler in figure.samplers:
        declared("figures.rates.samplers", sampler, experiment.sample)
    for system in figure.systems:
        if experiment.data_of(system) != experiment.score[figure.score].data:
            raise ParameterError(f"figures.rates.score: {figure.score!r} does not score the data of {system!r}.")
        for sampler in figure.samplers:
            _check_sampled(experiment, "figures.rates", system, sampler)


def _check_derived(experiment: Experiment) -> None:
    """What figures derive has names of its own."""
    names = {**experiment.train.baselines, **experiment.train.gated}
    derived = [*experiment.variants, *(name for name, *_ in experiment.by_depth + experiment.by_rate)]
    for name in derived:
        if name in names:
            raise ParameterError(f"train: {name!r} is the name of a system that a figure derives; rename it.")
