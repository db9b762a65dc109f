"""`rdm score`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rdm.cli.common import (
    check_out,
    load_experiment,
    params_option,
    parse_part,
    part_option,
    print_path,
    print_rows,
)

Verb = TypeVar("Verb", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class Scores(click.Group):
    """A group whose first word may also be what is to be scored."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Anything that is no verb goes to the hidden verb `run`."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before the names belong to `run`, too."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The two ways to score, then the verbs."""
        formatter.write_usage(ctx.command_path, "RUN... | SAMPLES... | floor-SCORE...")
        formatter.write_usage(ctx.command_path, "SAMPLES --against REFERENCE --protocol NAME")
        formatter.write_usage(ctx.command_path, "COMMAND ...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of scoring, then the verbs."""
        self.commands["run"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=Scores)
def score() -> None:
    """Score images or clips: FID, sFID, IS, precision, recall, KID, FVD, each with its standard error.

    RUN is a run of `rdm sample`; SAMPLES a published sample set of the parameter file's `published`; floor-SCORE stands
    for real items of the other split: what a perfect generator would get. They are scored in every way in which the
    parameter file scores their data set; writes results/score/.../PROTOCOL.json. Needs: rdm sample, rdm extractor.

    With --against, any SAMPLES are scored against any REFERENCE: an npz (arr_0), npy or safetensors file, a folder
    of npz shards, a folder or zip of images, a folder of videos or of frame folders, or a folder of `rdm score
    features`. REFERENCE may also be a statistics file: of `rdm score reference`, pytorch-fid, clean-fid, ADM, EDM2,
    StyleGAN or torch-fidelity.
    """


def _options(*names: str) -> Callable[[Verb], Verb]:
    """The options that several verbs share."""
    known = {
        "protocol": click.option(
            "--protocol",
            required=True,
            help="A name in protocols.yaml, beside the parameter file or the package's own.",
        ),
        "set": click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change a rule of the protocol, for example samples=5000; the result has the change in its name.",
        ),
        "weights": click.option(
            "--weights", type=PATH, help="The extractor's file. Default: downloaded, if published."
        ),
        "device": click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        "precision": click.option(
            "--precision",
            type=click.Choice(["float32", "tf32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Of the extractor. tf32 moves a FID by about 1e-4, bfloat16 by 3e-3, relatively.",
        ),
    }

    def decorate(command: Verb) -> Verb:
        for name in reversed(names):
            command = known[name](command)
        return params_option(command)

    return decorate


@score.command("run", hidden=True)
@click.argument("names", nargs=-1, required=True, metavar="RUN... | SAMPLES")
@click.option("--against", type=PATH, metavar="REFERENCE", help="Score SAMPLES against these items or statistics.")
@click.option("--protocol", help="With --against: a name in protocols.yaml.")
@click.option("--compare-protocols", "compared", metavar="A,B,...", help="With --against: several, side by side.")
@click.option("--out", type=PATH, help="With --against: write the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@part_option
@_options("set", "weights", "device", "precision")
def score_run(
    names: tuple[str, ...],
    params_file: str,
    against: Path | None,
    protocol: str | None,
    compared: str | None,
    out: Path | None,
    as_json: bool,
    part: str | None,
    **options: Any,
) -> None:
    """Score runs, or any samples against any reference."""
    from rdm.errors import UsageError

    chosen_part = parse_part(part)

    if against is None:
        if protocol or compared or out or as_json or any(options[key] for key in ("changes", "weights")):
            raise UsageError("These options are for any SAMPLES --against REFERENCE; add --against, or leave them out.")
        if options["device"] != "auto" or options["precision"] != "float32":
            raise UsageError(
                "A run is scored on the parameter file's device in float32; leave --device, --precision out."
            )
        _score_runs(load_experiment(params_file), list(names), chosen_part)
        return
    if chosen_part:
        raise UsageError("--part is for runs; of any samples, `rdm score features` works off a part.")
    chosen = [protocol] if protocol else [name for name in (compared or "").split(",") if name]
    if len(names) != 1 or not chosen or bool(compared) == bool(protocol):
        raise UsageError("Give one SAMPLES, and with --against REFERENCE either --protocol or --compare-protocols.")
    protocols = _protocols(params_file, chosen, options["changes"])
    if out is not None:
        check_out(out, ".json")
    from rdm.provenance.files import write_json
    from rdm.score import pair, report

    results = pair.score_pair(Path(names[0]), against, protocols, _settings(options))
    result = results if compared else results[0]
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo(report.compare(results) if compared else report.render(results[0]))
    if out is not None:
        write_json(out, result)


def _score_runs(experiment: Any, names: list[str], part: Any) -> None:
    """Score runs under the parameter file's protocol."""
    from rdm.errors import UsageError

    for name in names:
        if Path(name).exists() and name not in {*experiment.runs, *experiment.published}:
            raise UsageError(f"{name} is no run; say with --against what to compare it with, and with --protocol how.")
    from rdm.score import stage

    for path in stage.run(experiment, names, part):
        print_path(path)


@score.command("features")
@click.argument("samples", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--part", default="1/1", show_default=True, metavar="I/N", help="The I-th of N parts of the samples.")
@_options("protocol", "set", "weights", "device", "precision")
def score_features(samples: Path, folder: Path, part: str, params_file: str, protocol: str, **options: Any) -> None:
    """Compute the features of a part of SAMPLES, one of N independent jobs, into FOLDER.

    When all parts are there, `rdm score FOLDER --against REFERENCE` gives the value that one job would give.
    """
    from rdm.parts import Part

    chosen = Part.parse(part)
    protocols = _protocols(params_file, [protocol], options["changes"])
    check_out(folder, "")
    from rdm.score import parts

    print_path(parts.run(samples, folder, chosen, protocols, _settings(options)))


@score.group("reference")
def score_reference() -> None:
    """Build, import, explain and verify reference files."""


@score_reference.command("build")
@click.argument("items", type=PATH)
@click.argument("out", type=PATH)
@_options("protocol", "set", "weights", "device", "precision")
def reference_build(items: Path, out: Path, params_file: str, protocol: str, **options: Any) -> None:
    """Measure ITEMS, images or videos, and write OUT.npz: the reference of a protocol."""
    protocols = _protocols(params_file, [protocol], options["changes"])
    check_out(out, ".npz")
    from rdm.score import reference_files

    print_path(reference_files.build(items, out, protocols, _settings(options)))


@score_reference.command("import")
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@_options("protocol", "set", "weights", "device", "precision")
def reference_import(file: Path, out: Path, params_file: str, protocol: str, **options: Any) -> None:
    """Turn another evaluator's statistics FILE into OUT.npz, trusting that it was made as the protocol says."""
    protocols = _protocols(params_file, [protocol], options["changes"])
    check_out(out, ".npz")
    from rdm.score import reference_files

    print_path(reference_files.convert(file, out, protocols, _settings(options)))


@score_reference.command("explain")
@click.argument("file", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def reference_explain(file: Path, as_json: bool) -> None:
    """Say what a statistics FILE holds: who writes such files, its layers, and how it was made."""
    from rdm.score import reference_files

    print_rows(reference_files.explain(file), as_json)


@score_reference.command("verify")
@click.argument("file", type=PATH)
@click.argument("items", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@_options("protocol", "set", "weights", "device", "precision")
def reference_verify(file: Path, items: Path, params_file: str, protocol: str, as_json: bool, **options: Any) -> None:
    """Measure ITEMS again and compare with FILE: the Fréchet distance between the two must vanish."""
    protocols = _protocols(params_file, [protocol], options["changes"])
    from rdm.score import reference_files

    rows = reference_files.verify(file, items, protocols, _settings(options))
    print_rows(rows, as_json)
    reference_files.require_agreement(rows)


@score.command("verify")
@click.argument("protocol")
@click.option("--folder", type=PATH, default=Path("data/golden"), show_default=True, help="Where the files lie.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@_options("weights", "device", "precision")
def score_verify(protocol: str, folder: Path, params_file: str, as_json: bool, **options: Any) -> None:
    """Score published files under PROTOCOL and compare with the published numbers, for example of adm50k."""
    protocols = _protocols(params_file, [protocol], ())
    from rdm.score import reference_files, verify

    rows = verify.verify(protocol, protocols, folder, _settings(options))
    print_rows(rows, as_json)
    reference_files.require_agreement(rows)


def _protocols(params_file: str, names: list[str], changes: tuple[str, ...]) -> dict[str, Any]:
    """Protocols by name, changed; a change is part of the name. Away from any parameter file: the package's own."""
    from rdm.params.files import OWN_PROTOCOLS, load_protocols

    beside = Path(params_file).with_name("protocols.yaml")
    return load_protocols(beside if beside.is_file() else OWN_PROTOCOLS, names, changes)


def _settings(options: dict[str, Any]) -> Any:
    from rdm.runtime import choose_device
    from rdm.score.inputs import Settings

    return Settings(choose_device(options["device"]), options["weights"], options["precision"])
