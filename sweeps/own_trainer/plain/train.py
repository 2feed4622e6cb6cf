"""A byte-level transformer in plain PyTorch: a trainer that knows nothing of scalelab and is swept by it all the same.

Every number that a parametrization has a say in is a flag. It saves to a folder and goes on from there, writes its
losses as lines of JSON, and says by its exit status that it diverged. Run one with: python train.py --folder out
"""

import argparse
import json
import math
import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIVERGED = 3


class Block(nn.Module):
    def __init__(self, a: argparse.Namespace) -> None:
        super().__init__()
        self.heads, self.scale = a.heads, a.attention_scale
        self.qkv, self.out = nn.Linear(a.width, 3 * a.width, bias=False), nn.Linear(a.width, a.width, bias=False)
        self.up, self.down = nn.Linear(a.width, a.ffn, bias=False), nn.Linear(a.ffn, a.width, bias=False)
        for layer in (self.qkv, self.out, self.up):
            nn.init.normal_(layer.weight, std=a.std_hidden)
        nn.init.normal_(self.down.weight, std=a.std_down)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(F.rms_norm(x, (c,))).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(F.rms_norm(x, (c,)))))


class Model(nn.Module):
    def __init__(self, a: argparse.Namespace) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(256, a.width), nn.Embedding(a.context, a.width)
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.depth))
        self.readout, self.logits_multiplier = nn.Linear(a.width, 256, bias=False), a.logits_multiplier
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=a.std_embedding)
        nn.init.normal_(self.readout.weight, std=a.std_readout)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.logits_multiplier * self.readout(F.rms_norm(x, x.shape[-1:]))

    def groups(self, a: argparse.Namespace) -> list[dict[str, object]]:
        return [
            {"params": [self.tokens.weight, self.positions.weight], "peak": a.lr_embedding, "eps": a.eps_embedding},
            {"params": list(self.blocks.parameters()), "peak": a.lr_hidden, "eps": a.eps_hidden},
            {"params": [self.readout.weight], "peak": a.lr_readout, "eps": a.eps_readout},
        ]


def corpus() -> Tensor:
    """The Python standard library's own sources, as bytes; the last tenth is for validation."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    text = b"".join(file.read_bytes() for file in files)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def windows(data: Tensor, starts: Tensor, context: int) -> tuple[Tensor, Tensor]:
    found = data[starts[:, None] + torch.arange(context + 1)]
    return found[:, :-1], found[:, 1:]


def loss_of(model: Model, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


def main(a: argparse.Namespace) -> int:
    torch.manual_seed(a.seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model, data, start = Model(a), corpus(), 0
    cut = len(data) * 9 // 10
    optimizer = torch.optim.AdamW(model.groups(a), lr=0.0, betas=(a.beta1, a.beta2), weight_decay=0.0)
    saved = a.folder / "state.pt"
    if saved.exists():
        state = torch.load(saved)
        start = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))  # heard between two steps
    a.folder.mkdir(parents=True, exist_ok=True)
    log = a.log.open("a", buffering=1)

    for step in range(start, a.steps):
        order = torch.Generator().manual_seed(a.seed * a.steps + step)  # a function of the step: resumed, the same
        starts = torch.randint(cut - a.context, (a.sequences,), generator=order)
        factor = min((step + 1) / max(1, a.warmup_steps), (a.steps - step) / max(1, a.steps - a.warmup_steps))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        loss = loss_of(model, *windows(data, starts, a.context))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.write(json.dumps({"step": step, "loss": loss.item()}) + "\n")
        if not math.isfinite(loss.item()):
            return DIVERGED
        if stop:
            torch.save({"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
            return 128 + stop[0]
    with torch.no_grad():
        starts = torch.arange(cut, len(data) - a.context - 1, (len(data) - cut) // 256)[:256]
        validation = loss_of(model, *windows(data, starts, a.context)).item()
    log.write(json.dumps({"step": a.steps, "validation_loss": validation}) + "\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, value in (("width", 32), ("depth", 2), ("heads", 1), ("ffn", 128), ("context", 64), ("sequences", 8),
                        ("steps", 100), ("warmup-steps", 10), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, number in (("lr-embedding", 0.03), ("lr-hidden", 0.03), ("lr-readout", 0.03), ("eps-embedding", 1e-8),
                         ("eps-hidden", 1e-8), ("eps-readout", 1e-8), ("std-embedding", 1.0), ("std-hidden", 0.18),
                         ("std-down", 0.09), ("std-readout", 0.18), ("attention-scale", 0.18),
                         ("logits-multiplier", 1.0), ("beta1", 0.9), ("beta2", 0.95)):  # fmt: skip
        parser.add_argument(f"--{name}", type=float, default=number)
    parser.add_argument("--folder", type=Path, required=True, help="where it saves")
    parser.add_argument("--log", type=Path, default=Path("log.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(arguments()))
