"""Reading parameter files: a misspelt key is an error that names the nearest one."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from rdm.errors import ParameterError, UsageError, nearest
from rdm.params.claims import Claims, Rows, Sensitivity
from rdm.params.consistency import check_scores, check_systems
from rdm.params.experiment import CONTROL_ROW, Experiment
from rdm.params.presentation import check_presentation
from rdm.params.protocol import Protocol
from rdm.params.section import Section
from rdm.params.shapes import check_shapes

Model = TypeVar("Model", bound=Section)
# in an installed package beside this module, in a checkout beside the parameter files
PLACES = (Path(__file__).parent, Path(__file__).parents[3] / "params")
OWN_PROTOCOLS = next(
    (p for place in PLACES if (p := place / "protocols.yaml").is_file()), Path("params/protocols.yaml")
)
# what is read of published.csv
COLUMNS = ("table", "architecture", "row", "column", "value", "origin", "remark")
UNLIKE = "<unlike>"  # as csv names the cells that a line has too many, and the content of those that it lacks
# problems with a key that is not there, or that pydantic writes in another way than the file does
ABSENT = ("missing", "invalid_key", "extra_forbidden")
# the same loader in C, eight times as fast, where PyYAML was built with it
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class OneOfEach(LOADER):  # type: ignore[misc, valid-type]
    """The loader, to which a key that stands twice in one mapping is an error: of two values one would be lost."""

    def flatten_mapping(self, node: Any) -> None:
        """Bring in what `<<` names, whose keys may be there already. It is called again for what is brought in."""
        lines: dict[tuple[str, str], int] = {}
        own = [] if hasattr(node, "flat") else [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in own:
            line, other = key.start_mark.line + 1, lines.get((key.tag, key.value))
            if other:
                raise ParameterError(f"line {line}: the key {key.value!r} stands in line {other}, too; leave one out.")
            lines[key.tag, key.value] = line
        node.flat = True
        super().flatten_mapping(node)


def load(path: str | Path) -> Experiment:
    """Read and check a parameter file; `protocols.yaml` beside it defines the protocols that it names.

    Raises ParameterError with the key's full path and the nearest known key.
    """
    path = Path(path)
    content = _read_yaml(path)
    if "protocols" in content:
        raise ParameterError(f"{path}: protocols: unknown key; name a protocol in each score's `protocol`.")
    found = content.get("score")
    scores = found if isinstance(found, dict) else {}
    rules = path.with_name("protocols.yaml")
    declared = _read_yaml(rules) if scores else {}
    protocols = {
        name: _protocol(rules, declared, str(score.get("protocol")), f"{path}: score.{name}.protocol: ")
        for name, score in scores.items()
        if isinstance(score, dict)
    }
    experiment = validated(Experiment, {**content, "protocols": protocols}, str(path))
    try:
        check_systems(experiment)
        check_scores(experiment)
        check_presentation(experiment)
        check_shapes(experiment)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    _check_rows(experiment, path)
    return experiment


def load_protocols(path: Path, names: list[str], changes: Sequence[str]) -> dict[str, Protocol]:
    """The protocols of these names in a protocols.yaml, changed; a changed one's name tells the changes.

    changes: each `key=value`, where dots lead into a rule: `samples=5000`, `precision_recall.half=false`.
    Raises ParameterError for an unknown protocol or key, or an impossible value.
    """
    protocols, declared = {}, _read_yaml(path)
    for name in names:
        protocol = _protocol(path, declared, name, "")
        content = protocol.model_dump()
        for change in changes:
            _change(content, change)
            content["paper_scale"] = False
        where = ", ".join([name, *changes])
        protocols[where] = validated(Protocol, content, where)
    return protocols


def _protocol(path: Path, declared: dict[str, Any], name: str, where: str) -> Protocol:
    if name not in declared:
        raise ParameterError(f"{where}{name!r} is not in {path}; {nearest(name, declared)}")
    return validated(Protocol, declared[name], f"{path}: {name}")


def _change(content: dict[str, Any], change: str) -> None:
    """Set one value, in place."""
    key, equals, text = change.partition("=")
    *sections, last = key.split(".")
    for section in sections:
        content = content.get(section)  # type: ignore[assignment]
        if not isinstance(content, dict):
            raise ParameterError(f"--set {change}: there is no section {section!r}; see the keys in protocols.yaml.")
    if not equals or last not in content:
        raise ParameterError(f"--set {change}: give KEY=VALUE; {nearest(last, content)}")
    try:
        content[last] = _parse(text, f"--set {change}")
    except yaml.YAMLError:
        raise ParameterError(f"--set {change}: {text!r} is not a value; write it as in protocols.yaml.") from None


def load_claims(path: Path) -> Claims:
    """What the paper claims. Raises ParameterError for an unknown key, and for a row that the paper does not have."""
    if not path.is_file():
        raise UsageError(f"{path} is not there; copy params/claims.yaml beside the parameter file.")
    claims = validated(Claims, _read_yaml(path), str(path))
    known = _published_rows(path.with_name("published.csv"))
    for name, claim in claims.claims.items():
        statement, where = claim.statement, f"{path}: claims.{name}.statement"
        if isinstance(statement, Sensitivity):
            _check_row(statement.row, known["table1"], where)
        if isinstance(statement, Rows):
            for row in (statement.row, *statement.than):
                _check_row(row.removesuffix(CONTROL_ROW), known[statement.table], where)
    return claims


def _check_rows(experiment: Experiment, path: Path) -> None:
    """Every row of a table is one of the paper's, or such a name, a comma and what is different."""
    known = _published_rows(path.with_name("published.csv"))
    tables = {"table1": experiment.tables.table1, "table2": experiment.tables.table2}
    for table, declared in tables.items():
        for row in declared.rows if declared else ():
            _check_row(row.row.split(",")[0], known[table], f"{path}: tables.{table}.rows")


