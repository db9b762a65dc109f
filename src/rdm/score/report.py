"""Results for people: a table of values with their errors, and what sets two protocols apart."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

Result = dict[str, Any]


def render(result: Result) -> str:
    """One result: its metrics, and below them what they depend on."""
    rows = [
        {
            "metric": metric,
            "value": f"{estimate['value']:.6g}",
            "± standard error": f"{estimate['standard_error']:.2g}",
            "bias-corrected": f"{estimate['bias_corrected']:.6g}" if "bias_corrected" in estimate else "",
            "d": estimate["dimension"],
        }
        for metric, estimate in result["values"].items()
    ]
    protocol, precision = result["protocol"], result["precision"]
    lines = [
        tabulate(rows, headers="keys", disable_numparse=True),
        "",
        f"protocol   {protocol['name']} (sha256 {protocol['sha256'][:12]}): n = {result['samples']['items']}",
        f"samples    {_source(result['samples'])}",
        f"reference  {_source(result['reference'])}",
        f"extractor  {result['extractor']['kind']} (sha256 {result['extractor']['sha256'][:12]}), "
        f"{precision['network']} on {result['device']}; mean in {precision['mean']}, covariance in float64",
        *([f"seconds    {result['seconds']}"] if "seconds" in result else []),
        "errors     one standard error from the sampling of the samples; the training's seed is another source",
        *(f"remark     {remark}" for remark in result["remarks"]),
        *([f"remark     {result['reference']['remark']}"] if result["reference"].get("remark") else []),
    ]
    return "\n".join(lines)


def compare(results: list[Result]) -> str:
    """Several protocols on one set: their values side by side, and each rule in which they differ."""
    names = [result["protocol"]["name"].split(", ")[0] for result in results]
    changes = results[0]["protocol"]["name"].split(", ")[1:]
    metrics = list(dict.fromkeys(metric for result in results for metric in result["values"]))
    first = results[0]
    rows = []
    for name, result in zip(names, results, strict=True):
        row = {"protocol": name, "sha256": result["protocol"]["sha256"][:12]}
        for metric in metrics:
            here, there = result["values"].get(metric), first["values"].get(metric)
            row[metric] = _value(here)
            if here and there and result is not first:
                row[metric] += f" ({here['value'] - there['value']:+.3g})"
        rows.append(row)
    rules = [rule for rule in first["protocol"] if rule not in ("name", "sha256", "paper_scale")]
    differing = [
        {"rule": rule, **{n: _rule(r["protocol"][rule]) for n, r in zip(names, results, strict=True)}}
        for rule in rules
        if any(r["protocol"][rule] != first["protocol"][rule] for r in results)
    ]
    return "\n".join(
        [
            tabulate(rows, headers="keys", disable_numparse=True),
            "",
            f"samples    {_source(first['samples'])}",
            f"reference  {_source(first['reference'])}",
            f"extractor  {first['extractor']['kind']} (sha256 {first['extractor']['sha256'][:12]})",
            f"In brackets the difference from {names[0]}; ± one standard error.",
            *([f"All with {', '.join(changes)}."] if changes else []),
            "",
            tabulate(differing, headers="keys", disable_numparse=True) if differing else "No rule differs.",
            *(f"remark: {n}: {remark}" for n, r in zip(names, results, strict=True) for remark in r["remarks"]),
        ]
    )


def _source(facts: dict[str, Any]) -> str:
    count = f", {facts['items']} items" if "items" in facts else ""
    count += f", features of {facts['feature_items']} images" if "feature_items" in facts else ""
    origin = f", built from {_source(facts['built_from'])}" if "built_from" in facts else ""
    return f"{facts['path']} (sha256 {facts['sha256'][:12]}{count}){origin}"


def _value(estimate: dict[str, Any] | None) -> str:
    return "" if estimate is None else f"{estimate['value']:.6g} ± {estimate['standard_error']:.2g}"


def _rule(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_rule(inner)}" for key, inner in value.items() if inner is not None)
    return "-" if value is None else str(value)
