"""Search on Optuna's ask and tell, with the runs of a plan, by any number of drivers at the same time.

Hydra's overrides → space → problem (a setting's runs and cost) ← settings
loop: study (storage) → driving, one driver (owners) beside others
                        asking: the sampler proposes, what a dead driver left is taken over → underway
                        orders → works: here, or an engine → run folders
                        tell → history → result
                        a rule's pruner is asked in the workers: pruning → report, go on or stop
"""
