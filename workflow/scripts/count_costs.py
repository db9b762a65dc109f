"""Count what the networks of parameter files cost, for `rdm plan` to look up.

python workflow/scripts/count_costs.py params/*.yaml
Takes a minute for the paper's networks; run it anew when one is added or changed.
"""

import dataclasses
import json
import sys
from pathlib import Path

from rdm import params
from rdm.params.schema import channels
from rdm.plan import cost, counted
from rdm.plan.stage import Plan

OTHERS = ("protocols.yaml", "claims.yaml")  # no experiments


def count(files):
    """The costs of all denoisers, classifiers that guide them, and autoencoders, by what they depend on."""
    found = {}
    for experiment in map(params.load, files):
        plan = Plan(experiment, {}, 0)
        for name, encoding in experiment.latents.items():
            data, parameters = experiment.data[encoding.data], experiment.autoencoder(name)
            image = channels(data), data.image_size
            found[counted.autoencoder_key(parameters, *image)] = cost.of_autoencoder(parameters, *image)
        for system in experiment.systems:
            network, items = experiment.baseline(system).network, (plan.shape_of(system), plan.classes_of(system))
            key = counted.network_key(network, *items)
            if key not in found:
                found[key] = cost.of_network(network, *items)
            for name in experiment.samplers_of(system):
                guide = experiment.samplers[name].classifier
                if guide is not None:
                    found[counted.classifier_key(guide.network, *items)] = cost.of_classifier(guide.network, *items)
    return {key: dataclasses.asdict(value) for key, value in sorted(found.items())}


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:] if Path(name).name not in OTHERS]
    counted.FILE.write_text(json.dumps(count(files), indent=1) + "\n", encoding="utf-8")
