"""CARBS, cost-aware Pareto-region Bayesian search (arXiv:2306.08055), as an Optuna sampler.

Where it departs from the published code:

- hyperparameters are those of highest posterior density, by exact gradients, with a length for every dimension
  (Matérn 5/2); there they stay where they start;
- an improvement must beat the front by .3 normal scores, not 1; normal scores go on beyond what was seen;
- the front to beat is the loss surrogate's own mean at the front's settings, linear in ln cost between them, not
  another process, which need not fall with cost;
- the probability of success takes a standard deviation where a variance was taken;
- steps move a share of the dimensions, stop at the bounds, and never lead to what was tried;
- running trials are expected to end as predicted, not with a draw;
- nothing becomes random because something failed, and nothing is kept outside the study.
"""
