"""Which product types a query asks for, in the locale it was asked in.

After *Transfer learning for e-commerce query product type prediction* (Tigunova, Ricatte and Eraisha, 2024, arXiv
2410.07121), which compares one model per locale (NU), one for all that does not know the locale (U_ag) and one that does
(U_aw). A type is a category path of the catalogue. The encoder is a bag of hashed words and character n-grams for every
script, which needs no pre-trained weights, or any Hugging Face encoder.

    shopping log, judgements -> labels -> examples      what is learned from, with counts of what was left out
    tokens -> network, or encoder_network -> fit_net    how; both end in head_network
    train_types (train_encoder)                         the verb; add_locale teaches a trained model of n-grams one more
    calibration -> type_model                           what serving loads: type_net on NumPy, or encoder_net on OpenVINO; head
"""
