"""A training as TensorBoard, MLflow or Weights & Biases show it, through accelerate's trackers. None is needed.

They look on: which of them do is no parameter of a run, and nothing that is trained depends on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdm.errors import RdmError, UsageError
from rdm.models.gates import gate_table
from rdm.provenance.manifest import Recipe
from rdm.train.state import TrainingState

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

LOGS = Path("logs")
Watch = Callable[[TrainingState], None]


def check(kinds: Sequence[str]) -> None:
    """Raise UsageError, before any work, if the packages of a tracker are not there."""
    for kind in kinds:
        if not all(map(find_spec, ("accelerate", kind))):
            raise UsageError(
                f"The tracker {kind!r} is not installed; run `pip install -e '.[{kind}]'`, or leave it out, since "
                "log.jsonl is written anyway."
            )


@contextmanager
def following(kinds: Sequence[str], experiment: str, run: str, recipe: Recipe) -> Iterator[Watch]:
    """Yields what is to be called with the state before the first step and after every log line.

    The trackers' run is named `run`, in the project `experiment`, with the recipe's parameters as its configuration.
    Raises RdmError if a tracker cannot be started. One that fails later is left out, and says so on stderr.
    """
    to_start, open_trackers = list(kinds), dict[str, "GeneralTracker"]()

    def watch(state: TrainingState) -> None:
        while to_start:
            kind = to_start.pop(0)
            open_trackers[kind] = _start(kind, experiment, run, recipe, state.step)
        if state.log and state.log[-1]["step"] == state.step:
            values = values_of(state)
            for kind, tracker in list(open_trackers.items()):
                with _unharmed(kind, open_trackers):
                    tracker.log(values, step=state.step)

    try:
        yield watch
    finally:
        for kind, tracker in list(open_trackers.items()):
            with _unharmed(kind, open_trackers):
                tracker.finish()


def values_of(state: TrainingState) -> dict[str, float]:
    """Of the last log line, the learning rates and the EMA's gates: name -> number; what there is none of is left out.

    Sensitivities are log(n_i / n_L), from shallow to deep.
    """
    line = state.log[-1]
    values = {name: value for name, value in line.items() if name not in ("step", "sensitivity")}
    for name, group in zip(("learning_rate", "gates/learning_rate"), state.optimiser.param_groups, strict=False):
        values[name] = group["lr"]
    values |= {f"sensitivity/{state:02d}": value for state, value in enumerate(line["sensitivity"] or [])}
    for row in gate_table(state.ema):
        unit = row.pop("unit")
        values |= {f"gates/{unit}/{name}": value for name, value in row.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def _start(kind: str, experiment: str, run: str, recipe: Recipe, step: int) -> GeneralTracker:
    """Goes on with what was tracked up to `step`; of MLflow a training that is started again is another run."""
    from accelerate import PartialState, tracking

    PartialState()  # accelerate's loggers want it
    LOGS.mkdir(exist_ok=True)
    try:
        if kind == "tensorboard":
            tracker = tracking.TensorBoardTracker(run, LOGS / kind, purge_step=step)
        elif kind == "wandb":
            same = {"id": recipe.digest[:16], "resume": "allow"}
            tracker = tracking.WandBTracker(experiment, name=run, dir=str(LOGS), **same)
        else:
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{LOGS.resolve() / 'mlflow.db'}")
            tracker = tracking.MLflowTracker(experiment, str((LOGS / kind).resolve()), run_name=run)
        tracker.start()
        tracker.store_init_configuration(_flat(recipe.as_dict()["parameters"]))
    except Exception as error:  # theirs, of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise RdmError(f"The tracker {kind!r} could not be started: {reason}. Set it up, or leave it out.") from None
    return tracker


@contextmanager
def _unharmed(kind: str, trackers: dict[str, GeneralTracker]) -> Iterator[None]:
    """What a tracker does wrong is no reason to stop a training."""
    try:
        yield
    except Exception as error:  # theirs, of many kinds
        print(f"The tracker {kind!r} failed, and is left out from here: {error}", file=sys.stderr)
        del trackers[kind]


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested values by dotted names; lists, and what is not there, as text."""
    if not isinstance(values, dict):
        return {name: values if isinstance(values, bool | int | float | str) else str(values)}
    return {key: leaf for k, v in values.items() for key, leaf in _flat(v, f"{name}.{k}".lstrip(".")).items()}
