"""The types of a text encoder: its specification, its input, and the protocol of its backends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from models.arrays import Floats, Ints
from models.errors import InputError

Side = Literal["query", "product"]

SPEC_FILE = "encoder.json"
OPENVINO_FILE = "openvino_model.xml"
EIGHT_BIT_FILE = "openvino_eight_bit.xml"

# The numerical contract between backends. bf16 has 8 bits of mantissa; over MiniLM the lowest cosine against fp32 on 1,000
# product titles was 0.99996, on a processor with AVX-512 bf16; the bound leaves room for deeper encoders.
SAME_VECTOR_COSINE = 0.999
# The lowest cosine of a vector of the network in 8 bits with that in floats. That of MiniLM is 0.996 to 0.998, by the texts. On 62 judged
# queries over 19,406 products its vectors alone gave NDCG@10 .520 instead of .518, on judged products alone .816 instead of .819.
EIGHT_BIT_COSINE = 0.99


class EncoderError(InputError):
    """An encoder cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Everything about an encoder except its weights and tokenizer."""

    model: str
    dim: int
    dimensions: tuple[int, ...]  # Matryoshka prefixes that a caller may request, and the full vector
    max_query_tokens: int
    max_product_tokens: int
    query_prefix: str = ""
    product_prefix: str = ""
    # Tokens that go before a locale's queries. They are not in the tokenizer, so that no text can contain them.
    locale_tokens: dict[str, int] = field(default_factory=dict)
    eight_bit_cosine: float = 0.0  # the lowest that was measured of the network in 8 bits; 0 if there is none

    def save(self, folder: Path) -> None:
        """Writes SPEC_FILE into a folder."""
        (folder / SPEC_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> EncoderSpec:
        values = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        return cls(**{**values, "dimensions": tuple(values["dimensions"])})


@dataclass(frozen=True, slots=True)
class Text:
    """One text to encode, as a query or as a product."""

    text: str
    side: Side = "query"
    locale: str = ""  # of a query; encoders without locale tokens ignore it


class Backend(Protocol):
    """Runs the network. Safe to call from several threads."""

    name: str

    def __call__(self, ids: Ints, mask: Ints) -> Floats:
        """Returns unit vectors (batch, dim) of ids and mask (batch, length)."""
        ...
