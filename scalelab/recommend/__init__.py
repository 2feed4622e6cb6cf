"""Laws, a table and a target → a recipe."""

from scalelab.recommend.measured import recommend

__all__ = ["recommend"]
