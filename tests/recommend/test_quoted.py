"""Which published laws a target may be asked: those of other models are left out, and nothing else is."""

import pytest

from scalelab.errors import Refused
from scalelab.recommend import attributed, batch, filled
from scalelab.shape import Architecture
from tests.conftest import make_spec
from tests.recommend.test_choices import silent

CONFIG = {"optimizer": {"weight_decay": 0.1}, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("papers", "given", "said"),
    [
        (["porian", "deepseek"], {"optimizer.weight_decay"}, "^deepseek and schedule: its rate is multiplied by 0.316"),
        (["porian", "step_law"], set(CONFIG), "^step_law warmed up for 2,000 steps, more than half of this run"),
    ],
)
def test_a_refusal_names_the_paper_that_lacks_the_setting(papers: list[str], given: set[str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        filled.filled(papers, CONFIG, given, batch_tokens=2**19, steps=100, lr=1e-3, weight_decay=0.1)


def test_laws_of_other_models_are_left_out() -> None:
    dense, sparse = make_spec("sp"), make_spec("sp", model="moe", sizes={"experts": 8, "top_k": 2},
                                               architecture=Architecture())  # fmt: skip
    of_dense, of_sparse = ({choice.law.partition(":")[0] for choice in attributed.others(spec, None)}
                           for spec in (dense, sparse))  # fmt: skip
    assert of_dense == {"step_law_lr/step_law", "deepseek_lr/deepseek", "porian_lr/porian"}
    assert of_sparse == {"deepseek_lr/ling_moe"}
    target = {"width": sparse.shape.width}
    found = batch.choose(sparse, silent(), proxy=sparse, target=target, own=(), swept_tokens=(640, 640), tried={})
    assert found.critical is None and "published laws: none" in found.value.rests_on


def test_a_law_that_needs_more_than_a_target_states_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def unstated(key: str, spec: object, **known: float) -> object:
        raise Refused(f"{key} needs loss_nats, which a target does not state")

    monkeypatch.setattr(attributed, "quoted", unstated)
    monkeypatch.setattr(batch, "quoted", unstated)
    spec = make_spec("sp")
    with pytest.raises(Refused, match="needs loss_nats"):
        attributed.others(spec, None)
    with pytest.raises(Refused, match="needs loss_nats"):
        batch.choose(spec, silent(), proxy=spec, target={"width": 64}, own=(), swept_tokens=(640, 640), tried={})
