"""A step as one graph of the device's: small proxies wait for launches, and a graph is launched once."""

from collections.abc import Callable

import torch
from torch import Tensor

EAGER_STEPS = 3  # real steps on a side stream before the capture: libraries set themselves up in the first


class Captured:
    """Calls `advance(tokens, factors)`, from the fourth time on by replaying its CUDA graph.

    Inputs are copied to where the graph reads them, results to where the next replay does not overwrite them; nothing
    waits for the host. Shapes are those of the first call.
    """

    def __init__(self, advance: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.advance, self.calls = advance, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, Tensor] | None = None
        self.outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, tokens: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        if self.calls < EAGER_STEPS:
            return self._eager(tokens, factors)
        if self.graph is None or self.inputs is None or self.outputs is None:
            self.inputs = tokens.clone(), factors.clone()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records, and runs nothing
                self.outputs = self.advance(*self.inputs)
        else:
            self.inputs[0].copy_(tokens)
            self.inputs[1].copy_(factors)
        self.graph.replay()
        return self.outputs[0].clone(), self.outputs[1].clone()

    def _eager(self, tokens: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            losses = self.advance(tokens, factors)
        torch.cuda.current_stream().wait_stream(side)
        return losses
