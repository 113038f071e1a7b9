"""A bundle's vectors by a text encoder, from the texts of products alone."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.arrays import Floats, Progress
from models.bundles.build import Recipe
from models.bundles.bundle import VECTORS
from models.bundles.embedding import npy_header
from models.bundles.files import sync_files
from models.bundles.vector_rows import vector_rows
from models.bundles.work_folder import WorkFolder
from models.products.product import product_text
from models.products.product_table import ProductTable
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import encoder_fingerprint
from models.text_encoder.quantize import add_eight_bit
from models.text_encoder.spec import EncoderSpec, Text

ENCODE_BLOCK = 1024  # products between two checkpoints
TUNING_QUERIES = 400
QUANTISING_PRODUCTS = 150  # whose texts calibrate and judge the network in 8 bits; more gained nothing

# Encodes blocks of texts with the encoder in a folder: yields unit vectors (texts, dim) of each, in order.
EncodeBlocks = Callable[[Path, Iterator[list[Text]]], Iterator[Floats]]


def encode_here(folder: Path, blocks: Iterator[list[Text]]) -> Iterator[Floats]:
    """Encodes on this machine."""
    encoder = TextEncoder(folder)
    return map(encoder.encode, blocks)


@dataclass(frozen=True, slots=True)
class TextEmbedding:
    """Embeds with `encoder`: "minilm" (packaged), a Hugging Face folder or model name. Raises EncoderError for an unknown one."""

    encoder: str
    text_attributes: tuple[str, ...]
    dimensions: tuple[int, ...] = ()
    max_query_tokens: int = 64
    max_product_tokens: int = 128
    eight_bit: bool = True  # adds the network in 8 bits, if its vectors stay close enough
    encode: EncodeBlocks = encode_here

    @classmethod
    def for_recipe(
        cls, recipe: Recipe, text_attributes: tuple[str, ...], encode: EncodeBlocks = encode_here
    ) -> TextEmbedding:
        """Returns the embedding by the encoder that the recipe names."""
        return cls(
            recipe.encoder,
            text_attributes,
            recipe.dimensions,
            recipe.max_query_tokens,
            recipe.max_product_tokens,
            recipe.eight_bit,
            encode,
        )

    @property
    def boosts(self) -> tuple[str, ...]:
        return ()

    def fingerprint(self) -> str:
        return encoder_fingerprint(self.encoder)

    def prepare(self, work: WorkFolder, progress: Progress) -> None:
        if "encoder" in work.values:
            return
        progress("export the encoder", 0, None)
        folder = work.folder / TEXT_ENCODER_PART.name
        shutil.rmtree(folder, ignore_errors=True)  # an interrupted export leaves one
        export_encoder(
            self.encoder,
            folder,
            dimensions=self.dimensions,
            max_query_tokens=self.max_query_tokens,
            max_product_tokens=self.max_product_tokens,
        )
        sync_files(work.folder, [path for path in folder.rglob("*") if path.is_file()])
        work.values["encoder"] = True
        work.save()

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        folder = work.folder / TEXT_ENCODER_PART.name
        if "eight_bit" not in work.values:
            progress("the encoder in 8 bits", 0, None)
            work.values["eight_bit"] = add_eight_bit(folder, self._typical_texts(table)).eight_bit_cosine
            sync_files(folder, [path for path in folder.iterdir() if path.is_file()])
            work.save()
        spec = EncoderSpec.load(folder)
        self._encode_products(table, spec.dim, work, progress)
        return asdict(spec)

    def _typical_texts(self, table: ProductTable) -> list[Text]:
        """Returns texts of products, and their titles as queries; nothing if there shall be no network in 8 bits."""
        if not self.eight_bit:
            return []
        rows = random.Random(1).sample(range(len(table)), min(QUANTISING_PRODUCTS, len(table)))
        products = [Text(product_text(table.product(row), self.text_attributes), "product") for row in rows]
        return _titles_as_queries(table, QUANTISING_PRODUCTS) + products

    def _encode_products(self, table: ProductTable, dim: int, work: WorkFolder, progress: Progress) -> None:
        """Appends the vectors of products not yet encoded. It writes without a memory map, where a full disk would kill the process."""
        header = npy_header((len(table), dim))
        done = int(work.values.get("encoded", 0))
        path = work.folder / VECTORS
        with path.open("r+b" if path.exists() else "w+b") as file:
            if not done:
                file.write(header)
            file.truncate(len(header) + done * dim * 2)
            file.seek(0, os.SEEK_END)
            progress("encode products", done, len(table))
            for vectors in self.encode(work.folder / TEXT_ENCODER_PART.name, self._blocks(table, done)):
                file.write(vector_rows(vectors, vectors[:, :0]).tobytes())
                file.flush()
                os.fsync(file.fileno())
                done += len(vectors)
                work.values["encoded"] = done
                work.save()
                progress("encode products", done, len(table))

    def _blocks(self, table: ProductTable, start: int) -> Iterator[list[Text]]:
        for first in range(start, len(table), ENCODE_BLOCK):
            block = table.products(first, min(first + ENCODE_BLOCK, len(table)))
            yield [Text(product_text(product, self.text_attributes), "product") for product in block]

    def locales(self, _folder: Path, /) -> tuple[str, ...]:
        """Returns none: an encoder of texts knows no locale."""
        return ()

    def tuning_queries(self, table: ProductTable, folder: Path) -> Floats:
        """Returns the vectors of titles, and of their first two or three words: short queries lie farther from products than products lie
        from each other."""
        return TextEncoder(folder / TEXT_ENCODER_PART.name).encode(_titles_as_queries(table, TUNING_QUERIES))


def _titles_as_queries(table: ProductTable, count: int) -> list[Text]:
    """Returns the titles of at most `count` products, of every other the first two or three words."""
    rng = random.Random(0)
    texts = []
    for number, row in enumerate(rng.sample(range(len(table)), min(count, len(table)))):
        title = table.string("title", row)
        texts.append(Text(title if number % 2 else " ".join(title.split()[: rng.choice((2, 3))])))
    return texts
