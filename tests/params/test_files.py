"""Parameter files: what is wrong is named, with the nearest thing that would be right."""

import json

import pytest
import yaml

from rdm import params
from rdm.errors import ParameterError, UsageError
from rdm.params.dependencies import of_autoencoder, of_latents, of_score
from rdm.params.files import load_protocols
from tests.conftest import CI, ROOT

PROTOCOLS = ROOT / "params" / "protocols.yaml"
VIDEOS = {"source": "videos", "image_size": 16, "train": "x", "labelled": True}
PHOTOGRAPHS = {"source": "folder", "image_size": 16, "folder": "x"}
COCO = {"source": "coco", "image_size": 16, "folder": "x", "year": 2014}
FROM_TEXT = {"data": "more", "protocol": "coco30k", "extractor": {"kind": "inception", "weights": "x"}}
VIDEOS |= {"frames": 4, "stride": 1, "offset": "first"}


def rows(content):
    return content["tables"]["table1"]["rows"]


def of_both(data):
    """One autoencoder encodes both sets of clips, so that they are of one colour."""
    return {"ucf": data, "sky": data}


def early_curves(content):
    """A figure of networks from random weights, drawn by the sampler of a snapshot that their base keeps."""
    content["sample"]["early"] = content["sample"]["plain"] | {"step": 2}
    baseline(content, "dit").update(snapshots=[2])
    content["figures"]["figure6"].update(sampler="early")


def baseline(content, name):
    return content["train"]["baselines"][name]


