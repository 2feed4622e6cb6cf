"""The columns that laws speak of, each with its unit: one vocabulary for tables, laws, recipes and messages."""

# Four columns count parameters, and no law may mix them: the exponents differ by up to a factor of two with what is
# counted (arXiv:2406.19146). `params` is for tables that do not say.
PARAMS: dict[str, str] = {
    "params_non_embedding": "parameters without embeddings",
    "params_total": "parameters with embeddings, all experts",
    "params_active": "parameters that one token meets",
    "params": "parameters, with or without embeddings not stated",
}

# What makes runs different in kind, and what a law may have as an input.
SCALES: dict[str, str] = {
    "width": "units of the residual stream",
    "depth": "blocks",
    **PARAMS,
    "tokens": "training tokens",
    "unique_tokens": "training tokens, each counted once",
    "experts": "experts of a layer",
    "activation_ratio": "share of the parameters that one token meets",
    "granularity": "experts that a dense feed-forward layer is cut into",
    "streams": "parallel streams (ParScale's P)",
}

SETTINGS: dict[str, str] = {
    "batch_tokens": "tokens a step",
    "lr": "peak learning rate",
    "weight_decay": "of a decoupled step lr·λ",
}

NAMES = ("parametrization", "optimizer", "data")

OUTCOMES: dict[str, str] = {
    "loss_nats": "nats a token",
    "error_rate": "share of answers that are wrong, 1 − pass@1",
    "efficiency_leverage": "compute of the equal dense model over its own",
}

UNITS: dict[str, str] = {**SCALES, **SETTINGS, "cost_flops": "training FLOPs", **OUTCOMES}

COLUMNS = ("run", *NAMES, *UNITS, "seed", "outcome")

# What follows from other columns; a law may have them as inputs or output, a table need not state them.
DERIVED: dict[str, str] = {
    "steps": "optimizer steps, tokens/batch_tokens",
    "tokens_per_param": "training tokens a parameter",
    "tau": "AdamW's time scale in runs, batch_tokens/(lr·weight_decay·tokens)",
    "lr_decay": "what a step decays by, lr·weight_decay",
    "critical_batch_tokens": "tokens a step beyond which more of them save few steps",
}
