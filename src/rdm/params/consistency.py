"""What must fit together in a parameter file: found when it is read, not after an hour of training."""

from __future__ import annotations

from collections.abc import Collection

from rdm.errors import ParameterError, nearest
from rdm.params.autoencoder import Borrowed, Pixels
from rdm.params.evaluation import Score
from rdm.params.experiment import CONTROL, FLOOR, UNSUPERVISED, Experiment
from rdm.params.network import ADM, TextNetwork
from rdm.params.protocol import Protocol
from rdm.params.schema import (
    Baseline,
    CaptionedData,
    ClipData,
    Data,
    Denoiser,
    DiT,
    Latte,
    Optimisation,
    VideosData,
    channels,
)


def check_systems(experiment: Experiment) -> None:
    """Every name that data, latents and training use is declared, and what starts from another fits to it.

    Raises ParameterError.
    """
    train = experiment.train
    _check_latents(experiment)
    for name, baseline in train.baselines.items():
        declared(f"train.baselines.{name}.latents", baseline.latents, experiment.latents)
        if baseline.start is not None:
            declared(f"train.baselines.{name}.start", baseline.start, train.baselines)
    _check_bases(experiment)
    _check_gated(experiment)
    _check_rates(experiment)
    _check_gpus(experiment)
    for name, entry in experiment.systems.items():
        if isinstance(entry, Denoiser):
            _check_denoiser(experiment, name, entry)
        if isinstance(entry, Optimisation):
            _check_optimisation(experiment, name, entry)
        if isinstance(entry, Baseline):
            _check_baseline(experiment, name, entry)
        if entry.start is not None and train.baselines[entry.start].gates is not None:
            raise ParameterError(f"train: {name}.start: {entry.start!r} has gates, which a start would lose.")


def _check_gpus(experiment: Experiment) -> None:
    """They are given to declared systems that are trained; twins have theirs from these."""
    entries = {**experiment.train.baselines, **experiment.train.gated}
    trained = {name: entry.batch for name, entry in entries.items() if isinstance(entry, Optimisation)}
    for name, count in experiment.gpus.items():
        declared("gpus", name, list(trained))
        if trained[name] % count:
            raise ParameterError(f"gpus.{name}: its batch of {trained[name]} is not a multiple of {count}; change one.")


def _check_latents(experiment: Experiment) -> None:
    """Every entry's data set is declared, and the autoencoder that it names."""
    for name, entry in experiment.latents.items():
        declared(f"latents.{name}.data", entry.data, experiment.data)
    for name, entry in experiment.latents.items():
        if isinstance(entry, Borrowed):
            _check_lender(experiment, name, entry)


def _check_lender(experiment: Experiment, name: str, borrowed: Borrowed) -> None:
    """What is borrowed is an autoencoder, and takes images of this colour."""
    where, lender = f"latents.{name}.autoencoder", borrowed.autoencoder
    declared(where, lender, experiment.latents)
    own = experiment.latents[lender]
    if isinstance(own, Borrowed | Pixels):
        raise ParameterError(f"{where}: {lender!r} has no autoencoder of its own; name an entry that has one.")
    if channels(experiment.data[own.data]) != channels(experiment.data[borrowed.data]):
        raise ParameterError(
            f"{where}: that of {lender!r} is for images of another colour; give {name!r} one of its own."
        )


def _check_bases(experiment: Experiment) -> None:
    """Figures 6 and 7 change a transformer, and train it from random weights."""
    for figure, curve in experiment.curves.items():
        declared(f"figures.{figure}.base", curve.base, experiment.train.baselines)
        base = experiment.train.baselines[curve.base]
        if not isinstance(base, Baseline) or base.start or base.gates or not isinstance(base.network, DiT):
            raise ParameterError(f"figures.{figure}.base: {curve.base!r} is no transformer from random weights.")


def _check_rates(experiment: Experiment) -> None:
    """The figure `rates` trains gates faster."""
    fine_tuned = {**experiment.train.gated, **experiment.twins}
    for name in experiment.figures.rates.systems if experiment.figures.rates else ():
        declared("figures.rates.systems", name, fine_tuned)
        gates = fine_tuned[name].gates
        if gates is None or gates.variant == "resnet":
            raise ParameterError(f"figures.rates.systems: {name!r} has no gates to train faster; name another.")


def learns_variance(baseline: Denoiser) -> bool:
    """Whether its network predicts the variance of a denoising step, too."""
    return bool(getattr(baseline.network, "learned_sigma", False))


def has_null_label(baseline: Denoiser) -> bool:
    """Whether its network has a label that means none, which guidance needs; a caption that does is the empty one."""
    return bool(getattr(baseline.network, "null_label", True))


