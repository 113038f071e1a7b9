"""The query classifier: which product types a query asks for, given its locale.

It follows *Transfer learning for e-commerce query product type prediction* (Tigunova, Ricatte and Eraisha, 2024, arXiv 2410.07121),
which compares one model for each locale (NU), one for all locales that ignores the locale (U_ag), and one that uses it (U_aw). A type
is a category path of the catalogue. The encoder is a bag of hashed words and character n-grams of any script, which needs no
pre-trained weights, or any Hugging Face encoder.

    shopping log -> labels -> examples                  labelled queries, and counts of what was left out
    tokens -> network, or encoder_network               both end in head_network
    losses, recipe -> fit_net -> train_types            training; train_encoder for a Hugging Face encoder
    add_locale                                          teaches a trained n-gram model one more locale
    calibration, certainty -> type_model                what serving loads: type_net on NumPy, or encoder_net on OpenVINO, each with a head
    match_paths                                         a matching model for types that are too many or too new to be classes, from
                                                        path_table, word_lexicon, crossed_words and judged_neighbours
"""
