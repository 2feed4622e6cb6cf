"""Parquet, whose number of rows is known before it is read."""

from pathlib import Path

import pandas as pd

from scalelab.errors import Refused
from scalelab.readers.nested import flat
from scalelab.readers.text import refuse_size


def parquet(path: Path) -> pd.DataFrame:
    try:
        from pyarrow.parquet import read_metadata
    except ImportError:
        raise Refused(f"{path}: reading Parquet needs pyarrow: pip install 'scalelab[parquet]'") from None
    refuse_size(path, read_metadata(path).num_rows)
    return flat(pd.read_parquet(path))
