"""Tables 1 and 2 as readers see them: which columns, and notes that say what the numbers are."""

from __future__ import annotations

import pandas as pd

from rdm.params import Experiment
from rdm.params.protocol import Protocol
from rdm.tables.build import IMAGE_METRICS, VIDEO_COLUMNS, columns_of
from rdm.tables.render import Page, decimals, number, with_error

METRICS = {"fid": "FID", "sfid": "sFID", "is": "IS", "fvd": "FVD", "identity": "identity"}
OWN = {"skytimelapse_identity", "taichi_hd_identity", "ucf101_identity"}  # columns that the paper does not have
IDENTITY = (
    "Identity: the share of clips in which a classifier of frames sees one and the same class in nine tenths of the "
    "frames or more."
)
ORIGIN = (
    "Origin: `run`, trained and sampled here; `samples`, published {} scored here; `quoted`, copied from the paper. "
    "Empty: not run."
)


def page1(table: pd.DataFrame, experiment: Experiment) -> Page:
    """Per metric the paper's value and ours, then what the gates changed; the text-to-image columns apart."""
    cells = pd.DataFrame({"": table["architecture"], **_image_columns(table, "c2i", "", "", "Class accuracy")})
    return Page(cells, _notes1(experiment), (_text_heading(experiment), _text_to_image(table)))


def page2(table: pd.DataFrame, experiment: Experiment) -> Page:
    """Per column the paper's value, and where there is one, ours and what the gates changed."""
    columns = {"": table["architecture"], "Method": table["method"]}
    for name, title in VIDEO_COLUMNS.items():
        if table[f"{name}_paper"].notna().any():
            columns[f"{title} paper"] = table[f"{name}_paper"].map(number)
        ours, difference = table[f"{name}_ours"], table[f"{name}_minus_control"]
        if ours.notna().any():
            columns[f"{title} ours"] = _ours(table, name, decimals(ours))
        if title.endswith("FVD") and difference.notna().any():  # those of the frame columns stand in the CSV
            digits = f"+.{decimals(ours) + 1}f"
            columns[f"{title} − control"] = with_error(difference, table[f"{name}_minus_control_spread"], digits)
    columns["Verdict"] = table.apply(_verdicts, axis=1, columns=VIDEO_COLUMNS)
    columns["Origin"] = table.apply(_origins, axis=1, columns=VIDEO_COLUMNS)
    return Page(pd.DataFrame(columns), [*_notes2(experiment), _remarks(table)])


def _ours(table: pd.DataFrame, column: str, digits: int = 3) -> pd.Series:
    """A mean ± its standard deviation over seeds, a single value ± its standard error."""
    spread = table[f"{column}_spread"]
    errors = spread.where(spread.notna(), table[f"{column}_standard_error"])
    return with_error(table[f"{column}_ours"], errors, f".{digits}f")


def _ours_note(experiment: Experiment, table: str, items: str) -> str:
    """What our numbers and what is behind their ± are. items: what a score is of a finite number of."""
    scale, seeds = experiment.tables.scale, _seeds(experiment, table)
    if seeds == "1":
        ours = f"one seed of training and sampling, at the scale `{scale}`; ± is the standard error, which comes"
    else:
        ours = f"mean ± standard deviation over {seeds} seeds of training and sampling, at the scale `{scale}`. "
        ours += "A single value (one seed, published samples, the floor) ± its standard error, which comes"
    return f"Ours: {ours} from the finite number of {items}."


def _verdicts(row: pd.Series, columns: dict[str, str]) -> str:
    """One word if it is the same for all that was run; else by column. columns: name -> title."""
    ran = [name for name in columns if pd.notna(row[f"{name}_ours"]) and row[f"{name}_verdict"]]
    found = {columns[name]: row[f"{name}_verdict"] for name in ran}
    if len(set(found.values())) > 1:
        return ", ".join(f"{title}: {word}" for title, word in found.items())
    printed = any(row[f"{name}_verdict"] for name in columns)
    return next(iter(found.values()), "not run" if printed else "")


