"""More than one process: annotate any number of documents, on one machine or on Ray."""
