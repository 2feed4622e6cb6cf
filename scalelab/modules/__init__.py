"""The published rules on anybody's nn.Module: `scalelab.parametrize`.

>>> import scalelab
>>> from torch import manual_seed, nn, optim
>>> _ = manual_seed(0)
>>> def network(width):
...     return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 5))
>>> model = network(256)
>>> found = scalelab.parametrize(model, "mup", base=network(64), optimizer="adamw")
>>> print(found.table())  # doctest: +ELLIPSIS
parameter  role       m_in  m_out  m_L  multiplier  lr    weight_decay  eps   init std
0.weight   embedding  1     4      1    1           1     1             0.25  0.2...
0.bias     bias       1     4      1    1           1     0             0.25  0.2...
2.weight   hidden     4     4      1    1           0.25  4             0.25  0.036
2.bias     bias       1     4      1    1           1     0             0.25  0.07...
4.weight   readout    4     1      1    0.25        1     1             0.25  0.07...
4.bias     bias       1     1      1    1           1     0             1     0.0...
>>> optimizer = optim.AdamW(found.groups(lr=0.01, weight_decay=0.1), fused=True)
>>> [(group["names"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups][-1]
(['4.weight'], 0.01, 0.1)
"""

from scalelab.modules.apply import parametrize
from scalelab.modules.found import Parametrized
from scalelab.modules.hooks import ScaledInput, ScaledOutput, multipliers

__all__ = ["Parametrized", "ScaledInput", "ScaledOutput", "multipliers", "parametrize"]
