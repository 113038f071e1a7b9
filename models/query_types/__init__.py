"""Which product types a query asks for, in the locale it was asked in.

After *Transfer learning for e-commerce query product type prediction* (Tigunova, Ricatte and Eraisha, 2024, arXiv
2410.07121), which compares one model per locale (NU), one for all that does not know the locale (U_ag) and one that does
(U_aw). A type is a category path of the catalogue. The encoder is a bag of hashed words and character n-grams for every
script; no pre-trained weights are needed.

    shopping log, judgements -> labels -> examples      what is learned from, with counts of what was left out
    tokens -> features -> network -> train_types        how; add_locale teaches a trained model one more
    calibration -> type_model                           what serving loads: NumPy and safetensors only
"""
