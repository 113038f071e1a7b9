"""Tunes a Hugging Face encoder with a head on labelled queries, and exports it for serving. Needs the extra `aisle[train]`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from models.query_types.encoder_net import EncoderNet, encoder_text
from models.query_types.encoder_network import EncoderTypeNetwork, QueryTokenizer
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.fit_net import fit_network
from models.query_types.head import HeadSpec
from models.query_types.recipe import LocaleInput, TypesRecipe, Variant
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder, load_encoder
from models.text_encoder.hugging_face import base_name, find_encoder
from models.text_encoder.spec import SAME_VECTOR_COSINE, EncoderError, Text
from models.text_tuning.encoder_network import prefixes_of
from models.training_steps import StepProgress

_COMPARED = 64  # queries whose vectors must be the same in training and serving


def fit_encoder_net(
    learned: TypeExamples,
    holdout: TypeExamples,
    locales: tuple[str, ...],
    recipe: TypesRecipe,
    seed: int,
    report: StepProgress,
    device: str,
) -> EncoderNet:
    """Tunes `recipe.encoder` on `device`, "cpu" or "cuda"; `locales` are those of the model, unless the variant ignores them.

    The network's folder is temporary until the model is saved. Raises EncoderError for an encoder that cannot be loaded, tuned or
    served, and the errors of `fit_net`.
    """
    tuning = recipe.encoder
    if tuning is None:
        raise ValueError("the recipe names no encoder")
    if device == "cuda" and not torch.cuda.is_available():
        raise ExamplesError("device 'cuda': this process sees no CUDA device; use cpu")
    source = find_encoder(tuning.base)
    torch.manual_seed(seed)
    encoder, tokenizer = load_encoder(source)
    config = encoder.transformer.config
    longest = int(getattr(config, "max_position_embeddings", 0) or 514) - 2  # as `export_encoder` bounds it
    queries = QueryTokenizer(tokenizer, prefixes_of(source)[0], min(tuning.max_tokens, longest))
    uses_locale = recipe.variant == Variant.U_AW
    spec = HeadSpec(
        locale_input=recipe.locale_input if uses_locale else None,
        locales=locales if uses_locale else (),
        num_types=len(learned.types),
        dim=int(config.hidden_size),
        hidden=recipe.hidden,
        locale_dim=recipe.locale_dim,
    )
    network = EncoderTypeNetwork(spec, encoder, queries, tuning, device)
    if tuning.tuned_layers and tuning.probe_epochs:
        network.tune(0)
        probe = replace(recipe, epochs=tuning.probe_epochs)
        network.load(fit_network(network, learned, holdout, probe, seed, report).weights)
        network.tune(tuning.tuned_layers)
    fitted = fit_network(network, learned, holdout, recipe, seed, report, max_steps=tuning.max_steps)
    network.load(fitted.weights)
    network.cpu().eval()
    folder = TemporaryDirectory(prefix="aisle-types-")
    _export(network, queries, base_name(tuning.base), Path(folder.name))
    head = {name: fitted.weights[name].astype(np.float16) for name in spec.shapes()}
    net = EncoderNet(spec, head, folder)
    _compare(network, TextEncoder(Path(folder.name), "cpu"), learned)
    return net


def _export(network: EncoderTypeNetwork, queries: QueryTokenizer, name: str, folder: Path) -> None:
    with TemporaryDirectory(prefix="aisle-tuned-") as written:
        tuned = Path(written)
        transformer, vocabulary = network.encoder.transformer, network.vocabulary
        if network.locale_tokens is not None:
            own = network.locale_tokens.weight.detach()
            transformer.resize_token_embeddings(vocabulary + len(own), mean_resizing=False)
            transformer.get_input_embeddings().weight.data[vocabulary:] = own
        transformer.save_pretrained(tuned)
        queries.tokenizer.save_pretrained(tuned)
        (tuned / "1_Pooling").mkdir()
        pooling = {"pooling_mode_cls_token": network.encoder.pooling == "cls"}
        pooling["pooling_mode_mean_tokens"] = not pooling["pooling_mode_cls_token"]
        (tuned / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
        prompts = {"prompts": {"query": queries.prefix}}
        (tuned / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
        most = queries.max_tokens
        spec = export_encoder(str(tuned), folder, max_query_tokens=most, max_product_tokens=most)
    locales = network.spec.locales if network.spec.locale_input == LocaleInput.PREFIX else ()
    tokens = {locale: vocabulary + at for at, locale in enumerate(locales)}
    replace(spec, model=name, locale_tokens=tokens).save(folder)


def _compare(network: EncoderTypeNetwork, served: TextEncoder, examples: TypeExamples) -> None:
    """Checks that training and serving compute the same vectors; for an encoder that scales its embeddings they do not."""
    some = examples.take(np.arange(min(_COMPARED, len(examples))))
    known = {name: at for at, name in enumerate(network.spec.locales)}
    numbers = np.array([known.get(name, -1) for name in some.row_locales()], np.int64)
    texts = [
        Text(encoder_text(query), "query", name) for query, name in zip(some.queries, some.row_locales(), strict=True)
    ]
    served_vectors = torch.from_numpy(served.encode(texts))
    cosine = float(cosine_similarity(network.encoded(some.queries, numbers, torch.float32), served_vectors).min())
    if not cosine >= SAME_VECTOR_COSINE:
        raise EncoderError(
            f"the encoder as it is served differs from the trained one: cosine {cosine:.5f}; Aisle cannot tune a "
            f"{type(network.encoder.transformer).__name__}"
        )
