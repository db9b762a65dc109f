"""Model cards: what a trained run is, from its manifest and its scores alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from tabulate import tabulate

from rdm.provenance.files import digest

# words stand apart from code: an edit to them trains nothing anew
TEMPLATE = Path(__file__).with_name("card.md")
NAMES = {
    "dit": "A DiT",
    "latte": "A Latte",
    "unet": "A U-Net of latent diffusion",
    "text_unet": "A U-Net of latent diffusion that attends to text",
    "pixart": "A DiT that attends to text",
    "adm": "An ADM",
}
Values = dict[str, Any]


def card(
    name: str,
    recipe: Values,
    facts: Values,
    weights: dict[str, str],
    config: Values,
    scores: list[Values] | None = None,
) -> str:
    """The card of a run in Markdown; the same for the same run and scores.

    recipe, facts: of its manifest; weights: file -> sha256; config: of config.json.
    scores: the content of its score files; None while it has just been trained.
    """
    gated = " with gates on its residual units" if recipe["parameters"]["train"].get("gates") else ""
    rows = "\n".join(f"- **{what}**: {text}" for what, text in _rows(recipe, facts, weights, config))
    kind = config["network"]["kind"]
    what = NAMES.get(kind, f"A network of kind `{kind}`") + gated
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=name, what=what, rows=rows, scores=_scores(name, scores)
    )


def _rows(recipe: Values, facts: Values, weights: dict[str, str], config: Values) -> Iterator[tuple[str, str]]:
    parameters, inputs = recipe["parameters"], recipe["inputs"]
    train = parameters["train"]
    yield "network", f"{_listed(config['network'])}; {facts['parameters']:,} parameters"
    if "gates" in facts:
        ranges = [f"{what} {low:.4f} to {high:.4f}" for what, (low, high) in facts["gates"]["ranges"].items()]
        yield "gates", f"{_listed(train['gates'])}; of {facts['gates']['units']} units; learnt: {', '.join(ranges)}"
    shape = " x ".join(map(str, config["latent_shape"]))
    yield "data", f"{facts['data']['origin']}; latents of {shape}, {config['classes'] or 'no'} classes"
    yield "licence of the data", facts["data"]["licence"]
    if "encodes" in parameters:
        yield "autoencoder", f"trained on other data: {_listed(parameters['data'])}"
    yield "starts from", facts["base"]
    rates = {key: train[key] for key in ("batch", "learning_rate") if key in train}
    rates |= {"ema_decay": float(f"{facts['ema_decay']:.4g}")} if "ema_decay" in facts else {}  # that was reached
    yield "training", f"{facts['step']:,} steps, seed {facts['seed']}{', ' if rates else ''}{_listed(rates)}"
    yield "parameters and code", f"sha256 {digest(parameters)}, {recipe['code']}"
    for what, sha256 in (inputs | weights).items():
        yield what, f"sha256 {sha256}"


def _listed(values: Values) -> str:
    """Names and values, without what is not set."""
    shown = {name: value for name, value in values.items() if value not in (None, False)}
    return ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in shown.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_listed(value)})"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _scores(name: str, scores: list[Values] | None) -> str:
    if scores is None:
        return f"A network is scored after it is trained: `rdm card {name}` prints this card with its scores."
    rows = [
        {
            "sampler": Path(score["samples"]["path"]).name,
            "protocol": score["protocol"]["name"],
            "metric": metric,
            "value": f"{estimate['value']:.6g}",
            "± standard error": f"{estimate['standard_error']:.2g}",
            "items": score["samples"]["items"],
            "samples' sha256": score["samples"]["sha256"][:12],
        }
        for score in scores
        for metric, estimate in score["values"].items()
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True) if rows else "It has none yet."
