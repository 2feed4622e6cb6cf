"""Batches that grow as the loss falls. The loss is that of the source's data: other data need another coefficient."""

from scalelab.laws.forms import designs
from scalelab.laws.forms.powers import power_law

KAPLAN_CRITICAL_BATCH = power_law(
    name="kaplan_critical_batch",
    output="critical_batch_tokens",
    coefficient=2.1e8,
    exponents={"loss_nats": -1 / 0.21},
    source="Kaplan et al. (arXiv:2001.08361) eq. 1.4",
    design=designs.log_uniform(loss_nats=(1.5, 6.0)),
    coefficients={
        "kaplan": {
            "parameters": {"c": 2.1e8, "p_loss_nats": -1 / 0.21},
            "source": "Kaplan et al. (arXiv:2001.08361) Appendix A: B* = 2.1e8 tokens, alpha_B = 0.21",
            "checked": "from memory of the paper; two public reading notes quote the same numbers",
            "note": "eq. 1.4 rounds B* to 2e8; WebText2",
        }
    },
)
MINICPM_BATCH = power_law(
    name="minicpm_batch",
    output="batch_tokens",
    coefficient=1.21e9,
    exponents={"loss_nats": -6.24},
    source="MiniCPM (arXiv:2404.06395) sec. 3.2",
    design=designs.log_uniform(loss_nats=(1.5, 6.0)),
    coefficients={
        "minicpm": {
            "parameters": {"c": 1.21e9, "p_loss_nats": -6.24},
            "source": "MiniCPM (arXiv:2404.06395) sec. 3.2",
            "checked": "read in a public transcript of the paper",
            "note": "loss on C4",
        }
    },
)
