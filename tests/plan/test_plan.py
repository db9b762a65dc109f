"""What is counted beforehand: against published numbers, closed forms, and what a real network holds."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from rdm import params, paths
from rdm.cli import main
from rdm.data.published import DATASETS
from rdm.errors import ArtefactError, UsageError
from rdm.latents import encoding
from rdm.models.cost import blank_inputs, forward_flops
from rdm.models.registry import WEIGHTS
from rdm.models.text import build_text
from rdm.models.zoo import build_network
from rdm.params import evaluation, schema
from rdm.params.network import WordEncoder
from rdm.plan import cost, counted, downloads, measured, stage, text
from rdm.plan.finished import seconds_of
from rdm.provenance import graph
from tests.conftest import CI, ROOT, altered
from tests.models.small import CLASSES, NETWORKS, SHAPE, TEXT, build, shape_of

XL = schema.DiT(kind="dit", width=1152, depth=28, heads=16, patch=2, frequency_shift=0)


def test_dit_xl_is_the_published_one():
    """118.64 G multiply-adds a forward (DiT, Table 4, where they are called FLOPs); 675 M parameters."""
    found = cost.of_network(XL, [4, 32, 32], 1000)
    assert found.forward_flops / 2e9 == pytest.approx(118.64, rel=1e-3)
    assert found.parameters / 1e6 == pytest.approx(675, rel=1e-3)


@pytest.mark.parametrize("name", ["digits", "fashion", "longer", "paper"])
def test_every_network_is_counted_beforehand(name, monkeypatch):
    """So that a plan needs no torch: none is counted while it is made."""

    def fail(*_):
        raise AssertionError("workflow/scripts/count_costs.py has not counted this")

    for function in ("of_network", "of_autoencoder", "of_classifier"):
        monkeypatch.setattr(cost, function, fail)
    assert stage.Plan(params.load(ROOT / "params" / f"{name}.yaml"), {}, 80e9).jobs()


@pytest.mark.parametrize("name", NETWORKS)
def test_counted_without_values_as_with_them(name):
    network = build_network(NETWORKS[name], shape_of(name), CLASSES, seed=0)
    found = cost.of_network(NETWORKS[name], shape_of(name), CLASSES)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert found.forward_flops == forward_flops(network, shape_of(name))


@pytest.mark.parametrize("name", TEXT)
def test_a_text_encoder_is_not_counted(name):
    network = build(name)
    found = cost.of_network(TEXT[name], SHAPE, 0)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert found.forward_flops == forward_flops(network, SHAPE)
    longer = TEXT[name].model_copy(update={"text": TEXT[name].text.model_copy(update={"length": 12})})
    assert cost.of_network(longer, SHAPE, 0).forward_flops > found.forward_flops  # attention to it is


def test_what_text_encoders_cost():
    """As transformers' own BERT has it, counted on one caption: all but the attention between its eight tokens."""
    words = TEXT["pixart"].model_copy(update={"text": WordEncoder(width=64, depth=2, heads=4, length=8)})
    encoder = build_text(words.text, ["a", "handwritten", "seven"])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(encoder.tokens(["a handwritten seven"]))
    found = text.of_text(words)
    assert found.flops == counter.get_total_flops() - 2 * 4 * 8**2 * 64
    with torch.device("meta"):
        base = BertModel(BertConfig(), add_pooling_layer=False)
    assert sum(p.numel() for p in base.parameters()) == sum(text.PUBLISHED["bert-base-uncased"])
    assert text.of_text(NETWORKS["dit"]) == text.TextCost()


