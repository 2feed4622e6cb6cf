"""The registered laws. To add one, write a file that ends in a `Law`, and a line here."""

from scalelab.laws.law import Law
from scalelab.laws.loss import LOSS
from scalelab.laws.power import CONSTANT, POWER, POWER_PARAMS

LAWS: dict[str, Law] = {
    "power": POWER,
    "power_params": POWER_PARAMS,
    "constant": CONSTANT,
    "loss": LOSS,
}
