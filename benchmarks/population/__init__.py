"""The parts of `population.py`."""