@pytest.mark.parametrize("name", ["ci", "digits", "fashion", "longer", "paper"])
def test_every_shipped_file_is_valid(name):
    assert params.load(ROOT / "params" / f"{name}.yaml").name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"]["baselines"]["dit"].update(stepz=3), "train.baselines.dit.stepz.*'steps'"),
        (lambda c: c["sample"]["plain"].update(guidence=2), "sample.plain.guidence.*'guidance'"),
        (lambda c: c["train"]["baselines"]["dit"]["network"].update(dept=3), "network.*dept.*'depth'"),
        (lambda c: c.update(seed=[1]), "seed: unknown key.*'seeds'"),
        (lambda c: c["train"]["baselines"]["dit"].update(steps=-1), "train.baselines.dit.steps.*greater than 0.*-1"),
        (lambda c: c["train"]["baselines"]["dit"].update(latents="f5"), "'f5' is not declared.*'f4'"),
        (lambda c: c["tables"]["table1"]["rows"][0].update(system="ldm5"), "'ldm5' is not declared.*'ldm4'"),
        (lambda c: c["tables"]["table1"]["rows"][0].update(sampler="plane"), "'plane' is not declared.*'plain'"),
        (lambda c: c["train"]["gated"]["rdm-f"].update(start="dit2"), "'dit2' is not declared.*'dit'"),
        (lambda c: c["train"]["gated"]["rdm-f"].pop("gates"), "gates is missing"),
        (lambda c: c["score"]["images"].update(protocol="cj"), "'cj' is not in .*protocols.yaml.*'ci'"),
        (
            lambda c: c["score"]["images"].update(extractor={"kind": "inception", "weights": "x"}),
            "protocol 'ci' is for",
        ),
        (lambda c: c["data"]["tiny"].update(source="digit"), "data.tiny"),
        (lambda c: c.update(device="gpu"), "device"),
        (lambda c: c["sample"]["plain"].update(eta=0.5), "sample.plain.*eta is for solver: ddim"),
        (lambda c: c["tables"]["table1"]["rows"][0].pop("sampler"), "either system and sampler, or samples"),
        (lambda c: c["tables"]["table1"]["rows"][0].update(samples="x"), "either system and sampler, or samples"),
        (lambda c: c["tables"]["table1"]["rows"].append({"row": "ADM", "samples": "x"}), "'x' is not declared"),
        (lambda c: c.update(published={"floor-x": {"data": "tiny", "path": "x.npz"}}), "this name is taken"),
        (lambda c: c.update(seeds=[0, 1, 0]), "names one twice"),
        (lambda c: c["train"]["gated"].update({"a-control": c["train"]["gated"]["rdm-f"]}), "'a-control' ends in"),
        (lambda c: c["tables"]["table1"]["rows"].append(c["tables"]["table1"]["rows"][0]), "'LDM-4' is there twice"),
        (
            lambda c: c["tables"]["table1"]["rows"][1].update(row="DiT-XL/4"),
            "'DiT-XL/4' is no row of the paper's.*'DiT-XL/2'",
        ),
        (lambda c: c["data"]["tiny"].update(image_size=18), "image_size: 18 is not a multiple of 4"),
        (lambda c: c["latents"]["f4"].update(norm_groups=3), "latents.f4.block_channels: 8 is not a multiple of 3"),
        (lambda c: c["latents"]["f4"].update(block_channels=[]), "block_channels is empty"),
        (
            lambda c: c["train"]["baselines"]["dit"]["network"].update(patch=3),
            "latents' size: 4 is not a multiple of 3",
        ),
        (lambda c: c["latents"]["sky-f4"].update(autoencoder="ucf-f5"), "'ucf-f5' is not declared.*'ucf-f4'"),
        (lambda c: c["latents"]["sky-f4"].update(autoencoder="sky-f4"), "'sky-f4' has no autoencoder of its own"),
        (lambda c: c["latents"]["sky-f4"].update(steps=4), "latents.sky-f4.steps: this key does not go with"),
        (
            # the lender stands after what borrows it
            lambda c: c["latents"].update({"ucf-f4": c["latents"].pop("ucf-f4") | {"data": "uc"}}),
            "latents.ucf-f4.data: 'uc' is not declared",
        ),
        (
            lambda c: c["data"].update(photos=PHOTOGRAPHS) or c["latents"]["sky-f4"].update(data="photos"),
            "that of 'ucf-f4' is for images of another colour",
        ),
        (lambda c: c["train"]["baselines"]["dit"]["network"].update(width=18), "width: 18 is not a multiple of 4"),
        (lambda c: c["train"]["baselines"]["ldm4"]["network"].update(norm_groups=5), "8 is not a multiple of 5"),
        (lambda c: c["train"]["baselines"]["ldm4"]["network"].update(heads=3), "16 is not a multiple of 3"),
        (lambda c: c["train"]["baselines"]["ldm4"]["network"].update(attention=[True]), "one entry per block_channels"),
        (lambda c: c["sample"]["plain"].update(steps=101), "101 is more than the 100 timesteps"),
        (
            lambda c: c["sample"]["guided"].update(steps=30),
            "sample.guided.steps: ddim cannot divide the 100 timesteps of 'dit' into 30 steps; take 25 or 50",
        ),
        (
            lambda c: c["sample"]["guided"].update(steps=100, spacing="leading"),
            "the 100 timesteps of 'dit' into 100 steps; take 50",
        ),
        (
            lambda c: c["sample"]["plain"].update(steps=62),
            "dpm.. cannot divide the 100 timesteps of 'dit' into 62 steps; take 61 or 63",
        ),
        (lambda c: c["score"]["images"]["extractor"].update(channels=[8] * 6), "images of 32 pixels"),
        (lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(shape="scalar"), "a scalar beta is a no-op"),
        (lambda c: c["train"]["gated"]["rdm-u"]["gates"].update(unit="branch"), "has one branch; set block"),
        (
            lambda c: c["train"]["gated"]["rdm-u"]["gates"].update(variant="adaln", supervision=None),
            "adaln are no-ops before a normalisation layer",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(variant="adaln"),
            "gates: variant adaln has no alpha . F.z. to supervise",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(variant="resnet", unit="branch", supervision=None),
            "resnet has no gates, so unit would change nothing",
        ),
        (
            lambda c: c["figures"]["figure5"].update(steps=[2, 3]),
            "step 3 of 'rdm-u' is not logged.*log_every, 2, up to 4",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f"]["gates"].update(time="embedded"),
            "depends on the timestep is not supervised",
        ),
        (lambda c: c["figures"]["figure5"].update(steps=[6]), "step 6 of 'rdm-u' is not logged"),
        (
            lambda c: c["train"]["gated"].update({"a-unsupervised": c["train"]["gated"]["rdm-f"]}),
            "'a-unsupervised' ends in",
        ),
        (lambda c: c["train"]["baselines"]["dit"].update(learning_rate=float("inf")), "learning_rate.*finite"),
        (lambda c: c.pop("sample"), "sample: this key is missing"),
        (lambda c: c["train"]["baselines"]["dit"]["network"].update(kind="latte"), "latte is for clips"),
        (lambda c: c["train"]["baselines"]["ucf-latte"].update(start="dit"), "'dit' is none"),
        (lambda c: c["train"]["baselines"]["ucf-latte"]["network"].update(depth=4), "'ucf-frames' is none"),
        (lambda c: c["train"]["baselines"]["ucf-frames"].update(start="dit"), "a Latte starts from a dit"),
        (lambda c: c["train"]["baselines"]["ucf-latte"].update(seeds=[1]), "'ucf-frames', its start, is not.*with 1"),
        (lambda c: c["train"]["baselines"]["dit"].update(seeds=[1, 1]), "dit.seeds.*names one twice"),
        (lambda c: c["train"]["baselines"]["ucf-latte"].update(warmup_steps=3), "together more than its 4 steps"),
        (lambda c: c["train"]["baselines"]["dit"].update(snapshots=[4]), "snapshots: 4 is not before the end, 4"),
        (
            lambda c: c["train"]["baselines"]["ucf-frames"].update(
                gates={"variant": "rezero", "alpha": 0.0, "learning_rate": 0.1, "supervision": None}
            ),
            "set network.block_scale: 1",
        ),
        (lambda c: c["score"]["ucf-clips"].update(protocol="ci"), "'ucf' holds clips, 'ci' is for others"),
        (
            lambda c: c["score"]["ucf-clips"].update(protocol="moving_digits"),
            "of 'ucf' have 4, 1, first",
        ),
        (lambda c: c["score"].update(twice=c["score"]["ucf-clips"]), "scored by 'ci_clips' twice"),
        (lambda c: c["score"]["ucf-clips"]["extractor"].update(channels=[8] * 4), "of clips 8 frames, too"),
        (
            lambda c: c["score"]["sky-clips"].update(extractor="ufc-clips"),
            "sky-clips.extractor.*did you mean 'ucf-clips'",
        ),
        (lambda c: c["score"]["ucf-frames"].update(extractor="sky-clips"), "has none of its own; name 'ucf-clips'"),
        (lambda c: c["score"]["sky-clips"].update(extractor="ucf-frames"), "that of 'ucf-frames' sees images or clips"),
        (
            lambda c: c["score"]["sky-clips"].update(extractor="images"),
            "that of 'images' sees images or clips of anoth",
        ),
        (lambda c: c["data"]["sky"].update(frames=3), "that of 'ucf-clips' sees images or clips of another size"),
        (lambda c: c["score"]["sky-clips"].update(extractor=7), "score.sky-clips.extractor"),
        (lambda c: c["data"]["sky"].update(digits=[3, 10]), "data.sky.*digits"),
        (lambda c: c["data"]["sky"].update(digits=[]), "data.sky.*digits"),
        (lambda c: c["data"].update(of_both(VIDEOS)), "its reference is the test split, 'ucf' has none"),
        (lambda c: c["data"].update(of_both(VIDEOS | {"stride": 3})), "stride 1, .*of 'ucf' have 4, 3, first"),
        (lambda c: c["data"].update(of_both(VIDEOS | {"labelled": False})), "ucf-clips.*no labels that a class"),
        (lambda c: c["data"]["ucf"].update(cell=3), "image_size: 16 is not a multiple of 6"),
        (lambda c: c["data"]["ucf"].update(frames=1), "data.ucf.*frames"),
        (
            lambda c: c["tables"]["table2"]["rows"][0]["cells"][0].update(sampler="clips-guided"),
            "'clips-guided' is guided, 'sky' has no labels",
        ),
        (lambda c: c.update(gpus={"dot": 2}), "gpus: 'dot' is not declared; did you mean 'dit'"),
        (lambda c: c.update(gpus={"dit": 0}), "gpus.dit"),
        (lambda c: c.update(gpus={"dit": 7}), "is not a multiple of 7; change one"),
        (lambda c: c["sample"]["clips"].update(labels="balanced"), "sample.clips.labels: 'sky', of which .* has none"),
        (
            lambda c: c["tables"]["table2"]["rows"][0]["cells"][0].update(system="dit"),
            "of 'tiny', not of a column",
        ),
        (lambda c: c["tables"]["table2"]["rows"][0]["cells"].append({"system": "ucf-rdm", "sampler": "clips"}), "two"),
        (lambda c: c["tables"]["table2"]["columns"].update(frame_fid={"score": "x", "metric": "fid"}), "'x' is not"),
        (lambda c: c["sample"]["clips"].update(guided_channels=3), "guided_channels would change nothing"),
        (lambda c: c["sample"]["clips"].update(unguided_steps=1), "unguided_steps would change nothing"),
        (lambda c: c["sample"]["guided"].update(unguided_steps=2), "2 of 2 steps leave none to be guided"),
        (lambda c: c["sample"]["guided"].update(guided_channels=4), "the latents of .* have 4; name fewer"),
        (lambda c: c["figures"]["figure6"].update(base="ldm4"), "'ldm4' is no transformer"),
        (lambda c: c["figures"]["figure6"].update(base="ucf-latte"), "no transformer from random weights"),
        (lambda c: c["figures"]["figure7"].update(score="ucf-clips"), "does not score the data of 'dit'"),
        (lambda c: c["figures"]["figure5"].update(systems=["dit"]), "'dit' is not declared"),
        (lambda c: c["figures"]["figure6"].update(base="dti"), "figure6.base: 'dti' is not declared.*'dit'"),
        (lambda c: c["figures"]["figure7"].update(base="dti"), "figure7.base: 'dti' is not declared.*'dit'"),
        (lambda c: c["figures"]["figure6"].update(steps=[2, 2, 4]), "figure6.steps: .* names one twice"),
        (lambda c: c["figures"]["figure7"].update(depths=[1, 1]), "figure7.depths: .* names one twice"),
        (lambda c: c["figures"]["rates"].update(systems=["dit"]), "rates.systems: 'dit' is not declared"),
        (lambda c: c["figures"]["rates"].update(systems=["ucf-rdm"]), "'images' does not score the data of 'ucf-rdm'"),
        (lambda c: c["figures"]["rates"].update(score="image"), "rates.score: 'image' is not declared.*'images'"),
        (lambda c: c["figures"]["rates"].update(samplers=["plane"]), "rates.samplers: 'plane' is not.*'plain'"),
        (lambda c: c["figures"]["rates"].update(factors=[1]), "rates.factors.0: input should be greater than 1"),
        (lambda c: c["figures"]["rates"].update(factors=[]), "rates.factors: .* at least 1 item"),
        (
            lambda c: c["train"]["baselines"].update({"rdm-u-rate10": c["train"]["baselines"]["ldm4"]}),
            "train: 'rdm-u-rate10' is the name of a system that a figure derives; rename it",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-u"].update(
                gates={"variant": "resnet", "learning_rate": 0.1, "supervision": None}
            ),
            "rates.systems: 'rdm-u' has no gates to train faster",
        ),
        (lambda c: c["figures"]["rates"].update(systems=["rdm-u-control"]), "'rdm-u-control' has no gates to train"),
        (lambda c: c["figures"]["figure6"].update(metric="fvd"), "protocol 'ci' gives no 'fvd'"),
        (lambda c: c["train"]["baselines"]["dit"].update(cooldown_steps=2), "figure6.base: 'dit' is cooled down"),
        (lambda c: c["train"]["baselines"]["dit"].update(gates={"learning_rate": 0.1}), "'dit' is no transformer"),
        (lambda c: c["train"]["baselines"]["ldm4"].update(gates={"learning_rate": 0.1}), "'ldm4' has gates, which a"),
        (lambda c: c["train"]["baselines"]["ucf-frames"].update(seeds=[1]), "'ucf-frames', its start, is not.*with 0"),
        (lambda c: c["train"]["baselines"]["ucf-frames"]["diffusion"].update(target="epsilon"), "'ucf-frames' is none"),
        (
            lambda c: c["tables"]["table2"]["rows"][0]["cells"].append({"system": "ucf-frames", "sampler": "clips"}),
            "'ucf-frames' makes single frames of 'ucf'",
        ),
        (lambda c: c["tables"]["table2"]["columns"]["frame_is"].update(score="ucf-frames"), "gives no 'is'"),
        (lambda c: c["sample"]["plain"].update(step=3), "'ldm4' keeps no snapshot of step 3"),
        (early_curves, "figure6.sampler: 'early' draws with a snapshot, which this figure's systems do not keep"),
        (lambda c: c["data"]["ucf"].update(speeds=["slow", "slow"]), "speeds: .* names one twice"),
        (lambda c: c["data"]["ucf"].update(seed=-1), "data.ucf.*seed"),
        (lambda c: c["data"].update(more=VIDEOS | {"seed": 1}), "seed would change nothing with offset: first"),
        (lambda c: c.update(published={"x": {"data": "more", "path": "y"}}), "'more' is not declared"),
        (lambda c: c.update(protocols={}), "name a protocol in each score's .protocol."),
        (lambda c: c["tables"]["table1"].update(picture=["guided"]), "tables.table1.picture: no row"),
        (
            lambda c: c["train"]["baselines"]["dit"]["network"].update(heads=3),
            "width: 16 is not a multiple of 3 .heads",
        ),
        (lambda c: rows(c)[0].update(text={"system": "ldm4", "sampler": "plain"}), "'ldm4' is not conditioned on text"),
        (lambda c: rows(c)[0].update(system="ldm4-text"), "'ldm4-text' is not conditioned on labels"),
        (lambda c: rows(c)[0].update(text={"system": "ldm4-text"}), "either system and sampler, or samples"),
        (lambda c: c["tables"]["table1"].pop("text_score"), "LDM-4: text: tables.table1.text_score is missing"),
        (lambda c: c["tables"]["table1"].update(text_score="image"), "text_score: 'image' is not declared.*'images'"),
        (lambda c: baseline(c, "dit-text").update(latents="ucf-f4"), "pixart is for captions, 'ucf' has none"),
        (lambda c: baseline(c, "dit-text")["network"]["text"].update(heads=3), "text.width: 8 is not a multiple of 3"),
        (lambda c: baseline(c, "dit-text")["network"]["text"].update(length=2), "text.length.*greater than or equal"),
        (lambda c: baseline(c, "dit-text")["network"].pop("text"), "network.*text: this key is missing"),
        (
            lambda c: baseline(c, "dit-text")["network"]["text"].update(weights="x"),
            "text.depth: this key does not go with",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f-text"]["gates"].update(unit="branch"),
            "rdm-f-text.gates.unit: branches are known of adaLN-Zero blocks",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f-text"]["gates"].update(time="embedded", supervision=None),
            "rdm-f-text.gates.time: pixart's blocks are given no embedding",
        ),
        (
            lambda c: c["train"]["gated"]["rdm-f-text"]["gates"].update(shape="scalar"),
            "a scalar beta is a no-op in a pre-LayerNorm transformer",
        ),
        (
            lambda c: c["score"]["images"].update(protocol="fashion"),
            "'ldm4-text' draws from captions, which a protocol of labels: reference or captions deals.*balanced",
        ),
        (
            lambda c: (c["data"].update(more=PHOTOGRAPHS), c["score"].update(more=FROM_TEXT)),
            "'coco30k' deals captions, 'more' has none",
        ),
        (lambda c: c["data"].update(more=COCO | {"year": 2015}), "data.more.*year"),
        (
            lambda c: c["sample"].update({"plain-step2": c["sample"]["plain"]}),
            "sample: 'plain-step2' is the name of a sampler that a figure derives; rename it",
        ),
        # the path is the file's, without the names that pydantic gives to the members of unions
        (lambda c: baseline(c, "dit")["network"].update(widht=3), "yaml: train.baselines.dit.network.widht: unknown"),
        (lambda c: baseline(c, "dit")["network"].pop("width"), "yaml: train.baselines.dit.network.width: this key is"),
        (lambda c: baseline(c, "ldm4")["network"].update(heads="x"), "yaml: train.baselines.ldm4.network.heads: input"),
        (lambda c: c["score"]["images"]["extractor"].update(chanels=3), "yaml: score.images.extractor.chanels: unkn"),
        (lambda c: c["data"].update(more=VIDEOS | {"seed": 1}), "yaml: data.more: seed would"),
        (lambda c: c["data"].update(digits={**c["data"]["tiny"], "size": 3}), "yaml: data.digits.size: unknown key"),
        (lambda c: rows(c)[0].update(rwo="x"), "yaml: tables.table1.rows.0.rwo: unknown key; did you mean 'row'"),
        (lambda c: c["data"].update({1: c["data"]["tiny"]}), "yaml: data.1: input should be a valid string"),
        (lambda c: baseline(c, "dit").update({1.5: 3}), "yaml: train.baselines.dit.1.5: keys should be strings"),
        # keys of the kind that is chosen are suggested; those of another are known
        (lambda c: baseline(c, "dit")["network"].update(norm_group=3), "norm_group: unknown key; (?!.*norm_groups)"),
        (lambda c: baseline(c, "ldm4")["network"].update(norm_group=3), "norm_group: unknown key; .*'norm_groups'"),
        (lambda c: baseline(c, "dit")["network"].update(norm_groups=3), "network.norm_groups: this key does not go"),
        (
            lambda c: c["data"].update(digits={"source": "fashion", "image_size": 28, "foldr": "x"}),
            "data.digits.foldr: unknown key; did you mean 'folder'",
        ),
    ],
)
def test_a_mistake_is_named(write_params, change, message):
    with pytest.raises(ParameterError, match=message) as raised:
        params.load(write_params(change))
    assert "\n" not in str(raised.value)


