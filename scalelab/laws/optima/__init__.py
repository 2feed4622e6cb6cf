"""Optima: where each scale's valley has its bottom, with what certainty; and laws regressed on them (two stages).

table of runs → cells → valley, noise → optimum → rows, censored → regression
"""