def _check_gated(experiment: Experiment) -> None:
    """Gated systems have gates, a declared start, and names that their twins' do not collide with."""
    train = experiment.train
    for name, gated in train.gated.items():
        declared(f"train.gated.{name}.start", gated.start, train.baselines)
        if name in train.baselines:
            raise ParameterError(f"train.gated.{name}: a baseline has the same name; rename one of them.")
        if gated.gates is None:
            raise ParameterError(f"train.gated.{name}.gates is missing; the ungated control is made by itself.")
    for name in {**train.baselines, **train.gated}:
        for ending in (CONTROL, UNSUPERVISED):
            if name.endswith(ending):
                raise ParameterError(f"train: {name!r} ends in {ending!r}, which is for derived twins; rename it.")


def _check_optimisation(experiment: Experiment, name: str, entry: Optimisation) -> None:
    if entry.warmup_steps + entry.cooldown_steps > entry.steps:
        raise ParameterError(
            f"train: {name}: warmup_steps and cooldown_steps are together more than its {entry.steps} steps."
        )
    for step in entry.snapshots:
        if step >= entry.steps:
            raise ParameterError(f"train: {name}: snapshots: {step} is not before the end, {entry.steps}.")
    gates = experiment.systems[name].gates
    supervision = gates.supervision if gates is not None else None
    if supervision is not None and supervision.exact and (entry.checkpointing or experiment.performance.compile):
        raise ParameterError(
            f"train: {name}.gates.supervision.exact differentiates twice, which neither compiled blocks nor "
            "checkpointing can; leave out performance.compile and checkpointing, or exact."
        )
    if gates is not None and gates.unit == "branch" and experiment.performance.compile:
        raise ParameterError(
            f"train: {name}.gates.unit: the state between the branches of a compiled block is not recorded; take unit: "
            "block, or leave out performance.compile."
        )
    if entry.label_dropout and not has_null_label(experiment.baseline(name)):
        raise ParameterError(f"train: {name}.label_dropout: network.null_label is false; set it to 0.")


def _check_denoiser(experiment: Experiment, name: str, denoiser: Denoiser) -> None:
    """A Latte is for clips, text for captions, the null label for labels, a learned variance for epsilon."""
    where, network = f"train.baselines.{name}", denoiser.network
    data = experiment.data[experiment.latents[denoiser.latents].data]
    if isinstance(network, Latte) and not isinstance(data, ClipData):
        raise ParameterError(f"{where}.network.kind: latte is for clips, {denoiser.latents!r} are of images; take dit.")
    if isinstance(network, TextNetwork) and not isinstance(data, CaptionedData):
        dataset = experiment.latents[denoiser.latents].data
        raise ParameterError(f"{where}.network.kind: {network.kind} is for captions, {dataset!r} has none.")
    if not has_null_label(denoiser) and not isinstance(network, ADM) and not getattr(data, "labelled", True):
        raise ParameterError(f"{where}.network.null_label: without labels it is the only one; leave it out.")
    if learns_variance(denoiser) and denoiser.diffusion.target != "epsilon":
        raise ParameterError(f"{where}.network.learned_sigma: the variance is learned beside target: epsilon alone.")


def _check_baseline(experiment: Experiment, name: str, baseline: Baseline) -> None:
    """A Latte may start from a DiT of its own sizes; ReZero does not start dead."""
    if baseline.start is not None:
        _check_start(experiment, name, baseline)
    network, gates = baseline.network, baseline.gates
    if gates is not None and gates.alpha == 0 and isinstance(network, DiT) and not network.block_scale:
        raise ParameterError(
            f"train.baselines.{name}.gates.alpha: 0 before a branch that adaLN-Zero starts at 0, too, never learns; "
            "set network.block_scale: 1."
        )


