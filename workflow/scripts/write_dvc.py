"""Write dvc.yaml (Table 1) and workflow/dvc.yaml (Table 2, figures, claims): the Snakefile's commands, as DVC's stages.

python workflow/scripts/write_dvc.py [PARAMS]      PARAMS: a parameter file; default: params/digits.yaml
"""

import re
import shlex
import sys
from pathlib import Path
from textwrap import indent

import yaml
from metrics import METRICS

from rdm import params
from rdm.errors import RdmError
from rdm.params import CONTROL, FLOOR, UNSUPERVISED
from rdm.params.schema import FashionData, FineTuned
from rdm.provenance import graph

DEFAULT = "params/digits.yaml"
CODE = "results/code"  # a digest of each verb's code, so that a comment in it re-runs nothing
HEADER = """\
# {what}: the Snakefile's commands, as DVC's stages. Written by workflow/scripts/write_dvc.py.
# Write it anew (`make dvc`) when {file} has other systems, seeds, samplers or keys; other values need nothing.

"""


class Keys:
    """Where the values stand that a stage depends on: keys in the parameter file, and keys in protocols.yaml."""

    def __init__(self, experiment, content, protocols):
        """content, protocols: of the two files."""
        self.experiment, self.content, self.protocols = experiment, content, protocols

    def of_data(self, dataset):
        """All but the place of Fashion-MNIST's files, which are verified."""
        place = ["folder"] if isinstance(self.experiment.data[dataset], FashionData) else []
        return self.section(f"data.{dataset}", *place), []

    def of_autoencoder(self, name):
        """Its section."""
        return [f"latents.{name}"], []

    def of_latents(self, name):
        """Its section, that of the autoencoder where it is another's, and how it computes."""
        sections = dict.fromkeys((name, self.experiment.lender(name)))
        return [*(f"latents.{section}" for section in sections), *self.performance("autoencoder")], []

    def performance(self, *stages):
        """How these stages compute, where the file says so."""
        keys = (f"performance.{key}" for key in (*stages, "compile", "channels_last"))
        return [key for key in keys if self.at(key) is not None]

    def of_extractor(self, score):
        """The network, and whether it sees clips or their frames."""
        protocol = self.experiment.score[score].protocol
        clips = self.protocols[protocol].get("clips", {})
        return [f"score.{score}.extractor"], [f"{protocol}.clips.{k}" for k in ("as_frames", "frames") if k in clips]

    def of_train(self, system):
        """What it is trained from, and how that is computed."""
        return [*self.system(system), *self.performance("train")], []

    def system(self, system):
        """Its section; of a twin, a variant or a depth, what it takes over from another's."""
        experiment, section = self.experiment, f"train.baselines.{self.baseline(system)}"
        if system in experiment.variants:
            return [*self.section(section, "seeds", "steps", "snapshots"), "figures.figure6.steps"]
        if system in experiment.train.baselines:
            return self.section(section, "seeds")
        if gated := {name: gated for name, gated, *_ in experiment.by_rate}.get(system):
            return [*self.system(gated), "figures.rates.factors"]
        if not isinstance(experiment.systems[system], FineTuned):
            return [*self.section(section, "seeds", "steps", "snapshots", "network.depth"), "figures.figure7.steps"]
        if system.endswith(CONTROL):
            return self.section(f"train.gated.{system.removesuffix(CONTROL)}", "gates")
        if system.endswith(UNSUPERVISED):
            return self.section(f"train.gated.{system.removesuffix(UNSUPERVISED)}", "gates.supervision")
        return [f"train.gated.{system}"]

    def of_sample(self, system):
        """Its samplers; of the protocol, how many items are drawn and of which labels."""
        samplers = dict.fromkeys(re.sub(r"-step\d+$", "", name) for name in self.experiment.samplers_of(system))
        protocol = self.experiment.score[self.scores(system)[0]].protocol
        from_reference = self.protocols[protocol]["labels"] in ("reference", "captions")
        dealt = ["samples", "labels", *(["reference"] if from_reference else [])]
        own = [*(f"sample.{name}" for name in samplers), *self.performance("sample", "autoencoder")]
        return own, [f"{protocol}.{key}" for key in dealt]

    def of_score(self, name):
        """The ways in which a system, published samples or, for a floor, real items are scored."""
        scores = self.scores(name)
        protocols = dict.fromkeys(self.experiment.score[score].protocol for score in scores)
        return [f"score.{score}" for score in scores], list(protocols)

    def of_tables(self, name):
        """Whatever tables show; claims are on figures, too."""
        return ["tables", "seeds", *(["figures"] if name == "claims" else [])], []

    def of_figures(self, _):
        """Whatever figures show and say."""
        return ["figures", "seeds", "tables.scale"], []

    def scores(self, name):
        """The scores of a system, of published samples, or the one of a floor."""
        if name.startswith(FLOOR):
            return [name.removeprefix(FLOOR)]
        samples = self.experiment.published.get(name)
        return self.experiment.scores_of(samples.data if samples else self.experiment.data_of(name))

    def seeds(self, system):
        """The seeds of a system."""
        own = self.experiment.baseline(system).seeds
        return f"train.baselines.{self.baseline(system)}.seeds" if own else "seeds"

    def baseline(self, system):
        """The name of the baseline that a system is or is derived from."""
        experiment, figures = self.experiment, self.experiment.figures
        entry = experiment.systems[system]
        if system in experiment.train.baselines:
            return system
        if isinstance(entry, FineTuned):
            return entry.start
        return figures.figure6.base if system in experiment.variants else figures.figure7.base

    def section(self, key, *others):
        """The section; or, where there are keys in it that do not matter, all its other keys."""
        return self.all_but(key, [f"{key}.{other}" for other in others if self.at(f"{key}.{other}") is not None])

    def all_but(self, key, others):
        """The key, or all below it but some."""
        if not any(other == key or other.startswith(f"{key}.") for other in others):
            return [key]
        return [] if key in others else [k for child in self.at(key) for k in self.all_but(f"{key}.{child}", others)]

    def at(self, key):
        """What stands in the parameter file at this key, or None."""
        found = self.content
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


