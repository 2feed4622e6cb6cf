"""Search that fits the law while it searches.

the study's trials → coordinates → mean (law), misses (what the law misses), edge (where runs diverge)
→ posterior → gain (which run says most about the target per FLOP) → sampler, recommendation
"""