def test_gates_trained_faster_are_equal_in_all_else(write_params):
    """The weights' rate, the supervision, the start and the GPUs are the declared system's."""
    change = {"systems": ["rdm-u", "rdm-u-unsupervised"]}
    experiment = params.load(
        write_params(lambda c: (c.update(gpus={"rdm-u": 2}), c["figures"]["rates"].update(change)))
    )
    assert experiment.figure_systems("rates") == [
        *("rdm-u-control", "rdm-u", "rdm-u-rate10", "rdm-u-unsupervised", "rdm-u-unsupervised-rate10")
    ]
    for name, supervised in (("rdm-u", True), ("rdm-u-unsupervised", False)):
        own, faster = experiment.systems[name], experiment.systems[f"{name}-rate10"]
        assert (faster.gates.supervision is not None) == supervised
        assert faster.gates.learning_rate == pytest.approx(10 * own.gates.learning_rate)
        assert faster.model_copy(update={"gates": own.gates}) == own
        assert faster.gates.model_copy(update={"learning_rate": own.gates.learning_rate}) == own.gates
        assert experiment.gpus_of(f"{name}-rate10") == 2
        assert experiment.samplers_of(f"{name}-rate10") == experiment.samplers_of("rdm-u-control") == ["plain"]


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(UsageError, match="no parameter file"):
        params.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(ParameterError, match="not valid YAML"):
        params.load(broken)


