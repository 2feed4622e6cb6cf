"""Columns that hold objects: the configs and summaries of a W&B export, as a column a value."""

import ast
import json
import re
from typing import Any

import pandas as pd

WRAPPED = ({"value"}, {"value", "desc"})


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose columns of objects are columns of their values, config.lr; lists stay as they are.

    The W&B documentation's own export writes the two as Python dicts inside a CSV; those are read, too.
    """
    columns: dict[str, Any] = {}
    for name in frame.columns:
        objects = _objects(str(name), frame[name])
        if objects is None:
            columns[str(name)] = frame[name]
        else:
            values = pd.json_normalize([_unwrapped(item) for item in objects])
            columns |= {f"{name}.{inner}": values[inner].set_axis(frame.index) for inner in values}
    return pd.DataFrame(columns, index=frame.index)


def _objects(name: str, column: "pd.Series[Any]") -> list[dict[str, Any]] | None:
    """The objects of a column, {} for an empty cell; None where it is no column of objects."""
    if pd.api.types.is_numeric_dtype(column):
        return None
    cells = [cell if isinstance(cell, dict | str) else None for cell in column]
    if name.lower() in ("config", "summary"):
        cells = [_parsed(cell) if isinstance(cell, str) else cell for cell in cells]
    if not any(isinstance(cell, dict) for cell in cells):
        return None
    return [cell if isinstance(cell, dict) else {} for cell in cells]


def _parsed(cell: str) -> dict[str, Any] | str:
    for read in (json.loads, _python):
        try:
            found = read(cell)
        except (ValueError, SyntaxError):
            continue
        return found if isinstance(found, dict) else cell
    return cell


def _python(cell: str) -> Any:
    """A literal of Python, with the two words that a printed dict has and the language has not."""
    return ast.literal_eval(re.sub(r"\binf\b", "1e999", re.sub(r"\bnan\b", "None", cell)))


def _unwrapped(item: dict[str, Any]) -> dict[str, Any]:
    """Without what W&B adds: its own keys (_step, _wandb), and {"value": …, "desc": …} around a value of config."""
    kept = {str(key): value for key, value in item.items() if not str(key).startswith("_")}
    wrapped = {key for key, value in kept.items() if isinstance(value, dict) and value.keys() in WRAPPED}
    return {key: value["value"] if key in wrapped else value for key, value in kept.items()}
