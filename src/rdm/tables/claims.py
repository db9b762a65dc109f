"""`rdm claims`: a verdict on each claim of the paper, at the scale at which it was tested."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy.special import stdtrit

from rdm import paths
from rdm.errors import ArtefactError, LostClaimError
from rdm.params import CONTROL_ROW, Experiment
from rdm.params.claims import Claim, Claims, Rows, Unmeasured
from rdm.provenance.files import whole_file
from rdm.tables.claims_page import describe, lay_out
from rdm.tables.evidence import Comparison, Evidence, Tested
from rdm.tables.measured import HIGHER_IS_BETTER
from rdm.tables.published import PublishedRow, read_published
from rdm.tables.render import to_csv, to_html, to_markdown

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN = "supported", "not supported", "undecided", "not run"
PAPER = "the paper's own"  # as a scale
EXAMPLES = paths.RESULTS / "example"  # of the default experiment; of others a folder each below it
COLUMNS = [
    *("claim", "text", "where", "statement", "scale", "verdict"),
    *(
        "metric",
        "effect",
        "low",
        "high",
        "relative",
        "smallest",
        "against",
        "seeds",
        "comparisons",
        "supported",
        "not_run",
    ),
    *("paper_value", "paper_against", "reason", "rests_on"),
]
Cells = dict[str, str | float | int | None]


@dataclass(frozen=True)
class Judged:
    """A comparison with its effect, interval and verdict. smallest: the smallest effect that would matter."""

    comparison: Comparison
    verdict: str
    effect: float | None = None
    interval: tuple[float, float] | None = None
    smallest: float | None = None

    @property
    def relative(self) -> float | None:
        """The effect as a share of what it is an effect on."""
        if self.effect is None or not self.comparison.level:
            return None
        return math.expm1(self.effect) if self.comparison.logarithms else self.effect / self.comparison.level


def interval(differences: tuple[float, ...], confidence: float, shared: float = 0.0) -> tuple[float, float] | None:
    """Student's t interval of the mean difference; None for a single one.

    shared: the standard error of a published value that was subtracted from every seed's. It is one and the same in all
    differences, so their spread does not show it, and it is added to the mean's own.
    """
    n = len(differences)
    if n < 2:
        return None
    mean, error = statistics.fmean(differences), math.hypot(statistics.stdev(differences) / math.sqrt(n), shared)
    width = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return mean - width, mean + width


def judge(comparison: Comparison, higher: bool, rule: Claims) -> Judged:
    """By the rule at the head of params/claims.yaml. higher: what is claimed of the differences."""
    if not comparison.differences:
        return Judged(comparison, NOT_RUN)
    effect, smallest = statistics.fmean(comparison.differences), rule.matters * comparison.level
    found = interval(comparison.differences, rule.confidence, comparison.error)
    if found is None:
        return Judged(comparison, UNDECIDED, effect, None, smallest)
    worst, best = found if higher else (-found[1], -found[0])
    if best < 0 or (-smallest <= worst and best <= smallest):
        verdict = NOT_SUPPORTED
    else:
        verdict = SUPPORTED if worst > 0 else UNDECIDED
    return Judged(comparison, verdict, effect, found, smallest)


def conclude(judged: list[Judged], higher: bool) -> tuple[str, Judged]:
    """The verdict on a claim, and the comparison that decides it: of those that could, the least favourable one.

    All must be supported; one that is not refutes the claim, and without it one that was not run leaves it open.
    """
    verdicts = {each.verdict for each in judged}
    if verdicts == {NOT_RUN}:
        return NOT_RUN, judged[0]
    verdict = SUPPORTED if verdicts == {SUPPORTED} else NOT_SUPPORTED if NOT_SUPPORTED in verdicts else UNDECIDED
    able = [each for each in judged if each.verdict == verdict]
    able = able or [each for each in judged if each.verdict != NOT_RUN]
    return verdict, min(able, key=lambda each: (each.relative or 0.0) * (1 if higher else -1))


def build_claims(experiment: Experiment, claims: Claims, published: Path, kept: Path | None = None) -> pd.DataFrame:
    """A row per claim and scale: that of the experiment, if it measures the claim, and the paper's own.

    kept: a folder of scores and figures to read instead of results. Raises ArtefactError for scores of other parameters
    or of mixed protocols.
    """
    evidence, rows = Evidence(experiment, kept), list[Cells]()
    printed = {table: {row.name: row for row in read_published(published, table)} for table in ("table1", "table2")}
    for name, claim in claims.claims.items():
        tested = evidence.on(claim.statement)
        known: Cells = {"claim": name, "text": claim.text, "where": claim.where}
        known |= {"statement": describe(claim.statement), **_printed(claim, printed)}
        if tested is not None:
            scale = PAPER if tested.paper_scale else experiment.tables.scale
            rows.append(known | {"scale": scale} | _result(tested, claims))
        if tested is None or not tested.paper_scale:
            reason = (
                _why_not(claim, experiment) if tested is None else f"run at the scale {experiment.tables.scale!r} only"
            )
            rows.append(known | {"scale": PAPER, "verdict": NOT_RUN, "reason": reason})
    return pd.DataFrame(rows, columns=COLUMNS)


def write(table: pd.DataFrame, rule: Claims, kept: Path | None = None) -> list[Path]:
    """Write claims.csv, .md and .html to results, or to `kept`; returns their paths, the CSV first."""
    page = lay_out(table, rule)
    contents = {"csv": to_csv(table), "md": to_markdown(page), "html": to_html(page, "The claims of the paper")}
    written = []
    for suffix, content in contents.items():
        path = paths.within(kept or paths.RESULTS, paths.table("claims", suffix))
        with whole_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        written.append(path)
    return written


def read_supported() -> dict[tuple[str, str], Path]:
    """The (claim, scale) pairs that a committed table calls supported, and which; none if there is no such table."""
    supported: dict[tuple[str, str], Path] = {}
    for path in sorted(EXAMPLES.rglob("claims.csv")):
        try:
            table = pd.read_csv(path)
            pairs = table[table["verdict"] == SUPPORTED][["claim", "scale"]].itertuples(index=False, name=None)
        except (KeyError, ValueError):
            raise ArtefactError(f"{path} is damaged; check it out anew.") from None
        supported |= dict.fromkeys(pairs, path)
    return supported


def require(table: pd.DataFrame, supported: dict[tuple[str, str], Path]) -> None:
    """Raise LostClaimError for a claim that was supported and is refuted or open; one that was not run says nothing."""
    against = table[table["verdict"].isin([NOT_SUPPORTED, UNDECIDED])]
    rows = against[["claim", "scale", "verdict"]].itertuples(index=False, name=None)
    lost = {(claim, scale): verdict for claim, scale, verdict in rows if (claim, scale) in supported}
    if lost:
        where = ", ".join(dict.fromkeys(str(supported[pair]) for pair in lost))
        said = ", ".join(f"{claim} ({scale}: {verdict})" for (claim, scale), verdict in lost.items())
        raise LostClaimError(f"{where} calls supported what no longer is: {said}; see claims.md, and what changed.")


def _result(tested: Tested, rule: Claims) -> Cells:
    """What a row says of its comparisons: of the decisive one the numbers, of all what they rest on."""
    judged = [judge(comparison, tested.higher, rule) for comparison in tested.comparisons]
    verdict, decisive = conclude(judged, tested.higher)
    low, high = decisive.interval or (None, None)
    files = dict.fromkeys(file for comparison in tested.comparisons for file in comparison.files)
    return {
        "verdict": verdict,
        "metric": tested.metric,
        "effect": decisive.effect,
        "low": low,
        "high": high,
        "relative": decisive.relative,
        "smallest": decisive.smallest,
        "against": decisive.comparison.than,
        "seeds": len(decisive.comparison.differences) or None,
        "comparisons": len(judged),
        "supported": sum(each.verdict == SUPPORTED for each in judged),
        "not_run": sum(each.verdict == NOT_RUN for each in judged),
        "reason": _reason(judged),
        "rests_on": "; ".join(str(file.relative_to(paths.RESULTS)) for file in files),
    }


def _reason(judged: list[Judged]) -> str:
    """Why there is no verdict, or less of one."""
    missing: dict[str, list[str]] = {}
    for each in judged:
        if each.comparison.reason:
            missing.setdefault(each.comparison.reason, []).append(each.comparison.than)
    said = [f"{', '.join(names)}: {reason}" for reason, names in missing.items()]
    if any(len(each.comparison.differences) == 1 for each in judged):
        said.append("one seed has no interval")
    return "; ".join(said)


def _why_not(claim: Claim, experiment: Experiment) -> str:
    if isinstance(claim.statement, Unmeasured):
        return claim.statement.reason
    return f"no table or figure of experiment {experiment.name!r} measures it"


def _printed(claim: Claim, printed: dict[str, dict[str, PublishedRow]]) -> Cells:
    """What the paper prints for the row, and for the least favourable of those that it is compared with."""
    statement = claim.statement
    if not isinstance(statement, Rows):
        return {}
    rows = printed[statement.table]
    column, own = statement.column, rows[statement.row.removesuffix(CONTROL_ROW)]
    others = [rows[name].values[column] for name in statement.than if name in rows and column in rows[name].values]
    if column not in own.values or not others:
        return {}
    hardest = max if column.rsplit("_", 1)[1] in HIGHER_IS_BETTER else min
    return {"paper_value": own.values[column], "paper_against": hardest(others)}
