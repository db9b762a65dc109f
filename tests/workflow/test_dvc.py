"""DVC: the same graph as Snakemake's, the same re-runs, and results handed over from one to the other."""

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml
from dvc.dependency import param
from dvc.repo import Repo
from moto.server import ThreadedMotoServer

from rdm import params, paths
from rdm.provenance import graph
from rdm.provenance.code import code_digest
from tests.conftest import CI, ROOT
from tests.workflow.test_snakemake import digests

PARAMS = "params/ci.yaml"
SOURCES = (
    *("Snakefile", "workflow", "params", "src", "containers", "requirements.lock"),
    *(".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"),
)


def run(folder, *command, check=True):
    """Run a command in a folder, with the rdm of that folder's own sources; returns the finished process."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def commit(folder):
    """Everything into git."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", "test")


def new_repository(folder, file=PARAMS):
    """The project's sources as a repository of their own, with the dvc.yaml of a parameter file."""
    ignored = shutil.ignore_patterns("__pycache__", "*.sif")
    for name in SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else lambda a, b, ignore: shutil.copy(a, b)
        copy(ROOT / name, folder / name, ignore=ignored)
    run(folder, "git", "init", "--quiet")
    run(folder, sys.executable, "workflow/scripts/write_dvc.py", file)
    commit(folder)
    return folder


