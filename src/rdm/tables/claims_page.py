"""The claims as readers see them: each statement in words, effects with their intervals, and the rule."""

from __future__ import annotations

from textwrap import fill

import pandas as pd

from rdm.params.claims import Claims, Depth, GatesByDepth, Rows, Sensitivity, Statement, Steps, Variants
from rdm.tables.build import VIDEO_COLUMNS
from rdm.tables.measured import HIGHER_IS_BETTER
from rdm.tables.render import Page, number

TITLES = {
    **VIDEO_COLUMNS,
    **{"c2i_fid": "FID", "c2i_sfid": "sFID", "c2i_is": "IS"},
    **{"t2i_fid": "Text-to-image FID", "t2i_sfid": "Text-to-image sFID", "t2i_is": "Text-to-image IS"},
}


def describe(statement: Statement) -> str:
    """What is measured, in words."""
    match statement:
        case Rows():
            direction = "higher" if statement.column.rsplit("_", 1)[1] in HIGHER_IS_BETTER else "lower"
            return f"{TITLES[statement.column]} of {statement.row} {direction} than of {_each(statement.than)}"
        case Variants():
            return f"Figure 6, last step: {statement.variant} better than {_each(statement.than)}"
        case Steps():
            return f"Figure 6: better after the last step than after the first: {', '.join(statement.variants)}"
        case Depth():
            gates = "with" if statement.gated else "without"
            return f"Figure 7, {gates} gates: each depth better than the next smaller one"
        case GatesByDepth():
            where = "mean over all depths" if statement.at == "all" else "at the greatest depth"
            return f"Figure 7, {where}: better with gates than without"
        case Sensitivity():
            found = f"Figure 5, {statement.row}, {statement.arm}: shallow states "
            found += "more sensitive" if statement.direction == "higher" else "less sensitive"
            places = {"the deepest state": "than the deepest", "the first step": "after the last step than the first"}
            return f"{found} {places.get(statement.than, f'than in: {statement.than}')}"
    return ""


def lay_out(table: pd.DataFrame, rule: Claims) -> Page:
    """What was run, with its effects; apart from it, the claims on which nothing was."""
    ran = table[table["verdict"] != "not run"]
    rest = table[~table["claim"].isin(ran["claim"])].drop_duplicates("claim")
    cells = pd.DataFrame(
        {
            "Claim": _claim(ran),
            "Tested": ran["statement"],
            "Scale": ran["scale"],
            "Paper": ran.apply(_paper, axis=1),
            "Effect": ran.apply(effect_of, axis=1),
            "Seeds": ran["seeds"].map("{:.0f}".format),
            "Against": ran.apply(_against, axis=1),
            "Verdict": ran["verdict"],
        }
    )
    open_ = pd.DataFrame({"Claim": _claim(rest), "Tested": rest["statement"], "Why": rest["reason"]})
    return Page(cells, _notes(table, rule), ("Not run:", open_))


def effect_of(row: pd.Series) -> str:
    """FID -0.079 [-0.325, +0.168], -5.1 %: the effect, its interval, and as a share of what it is an effect on."""
    if pd.isna(row["effect"]):
        return ""
    text = f"{row['metric']} {_signed(row['effect'])}"
    text += f" [{_signed(row['low'])}, {_signed(row['high'])}]" if pd.notna(row["low"]) else ""
    return text + (f", {_signed(100 * row['relative'], 2)} %" if pd.notna(row["relative"]) else "")


def tested(table: pd.DataFrame) -> tuple[list[dict[str, str]], str]:
    """For a terminal: what was run, narrow enough for one, and how many claims have which verdict."""
    rows = [
        {
            "claim": row["claim"],
            "tested": fill(row["statement"], 38),
            "effect": effect_of(row).replace(" [", "\n["),
            "against": fill(_against(row), 22),
            "verdict": f"{row['verdict']}\n({row['scale']})",
        }
        for _, row in table[table["verdict"] != "not run"].iterrows()
    ]
    return rows, _summary(table)


def _summary(table: pd.DataFrame) -> str:
    """Verdicts by scale: `digits: 2 supported, 5 not supported`."""
    scales = dict.fromkeys(table["scale"])
    return "; ".join(f"{scale}: {_count(table, scale)}" for scale in scales)


def _count(table: pd.DataFrame, scale: str) -> str:
    """How many claims have which verdict at a scale."""
    found = table[table["scale"] == scale]["verdict"].value_counts()
    verdicts = ("supported", "not supported", "undecided", "not run")
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in verdicts if verdict in found)


def _claim(rows: pd.DataFrame) -> pd.Series:
    return rows["text"] + " (" + rows["where"] + ")"


def _signed(value: float, digits: int = 3) -> str:
    """So many significant digits, never an exponent of a large number."""
    text = f"{value:+.{digits}g}" if abs(value) < 10**digits else f"{value:+.0f}"
    return text.replace("-", "−") if value else "0"


def _each(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"each of {', '.join(names)}"


def _paper(row: pd.Series) -> str:
    return (
        f"{number(row['paper_value'])} against {number(row['paper_against'])}" if pd.notna(row["paper_value"]) else ""
    )


def _against(row: pd.Series) -> str:
    """What the effect is seen against; of several, how many comparisons were supported."""
    if row["comparisons"] == 1:
        return str(row["against"])
    missing = f", {row['not_run']:.0f} not run" if row["not_run"] else ""
    return f"{row['against']}; {row['supported']:.0f} of {row['comparisons']:.0f} supported{missing}"


def _notes(table: pd.DataFrame, rule: Claims) -> list[str]:
    confidence, matters = f"{100 * rule.confidence:g} %", f"{100 * rule.matters:g} %"
    shared = (
        "Against published samples, the interval also holds the standard error of their score, which all seeds' "
        "differences share, so that their spread does not show it."
    )
    return [
        f"Claims by scale: {_summary(table)}. A verdict holds at its scale alone.",
        "Effect: what is claimed to be better minus what stands under Against, seed by seed, mean over seeds of "
        f"training and sampling; in brackets the {confidence} interval (Student's t; none with one seed); then the "
        "effect as a share of what it is an effect on. Of sensitivities: natural logarithms of the ratio to the "
        "deepest state, mean over the shallower half of the states; the share is of the ratio.",
        f"Not supported: the interval lies wholly on the other side of zero, or wholly within {matters} of what it is "
        "an effect on, where no effect would matter, whatever its sign. Supported: otherwise, wholly on the claimed "
        "side. Undecided: neither, or one seed.",
        "Of several comparisons all must be supported, and one that is not refutes the claim; one that was not run "
        "leaves it open. Shown is the comparison that decides, of several the least favourable.",
        "A gated row has trained longer than the baseline that it starts from: what its gates did is its comparison "
        "with the ungated control.",
        f"Each interval is for its own comparison: of many at {confidence} some are wrong; none is corrected for it.",
        *([shared] if table["rests_on"].astype(str).str.contains("score/published/").any() else []),
        "Paper: what it prints, against the hardest of those that the claim names.",
        "Which scores and logs each verdict rests on stands in `claims.csv`.",
    ]
