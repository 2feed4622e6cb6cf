"""The benchmark of the search: problems with a known truth, samplers, and what a recommendation costs at full scale.

problem → hoffmann steplaw bent trap family → problems; peer → carbs_peer smac_peer → samplers; both → runs → judged →
report. Beside it speed, robustness and recovery.
"""
