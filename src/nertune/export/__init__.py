"""A trained tagger in other tools' formats."""