class Pipeline:
    """What one parameter file means to DVC."""

    def __init__(self, file):
        """file: the parameter file, relative to the repository's root."""
        self.file, self.experiment = file, params.load(file)
        beside = ("protocols.yaml", "published.csv", "claims.yaml")
        self.protocols, self.published, self.claims = (str(Path(file).with_name(name)) for name in beside)
        content, protocols = (yaml.safe_load(Path(name).read_text()) for name in (file, self.protocols))
        self.keys = Keys(self.experiment, content, protocols)

    def files(self):
        """The text of each dvc.yaml: what Table 1 needs, and the rest."""
        main = self.stages(["table1"])
        rest = {n: s for n, s in self.stages(graph.targets(self.experiment)).items() if n not in main}
        main, rest = main | self.metrics(main), rest | self.metrics(rest)
        rest = {name: {"wdir": "..", **stage} for name, stage in rest.items()}
        return {
            "dvc.yaml": self.text("Table 1", "", main),
            "workflow/dvc.yaml": self.text("Table 2, the figures and the claims", "../", rest),
        }

    def text(self, what, root, stages):
        """One dvc.yaml. root: the way from its folder to the repository's."""
        blocks = [dump({"vars": [root + self.file]}), "stages:\n"]
        blocks += [indent(dump({name: stage}), "  ") for name, stage in stages.items()]
        blocks.append(dump({"plots": self.plots(root, stages)}))
        return HEADER.format(what=what, file=self.file) + "\n".join(blocks)

    def stages(self, targets):
        """The stages of these tables and figures, by name; those of `train` and `sample` hold all seeds of a system."""
        stages = {"code": self.code()}
        for job in graph.jobs(self.experiment, targets):
            name, seed = self.experiment.runs.get(job.names[0], (job.names[0], None))
            title = name if job.verb in ("tables", "figures") else f"{job.verb}-{name}"
            if title not in stages:
                stages[title] = self.stage(job, name, seed if job.verb in ("train", "sample") else None)
        return stages

    def metrics(self, stages):
        """The scores of these stages, as `dvc metrics` shows them."""
        scored = {name.removeprefix("score-"): stage for name, stage in stages.items() if name.startswith("score-")}
        systems = [name for name in scored if name in self.experiment.systems]
        stage = {
            "cmd": shlex.join(["python", "workflow/scripts/metrics.py", self.file, *systems]),
            "deps": ["workflow/scripts/metrics.py", *(path for name in systems for path in scored[name]["outs"])],
            "metrics": [str(METRICS / f"{name}.json") for name in systems],
        }
        return {"metrics": stage} if systems else {}

    def code(self):
        """What all other stages follow: the code of their verbs."""
        command = shlex.join(["python", "workflow/scripts/code_digests.py", self.file])
        values = [{self.file: None}, {self.protocols: None}]  # which stages there are depends on all of them
        return {"cmd": command, "deps": ["requirements.lock", "src/rdm"], "params": values, "outs": [CODE]}

    def stage(self, job, name, seed):
        """A job; of one with a seed, those of all seeds."""
        any_seed = re.compile(rf"-s{seed}(?=[ /]|$)")
        command, *paths = (any_seed.sub("-s${item.seed}", str(text)) for text in (job.command, *job.reads, *job.makes))
        reads, makes = [f"{CODE}/{job.verb}", *paths[: len(job.reads)]], paths[len(job.reads) :]
        if job.verb == "tables":
            reads.append(self.published)
        if job.verb not in graph.WRITE_ANYWAY:  # DVC keeps them, and `rdm` replaces what is not current
            makes = [{path: {"persist": True}} for path in makes]
        keys, rules = getattr(self.keys, f"of_{job.verb}")(name)
        values = [{file: found} for file, found in ((self.file, keys), (self.protocols, rules)) if found]
        return {
            **({"matrix": {"seed": f"${{{self.keys.seeds(name)}}}"}} if seed is not None else {}),
            "cmd": f"{command} --params {shlex.quote(self.file)}",  # of the default, too: RDM_PARAMS may name another
            "deps": reads,
            "params": values + ([{self.claims: None}] if name == "claims" else []),
            "outs": makes,
        }

    def plots(self, root, stages):
        """The tables' numbers of ours as bars, and the pictures."""
        columns = {"table1": ["c2i_fid", "c2i_sfid", "c2i_is"], "table2": []}
        if self.experiment.tables.table1.text_score:
            columns["table1"] += ["t2i_fid", "t2i_sfid", "t2i_is"]
        if self.experiment.tables.table2:
            columns["table2"] = list(self.experiment.tables.table2.columns)
        bars = [
            {
                f"{table}, {column}": {
                    "template": "bar_horizontal",
                    "x": f"{column}_ours",
                    "y": {f"{root}results/{table}.csv": "method"},
                }
            }
            for table in columns
            if table in stages
            for column in columns[table]
        ]
        pictures = [path for stage in stages.values() for path in stage.get("outs", []) if str(path).endswith(".png")]
        return bars + [root + path for path in pictures]


class Dumper(yaml.SafeDumper):
    """Short lists on one line, longer ones an item a line."""


def _list(dumper, items):
    short = all(isinstance(item, str) for item in items) and len(", ".join(items)) < 100
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=short)


Dumper.add_representer(list, _list)


def dump(content):
    """YAML in the order given."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=1000)


def main():
    """Write both files."""
    try:
        files = Pipeline(sys.argv[1] if len(sys.argv) > 1 else DEFAULT).files()
    except RdmError as error:
        sys.exit(f"Error: {error}")
    for name, text in files.items():
        Path(name).write_text(text)


if __name__ == "__main__":
    main()
