"""What two processes that train together find of their gradients; test_devices.py starts them.

`python -m tests.training.two_processes FILE`, told its place in the environment.
"""

import json
import os
import sys
from copy import deepcopy
from pathlib import Path

import torch
from torch.nn import functional as F

from kneeedge.errors import PeerLostError
from kneeedge.model.spec import VGG19_CHANNELS, Architecture
from kneeedge.runs.config import TrainConfig
from kneeedge.system.progress import Progress
from kneeedge.system.ranks import this_rank
from kneeedge.training.average import WeightAverage
from kneeedge.training.data import own_rows
from kneeedge.training.loop import Objective, Trainer, build_optimizer, dropout_seed
from kneeedge.training.model import KneeVGG
from kneeedge.training.run import make_fabric
from kneeedge.training.team import Team, meet

NARROW = tuple(tuple(count // 16 for count in block) for block in VGG19_CHANNELS)
CONFIG = TrainConfig(data="", lr=3e-3, head_lr=3e-3, dropout=0.0)
SIZES = (8, 7, 3, 1)
"of batches: the last leaves the second process without an image"


def trainer(model: KneeVGG, team: Team) -> Trainer:
    fabric = make_fabric("cpu", False, team)
    wrapped, optimizer = fabric.setup(model, build_optimizer(model, CONFIG))
    return Trainer(
        model=wrapped,
        optimizer=optimizer,
        average=WeightAverage(model, 0.0),
        batches=None,
        config=CONFIG,
        fabric=fabric,
        team=team,
        progress=Progress(quiet=True),
        objective=Objective(),
    )


def network(batch_norm: bool) -> KneeVGG:
    torch.manual_seed(0)
    model = KneeVGG(Architecture(NARROW, batch_norm), 2).train()
    return model.to(memory_format=torch.channels_last)


def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.arange(n) % 2


def gradient_errors(team: Team, batch_norm: bool) -> list[float]:
    """The largest difference to one process's gradient, as a share of that one's largest value."""
    model = network(batch_norm)
    together = trainer(model, team)
    errors = []
    for n in SIZES:
        alone = deepcopy(model)
        alone.zero_grad()
        images, labels = batch(n)
        F.cross_entropy(alone(images), labels, label_smoothing=CONFIG.label_smoothing).backward()
        own = own_rows(team, n)
        together.step(images[own], labels[own], n)
        pairs = [
            (p.grad, q.grad) for p, q in zip(model.parameters(), alone.parameters(), strict=True)
        ]
        largest = max(q.abs().max().item() for _, q in pairs)
        errors.append(max((p - q).abs().max().item() for p, q in pairs) / largest)
    return errors


def are_equal(model: KneeVGG, team: Team) -> bool:
    """Whether this process's tensors are the first one's."""
    tensors = model.state_dict().values()
    equal = [torch.equal(team.of_first(tensor.clone()), tensor) for tensor in tensors]
    return all(equal)  # of all: each is told to every process


def shared_statistics(team: Team) -> list[bool]:
    """Whether the networks are equal before and after their running statistics are shared."""
    model = network(batch_norm=True)
    together = trainer(model, team)
    images, labels = batch(8)
    own = own_rows(team, 8)
    together.step(images[own], labels[own], 8)
    before = are_equal(model, team)
    team.share_statistics(model)
    return [before, are_equal(model, team)]


def dropped(team: Team) -> list[list[float]]:
    """What each process's first dropout of the first epoch keeps."""
    torch.manual_seed(dropout_seed(0, 0, team.number))
    kept = torch.zeros(team.size, 64)
    kept[team.number] = F.dropout(torch.ones(64), 0.5)
    return team.total(kept).tolist()


def loses_its_peer(team: Team) -> bool:
    """Whether the first process notices that the second one has ended."""
    if not team.is_first:
        os._exit(0)
    try:
        team.wait()
    except PeerLostError:
        return True
    return False


def main() -> None:
    team = meet(this_rank()).team
    found = {
        "without norm": gradient_errors(team, batch_norm=False),
        "with norm": gradient_errors(team, batch_norm=True),
        "statistics": shared_statistics(team),
        "kept": dropped(team),
        "text": team.text_of_first(f"knée {team.number}"),
    }
    rows = torch.zeros(2, 2)
    rows[team.number] = torch.tensor([float(value) for value in found["statistics"]])
    found["statistics"] = team.total(rows).tolist()
    found["lost"] = loses_its_peer(team)
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # as `kneeedge` does: what still waits for the lost one may abort


if __name__ == "__main__":
    main()