def make_up(folder, experiment):
    """Results of every job as they would look to DVC and Snakemake: recipes without content."""
    for job in graph.jobs(experiment, graph.targets(experiment)):
        for path, parameters in job.makes.items():
            file = folder / graph.declared(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            recipe = {"verb": job.verb, "parameters": parameters, "inputs": {}, "code": code_digest(job.verb)}
            content = {"recipe": recipe, "files": {}, "facts": {}, "values": {"fid": {"value": 1.0}}}
            file.write_text(json.dumps(content | {"name": str(path)}))


@pytest.fixture(scope="session")
def handed(tmp_path_factory):
    """A repository whose results, made up, are in DVC's cache and in a remote. Do not change it."""
    folder = new_repository(tmp_path_factory.mktemp("handed"))
    make_up(folder, params.load(CI))
    run(folder, "dvc", "repro", "--single-item", "code", "metrics", "workflow/dvc.yaml:metrics")
    run(folder, "dvc", "commit", "--force")
    run(folder, "dvc", "remote", "add", "--default", "store", str(folder.with_name("store")))
    run(folder, "dvc", "push")
    commit(folder)
    return folder


@pytest.fixture(scope="session")
def pulled_once(handed, tmp_path_factory):
    """A fresh clone of it after `rdm pull`. Do not change it."""
    folder = tmp_path_factory.mktemp("pulled") / "clone"
    run(handed, "git", "clone", "--quiet", ".", str(folder))
    assert run(folder, "rdm", "pull", "--params", PARAMS).stdout == "111 jobs are done.\n"
    return folder


@pytest.fixture
def pulled(pulled_once, tmp_path):
    """A copy of the clone: free to change."""
    shutil.copytree(pulled_once, tmp_path / "clone")
    return tmp_path / "clone"


def change(folder, file, key, value):
    """Set one value of a parameter file."""
    file = folder / file
    content = json.loads(json.dumps(yaml.safe_load(file.read_text())))  # an alias becomes a copy of its own
    *sections, last = key.split(".")
    section = content
    for name in sections:
        section = section[name]
    section[last] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def bare(command):
    """A command without what only one of the two tools adds."""
    return re.sub(r" (--params|--gpus) \S+", "", command.split(" > ")[0])


# Snakemake's jobs, as it plans them: what each runs, reads and makes
JOBS = """
import json, sys
from pathlib import Path
from rdm.provenance.pull import planned

with planned(Path(sys.argv[1]), sys.argv[2:]) as workflow:
    jobs = [job for job in workflow.dag.jobs if job.output]
    found = [{"command": j.shellcmd, "reads": list(j.input), "makes": list(j.output)} for j in jobs]
print(json.dumps(found))
"""


def graph_of_snakemake(folder, file):
    """The commands, the pairs of which one makes what the other reads, and all outputs."""
    experiment = params.load(folder / file)
    targets = [graph.declared(p) for job in graph.jobs(experiment, graph.targets(experiment)) for p in job.makes]
    jobs = json.loads(run(folder, sys.executable, "-c", JOBS, file, *targets).stdout)
    makers = {path: bare(job["command"]) for job in jobs for path in job["makes"]}
    edges = {(makers[path], bare(job["command"])) for job in jobs for path in job["reads"] if path in makers}
    return set(makers.values()), edges, set(makers)


def graph_of_dvc(folder):
    """The same, without the stages that write digests and metrics."""
    with Repo(str(folder)) as repo:
        ours = {stage: bare(stage.cmd) for stage in repo.index.stages if stage.cmd.startswith("rdm ")}
        edges = {(ours[b], ours[a]) for a, b in repo.index.graph.edges if a in ours and b in ours}
        outs = {graph.declared(Path(out.fs_path).relative_to(folder)) for stage in ours for out in stage.outs}
    return set(ours.values()), edges, outs


def to_run_by_dvc(folder):
    """The commands of the stages that have changed, and of all that follow from them."""
    # parsed once instead of once per stage
    with pytest.MonkeyPatch.context() as patch, Repo(str(folder)) as repo:
        patch.setattr(param, "load_path", functools.cache(param.load_path))
        ours = {stage.addressing: stage for stage in repo.index.stages if stage.cmd.startswith("rdm ")}
        found, pending = set(), [ours[name] for name in repo.status() if name in ours]
        while pending:
            stage = pending.pop()
            if stage not in found and stage.cmd.startswith("rdm "):
                found.add(stage)
                pending += repo.index.graph.predecessors(stage)
    return {bare(stage.cmd) for stage in found}


def to_run_by_snakemake(folder):
    """The commands that a dry run of everything prints."""
    experiment = params.load(folder / PARAMS)
    targets = [graph.declared(next(iter(graph.target(experiment, n).makes))) for n in graph.targets(experiment)]
    options = ("--configfile", PARAMS, "--dry-run", "--printshellcmds")
    said = run(folder, "snakemake", *targets, *options)
    return {bare(command) for command in re.findall(r"^Shell command: (.*)$", said.stdout + said.stderr, re.MULTILINE)}


def test_the_committed_files_are_those_of_the_default_experiment(tmp_path):
    folder = new_repository(tmp_path, "params/digits.yaml")
    for name in ("dvc.yaml", "workflow/dvc.yaml"):
        assert (folder / name).read_text() == (ROOT / name).read_text(), "run `make dvc`"


@pytest.mark.parametrize("file", ["params/digits.yaml", "my params/ci.yaml"])
def test_every_command_names_its_parameter_file(tmp_path, file):
    """Also that of the default experiment, where RDM_PARAMS may name another; and one with a space in its name."""
    folder = tmp_path / Path(file).parent
    shutil.copytree(ROOT / "params", folder)
    (tmp_path / "workflow").mkdir()
    run(tmp_path, sys.executable, str(ROOT / "workflow/scripts/write_dvc.py"), file)
    for name in ("dvc.yaml", "workflow/dvc.yaml"):
        stages = yaml.safe_load((tmp_path / name).read_text())["stages"]
        assert stages
        for stage in stages.values():
            words = shlex.split(stage["cmd"])
            assert words.count(file) == 1
            assert words[0] == "python" or words[-2:] == ["--params", file]


@pytest.mark.parametrize("name", ["ci", "digits", "fashion", "ci with published samples"])
def test_both_run_the_same_graph(tmp_path, name):
    name, _, published = name.partition(" ")
    file = f"params/{name}.yaml"
    folder = new_repository(tmp_path, file)
    if published:
        (folder / "samples.npz").touch()
        change(folder, file, "published", {"other": {"data": "tiny", "path": "samples.npz"}})
        change(folder, file, "tables.table1.rows", [{"row": "StyleGAN-XL", "samples": "other"}])
        run(folder, sys.executable, "workflow/scripts/write_dvc.py", file)
    commands, edges, outs = graph_of_dvc(folder)
    assert (commands, edges, outs) == graph_of_snakemake(folder, file)
    assert f"rdm train {name}-dit-s0 --overwrite" in commands
    assert ("rdm score other" in commands) == bool(published)
    with Repo(str(folder)) as repo:
        stages = [stage for stage in repo.index.stages if stage.cmd.startswith("rdm ")]
        assert all(f"results/code/{stage.cmd.split()[1]}" in map(str, stage.deps) for stage in stages)


def test_dvc_repro_is_table_1(tmp_path):
    """The rest is run by `dvc repro --all-pipelines`."""
    folder = new_repository(tmp_path)
    said = run(folder, "dvc", "repro", "--dry", "--force").stdout
    assert "rdm tables table1" in said
    assert not re.search(r"table2|figure|ucf|sky|unsupervised|depth", said)
    everything = run(folder, "dvc", "repro", "--dry", "--force", "--all-pipelines").stdout
    for command in ("tables table1", "tables table2", "figures figure7", "tables claims"):
        assert f"rdm {command}" in everything


def test_a_comment_or_another_layout_changes_nothing(pulled):
    file = pulled / PARAMS
    file.write_text("# a comment\n" + file.read_text())
    change(pulled, PARAMS, "threads", 1)  # without comments and anchors
    assert to_run_by_snakemake(pulled) == set()
    assert "up to date" in run(pulled, "dvc", "status").stdout


@pytest.mark.parametrize(
    "changes",
    [
        {"train.gated.rdm-u.gates.learning_rate": 0.5},
        {"train.baselines.dit.network.depth": 1},
        {"train.gated.rdm-f.steps": 5, "score.ucf-frames.extractor.epochs": 2},
        {"sample.guided.guidance": 2.0, "data.sky.clips": 61},
        {"train.baselines.ucf-frames.steps": 5, "figures.figure7.steps": 5},
        {"tables.scale": "tiny"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_changed_values_re_run_the_same_jobs(pulled, changes):
    for key, value in changes.items():
        change(pulled, PARAMS, key, value)
    again = to_run_by_snakemake(pulled)
    assert again
    assert to_run_by_dvc(pulled) == again


def test_a_changed_protocol_re_runs_the_same_jobs(pulled):
    file = pulled / "params" / "protocols.yaml"
    content = yaml.safe_load(file.read_text())
    content["ci_frames"]["ddof"] = 0
    file.write_text(yaml.safe_dump(content))
    again = to_run_by_snakemake(pulled)
    assert "rdm score floor-ucf-frames" in again
    assert to_run_by_dvc(pulled) == again


def test_changed_code_re_runs_its_verb_and_a_comment_does_not(pulled):
    """DVC learns of it from its stage `code`."""
    before = (pulled / "results" / "code" / "tables").read_text()
    file = pulled / "src" / "rdm" / "tables" / "pages.py"
    file.write_text(f"# a comment\n{file.read_text()}")
    assert "Running stage 'code'" in run(pulled, "dvc", "repro", "code").stdout
    assert to_run_by_dvc(pulled) == set()
    file.write_text(f"{file.read_text()}\nMORE = 1\n")
    run(pulled, "dvc", "repro", "code")
    assert (pulled / "results" / "code" / "tables").read_text() != before
    assert to_run_by_dvc(pulled) == to_run_by_snakemake(pulled) != set()


def test_other_seeds_need_another_dvc_yaml(pulled):
    change(pulled, PARAMS, "seeds", [0, 1])
    done = run(pulled, "dvc", "repro", check=False)
    assert done.returncode != 0
    assert "dvc.yaml is not that of params/ci.yaml; run `python workflow/scripts/write_dvc.py" in done.stderr
    run(pulled, sys.executable, "workflow/scripts/write_dvc.py", PARAMS)
    assert "rdm train ci-dit-s1 --overwrite" in graph_of_dvc(pulled)[0]


def test_snakemake_takes_over_what_was_pulled(pulled):
    assert to_run_by_snakemake(pulled) == set()
    change(pulled, PARAMS, "train.gated.rdm-f.steps", 5)
    names = [f"ci-rdm-f{twin}-s0" for twin in ("", "-control", "-unsupervised")]
    trained = {f"rdm train {name} --overwrite" for name in names}
    assert trained <= to_run_by_snakemake(pulled)
    assert not any("dit" in command for command in to_run_by_snakemake(pulled))


def test_results_of_other_parameters_are_made_anew(pulled):
    """Those that were changed before the pull."""
    shutil.rmtree(pulled / ".snakemake")
    change(pulled, PARAMS, "train.gated.rdm-f.gates.learning_rate", 0.5)
    said = run(pulled, "rdm", "pull", "--params", PARAMS).stdout
    again = to_run_by_snakemake(pulled)
    assert said.startswith(f"{111 - len(again)} jobs are done; {len(again)} were done with other parameters or code")
    assert "rdm train ci-rdm-f-s0 --overwrite" in again
    assert "rdm train ci-rdm-f-control-s0 --overwrite" not in again
    assert {"rdm tables table1", "rdm figures gates"} <= again
    assert not any("dit" in command or "table2" in command for command in again)


def complaint(folder, *options):
    """The one sentence with which `rdm pull` fails, and its exit code."""
    done = run(folder, "rdm", "pull", "--params", PARAMS, *options, check=False)
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    return line, done.returncode


def test_what_cannot_be_pulled(pulled, tmp_path):
    line, code = complaint(pulled, "--remote", "stor")
    assert (line, code) == ("Error: There is no remote 'stor'; did you mean 'store'?", 2)
    (pulled / "results" / "table1.csv").write_text("my own\n")
    line, code = complaint(pulled)
    assert "Use `--force`" in line
    assert "results/table1.csv" in line
    assert code == 1
    shutil.rmtree(pulled / ".dvc" / "cache")
    run(pulled, "dvc", "remote", "modify", "store", "url", str(tmp_path / "empty"))
    line, code = complaint(pulled, "--force")
    assert "The remote 'store' did not bring all results" in line
    assert code == 1
    run(pulled, "dvc", "remote", "remove", "store")
    line, code = complaint(pulled, "--force")
    assert "`dvc remote add --default NAME URL`" in line
    assert code == 2
    (pulled / "dvc.lock").unlink()
    assert complaint(pulled)[0].startswith("Error: There is no dvc.lock here")
    (pulled / "dvc.yaml").unlink()
    assert complaint(pulled)[0].startswith("Error: There is no dvc.yaml beside a Snakefile here")


def test_an_s3_compatible_remote(tmp_path, monkeypatch):
    """Against moto's server, with nothing in the repository but the digests of the code."""
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="results")
    folder = new_repository(tmp_path / "made")
    run(folder, "dvc", "remote", "add", "--default", "s3", "s3://results/rdm")
    run(folder, "dvc", "remote", "modify", "s3", "endpointurl", url)
    run(folder, "dvc", "repro", "code")
    run(folder, "dvc", "push")
    commit(folder)
    run(tmp_path, "git", "clone", "--quiet", str(folder), "clone")
    clone = tmp_path / "clone"
    assert run(clone, "rdm", "pull", "--params", PARAMS).stdout == "0 jobs are done.\n"
    assert (clone / "results" / "code" / "train").read_text() == f"{code_digest('train')}\n"
    server.stop()
    shutil.rmtree(clone / ".dvc" / "cache")
    shutil.rmtree(clone / "results" / "code")
    line, code = complaint(clone)
    assert "dvc pull" in line
    assert code == 1


def test_a_killed_repro_goes_on_and_gives_the_same_bytes(finished, tmp_path):
    """Killed with everything it had started, while the first network is trained, then started again."""
    folder = new_repository(tmp_path)
    command, environment = ["dvc", "repro", "train-dit@0"], os.environ | {"PYTHONPATH": str(folder / "src")}
    killed = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    encoded = folder / paths.latents("tiny", "f4") / paths.MANIFEST
    while not encoded.exists() and killed.poll() is None:
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert encoded.exists()
    assert not (folder / paths.train("ci-dit-s0") / paths.MANIFEST).exists()
    run(folder, *command)
    made, expected = digests(folder), digests(finished)
    assert {"data/tiny/test_images.npy", "train/ci-dit-s0/model.safetensors"} <= made.keys()
    assert {n: d for n, d in made.items() if not n.startswith("code/")} == {
        n: expected[n] for n in made if n in expected
    }


def test_what_snakemake_made_is_made_no_more(finished, tmp_path):
    """Found current by the verbs themselves; once committed, not even looked at. Then an experiment on top of it."""
    folder = new_repository(tmp_path)
    shutil.copytree(finished / "results", folder / "results")
    files = [file for file in (folder / "results").rglob("*") if file.is_file()]
    before = {file: (file.read_bytes(), file.stat().st_ino) for file in files}
    said = run(folder, "dvc", "repro", "train-rdm-f@0").stdout
    assert "> rdm train ci-rdm-f-s0 --overwrite" in said
    assert {file: (file.read_bytes(), file.stat().st_ino) for file in files} == before
    run(folder, "dvc", "repro", "--single-item", "metrics")
    run(folder, "dvc", "commit", "--force", "dvc.yaml")
    assert "up to date" in run(folder, "dvc", "repro").stdout
    commit(folder)

    run(folder, "dvc", "exp", "run", "--set-param", f"{PARAMS}:sample.guided.steps=4", "metrics")
    changed = json.loads(run(folder, "dvc", "metrics", "diff", "--json").stdout)
    assert changed.keys() == {"results/metrics/dit.json", "results/metrics/dit-text.json"}
    for changes in changed.values():
        assert "guided.ci.fid" in changes
        assert not any(name.startswith("plain.") for name in changes)
    assert json.loads(run(folder, "dvc", "params", "diff", "--json").stdout)[PARAMS].keys() == {"sample.guided.steps"}
    run(folder, "dvc", "plots", "show")
    page = (folder / "dvc_plots" / "index.html").read_text()
    assert "c2i_fid_ours" in page
    assert "samples.png" in page
