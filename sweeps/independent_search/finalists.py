"""The settings that the phases and the random search chose, as configurations to train again on fresh seeds.

    python sweeps/independent_search/finalists.py TABLE.csv FOLDER

writes FOLDER/finalist_TABLE/NAME.yaml for each parametrization of the table, of which `train --config-dir FOLDER
+finalist_TABLE=NAME` takes one.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from scalelab.replications import independent, read

KEYS = {  # columns of a table → keys of conf/train.yaml
    "lr": "lr",
    "hparams.init_gain": "init.gain",
    "hparams.embedding_std": "init.embedding_std",
    "hparams.embedding_multiplier": "multipliers.embedding",
    "hparams.attention_multiplier": "multipliers.attention",
    "hparams.activation_multiplier": "multipliers.activation",
    "hparams.residual_multiplier": "multipliers.residual",
    "hparams.residual_attention_ratio": "multipliers.attention_ratio",
    "hparams.logits_multiplier": "multipliers.logits",
}


def main(table: str, folder: Path) -> None:
    runs = read("independent_search").runs(table)
    for name, others in independent.SEARCHED.items():
        own = runs[runs["parametrization"] == name]
        trials = own[own["part"] == f"random_{name}"]
        (folder / f"finalist_{name}").mkdir(parents=True, exist_ok=True)
        for each, setting in independent.finalists(own[own["seed"] < independent.FRESH], trials, others).items():
            config = OmegaConf.create()
            for column, value in setting.items():
                OmegaConf.update(config, KEYS[column], value)
            text = "# @package _global_\n" + OmegaConf.to_yaml(config)
            (folder / f"finalist_{name}" / f"{each}.yaml").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute())