def test_a_plan_counts_text_encoders():
    """T5-XXL reads every caption that PixArt learns: two FLOPs a weight and token, 4.63 B weights."""
    paper = params.load(ROOT / "params" / "paper.yaml")
    system = "dit-text"
    own = counted.of_network(paper.train.baselines[system].network, [4, 32, 32], 0)
    [job] = [
        job
        for job in graph.jobs(paper, graph.targets(paper))
        if (job.verb, job.names) == ("train", ("paper-dit-text-s0",))
    ]
    work = stage.Plan(paper, {"journeydb": 10}, 80e9)._train(job)
    recipe = paper.train.baselines[system]
    encoder = work.flops[0][1] / (recipe.batch * recipe.steps) - own.training_flops(recipe.checkpointing)
    assert encoder == pytest.approx(2 * 4.63e9 * 120, rel=1e-3)
    assert text.unknown(paper) == []


def test_an_unknown_text_encoder_is_said_to_be_uncounted(write_params):
    """On stderr, and once; all else is counted."""

    def change(content):
        content["train"]["baselines"]["dit-text"]["network"]["text"] = {"weights": "mine", "width": 8, "length": 8}

    done = CliRunner().invoke(main, ["plan", "--params", str(write_params(change))])
    assert done.exit_code == 0
    assert done.stderr.count("the text encoder mine costs is not known and not counted") == 1


def test_kept_bytes_of_two_layers():
    """A linear layer keeps its input, a GELU its own; the weights are not counted."""
    with torch.device("meta"):
        network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))
        x = torch.zeros(3, 8)
    assert cost._kept(network, lambda: network(x)) == 4 * 3 * (8 + 16 + 16)


def test_adm_and_its_classifier_are_the_published_ones():
    """1,120 GFLOP a forward for 256x256 (as DiT, Sec. 5.1, prints it; multiply-adds), 553.8 M and 54 M parameters."""
    paper = params.load(ROOT / "params" / "paper.yaml")
    adm = counted.of_network(paper.train.baselines["adm"].network, [3, 256, 256], 1000)
    assert adm.parameters == 553_838_086
    assert adm.forward_flops / 2e9 == pytest.approx(1120, rel=0.01)
    classifier = counted.of_classifier(paper.sample["adm-guided"].classifier.network, [3, 256, 256], 1000)
    assert classifier.parameters / 1e6 == pytest.approx(54, abs=0.5)


def test_a_classifier_costs_two_passes_a_step():
    """Forward, and back to its input; pixels cost nothing beside the data set that holds them."""
    paper = params.load(ROOT / "params" / "paper.yaml")
    rows = paper.tables.table1.rows
    for sampler in ("adm-plain", "adm-guided"):
        row = evaluation.Row(row="ADM, sampled here", system="adm", sampler=sampler)
        table = paper.tables.table1.model_copy(update={"rows": (*rows, row)})
        own = altered(paper, tables=paper.tables.model_copy(update={"table1": table}))
        plan = stage.Plan(own, dict.fromkeys(own.data, 1000), 1e12)
        works = {(job.verb, job.names): work for job, work in plan.jobs()}
        calls = 50_000 * 250 * counted.of_network(own.train.baselines["adm"].network, [3, 256, 256], 1000).forward_flops
        guide = own.sample["adm-guided"].classifier.network
        extra = 50_000 * 500 * counted.of_classifier(guide, [3, 256, 256], 1000).forward_flops
        expected = calls + (extra if sampler == "adm-guided" else 0)
        assert sum(flops for _, flops in works["sample", ("paper-adm-s0",)].flops) == pytest.approx(expected)
        assert works["latents", ("pixels",)] == stage.Work()


def test_a_training_is_dealt_to_the_fewest_gpus_that_hold_it():
    experiment = params.load(ROOT / "params" / "paper.yaml")
    for capacity, expected in ((10_000, (200 + 6400, 1)), (3500, (200 + 3200, 2)), (900, (200 + 400, 16))):
        assert stage.Plan(experiment, {}, capacity)._fit(200, 100, 64) == expected


