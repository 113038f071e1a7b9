"""The parts that a bundle may have, one for each model that is served."""

from __future__ import annotations

from models.bundles.bundle import Bundle
from models.bundles.part import Part
from models.products.spelling import WORDS_FILE, Speller, vocabulary_words
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import log_words

PARTS: tuple[Part[object], ...] = (TEXT_ENCODER_PART, UNIFIED_PART, TYPES_PART, RANKER_PART, TEACHER_PART)


def verify_bundle(bundle: Bundle) -> None:
    """Checks every file of the bundle, and that each part fits the manifest and this version of Aisle. Raises BundleError."""
    bundle.verify()
    query_encoder = UNIFIED_PART if UNIFIED_PART.is_in(bundle) else TEXT_ENCODER_PART
    for part in PARTS:
        if part is query_encoder or part.is_in(bundle):
            part.open(bundle)


def load_speller(bundle: Bundle) -> Speller:
    """Returns the speller, whose common words are those of the model that encodes queries. Raises BundleError."""
    bundle.verify(WORDS_FILE)
    if UNIFIED_PART.is_in(bundle):
        return Speller.load(bundle.folder, log_words(UNIFIED_PART.open(bundle)))
    return Speller.load(bundle.folder, vocabulary_words(TEXT_ENCODER_PART.open(bundle) / "tokenizer.json"))
