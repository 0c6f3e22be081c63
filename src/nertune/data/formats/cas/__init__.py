"""UIMA CAS, as INCEpTION and DKPro export it: XMI and JSON."""
