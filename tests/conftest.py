"""What the tests share: the repository, the ci experiment, and one finished run of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from rdm import params

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "params" / "ci.yaml"
FIGURES = ("figure6", "figure7", "rates")
TARGETS = ("results/table1.csv", "results/table2.csv", *(f"results/figures/{name}.png" for name in FIGURES))

# the tests' own processes: the same rdm and snakemake as this interpreter's, and threads that do not spin
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
for named in ("RDM_PARAMS", "RDM_TRACKER", "RDM_CACHE", "RDM_LOCK_DIR", "SLURM_JOB_ID"):
    os.environ.pop(named, None)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def experiment():
    """The ci experiment."""
    return params.load(CI)


def altered(experiment, **sections):
    """The experiment with other sections; model_copy would keep what it has already derived from the old ones."""
    return type(experiment)(**{name: getattr(experiment, name) for name in type(experiment).model_fields} | sections)


@pytest.fixture
def write_params(tmp_path):
    """Write a changed copy of ci.yaml: `change` edits the parsed content in place. Returns the file's path."""

    def write(change=lambda content: None, name="changed.yaml"):
        folder = tmp_path / "params"
        folder.mkdir(exist_ok=True)
        for shared in ("protocols.yaml", "published.csv", "claims.yaml"):
            shutil.copy(CI.with_name(shared), folder)
        content = json.loads(json.dumps(yaml.safe_load(CI.read_text())))  # an alias becomes a copy of its own
        change(content)
        path = folder / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def snakemake(folder, *arguments, configfile=CI, check=True):
    """Run the project's workflow with `folder` as working directory; returns the finished process."""
    command = [
        "snakemake",
        *("--snakefile", str(ROOT / "Snakefile")),
        *("--directory", str(folder)),
        *("--configfile", str(configfile)),
        *("--rerun-incomplete", "--nolock"),
        *map(str, arguments),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr + _logs(folder)
    return done


def _logs(folder):
    return "".join(f"\n== {log}\n{log.read_text()}" for log in sorted(Path(folder).rglob("logs/**/*.log")))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """A folder in which the whole ci experiment has run through Snakemake, on two cores. Do not change it.

    It is made once for all processes that run tests side by side.
    """
    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent
    folder, whole = root / "finished", root / "finished.whole"
    with FileLock(root / "finished.lock"):
        if not whole.exists():
            if folder.exists():
                pytest.fail(f"{folder} could not be made; why is said where it was tried first.", pytrace=False)
            folder.mkdir()
            snakemake(folder, "--cores", "2", *TARGETS)
            whole.touch()
    return folder


@pytest.fixture
def workspace(finished, tmp_path, monkeypatch):
    """A copy of the finished experiment as working directory: free to change."""
    folder = tmp_path / "workspace"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """FID-Inception with random weights, in a file such as torch-fidelity publishes; its features do not vanish."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=folder / "empty.pth")
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, torch.nn.BatchNorm2d):  # so that folding it is not trivial
            module.weight.uniform_(0.8, 1.2, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"