def test_a_key_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "protocols.yaml"
    path.write_text("one:\n  samples: 1\n  labels: random\n  'samples': 2\n")
    with pytest.raises(ParameterError, match="yaml: line 4: the key 'samples' stands in line 2, too; leave one out"):
        load_protocols(path, ["one"], [])
    with pytest.raises(ParameterError, match="--set .*: line 1: the key 'k' stands in line 1, too"):
        load_protocols(PROTOCOLS, ["ci"], ["precision_recall={k: 3, k: 4}"])


def test_what_is_merged_may_be_overridden(tmp_path):
    """Also where what is merged has itself overridden something, before or after it is read."""
    first = yaml.safe_load(PROTOCOLS.read_text())["ci"]
    path = tmp_path / "protocols.yaml"
    rest = "two: &two {<<: *one, samples: 2}\nthree: {samples: 3, <<: *two}\nfour: {<<: [*two, *one], ddof: 0}\n"
    path.write_text(f"one: &one {json.dumps(first)}\n{rest}")
    found = load_protocols(path, ["one", "two", "three", "four"], []).values()
    assert [(protocol.samples, protocol.ddof) for protocol in found] == [(360, 1), (2, 1), (3, 1), (2, 0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"BigGAN-deep", b"BigGAN\xff", "published.csv: line 2 is not UTF-8; save"),
        (b"table,architecture,scalability,row", b"table,architecture,scalability,name", "line 1: .* no column 'row'"),
        (b"table,architecture", b"table;architecture", "line 1: there is no column 'table'; give all of table, archi"),
        (b",7.36,", b',"7,36",', "line 3: value: '7,36' is no number"),
        (b",7.36,", b",,", "line 3: value: '' is no number; correct it, or leave the line out"),
        (b",7.36,", b",nan,", "line 3: value: 'nan' is no number"),
        (b",7.36,", b",7,36,", "line 3: there are more or fewer cells than columns; quote"),
        (b",7.36,", b"\n", "line 3: there are more or fewer cells than columns"),
    ],
)
def test_what_is_wrong_with_the_papers_numbers_is_named(write_params, old, new, message):
    path = write_params()
    published = path.with_name("published.csv")
    published.write_bytes(published.read_bytes().replace(old, new, 1))
    with pytest.raises(ParameterError, match=message):
        params.load(path)


