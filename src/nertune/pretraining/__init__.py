"""Pre-training an encoder on raw text by masked-language modelling."""
