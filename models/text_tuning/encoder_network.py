"""The text encoder in training: a sentence-transformers model of the three modules that Aisle serves, and its tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.bundles.files import file_sha256
from models.text_encoder.hugging_face import check_modules, find_encoder, quiet_transformers, read_prompts
from models.text_encoder.spec import SPEC_FILE, EncoderError, EncoderSpec, Side
from models.text_encoder.torch_backend import pooling_of
from models.unified.words import Ragged


@dataclass(frozen=True, slots=True)
class Padded:
    """Tokens of texts for one call."""

    ids: Tensor  # (texts, longest)
    mask: Tensor  # (texts, longest)


class EncoderNetwork(torch.nn.Module):
    """Transformer, pooling and normalisation, as `export_encoder` reads them; maps ids and mask to unit vectors (texts, dim)."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Loads a folder of Hugging Face or sentence-transformers files; without a stated pooling the mean is taken.

        Raises EncoderError if the encoder cannot be loaded, or could not be served.
        """
        super().__init__()
        quiet_transformers()
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

        check_modules(folder)
        self.query_prefix, self.product_prefix, prompts = prefixes_of(folder)
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            transformer = Transformer(
                str(folder),
                model_kwargs={**options, "use_safetensors": True, "dtype": torch.float32},
                processor_kwargs=options,
                config_kwargs=options,
            )
            pooling = Pooling(transformer.get_embedding_dimension(), pooling_of(folder))
        except Exception as error:
            raise EncoderError(f"{folder} cannot be loaded: {error}") from error
        self.model = SentenceTransformer(
            modules=[transformer, pooling, Normalize()], device=device, prompts=prompts, local_files_only=True
        )
        if not self.tokenizer.is_fast:
            raise EncoderError(f"{folder} has no fast tokenizer (tokenizer.json)")
        self.dim = int(transformer.get_embedding_dimension())

    @property
    def transformer(self) -> torch.nn.Module:
        return self.model[0].auto_model

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    def forward(self, texts: Padded) -> Tensor:
        device = next(self.parameters()).device
        features = {"input_ids": texts.ids.to(device), "attention_mask": texts.mask.to(device)}
        vectors: Tensor = self.model(features)["sentence_embedding"]
        return vectors.float()

    def tokens(self, texts: Sequence[str], side: Side, max_tokens: int) -> TokenTable:
        """Tokenises texts with the prefix of their side, cut to `max_tokens`."""
        prefix = self.query_prefix if side == "query" else self.product_prefix
        ids: list[list[int]] = []
        for start in range(0, len(texts), 4096):
            block = [prefix + text for text in texts[start : start + 4096]]
            ids += self.tokenizer(block, truncation=True, max_length=max_tokens)["input_ids"]
        return TokenTable(Ragged.from_rows(ids), max(0, int(self.tokenizer.pad_token_id or 0)))

    def save(self, folder: Path) -> None:
        """Writes the layout of sentence-transformers, which `aisle build --encoder` takes."""
        self.model.save(str(folder), create_model_card=False)
        for path in folder.glob("*.safetensors"):
            path.chmod((folder / "config.json").stat().st_mode)  # safetensors writes files that only the owner can read


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Texts as tokens, tokenised once, since a text is drawn many times."""

    rows: Ragged
    pad_id: int

    def padded(self, rows: npt.NDArray[np.integer]) -> Padded:
        """Returns the texts with these numbers, in their order. A text without tokens attends to one padding token."""
        taken = self.rows.take(rows)
        lengths = taken.lengths
        longest = max(1, int(lengths.max(initial=1)))
        places = np.arange(longest)[None, :]
        ids = np.full((len(taken), longest), self.pad_id, np.int64)
        ids[places < lengths[:, None]] = taken.values
        mask = (places < np.maximum(lengths, 1)[:, None]).astype(np.int64)
        return Padded(torch.from_numpy(ids), torch.from_numpy(mask))


def chunks_by_length(lengths: npt.NDArray[np.integer], chunk: int) -> list[Ints]:
    """Returns positions of texts in chunks of similar length, which saves padding without changing the batch."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + chunk] for start in range(0, len(order), chunk)]


@torch.inference_mode()
def encode_all(network: EncoderNetwork, table: TokenTable, precision: torch.dtype) -> Floats:
    """Returns unit vectors (texts, dim) of a whole table."""
    network.eval()
    vectors = np.empty((len(table.rows), network.dim), np.float32)
    for places in chunks_by_length(table.rows.lengths, 256):
        with computing_in(network, precision):
            vectors[places] = network(table.padded(places)).float().cpu().numpy()
    return vectors


def computing_in(network: torch.nn.Module, precision: torch.dtype) -> torch.autocast:
    device = next(network.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=precision == torch.bfloat16)


def precision_of(requested: str, device: str) -> torch.dtype:
    """Returns the type to compute in; "auto" is bf16 if the processor computes in it natively, since others emulate it."""
    if requested == "auto":
        native = torch.cpu._is_avx512_bf16_supported() if device == "cpu" else torch.cuda.is_bf16_supported()
        requested = "bf16" if native else "fp32"
    return torch.bfloat16 if requested == "bf16" else torch.float32


def base_fingerprint(base: str) -> str:
    """Returns a digest of the base's weights and settings, independent of its path."""
    folder = find_encoder(base)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".txt", ".model"))
    facts = [(path.relative_to(folder).as_posix(), file_sha256(path)) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def prefixes_of(folder: Path) -> tuple[str, str, dict[str, str]]:
    """Returns the prefixes of queries and products, as `export_encoder` reads them, and the prompts to save."""
    if (folder / SPEC_FILE).is_file():  # an encoder from a bundle
        spec = EncoderSpec.load(folder)
        return spec.query_prefix, spec.product_prefix, {"query": spec.query_prefix, "document": spec.product_prefix}
    prompts = read_prompts(folder)
    return prompts.get("query") or "", prompts.get("document") or prompts.get("passage") or "", prompts
