"""Fitting any law to runs: problem → least squares from many starts → covariance, bootstrap, profile."""
