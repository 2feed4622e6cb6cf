"""Warm local workers: jobs → populations of one program, trained side by side in processes that outlive a batch.

`composed` makes specs of many jobs' overrides, `tasks` cuts them into populations, `pool` has them trained, `serve` is
what a worker does, and `launching` is all of it as a Hydra launcher does it.
"""