def test_the_papers_numbers_may_start_with_a_byte_order_mark(write_params):
    path = write_params()
    published = path.with_name("published.csv")
    published.write_bytes(b"\xef\xbb\xbf" + published.read_bytes())
    assert params.load(path).name == "ci"


@pytest.mark.parametrize(
    ("protocol", "change", "message"),
    [
        ("ci", "kernel_distance={seed: 1}", "kernel_distance: seed would change nothing with subsets: 0; .* at 2020"),
        ("ci", "kernel_distance={subset_size: 8}", "kernel_distance: subset_size would change nothing with subsets: 0"),
        ("clean_fid", "kernel_distance.subsets=0", "kernel_distance: seed would change nothing"),
        ("ci_clips", "clips.seed=1", "clips: seed would change nothing where nothing is random"),
        ("ci", "extractor=i3d", "ci, extractor=i3d: clips belong to extractor"),  # no key: it is about several
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(protocol, change, message):
    with pytest.raises(ParameterError, match=message):
        load_protocols(PROTOCOLS, [protocol], [change])


@pytest.mark.parametrize("change", ["clips.samples.offset=random", "clips.reference.videos=random"])
def test_a_seed_of_what_is_random_is_taken(change):
    [protocol] = load_protocols(PROTOCOLS, ["ci_clips"], [change, "clips.seed=1"]).values()
    assert protocol.clips.seed == 1


def test_a_gated_system_gets_an_ungated_twin(experiment):
    gated, control = experiment.systems["rdm-f"], experiment.systems["rdm-f-control"]
    assert gated.gates is not None
    assert control.gates is None
    assert control == gated.model_copy(update={"gates": None})
    assert experiment.samplers_of("rdm-f-control") == experiment.samplers_of("rdm-f")


def test_a_gated_system_gets_an_unsupervised_twin(experiment):
    gated, twin = experiment.systems["rdm-u"], experiment.systems["rdm-u-unsupervised"]
    assert gated.gates.supervision is not None
    assert twin.gates == gated.gates.model_copy(update={"supervision": None})
    assert experiment.samplers_of("rdm-u-unsupervised") == []  # no row of the table shows it


def test_an_unknown_run_is_answered_with_the_nearest(experiment):
    with pytest.raises(UsageError, match="did you mean 'ci-dit-s0'"):
        experiment.find_run("ci-dit-s9")


def test_a_borrowed_classifier_needs_no_labels(write_params):
    """Of the set that it judges; of its own it does."""

    def change(content):
        videos = VIDEOS | {"test": "y"}
        content["data"].update(ucf=videos, sky=videos | {"labelled": False})

    assert params.load(write_params(change)).extractor("sky-clips").kind == "classifier"


def test_what_is_encoded_by_another_sets_autoencoder_depends_on_both_sets(experiment, write_params):
    """The latents on either; the autoencoder on its own alone."""

    def values(**changes):
        loaded = params.load(
            write_params(lambda c: [c["data"][name].update(seed=seed) for name, seed in changes.items()])
        )
        return of_latents(loaded, "sky-f4"), of_autoencoder(loaded, "sky-f4")

    before = of_latents(experiment, "sky-f4"), of_autoencoder(experiment, "sky-f4")
    assert values() == before
    assert values(sky=1)[0] != before[0]
    assert values(sky=1)[1] == before[1] == of_autoencoder(experiment, "ucf-f4")
    assert values(ucf=1)[0] != before[0]
    assert values(ucf=1)[1] != before[1]


def leaves(value, path=()):
    """Every (path, value) of a parsed YAML file that is no mapping."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [(path, value)]


def changed(value):
    """Another valid value of the same kind."""
    other = {"channel": "scalar", "scalar": "channel", "preserve": "hinge", "hinge": "preserve", "epsilon": "v"}
    other |= {"v": "epsilon", "scaled_linear": "linear", "cross": "add", "dpm++": "ddim"}
    if isinstance(value, bool):
        return not value
    if value in (["slow"], ["slow", "fast"]):
        return ["fast"]
    if isinstance(value, list):
        return [not item if isinstance(item, bool) else item * 2 for item in value]
    if isinstance(value, str):
        return other[value]
    return value / 2 if isinstance(value, float) and value <= 1 else value * 2


CHANGED = {"log_every": 1, "guided_channels": 2, "unguided_steps": 0}
FIXED = {("name",), ("device",), ("threads",), ("seeds",)}  # tested by themselves or not values
NAMES = {"data", "latents", "start", "source", "kind", "protocol", "picture", "rows"}  # references
NAMES |= {"extractor", "autoencoder"}
KEYS = [
    path
    for path, _ in leaves(yaml.safe_load(CI.read_text()))
    if path not in FIXED
    and not (path[-2:] == ("gates", "shape") and path[2] != "rdm-u")  # a transformer's gates are per channel
    and path[-1] != "frames"  # which the protocol fixes, too
    and path[0] not in ("tables", "figures")
    and not (path[-1] in NAMES and path[-2:] != ("supervision", "kind"))
]


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_key_changes_what_depends_on_it(experiment, write_params, path):
    def change(content):
        places = [path]
        if path[:2] == ("train", "baselines") and path[2].startswith("ucf-") and path[3] in ("network", "diffusion"):
            places = [
                ("train", "baselines", name, *path[3:]) for name in ("ucf-frames", "ucf-latte")
            ]  # one starts the other
        if path[:2] in (("data", "sky"), ("data", "ucf")) and path[2] == "image_size":
            places = [("data", "sky", "image_size"), ("data", "ucf", "image_size")]  # one extractor judges both
        for place in places:
            inner = content
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = CHANGED[place[-1]] if place[-1] in CHANGED else changed(inner[place[-1]])

    other = params.load(write_params(change))

    def everything(loaded):
        return [
            of_score(loaded, run, sampler, score)
            for run, (system, _) in loaded.runs.items()
            for sampler in loaded.samplers_of(system)
            for score in loaded.scores_of(loaded.data_of(system))
        ]

    assert everything(other) != everything(experiment)