def _check_start(experiment: Experiment, name: str, baseline: Baseline) -> None:
    where, network = f"train.baselines.{name}", baseline.network
    start = experiment.train.baselines[str(baseline.start)]
    spatial = {"kind": "dit", "depth": (network.depth + 1) // 2} if isinstance(network, Latte) else {}
    alike = (baseline.latents, baseline.diffusion, network.model_dump() | spatial)
    if not spatial or alike != (start.latents, start.diffusion, start.network.model_dump()):
        raise ParameterError(
            f"{where}.start: a Latte starts from a dit on the same latents with the same values and half the depth, "
            f"so that its blocks become the spatial ones; {baseline.start!r} is none."
        )
    missing = set(experiment.seeds_of(name)) - set(experiment.seeds_of(str(baseline.start)))
    if missing:
        raise ParameterError(f"{where}.seeds: {baseline.start!r}, its start, is not trained with {min(missing)}.")


def check_scores(experiment: Experiment) -> None:
    """Every score's protocol and extractor are for its data set, and all of one set agree. Raises ParameterError."""
    for name, score in experiment.score.items():
        where, protocol = f"score.{name}", experiment.protocols[name]
        declared(f"{where}.data", score.data, experiment.data)
        _check_extractor(where, experiment, name)
        _check_protocol(where, score, protocol, experiment.data[score.data])
        others = [experiment.score[other] for other in experiment.scores_of(score.data) if other != name]
        if score.protocol in [other.protocol for other in others]:
            raise ParameterError(f"{where}.protocol: {score.data!r} is scored by {score.protocol!r} twice.")
        first = experiment.dealing(score.data)
        for key in ("samples", "labels", "reference"):
            if getattr(protocol, key) != getattr(first, key):
                raise ParameterError(f"{where}.protocol: the protocols of {score.data!r} differ in {key}.")
    scored = {score.data: score for score in experiment.score.values()}
    for name, published in experiment.published.items():
        declared(f"published.{name}.data", published.data, experiment.data)
        if published.data not in scored:
            raise ParameterError(f"published.{name}.data: no score is of {published.data!r}; add one.")
        if name in experiment.runs or name.startswith(FLOOR):
            raise ParameterError(f"published.{name}: this name is taken; choose another.")


def _check_extractor(where: str, experiment: Experiment, name: str) -> None:
    score, protocol = experiment.score[name], experiment.protocols[name]
    data, judge = experiment.data[score.data], experiment.judge(name)
    if judge != name:
        declared(f"{where}.extractor", judge, experiment.score)
        _check_borrowed(where, experiment, name, judge)
    kind = experiment.extractor(name).kind
    if kind != protocol.extractor:
        raise ParameterError(f"{where}.extractor.kind: protocol {score.protocol!r} is for {protocol.extractor!r}.")
    if kind != "classifier" and channels(data) == 1:
        raise ParameterError(f"{where}.extractor.kind: {kind} is for photographs; {score.data!r} is greyscale.")
    if kind == "classifier" and judge == name and isinstance(data, VideosData) and not data.labelled:
        raise ParameterError(f"{where}.extractor.kind: {score.data!r} has no labels that a classifier could learn.")


def _check_borrowed(where: str, experiment: Experiment, name: str, judge: str) -> None:
    """The network of another score can see what this one judges."""
    if experiment.judge(judge) != judge:
        raise ParameterError(f"{where}.extractor: {judge!r} has none of its own; name {experiment.judge(judge)!r}.")
    seen = [
        (protocol.frames, *(getattr(data, key, None) for key in ("image_size", "frames", "stride")), channels(data))
        for score in (name, judge)
        for protocol, data in [(experiment.protocols[score], experiment.data[experiment.score[score].data])]
    ]
    if seen[0] != seen[1]:
        raise ParameterError(
            f"{where}.extractor: that of {judge!r} sees images or clips of another size, length or colour; "
            "give this score one of its own."
        )


def _check_protocol(where: str, score: Score, protocol: Protocol, data: Data) -> None:
    if protocol.labels == "captions" and not isinstance(data, CaptionedData):
        raise ParameterError(f"{where}.protocol: {score.protocol!r} deals captions, {score.data!r} has none.")
    if isinstance(data, ClipData) != (protocol.clips is not None):
        kind = "clips" if isinstance(data, ClipData) else "images"
        raise ParameterError(f"{where}.protocol: {score.data!r} holds {kind}, {score.protocol!r} is for others.")
    if isinstance(data, ClipData) and protocol.clips is not None:
        # the clips of a data set are cut when it is stored, and samples are whole clips
        real = (data.frames, data.stride, data.offset) if isinstance(data, VideosData) else (data.frames, 1, "first")
        rule, samples = protocol.clips.reference, protocol.clips.samples
        if (protocol.clips.frames, rule.stride, rule.offset) != real:
            raise ParameterError(
                f"{where}.protocol: {score.protocol!r} is for real clips of {protocol.clips.frames} frames, stride "
                f"{rule.stride}, offset {rule.offset}; those of {score.data!r} have {', '.join(map(str, real))}."
            )
        if (samples.stride, samples.offset, samples.videos) != (1, "first", "sorted"):
            raise ParameterError(f"{where}.protocol: samples are whole clips here; {score.protocol!r} cuts them.")
    if isinstance(data, VideosData) and data.test is None and protocol.reference == "test":
        raise ParameterError(f"{where}.protocol: its reference is the test split, {score.data!r} has none.")


def declared(where: str, name: str, known: Collection[str]) -> None:
    """Raise ParameterError with the nearest name unless `name` is known."""
    if name not in known:
        raise ParameterError(f"{where}: {name!r} is not declared; {nearest(name, known)}")
