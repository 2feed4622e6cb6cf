"""Search on Optuna's ask and tell, with the runs of a plan.

Hydra's overrides → space → problem (a setting's runs and cost) ← settings
sampler proposes → loop: ask, launch, tell → study → result
                   a rule's pruner is asked in the workers: pruning → report, go on or stop
"""
