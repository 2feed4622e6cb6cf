"""Collections: the final trials of a study in one Parquet file, as a hundred thousand small files take long to read.

`trials.parquet` stands in the study's folder. A row has a final trial in full, as its trial.json has it, and beside it
what is read often, in columns that have the names of tables of runs (`laws.columns`). It is a copy: the run folders say
which runs there are. A run counts if its folder is there, and is read from the collection if it is in it.

What is final never changes. Where somebody removes a run and trains it again all the same, its old trial counts until
the study is collected again, which takes the new one. Of runs whose folders are gone the collection keeps the trials.
"""

from scalelab.collection.collect import Collected, collect
from scalelab.collection.rows import FREE, MACHINE, kind_of, row_of
from scalelab.collection.table import COLLECTION_FILE, FIELDS, collected, columns_of, trials
from scalelab.collection.tidy import as_csv, tidy

__all__ = [
    "COLLECTION_FILE", "FIELDS", "FREE", "MACHINE", "Collected", "as_csv", "collect", "collected", "columns_of",
    "kind_of", "row_of", "tidy", "trials",
]  # fmt: skip
