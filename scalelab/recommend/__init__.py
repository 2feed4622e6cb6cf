"""Laws, a table and a target → a recipe; or published laws alone."""

from scalelab.recommend.asked import asked
from scalelab.recommend.measured import recommend
from scalelab.recommend.published import published, with_published
from scalelab.recommend.quoted import listing

__all__ = ["asked", "listing", "published", "recommend", "with_published"]
