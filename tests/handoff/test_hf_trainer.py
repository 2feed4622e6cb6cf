"""What Trainer is given: its arguments, its own schedules beside ours, refusals; and a run of it."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scalelab import data
from scalelab.data.corpus import train_batch
from scalelab.errors import Refused
from scalelab.exporters import export
from scalelab.exporters.hf import schedule
from scalelab.exporters.hf_classes import CLASSES, OTHERS
from scalelab.networks import build
from scalelab.spec import Horizon, RunSpec
from tests.conftest import make_spec
from tests.handoff.hf_models import exported, load, model_in
from tests.handoff.recipes import MULTIPLIED, case, recipe_of, spec_of
from tests.handoff.training import losses

transformers = pytest.importorskip("transformers")
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "cosine", "final_lr_ratio": 0.0},
    {"schedule": "cosine", "final_lr_ratio": 0.1},
    {"schedule": "linear", "final_lr_ratio": 0.0},
    {"schedule": "linear", "final_lr_ratio": 0.25},
    {"schedule": "linear", "final_lr_ratio": 1.0},
    {"schedule": "wsd", "final_lr_ratio": 0.0, "decay_fraction": 0.3},
    {"schedule": "wsd", "final_lr_ratio": 0.1, "decay_fraction": 0.3},
    {"schedule": "wsd", "final_lr_ratio": 0.1, "decay_fraction": 0.0},
    {"schedule": "constant"},
]


def arguments(spec: RunSpec, folder: Path, **options: str) -> dict[str, Any]:
    """training_args.json."""
    export(recipe_of(spec), "hf", folder, options)
    found: dict[str, Any] = json.loads((folder / "training_args.json").read_text())
    return found


def factors(horizon: Horizon) -> list[float]:
    """Those of the schedule of transformers that training_args.json names, at every step."""
    name, kwargs = schedule(horizon, 0.01)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.01, 0.0025)]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    scheduler = transformers.get_scheduler(name, optimizer, horizon.warmup_steps, horizon.steps, kwargs)
    found = []
    for _ in range(horizon.steps):
        at = [group["lr"] for group in optimizer.param_groups]
        assert at[0] == pytest.approx(4 * at[1])
        found.append(at[0] / 0.01)
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("given", SCHEDULES)
def test_the_named_schedule_is_ours_but_for_a_step_of_warmup(given: dict[str, Any], warmup: float) -> None:
    horizon = Horizon(tokens=6400, batch_tokens=64, warmup_fraction=warmup, **given)
    found = factors(horizon)
    expected = [horizon.lr_factor(step) for step in range(horizon.steps)]
    assert horizon.warmup_steps == 100 * warmup
    assert found[horizon.warmup_steps :] == pytest.approx(expected[horizon.warmup_steps :], abs=1e-12)
    floor = given.get("final_lr_ratio", 0.0) if schedule(horizon, 0.01)[0] == "warmup_stable_decay" else 0.0
    behind = [0.0, *expected][: horizon.warmup_steps]
    assert found[: horizon.warmup_steps] == pytest.approx([floor + (1 - floor) * each for each in behind])


@pytest.mark.parametrize("given", SCHEDULES)
def test_the_schedule_of_scalelab_hf_is_ours(given: dict[str, Any], tmp_path: Path) -> None:
    spec = spec_of(horizon={"warmup_fraction": 0.2, **given})
    with exported(spec, tmp_path) as scalelab_hf:
        optimizer, scheduler = scalelab_hf.create_optimizer_and_scheduler(model_in(tmp_path))
    peaks = [group["initial_lr"] for group in optimizer.param_groups]
    for step in range(0, spec.horizon.steps, 2):
        assert scheduler.get_last_lr() == pytest.approx([peak * spec.horizon.lr_factor(step) for peak in peaks])
        for _ in range(2):  # once more after the last, as Trainer does
            optimizer.step()
            scheduler.step()


def test_training_arguments_have_the_recipes_values(tmp_path: Path) -> None:
    spec = spec_of(hparams={"clip_norm": 0.5})
    found = arguments(spec, tmp_path, world_size="2", per_device_train_batch_size="1")
    assert found == {
        "output_dir": "trained", "max_steps": 20, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        "optim": "adamw_torch", "learning_rate": 0.01, "weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95,
        "adam_epsilon": 1e-6, "max_grad_norm": 0.5, "warmup_steps": 4, "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "bf16": False, "seed": 0,
    }  # fmt: skip
    assert found.keys() <= {each.name for each in dataclasses.fields(transformers.TrainingArguments)}
    assert arguments(case("mup"), tmp_path)["max_grad_norm"] == 0.0
    assert arguments(make_spec(dtype="bfloat16"), tmp_path)["bf16"] is True
    assert "adam_beta1" not in arguments(case("mup-sgd"), tmp_path)


def test_trainer_takes_what_scalelab_hf_makes(tmp_path: Path) -> None:
    parameters = inspect.signature(transformers.Trainer).parameters
    assert {"optimizers", "compute_loss_func"} <= parameters.keys()
    with exported(case("mup"), tmp_path) as scalelab_hf:
        for name in ("create_optimizer", "create_scheduler"):
            ours = inspect.signature(getattr(scalelab_hf.Creates, name)).parameters
            assert list(ours) == list(inspect.signature(getattr(transformers.Trainer, name)).parameters)
        trainer = scalelab_hf.Creates()
        trainer.model, trainer.optimizer, trainer.lr_scheduler = model_in(tmp_path), None, None
        trainer.create_optimizer()
        with pytest.raises(ValueError, match="a run of 10 steps, the recipe is for 20"):
            trainer.create_scheduler(10)
        assert trainer.create_scheduler(20).get_last_lr() == pytest.approx(
            [group["initial_lr"] / 4 for group in trainer.optimizer.param_groups]
        )


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ({"optimizer": "muon"}, {}, "no export of optimizer=muon to hf: accepted are adamw, sgd"),
        ({"optimizer": "lion"}, {}, "optimizer=lion"),
        ({"model": "moe"}, {}, "no export of model=moe to hf: accepted are transformer"),
        ({"architecture": {"positions": "learned"}}, {}, "model.positions=learned"),
        ({"architecture": {"norm_gains": "scalar"}}, {}, "model.norm_gains=scalar"),
        ({"architecture": {"mlp": "gelu"}}, {"model": "llama"}, "mlp=gelu does not go with model=llama: .*, arcee"),
        ({"architecture": {"qk_norm": True}}, {"model": "granite"}, "model.qk_norm=true does not .* are auto, qwen3"),
        ({}, {"model": "qwen3"}, "model.qk_norm=false does not go with model=qwen3"),
        ({"architecture": {"qk_norm": True, "biases": True}}, {}, "no class of transformers here has mlp=swiglu, qk_"),
        ({"architecture": {"qk_norm": True, "mlp": "relu"}}, {}, "no class of transformers here"),
        ({}, {"model": "lama"}, "unknown model 'lama'.*did you mean 'llama'"),
        ({}, {"model": "minicpm3"}, "no export to model=minicpm3: its attention is latent"),
        ({}, {"world_size": "3"}, "world_size=3 with .*=all: 3 does not divide the 4 sequences"),
        ({}, {"world_size": "2", "per_device_train_batch_size": "4"}, "world_size=2 with per_device_train_batch_size"),
        ({}, {"per_device_train_batch_size": "some"}, "per_device_train_batch_size=some: accepted is a whole number"),
        ({}, {"world_size": "0"}, "world_size=0: accepted is a whole number ≥ 1"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], options: dict[str, str], says: str, tmp_path: Path) -> None:
    spec = spec_of(**given)
    with pytest.raises(Refused, match=says) as refused:
        export(recipe_of(spec), "hf", tmp_path, options)
    assert "\n" not in str(refused.value) and not any(tmp_path.iterdir())


@pytest.mark.parametrize("model_type", [*CLASSES, *OTHERS])
def test_every_class_that_is_named_is_one_of_transformers(model_type: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as THERE

    assert model_type in THERE
    if model_type in CLASSES:
        assert THERE[model_type] == CLASSES[model_type].name


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Windows of scalelab's own stream, in its order."""

    def __init__(self, tokens: list[torch.Tensor]) -> None:
        self.rows = torch.cat(tokens)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def by_trainer(spec: RunSpec, tokens: list[torch.Tensor], asked: str, folder: Path, *, how: str) -> list[float]:
    """Losses that Trainer logs, from scalelab's own start, in float32; `how` it comes by an optimizer."""
    given = arguments(spec, folder, model=asked, per_device_train_batch_size="2")
    with exported(spec, folder, model=asked, per_device_train_batch_size="2") as scalelab_hf:
        model = model_in(folder)
        load(model, build(spec), spec, asked)
        more = scalelab_hf.loss()
        if how == "optimizers":
            more["optimizers"] = scalelab_hf.create_optimizer_and_scheduler(model)
        bases = (scalelab_hf.Creates, transformers.Trainer) if how == "creates" else (transformers.Trainer,)
        trainer = type("RecipeTrainer", bases, {})(
            model,
            transformers.TrainingArguments(
                **{**given, "output_dir": str(folder / "trained")}, logging_steps=1, report_to="none", use_cpu=True,
                save_strategy="no", disable_tqdm=True, train_sampling_strategy="sequential",
                dataloader_pin_memory=False,
            ),
            train_dataset=Rows(tokens),
            **more,
        )  # fmt: skip
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.handoff
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("asked", "hparams"),
    [
        ("granite", {**MULTIPLIED, "clip_norm": 0.5}),
        ("llama", MULTIPLIED),
        ("llama", {**MULTIPLIED, "z_loss": 0.01}),
    ],
)
def test_trainer_trains_as_scalelab_does(asked: str, hparams: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="Trainer needs accelerate")
    spec = spec_of(hparams=hparams)
    corpus = data.load("embedded")
    tokens = [
        torch.from_numpy(
            train_batch(corpus, seed=spec.seed, step=step, sequences=spec.sequences, context=spec.shape.context)
        )
        for step in range(spec.horizon.steps)
    ]
    expected = losses(build(spec), spec, tokens)
    for how in ("optimizers", "creates"):
        found = by_trainer(spec, tokens, asked, tmp_path, how=how)
        assert len(found) == spec.horizon.steps
        assert found == pytest.approx(expected, abs=2e-5)
    alone = by_trainer(spec, tokens, asked, tmp_path, how="its own")
    assert max(abs(a - b) for a, b in zip(alone, expected, strict=True)) > 0.01
