"""The joint fit: every run of a group in one likelihood.

checked runs → build → model (valley, priors) → solve, maximum (levels) → fit → result
"""