def _origins(row: pd.Series, columns: dict[str, str]) -> str:
    """Of our numbers; `quoted` if there are none."""
    ours = [row[f"{name}_origin"] for name in columns if pd.notna(row[f"{name}_ours"])]
    return ", ".join(dict.fromkeys(ours)) or "quoted"


# ---------------------------------------------------------------- Table 1


def _image_columns(table: pd.DataFrame, kind: str, prefix: str, title: str, accuracy: str) -> dict[str, pd.Series]:
    """One half of the table, from labels or from text. title: what the names of its columns begin with."""
    columns = {"Method": table["method"]}
    for metric in IMAGE_METRICS:
        name = title + METRICS[metric]
        columns[f"{name} paper"] = table[f"{kind}_{metric}_paper"].map(number)
        columns[f"{name} ours"] = _ours(table, f"{kind}_{metric}")
    seen = table[f"{prefix}accuracy"]
    columns[accuracy] = seen.map(lambda value: "" if pd.isna(value) else f"{100 * value:.1f} %")
    difference, spread = table[f"{prefix}fid_minus_control"], table[f"{prefix}fid_minus_control_spread"]
    columns[f"{title}FID − control"] = with_error(difference, spread, "+.4f")
    measured = {f"{kind}_{metric}": METRICS[metric] for metric in IMAGE_METRICS}
    columns["Verdict"] = table.apply(_verdicts, axis=1, columns=measured)
    columns["Origin"] = table.apply(_origins, axis=1, columns=measured)
    return columns