def test_the_papers_trainings_have_as_many_gpus_as_they_need():
    """Of 80 GB: what params/paper.yaml gives each is what its batch needs; twins and figures have theirs from it."""
    experiment = params.load(ROOT / "params" / "paper.yaml")
    jobs = stage.Plan(experiment, {}, stage.GPUS["h100"].memory).jobs()
    needed = {experiment.find_run(job.names[0])[0]: work.gpus for job, work in jobs if job.verb == "train"}
    assert needed == {system: experiment.gpus_of(system) for system in needed}
    assert set(needed.values()) == {1, 2, 4}
    latte = altered(experiment, gpus={"ucf101-scratch": 3})
    assert {latte.gpus_of(f"ucf101-scratch-{what}") for what in ("rdm", "depth14", "depth14-gated")} == {3}


def test_what_was_counted_is_what_would_be_counted_now():
    """workflow/scripts/count_costs.py has run since a network was added or changed."""
    for name in ("ci", "digits"):
        experiment = params.load(ROOT / "params" / f"{name}.yaml")
        plan = stage.Plan(experiment, {}, 0)
        for system in experiment.systems:
            what = experiment.baseline(system).network, plan.shape_of(system), plan.classes_of(system)
            assert counted.network_key(*what) in counted._counted()
        assert counted.of_network(*what) == cost.of_network(*what)  # the last one; all take a minute
        for entry, encoded in experiment.latents.items():
            data, autoencoder = experiment.data[encoded.data], experiment.autoencoder(entry)
            assert counted.of_autoencoder(autoencoder, 1, data.image_size) == cost.of_autoencoder(
                autoencoder, 1, data.image_size
            )


def test_the_paper_is_planned_without_torch():
    command = ["rdm", "plan", "--params", "params/paper.yaml"]
    code = f"import sys; sys.argv = {command!r}; from rdm.cli import main; main(standalone_mode=False)"
    checked = f"{code}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", checked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "in all" in done.stdout


def test_what_is_new_is_counted(monkeypatch):
    monkeypatch.setattr(counted, "_counted", dict)
    assert counted.of_network(NETWORKS["dit"], SHAPE, CLASSES) == cost.of_network(NETWORKS["dit"], SHAPE, CLASSES)


def test_what_is_alive_at_a_time():
    """Of a chain an input and an output; of a residual unit its input, too; views and weights take no room."""
    with torch.device("meta"):
        layers = torch.nn.ModuleList([torch.nn.Linear(100, 100, bias=False) for _ in range(4)])
        x = torch.zeros(1, 100)

    def chain():
        return layers[3](layers[2](layers[1](layers[0](x)))).view(10, 10).t()

    def residual():
        z = layers[0](x)
        return z + layers[2](layers[1](z))

    assert cost._live(layers, chain) == 2 * 400
    assert cost._live(layers, residual) == 3 * 400


def test_peak_memory_follows_the_batch(write_params):
    """Of sampling and encoding: weights, and what is alive, of as many items as are computed at a time."""
    assert stage.ENCODED == encoding.BATCH
    assert stage.SHARD == encoding.SHARD
    experiment = params.load(ROOT / "params" / "paper.yaml")

    def memory(verb, name, changed=experiment):
        jobs = stage.Plan(changed, {}, 80e9).jobs()
        [found] = [work.memory for job, work in jobs if job.verb == verb and name in job.names]
        return found

    kl = counted.of_autoencoder(experiment.autoencoder("kl-f8"), 3, 256)
    dit = counted.of_network(experiment.baseline("dit").network, [4, 32, 32], 1000)
    held = 2 * 8192 * 4 * 32 * 32 * 2 * 2  # a shard's images and mirrored ones, means and deviations in float16
    assert memory("latents", "kl-f8") == 4 * kl.parameters + 100 * kl.encoder_live_bytes + held
    weights = 4 * (kl.parameters + dit.parameters)
    assert memory("sample", "paper-dit-s0") == weights + 128 * kl.decoder_live_bytes
    small = {name: sampler.model_copy(update={"batch": 1}) for name, sampler in experiment.sample.items()}
    assert memory("sample", "paper-dit-s0", altered(experiment, sample=small)) == weights + kl.decoder_live_bytes


