"""Tables that somebody else wrote, for the tests of what is read from them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scalelab.readers import Runs, parse_columns, read

Given = Mapping[str, Any]


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., Runs]:
    """Read a CSV of these columns with these --column options."""

    def reading(columns: Given, *options: str) -> Runs:
        file = tmp_path / "runs.csv"
        pd.DataFrame(columns).to_csv(file, index=False)
        return read([file], columns=parse_columns(options))

    return reading