def _text_to_image(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have text-to-image numbers, the paper's or ours; without ours, the paper's alone."""
    rows = table[table["t2i_fid_paper"].notna() | table["t2i_fid_ours"].notna()].reset_index(drop=True)
    columns = _image_columns(rows, "t2i", "t2i_", "Text ", "Text obeyed")
    if table["t2i_fid_ours"].isna().all():
        columns = {name: column for name, column in columns.items() if name == "Method" or name.endswith("paper")}
    return pd.DataFrame(columns)


def _text_heading(experiment: Experiment) -> str:
    """What the text-to-image numbers are. None of the paper's baseline values is from an original paper (R8)."""
    score = experiment.tables.table1.text_score
    inherited = (
        "The paper does not say from which captions, how many and against what its own are; none of its baselines' is "
        "in an original paper (reading R8)."
    )
    if score is None:
        return f"Text-to-image, quoted from the paper; none of it is run here. {inherited}"
    protocol = experiment.protocols[score]
    obeyed = " Text obeyed: how often the classifier sees the digit that the caption names."
    return (
        f"Text-to-image, protocol `{experiment.score[score].protocol}`: {_rules(protocol)}, drawn from its captions."
        f"{obeyed if protocol.extractor == 'classifier' else ''} {inherited}"
    )


def _notes1(experiment: Experiment) -> list[str]:
    tables, score = experiment.tables, experiment.tables.table1.score
    protocol = experiment.protocols[score]
    notes = [
        _ours_note(experiment, "table1", "images"),
        f"Protocol `{experiment.score[score].protocol}`: {_rules(protocol)}.",
    ]
    if not protocol.paper_scale:
        notes.append(
            "Not comparable: other data and other features than the paper's ImageNet 256x256 with Inception. "
            "Compare rows of ours with each other and with the floor, never with the paper's column."
        )
    else:
        notes.append(_reproduced(experiment))
    cells = [(row.row, row.system, row.sampler) for row in tables.table1.rows]
    dealt = {row: experiment.label_rule(system, sampler) for row, system, sampler in cells if system and sampler}
    for rule in sorted(set(dealt.values()) - {protocol.labels}):
        rows = ", ".join(row for row, own in dealt.items() if own == rule)
        notes.append(f"Labels are dealt {rule} in {rows}; in the other rows {protocol.labels}.")
    return [
        *notes,
        "Ungated control: the same start weights, steps, data and noise as the gated row, without gates. "
        "FID − control is the paired difference over seeds: what the gates changed.",
        "Floor: real images of the other split under the same protocol"
        f"{_unseen(experiment, 'table1', 'IS and accuracy')}.",
        ORIGIN.format("images"),
    ]


def _seeds(experiment: Experiment, table: str) -> str:
    """With how many seeds the systems of a table are trained: `3`, or `2 to 3`."""
    counts = {len(experiment.seeds_of(system)) for system in experiment.shown_systems(table)} or {0}
    return str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _rules(protocol: Protocol) -> str:
    """What is scored, against what, in whose eyes."""
    items, against = f"{protocol.samples:,} images", f"against the {protocol.reference} split"
    if protocol.clips is not None:
        each = ", each frame as an image," if protocol.clips.as_frames else ""
        items = f"{protocol.samples:,} clips of {protocol.clips.frames} frames{each}"
        against += f" at stride {protocol.clips.reference.stride}"
    return f"{items} {against}, features of the {protocol.extractor}"


def _unseen(experiment: Experiment, table: str, metrics: str) -> str:
    """Of which items a floor's metrics without reference are, where they are of others."""
    protocols = [experiment.protocols[score] for score in experiment.scores_in(table)]
    learned = any(p.extractor == "classifier" and p.reference == "test" for p in protocols)
    return f"; {metrics} are of the reference's split, since from the other the classifier learned" if learned else ""


def _reproduced(experiment: Experiment) -> str:
    return f"Reproduced: within {100 * experiment.tables.tolerance:g} % of the paper's value."


# ---------------------------------------------------------------- Table 2


def _notes2(experiment: Experiment) -> list[str]:
    notes = [_ours_note(experiment, "table2", "clips"), *_columns(experiment)]
    compared = {experiment.protocols[score].paper_scale for score in experiment.scores_in("table2")}
    if True in compared:
        notes.append(_reproduced(experiment))
    if False in compared:
        notes.append(
            "Not comparable: other data, other features or another protocol than the paper's. "
            "Compare rows of ours with each other and with the floor, never with the paper's column."
        )
    return [
        *notes,
        "Ungated control: the same start weights, steps, data and noise as the gated row, without gates. "
        "FVD − control is the paired difference over seeds: what the gates changed. Of one seed it has no error.",
        "Floor, beside every FVD: real clips against real clips, those of the other split scored like samples; "
        f"where there is no other split, one half against the other{_unseen(experiment, 'table2', 'IS and identity')}.",
        "The paper's frame columns are inherited: in the tables that it took them over from, FID is that of "
        "FaceForensics and IS that of C3D on UCF-101; it does not say on which data its own are (reading R9). "
        "Ours are as said above.",
        *([IDENTITY] if OWN & columns_of(experiment).keys() else []),
        ORIGIN.format("clips"),
    ]


def _columns(experiment: Experiment) -> list[str]:
    """Which data set and protocol stands in each column."""
    notes = []
    for name, title in VIDEO_COLUMNS.items():
        column = columns_of(experiment).get(name)
        if column is None:
            notes += [] if name in OWN else [f"{title}: not measured; the paper's numbers alone."]
            continue
        score, protocol = experiment.score[column.score], experiment.protocols[column.score]
        source = experiment.data[score.data].source.replace("_", " ")
        where = f"{METRICS[column.metric]} on `{score.data}` ({source}), protocol `{score.protocol}`"
        notes.append(f"{title}: ours is {where}: {_rules(protocol)}.")
    return notes


def _remarks(table: pd.DataFrame) -> str:
    """What is known about the paper's own numbers, but for the frame columns, on which there is a note."""
    found = []
    for method, remarks in zip(table["method"], table["remarks"], strict=True):
        said = "; ".join(remark for remark in remarks.split("; ") if remark and "reading R9" not in remark)
        found += [f"{method} ({said})"] if said else []
    return f"On the paper's numbers: {'; '.join(found)}."