def test_a_guiding_classifier_takes_memory():
    """Its weights, and what its backward pass to the input needs."""
    experiment = params.load(ROOT / "params" / "paper.yaml")
    plan = stage.Plan(experiment, {}, 80e9)
    alone, guided = (plan._held("adm", experiment.sample[name]) for name in ("adm-plain", "adm-guided"))
    network = experiment.sample["adm-guided"].classifier.network
    classifier = cost.of_classifier(network, [3, 256, 256], 1000)
    adm = counted.of_network(experiment.baseline("adm").network, [3, 256, 256], 1000)
    needed = 32 * max(adm.live_bytes, classifier.kept_bytes)
    assert guided == 4 * (adm.parameters + classifier.parameters) + needed > alone


def test_how_many_items_a_data_set_has(write_params):
    """By the folder, of videos times the clips of each; where that is another, it has to be said."""
    experiment = params.load(ROOT / "params" / "paper.yaml")
    plan = stage.Plan(experiment, {"taichi-hd": 10}, 0)
    assert [plan.items(name) for name in ("imagenet", "ucf101", "taichi-hd")] == [1_281_167, 4 * 13_320, 40]
    elsewhere = experiment.data["imagenet"].model_copy(update={"folder": "elsewhere"})
    moved = altered(experiment, data=experiment.data | {"imagenet": elsewhere})
    assert stage.Plan(moved, {"imagenet": 5}, 0).items("imagenet") == 5
    with pytest.raises(UsageError, match="is not known before it is read; say it: --items imagenet=N"):
        stage.Plan(moved, {}, 0).items("imagenet")
    counts = {name: tuple(part.files for part in DATASETS[name].parts) for name in DATASETS if name != "adm-samples"}
    assert stage.FOLDERS["data/imagenet"] == counts["imagenet"]
    assert stage.FOLDERS["data/UCF-101"][0] == counts["ucf101"][0]
    assert stage.IMAGES["journeydb"] == counts["journeydb"][1::2]
    assert [stage.COCO[year] for year in (2014, 2017)] == [counts[f"coco{year}"][:2] for year in (2014, 2017)]


def test_frames_are_scored_one_by_one():
    """Through Inception sixteen to a clip."""
    experiment = params.load(ROOT / "params" / "digits.yaml")
    inception = evaluation.Pretrained(kind="inception", weights="x")
    frames = experiment.score["ucf-frames"].model_copy(update={"extractor": inception})
    changed = altered(experiment, score=experiment.score | {"ucf-frames": frames})
    jobs = stage.Plan(changed, {}, 80e9).jobs()
    [work] = [work for job, work in jobs if job.verb == "score" and "digits-ucf-latte-s0" in job.names]
    drawn, compared = 256 * 16 * 2, 1000 * 16  # two seeds, and the reference, all held-out clips, once
    assert [count for _, count in work.flops] == [(drawn + compared) * 11.4e9]


def rows(*arguments):
    done = CliRunner().invoke(main, ["plan", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return {row["stage"]: row for row in json.loads(done.stdout)["stages"]}


def test_what_finished_results_took(tmp_path, monkeypatch):
    """A folder says it itself, a score and a table beside them; what is made with a table is not counted twice."""
    monkeypatch.chdir(tmp_path)
    run, score, table = paths.train("x-dit-s0"), paths.score("x-dit-s0", "plain", "ci"), paths.table("table1", "csv")
    written = (run / paths.MANIFEST, paths.note(score), paths.note(table))
    for number, file in enumerate(written, 1):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"seconds": 1.5 * number}))
    assert [seconds_of(path) for path in (run, score, table, table.with_suffix(".md"))] == [1.5, 3.0, 4.5, 0.0]
    assert seconds_of(paths.train("x-dit-s1")) == 0
    written[1].write_text("{}")
    with pytest.raises(ArtefactError, match=f"{written[1]} is damaged; remove {score}"):
        seconds_of(score)


