"""laws.json: fitted laws on disk, readable by people, written in one piece.

A law is stored by its name and looked up in `LAWS` when read: the file holds numbers and text, never code. A limit that
the data do not give is stored as the text "inf" or "-inf", which JSON has no number for.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from scalelab.errors import Refused, unknown
from scalelab.files import write_atomically
from scalelab.laws.fitted import Estimate, Fit, HoldOut, Search
from scalelab.laws.forms import LAWS
from scalelab.laws.group import GroupLaws
from scalelab.laws.joint.result import CellBest, Joint
from scalelab.laws.law import Law
from scalelab.laws.optima.noise import Noise
from scalelab.laws.optima.optimum import Optimum
from scalelab.laws.optima.regression import TWO_STAGE
from scalelab.laws.study import Laws
from scalelab.laws.validate.forms import FormScore
from scalelab.laws.validate.published import Compared
from scalelab.laws.validate.sensitivity import Card, Variation
from scalelab.laws.validate.settings import Score, Validation

FORMAT = "scalelab laws"
VERSION = 2
REGISTERED: dict[str, Law] = {**LAWS, **{name: law for name, (law, _) in TWO_STAGE.items()}}


def write(laws: Laws, path: str | os.PathLike[str]) -> None:
    """Write laws.json; a reader sees the old file or the new one, never half of one.

    Raises:
        Refused: where the folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise Refused(f"{target}: the folder {target.parent} does not exist; create it first")
    text = json.dumps(as_plain(laws), indent=1, allow_nan=False)
    write_atomically(target, text + "\n")


def as_plain(laws: Laws) -> dict[str, Any]:
    """Laws as JSON types, as the file has them."""
    return {"format": FORMAT, "version": VERSION, **_plain(laws)}


def read(path: str | os.PathLike[str]) -> Laws:
    """The laws of a file that `write` wrote, or of the laws.json in a folder; equal to those written.

    Raises:
        Refused: where the file is missing, is not laws.json, was written by a newer version, or is damaged.
    """
    path = Path(path)
    path = path / "laws.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}); fit laws first") from error
    except ValueError as error:
        raise Refused(f"{path}: not JSON ({error}); fit again to rewrite it") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise Refused(f"{path}: not a file of fitted laws; accepted is what scalelab's fit writes")
    if data.get("version") != VERSION:
        raise Refused(f"{path}: format version {data.get('version')!r}, accepted is {VERSION}; upgrade or fit again")
    try:
        return _laws(data)
    except Refused as refusal:
        raise Refused(f"{path}: {refusal}") from refusal
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"{path}: damaged ({type(error).__name__}: {error}); fit again to rewrite it") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Law):
        return value.name
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _laws(data: Mapping[str, Any]) -> Laws:
    rest = {key: value for key, value in data.items() if key not in ("format", "version")}
    return Laws(**{**rest, "groups": [_group(group) for group in data["groups"]]})


def _group(data: Mapping[str, Any]) -> GroupLaws:
    parsed = {
        "noise": None if data["noise"] is None else Noise(**data["noise"]),
        "optima": [Optimum(**{**optimum, "noise": Noise(**optimum["noise"])}) for optimum in data["optima"]],
        "lr_fits": {name: _fit(fitted) for name, fitted in data["lr_fits"].items()},
        "joint": None if data["joint"] is None else _joint(data["joint"]),
        "setting_fits": {name: _fit(fitted) for name, fitted in data["setting_fits"].items()},
        "loss_fits": {name: _fit(fitted) for name, fitted in data["loss_fits"].items()},
        "loss_scores": tuple(FormScore(**score) for score in data["loss_scores"]),
        "validation": None if data["validation"] is None else _validation(data["validation"]),
        "compared": tuple(Compared(**found) for found in data["compared"]),
        "cards": tuple(
            Card(**{**card, "variations": tuple(Variation(**way) for way in card["variations"])})
            for card in data["cards"]
        ),
    }
    return GroupLaws(**{**data, **parsed})


def _validation(data: Mapping[str, Any]) -> Validation:
    scores = tuple(Score(**{**score, "chosen": tuple(score["chosen"])}) for score in data["scores"])
    return Validation(held_out=tuple(data["held_out"]), best=tuple(data["best"]), scores=scores, note=str(data["note"]))


def _joint(data: Mapping[str, Any]) -> Joint:
    parsed = {
        "estimates": _estimates(data["estimates"]),
        "priors": {name: _pair(values) for name, values in data["priors"].items()},
        "coordinates": {name: tuple(of) for name, of in data["coordinates"].items()},
        "domain": {name: _pair(values) for name, values in data["domain"].items()},
        "draws": _draws(data["draws"]),
        "warnings": tuple(data["warnings"]),
        "cells": tuple(
            CellBest(**{**cell, "settings": {name: _pair(found) for name, found in cell["settings"].items()}})
            for cell in data["cells"]
        ),
    }
    return Joint(**{**data, **parsed})


def _fit(data: Mapping[str, Any]) -> Fit:
    if data["law"] not in REGISTERED:
        raise unknown("law", data["law"], REGISTERED)
    parsed = {
        "law": REGISTERED[data["law"]],
        "estimates": _estimates(data["estimates"]),
        "reference": {name: float(at) for name, at in data["reference"].items()},
        "domain": {name: _pair(values) for name, values in data["domain"].items()},
        "residuals": tuple(map(float, data["residuals"])),
        "hold_out": None if data["hold_out"] is None else HoldOut(**data["hold_out"]),
        "draws": _draws(data["draws"]),
        "search": None if data["search"] is None else Search(**_numbers(data["search"])),
        "warnings": tuple(data["warnings"]),
    }
    return Fit(**{**data, **parsed})


def _estimates(data: Mapping[str, Any]) -> dict[str, Estimate]:
    methods = ("bootstrap", "profile", "delta")
    return {
        name: Estimate(**{**_numbers(e), **{m: None if e[m] is None else _pair(e[m]) for m in methods}})
        for name, e in data.items()
    }


def _numbers(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(value) if value in ("inf", "-inf") else value for key, value in data.items()}


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _draws(data: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(map(float, draws)) for name, draws in data.items()}
