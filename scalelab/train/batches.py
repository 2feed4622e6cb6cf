"""The batches of a population, each member's by its own seed and step, on its device."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from scalelab import data as corpora
from scalelab.data.corpus import Corpus, training_windows, validation_batches
from scalelab.spec import RunSpec
from scalelab.train.member import Member

AHEAD = 64  # steps whose windows are drawn at once: numpy's calls cost more than the numbers
COPIED_BYTES = 1 << 30  # a corpus of up to so many bytes is copied to the device
VALIDATION_SEQUENCES = 32  # a batch of validation; the loss does not depend on it


def corpus_of(spec: RunSpec) -> Corpus:
    """The corpus of a spec; `RuntimeError` where it is not the one that the spec was made for."""
    corpus = corpora.load(spec.data.name, unique_tokens=spec.data.unique_tokens, **dict(spec.data.options))
    if corpus.sha256 != spec.data.sha256:
        raise RuntimeError(
            f"corpus {corpus.name} is {corpus.sha256[:12]}, the spec was made for {spec.data.sha256[:12]}"
        )
    return corpus


class Batches:
    """What members read, from a corpus on the host or, where it fits on another device, from a copy of it there.

    Of each batch `part` (which, of how many) is read.
    """

    def __init__(self, corpus: Corpus, spec: RunSpec, device: str, *, part: tuple[int, int] = (0, 1)) -> None:
        self.corpus, self.spec, self.device = corpus, spec, device
        which, parts = part
        self.rows = slice(which * spec.sequences // parts, (which + 1) * spec.sequences // parts)
        self.drawn: dict[int, tuple[int, np.ndarray]] = {}  # by member: the first step, and its windows [steps, B]
        self.copy: Tensor | None = None
        if device != "cpu" and corpus.train.nbytes <= COPIED_BYTES:
            signed = {1: np.uint8, 2: np.int32}.get(corpus.train.itemsize, np.int64)  # torch indexes no uint16 on a GPU
            self.copy = torch.from_numpy(np.ascontiguousarray(corpus.train, dtype=signed)).to(device)
            self.ahead = torch.arange(spec.shape.context + 1, device=device)

    def at(self, members: Sequence[Member]) -> Tensor:
        """The token ids [M, B, T+1] of each member's next step; the host does not wait for the device."""
        windows_MB = np.stack([self._windows(member) for member in members])
        if self.copy is None:
            return self._sent(torch.from_numpy(self.corpus.gathered(windows_MB, self.spec.shape.context)))
        first_MB = self._sent(torch.from_numpy(windows_MB * (self.corpus.record or self.spec.shape.context)))
        return self.copy[first_MB.unsqueeze(-1) + self.ahead].long()

    def _sent(self, tensor: Tensor) -> Tensor:
        if self.device.startswith("cuda"):
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _windows(self, member: Member) -> np.ndarray:
        begin, drawn = self.drawn.get(member.index, (0, np.empty((0, 0))))
        if not begin <= member.step < begin + len(drawn):
            begin, spec = member.step, member.spec
            drawn = training_windows(
                self.corpus, seed=spec.seed, step=begin, steps=AHEAD, sequences=spec.sequences,
                context=spec.shape.context,
            )  # fmt: skip
            self.drawn[member.index] = begin, drawn
        windows: np.ndarray = drawn[member.step - begin, self.rows]
        return windows

    def forget(self, member: Member) -> None:
        """Let go of what was drawn for a run that has ended."""
        self.drawn.pop(member.index, None)

    def validation(self) -> Iterator[Tensor]:
        """The fixed validation set, [≤32, T+1] at a time."""
        tokens, context = self.spec.data.validation_tokens, self.spec.shape.context
        for batch in validation_batches(self.corpus, tokens=tokens, sequences=VALIDATION_SEQUENCES, context=context):
            yield torch.from_numpy(batch).to(self.device)
