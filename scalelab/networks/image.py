"""What the image networks share: pixels in, the logits of a label out, residual blocks of one branch."""

import math
from typing import ClassVar

from torch import Tensor

from scalelab.networks.layers import Linear, Proxy, RMSNorm
from scalelab.networks.transformer import MLP, Residual
from scalelab.resolve import Multipliers
from scalelab.spec import RunSpec


class ImageProxy(Proxy):
    """Pixels [B, T] → logits [B, 1, V] of the label, which is the last of the tokens [B, T+1] of a record.

    `embedding` is the linear map from the pixels, or from a window of them, to the width.
    """

    labels: ClassVar[dict[str, str]] = {"embedding": "embedding", "up": "up", "branch": "branch out"}
    embedding: Linear

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        levels = spec.shape.vocab
        # Constants of the format, not of the corpus: grey levels as if each were as frequent as any other. (Of `digits`
        # the standardised pixels then have mean −0.64 and standard deviation 1.23.)
        self.grey, self.contrast = (levels - 1) / 2, math.sqrt((levels**2 - 1) / 12)

    def tuned(self, spec: RunSpec) -> None:
        self.embedding.multiplier *= spec.hparams.embedding_multiplier

    def targets(self, tokens_BT: Tensor) -> Tensor:
        """The label of each record, [B, 1]."""
        return tokens_BT[..., -1:]

    def standardised(self, ids_BT: Tensor, window: int) -> Tensor:
        """Pixels of mean 0 and variance 1/window, window being how many of them the embedding sums.

        So the stream starts at embedding_std, and an embedding's step moves it, as with a table that is looked up.
        """
        return (ids_BT - self.grey) / (self.contrast * math.sqrt(window))


class Block(Residual):
    """One branch, added to the stream."""

    def __init__(self, branch: MLP, sites: Multipliers) -> None:
        super().__init__(sites)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return self.added(x, self.branch(x))


def head(width: int, spec: RunSpec) -> tuple[RMSNorm, Linear]:
    """The last norm and the readout."""
    return RMSNorm(width, gain=spec.architecture.norm_gains), Linear(width, spec.shape.vocab)
