"""The teacher's network: an encoder of query and product, joined with the features, experts on top, and a tower for each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.ranking.tasks import TASKS
from models.ranking.teacher.spec import HeadSizes, Pooling

MAX_POSITION = 48  # later positions count as this one
_LEAST_SPREAD = 1e-2  # of a dimension of the text's vector
_LARGEST = 5.0  # standard deviations, at which features are clipped


class Scored(NamedTuple):
    logits: Tensor  # (rows, tasks) of each task; in a chain, given the task before it
    gates: Tensor  # (rows, tasks, experts) summing to 1 over experts


class TeacherHead(torch.nn.Module):
    """Maps the text's vector and the features to logits.

    The text is added to the features through a layer that starts at zero, so that an encoder that has not learned yet does not disturb
    a head that has learned from the features. The features keep a path of their own for the same reason.
    """

    def __init__(self, text_dim: int, num_features: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.from_features = torch.nn.Sequential(
            torch.nn.Linear(num_features, sizes.features),
            torch.nn.GELU(),
            torch.nn.Dropout(sizes.dropout),
            torch.nn.Linear(sizes.features, sizes.bottom),
        )
        self.from_text = torch.nn.Linear(text_dim, sizes.bottom)
        torch.nn.init.zeros_(self.from_text.weight)
        torch.nn.init.zeros_(self.from_text.bias)
        self.bottom = torch.nn.Sequential(torch.nn.GELU(), torch.nn.Dropout(sizes.dropout))
        self.experts = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(sizes.bottom, sizes.expert), torch.nn.GELU())
            for _ in range(sizes.experts)
        )
        self.gates = torch.nn.ModuleList(torch.nn.Linear(sizes.bottom, sizes.experts) for _ in TASKS)
        self.towers = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(sizes.expert, sizes.tower), torch.nn.GELU(), torch.nn.Linear(sizes.tower, 1)
            )
            for _ in TASKS
        )
        self.log_variances = torch.nn.Parameter(
            torch.zeros(len(TASKS))
        )  # of the tasks, where their weights are learned
        self.positions = torch.nn.Parameter(torch.zeros(MAX_POSITION + 1, len(TASKS)))  # 0: the log does not say
        self.register_buffer("position_shares", torch.zeros(MAX_POSITION + 1))
        self.register_buffer("means", torch.zeros(num_features))
        self.register_buffer("factors", torch.ones(num_features))
        self.register_buffer("text_means", torch.zeros(text_dim))
        self.register_buffer("text_factors", torch.ones(text_dim))

    def observe(self, features: Tensor, positions: Tensor) -> None:
        """Sets the scaling of features (rows, features) and the shares of positions (rows,)."""
        self.means = features.mean(dim=0)
        spread = features.std(dim=0, unbiased=False)
        # A feature that is constant in training is ignored in serving.
        self.factors = torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), torch.zeros_like(spread))
        counts = torch.bincount(positions.clamp(max=MAX_POSITION), minlength=MAX_POSITION + 1).float()
        self.position_shares = counts / counts.sum()

    def observe_text(self, text: Tensor) -> None:
        """Sets the scaling of the encoder's vectors (pairs, text_dim) before it is trained.

        Most of each vector is the same for all texts: without centring, the head would first learn to subtract it, and the encoder would
        receive hardly any gradient meanwhile.
        """
        self.text_means = text.mean(dim=0)
        self.text_factors = 1 / text.std(dim=0, unbiased=False).clamp(min=_LEAST_SPREAD)

    def forward(self, text: Tensor | None, features: Tensor, positions: Tensor | None) -> Scored:
        """Takes text (rows, text_dim), None for features alone; unscaled features (rows, features); and positions (rows,).

        With positions None, each position counts by its share in training.
        """
        scaled = ((features - self.means) * self.factors).clamp(-_LARGEST, _LARGEST)
        joined = self.from_features(scaled)
        if text is not None:
            joined = joined + self.from_text((text - self.text_means) * self.text_factors)
        shared = self.bottom(joined)
        outputs = torch.stack([expert(shared) for expert in self.experts], dim=1)  # (rows, experts, expert)
        gates = torch.stack([gate(shared).softmax(dim=-1) for gate in self.gates], dim=1)
        mixed = gates @ outputs  # (rows, tasks, expert)
        logits = torch.cat([tower(mixed[:, task]) for task, tower in enumerate(self.towers)], dim=1)
        if positions is None:
            return Scored(logits + self.position_shares @ self.positions, gates)
        return Scored(logits + self.positions[positions.clamp(max=MAX_POSITION)], gates)


class TeacherNetwork(torch.nn.Module):
    """A Hugging Face encoder and the head."""

    def __init__(self, encoder: Any, pooling: Pooling, num_features: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.head = TeacherHead(int(encoder.config.hidden_size), num_features, sizes)
        self._has_segments = num_segments(encoder.config) > 1

    def encode(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """Maps ids, mask and segments (pairs, longest) to vectors (pairs, text_dim)."""
        kinds = {"token_type_ids": segments} if self._has_segments else {}
        hidden = self.encoder(input_ids=ids, attention_mask=mask, **kinds).last_hidden_state.float()
        if self.pooling == "cls":
            pooled: Tensor = hidden[:, 0]
        else:
            weights = mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return pooled

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor, features: Tensor) -> Tensor:
        """Returns logits (pairs, tasks) without positions, as in serving."""
        logits: Tensor = self.head(self.encode(ids, mask, segments), features, None).logits
        return logits

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        self.encoder.config.save_pretrained(folder)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "network.safetensors", {"pooling": self.pooling})
        (folder / "network.safetensors").chmod((folder / "config.json").stat().st_mode)

    @classmethod
    def load(cls, folder: Path, pooling: Pooling, num_features: int, sizes: HeadSizes) -> TeacherNetwork:
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        network = cls(_without_pooler(AutoModel.from_config(config)), pooling, num_features, sizes)
        network.load_state_dict(load_file(folder / "network.safetensors"))
        return network.eval()


def start_network(base: Path, pooling: Pooling, num_features: int, sizes: HeadSizes) -> TeacherNetwork:
    """Loads the encoder of a Hugging Face folder and puts a new head on it."""
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return TeacherNetwork(_without_pooler(encoder), pooling, num_features, sizes)


def num_segments(config: Any) -> int:
    """Returns the number of segments that the encoder distinguishes, 1 or 2."""
    return max(1, min(2, int(getattr(config, "type_vocab_size", 1) or 1)))


def _without_pooler(encoder: Any) -> Any:
    """Removes BERT's pooler, which is for another task and would never be trained."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def gate_entropies(gates: Tensor) -> dict[str, float]:
    """Returns, by task, the mean entropy of the expert weights (rows, tasks, experts): 0 (one expert) to 1 (all alike)."""
    if gates.shape[2] < 2:
        return dict.fromkeys(TASKS, 0.0)
    entropy = -(gates * gates.clamp(min=1e-9).log()).sum(dim=2).mean(dim=0) / torch.tensor(gates.shape[2]).log()
    return {task: round(float(value), 4) for task, value in zip(TASKS, entropy.tolist(), strict=True)}
