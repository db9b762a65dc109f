"""A chain of results as the stages leave them, without any computing: data, latents, runs, samples, scores, a table."""

from rdm import paths
from rdm.params import dependencies as of
from rdm.provenance.files import write_json
from rdm.provenance.manifest import Recipe, build, noted, read

DATA, LATENTS, SCORE, PROTOCOL, SAMPLER = "tiny", "f4", "images", "ci", "plain"
FACTS = {
    "data": {"origin": "digits", "licence": "CC BY 4.0"},
    "train": {
        **{"system": "dit", "seed": 0, "parameters": 1234, "step": 4, "base": "random weights"},
        **{"data": {"origin": "digits", "licence": "CC BY 4.0"}},
    },
    "sample": {"seed": 0, "samples": 12, "nfe": 2},
}
CONFIG = {"network": {"kind": "dit", "depth": 2}, "latent_shape": [4, 4, 4], "classes": 10}


def make(folder, verb, parameters, content="content", **inputs):
    """One artefact of a file or two; returns it as an input of the next."""
    sources = {name: source.as_input for name, source in inputs.items()}
    with build(folder, Recipe(verb, parameters, sources)) as (scratch, facts):
        (scratch / "model.safetensors").write_text(content)
        facts |= FACTS.get(verb, {})
        if verb == "train":
            write_json(scratch / "config.json", CONFIG)
    return read(folder, "")


def make_chain(experiment, run="ci-dit-s0", content="content"):
    """From the data set to the score of one run, which starts from no other."""
    data = make(paths.data(DATA), "data", of.of_data(experiment, DATA))
    coder = make(paths.autoencoder(DATA, LATENTS), "autoencoder", of.of_autoencoder(experiment, LATENTS), data=data)
    encoded = of.of_autoencoder(experiment, LATENTS)
    latents = make(paths.latents(DATA, LATENTS), "latents", encoded, data=data, autoencoder=coder)
    judge = make(paths.extractor(DATA, SCORE), "extractor", of.of_extractor(experiment, SCORE), data=data)
    trained = make(paths.train(run), "train", of.of_train(experiment, run), content, latents=latents)
    make_sample(experiment, run, trained, data, judge)


def make_sample(experiment, run, trained, data, judge):
    """The samples of a run, and their score."""
    parameters = of.of_sample(experiment, run, SAMPLER)
    samples = make(paths.sample(run, SAMPLER), "sample", parameters, trained.digest, train=trained)
    inputs = {"reference": data.as_input, "extractor": judge.as_input, "samples": samples.as_input}
    recipe = Recipe("score", of.of_score(experiment, run, SAMPLER, SCORE), inputs)
    path = paths.score(run, SAMPLER, PROTOCOL)
    content = {
        "values": {"fid": {"value": 1.25, "standard_error": 0.5}},
        "samples": {"path": str(paths.sample(run, SAMPLER)), "sha256": samples.digest, "items": 12},
        "protocol": {"name": PROTOCOL},
        "versions": {"torch": "2"},
        "device": "cpu",
        "recipe": recipe.as_dict(),
        "sources": recipe.sources,
    }
    with noted(path):
        write_json(path, content)
