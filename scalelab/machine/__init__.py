"""What a machine can do and what it draws: its matmul peak, measured; its energy, where it tells."""

from scalelab.machine.energy import Meter, cpu_share
from scalelab.machine.peak import DTYPES, Peak, known_peak, matmul_peak

__all__ = ["DTYPES", "Meter", "Peak", "cpu_share", "known_peak", "matmul_peak"]