def test_the_plan_of_a_finished_experiment(workspace):
    """Every job that it counts is there; its disk space is that of the weights."""
    found = rows("--params", CI)
    for name in ("data", "autoencoder", "latents", "extractor", "sample", "score"):
        assert found[name]["done"] == found[name]["jobs"] > 0, name
    assert found["train"]["done"] == found["train"]["jobs"] - 2  # Figure 5's unsupervised twins are not in `finished`
    assert found["train"]["hours so far"] > 0
    weights = sum(file.stat().st_size for file in workspace.glob("results/train/*/model*.safetensors"))
    assert found["train"]["disk GB"] * 1e9 == pytest.approx(weights, rel=0.15)
    assert found["in all"]["jobs"] == sum(row["jobs"] for name, row in found.items() if name != "in all")


def test_photographs_that_are_not_stored_need_no_disk(write_params):
    entry = {"source": "folder", "image_size": 256, "folder": "data/imagenet", "classes": 1000}
    sizes = []
    for stored in (True, False):
        experiment = params.load(write_params(lambda c, s=stored: c["data"].update(photographs={**entry, "stored": s})))
        plan = stage.Plan(experiment, {}, 80e9)
        sizes.append(plan._data(graph.data(experiment, "photographs")).disk)
    assert sizes[0] == (1_281_167 + 50_000) * 256 * 256 * 3
    assert sizes[1] < sizes[0] / 1000


def test_another_gpu_and_another_utilisation():
    usual, slow, half = (rows("--params", CI, *o) for o in ((), ("--gpu", "a100"), ("--utilisation", "0.2")))
    assert usual["train"]["exaFLOP"] == slow["train"]["exaFLOP"] == half["train"]["exaFLOP"] > 0
    assert slow["train"]["GPU hours"] == pytest.approx(usual["train"]["GPU hours"] * 66.9 / 19.5)
    assert half["train"]["GPU hours"] == pytest.approx(usual["train"]["GPU hours"] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--items", "digit=5"], "did you mean 'digits'?"),
        (["--items", "digits"], "write DATASET=N"),
        (["--items", "digits=0"], "write DATASET=N"),
        (["--items", "digits=²"], "write DATASET=N"),
        (["--utilisation", "0"], "0 is not in the range 0<x<=1"),
        (["--utilisation", "nan"], "--utilisation nan: write a number above 0"),
    ],
)
def test_bad_input(arguments, message):
    done = CliRunner().invoke(main, ["plan", *map(str, arguments)])
    assert done.exit_code == 2
    assert message in done.output


def test_hours_follow_the_precision_of_each_stage(write_params):
    def change(content):
        content["performance"] = {"train": "bfloat16", "sample": "tf32", "autoencoder": "tf32"}

    before, after = rows("--params", CI), rows("--params", write_params(change))
    for name, speed in {"train": 989.4, "sample": 494.7, "latents": 494.7, "autoencoder": 66.9, "score": 66.9}.items():
        assert after[name]["exaFLOP"] == before[name]["exaFLOP"]
        assert after[name]["GPU hours"] == pytest.approx(before[name]["GPU hours"] * 66.9 / speed), name


def test_checkpointing_takes_time_and_saves_memory(write_params):
    def change(content):
        for entry in (*content["train"]["baselines"].values(), *content["train"]["gated"].values()):
            entry["checkpointing"] = True

    before, after = rows("--params", CI)["train"], rows("--params", write_params(change))["train"]
    assert after["exaFLOP"] == pytest.approx(before["exaFLOP"] * 4 / 3)
    assert after["GB on a GPU"] < before["GB on a GPU"]