def _check_row(name: str, known: set[str], where: str) -> None:
    if name not in known:
        raise ParameterError(f"{where}: {name!r} is no row of the paper's; {nearest(name, known)}")


def _published_rows(published: Path) -> dict[str, set[str]]:
    """The names of the rows of each table of the paper's. Raises ParameterError for a file that could not be read."""
    if not published.is_file():
        raise UsageError(f"{published} is not there; the paper's numbers belong beside the parameter file.")
    try:
        text = published.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParameterError(f"{published}: line {line} is not UTF-8; save the file in this encoding.") from None
    reader = csv.DictReader(io.StringIO(text), restkey=UNLIKE, restval=UNLIKE)
    for column in COLUMNS:
        if column not in (reader.fieldnames or ()):
            raise ParameterError(
                f"{published}: line 1: there is no column {column!r}; give all of {', '.join(COLUMNS)}."
            )
    rows: dict[str, set[str]] = {"table1": set(), "table2": set()}
    for cells in reader:
        if UNLIKE in cells or UNLIKE in cells.values():
            where = f"{published}: line {reader.line_num}"
            raise ParameterError(f"{where}: there are more or fewer cells than columns; quote what holds a comma.")
        if not _is_number(cells["value"]):
            where = f"{published}: line {reader.line_num}: value"
            raise ParameterError(f"{where}: {cells['value']!r} is no number; correct it, or leave the line out.")
        rows.setdefault(cells["table"], set()).add(cells["row"])
    return rows


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"There is no parameter file {str(path)!r}; copy one from params/, or name another with --params."
        )
    try:
        content = _parse(path.read_text(encoding="utf-8"), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} holds no keys; start from a copy of params/digits.yaml.")
    return content


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=OneOfEach)
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from None


def validated(model: type[Model], content: dict[str, Any], where: str) -> Model:
    """`content` as a typed object. Raises ParameterError in one sentence, with the nearest known key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_explain(model, content, item) for item in error.errors())
        raise ParameterError(f"{where}: {problems}") from None


def _explain(model: type[Section], content: Any, problem: Any) -> str:
    """One pydantic problem as `path.to.key: what is wrong`."""
    location = _location(content, problem)
    key = f"{'.'.join(location)}: " if location else ""
    if problem["type"] == "extra_forbidden":
        sections = _sections_at(model, location[:-1])
        if location[-1] in _keys(sections):
            return f"{key}this key does not go with the others that stand there"
        # before the key stands the kind of its section, where there are several
        chosen = [section for section in sections if _kinds(section) & {*problem["loc"][-2:-1]}]
        return f"{key}unknown key; {nearest(location[-1], _keys(chosen or sections))}"
    if problem["type"] == "missing":
        return f"{key}this key is missing"
    if problem["type"] == "value_error":  # our own words
        return f"{key}{problem['ctx']['error']}"
    return f"{key}{problem['msg'].lower()} (it is {problem['input']!r})"


def _location(content: Any, problem: Any) -> list[str]:
    """The keys that lead to a problem: pydantic's, without its names for the members of unions."""
    location, last = [], len(problem["loc"]) - 1
    for position, part in enumerate(problem["loc"]):
        there = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if there or (position == last and problem["type"] in ABSENT):
            location.append(str(part))
        content = content[part] if there else content
    return location


def _sections_at(model: type[Section], location: list[str]) -> list[Any]:
    """The sections that may stand at `location`, found by walking the model's annotations."""
    candidates: list[Any] = [model]
    for part in location:
        fields = [c.model_fields[part].annotation for c in candidates if part in getattr(c, "model_fields", {})]
        # a dict's values, a union's members and a tuple's items stand one step further down
        candidates = [leaf for annotation in fields for leaf in _sections_in(annotation)] or candidates
    return candidates


def _keys(sections: list[Any]) -> set[str]:
    return {name for section in sections for name in section.model_fields}


def _kinds(section: Any) -> set[str]:
    """The values of `kind` or `source` by which a section is chosen."""
    fields = [section.model_fields[key] for key in ("kind", "source") if key in section.model_fields]
    return {kind for field in fields for kind in get_args(field.annotation)}


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [leaf for inner in getattr(annotation, "__args__", ()) for leaf in _sections_in(inner)]