@pytest.mark.parametrize("name", ["dit", "unet-cross"])
def test_kept_bytes_are_those_of_a_real_network(name):
    """An item more in the batch, in autocast, with checkpointing and without: what autograd holds of it."""
    found = cost.of_network(NETWORKS[name], shape_of(name), CLASSES)
    for bfloat16, checkpointing in ((True, False), (False, True), (True, True)):
        network = build_network(NETWORKS[name], shape_of(name), CLASSES, seed=0).train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        sizes = []
        for batch in (1, 2):
            inputs = blank_inputs(network, shape_of(name), batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                sizes.append(cost._kept(network, lambda: network(*inputs), not bfloat16))  # noqa: B023
        precision = "bfloat16" if bfloat16 else "float32"
        # of U-Nets with cross-attention real tensors keep 0.9 % more than fake ones, in bfloat16
        assert found.kept(precision, checkpointing) == pytest.approx(sizes[1] - sizes[0], rel=0.01)
    assert found.kept("bfloat16", True) < found.kept("bfloat16", False) < found.kept("float32", False)
    assert found.kept("tf32", False) == found.kept_bytes


def test_what_is_to_be_downloaded(tmp_path, monkeypatch):
    """The paper's data sets and weights; what is there already does not count."""
    monkeypatch.chdir(tmp_path)
    experiment = params.load(ROOT / "params" / "paper.yaml")
    every = {row["download"]: row for row in downloads.table(experiment)}
    assert {"imagenet", "ucf101", "taichi-hd", "dit-xl-2-256", "ldm8", "sd-vae-ft-ema"} < every.keys()
    assert {"adm-samples", "adm-256", "adm-256-classifier"} < every.keys()
    assert {"bert-large-uncased", "t5-v1_1-xxl", "adm-reference", "inception", "i3d"} < every.keys()
    assert downloads.uncounted(experiment) == ["data/stylegan-xl"]
    assert every["dit-xl-2-256"]["with"] == "rdm models fetch dit-xl-2-256"
    total = every.pop("still to come")["GB"]
    assert total == pytest.approx(sum(row["GB"] for row in every.values()))
    (tmp_path / "data" / "imagenet").mkdir(parents=True)
    assert downloads.table(experiment)[-1]["GB"] == pytest.approx(total - 155)
    assert downloads.table(params.load(CI)) == []
    assert downloads.uncounted(params.load(CI)) == []


def test_what_has_no_known_size_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(WEIGHTS, "ldm4", replace(WEIGHTS["ldm4"], size=None))
    result = CliRunner().invoke(main, ["plan", "--params", str(ROOT / "params" / "paper.yaml")])
    for place in ("data/stylegan-xl", "data/ldm4-cin256-v2.ckpt"):
        assert f"How large {place} is, is not known; it is not counted among the downloads.\n" in result.stderr


def test_a_measured_run_stands_beside_the_plan(tmp_path, monkeypatch):
    row = {"work": "DiT", "contestant": "rdm", "batch": 256, "per_second": 500.0, "teraflops": 356.0, "failed": None}
    peer = {**row, "contestant": "diffusers"}
    failed = {**dict.fromkeys(row), "work": "Latte", "contestant": "rdm, diffusers", "failed": "OutOfMemoryError"}
    content = {"performance": {"train": "bfloat16"}, "rows": [row, peer, row, failed]}
    (tmp_path / "gpu-h200.json").write_text(json.dumps(content))
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    [found] = measured.table("h200", 0.4)
    assert found["share of peak"] == pytest.approx(356 / 989.4)
    assert found["planned"] == pytest.approx(0.4 * 989.4e12 / (356e12 / 500))
    assert measured.table("h100", 0.4) == []
    done = CliRunner().invoke(main, ["plan", "--params", str(CI), "--gpu", "h200"])
    assert "share of peak" in done.stdout
    done = CliRunner().invoke(main, ["plan", "--params", str(CI), "--gpu", "h100"])
    assert "Nothing has been measured on h100 yet" in done.output
