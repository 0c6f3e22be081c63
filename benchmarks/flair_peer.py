"""flair's SequenceTagger with nertune's BiLSTM weights, as a process that tags when it is told to.

`tagging_speed.py lstm --flair PYTHON` starts it with the Python of an environment that has flair
(its transformers is older than nertune's, so the two cannot share one). The embedding, both LSTM
layers and the linear map are nertune's; a token is a character. Reads one line of JSON: `weights`
(a safetensors file), `characters` in the order of their ids, `tags`, `sentences` (lists of
characters), `threads`. After that a line says `tag SIZE`, and the answer is `done`; or `check`, and
the answer is the likeliest tag of every token.
"""

from __future__ import annotations

import json
import logging
import sys

import flair
import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import OneHotEmbeddings
from flair.models import SequenceTagger
from safetensors.torch import load_file


def main() -> None:
    logging.disable(logging.CRITICAL)
    flair.device = torch.device("cpu")
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(task["threads"])
    tagger = build(task)
    print("ready", flair.__version__, flush=True)
    for line in sys.stdin:
        command, _, size = line.strip().partition(" ")
        # As a user has them: sentences are made anew, since predictions are added to them.
        sentences = [Sentence(characters) for characters in task["sentences"]]
        if command == "tag":
            tagger.predict(sentences, mini_batch_size=int(size))
            print("done", flush=True)
        else:
            print(json.dumps(likeliest(tagger, sentences)), flush=True)


def build(task: dict) -> SequenceTagger:
    """The tagger with nertune's weights."""
    weights = load_file(task["weights"])
    vocabulary = Dictionary(add_unk=False)
    for character in task["characters"]:
        vocabulary.add_item(character)
    tags = Dictionary(add_unk=False)
    for tag in task["tags"]:
        tags.add_item(tag)
    width = weights["embedding.weight"].shape[1]
    embeddings = OneHotEmbeddings(vocabulary, embedding_length=width)
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("forwards."))
    tagger = SequenceTagger(
        embeddings, tags, "ner", tag_format="BIO", use_crf=False, reproject_embeddings=False,
        rnn_layers=layers, hidden_size=weights["forwards.0.weight_hh_l0"].shape[1],
        init_from_state_dict=True,
    )  # fmt: skip
    with torch.no_grad():
        embeddings.embedding_layer.weight.copy_(weights["embedding.weight"])
        for layer in range(layers):
            for ours, theirs in (("forwards", ""), ("backwards", "_reverse")):
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(tagger.rnn, f"{part}_l{layer}{theirs}").copy_(
                        weights[f"{ours}.{layer}.{part}_l0"]
                    )
        tagger.linear.weight.copy_(weights["classifier.weight"])
        tagger.linear.bias.copy_(weights["classifier.bias"])
    return tagger.eval()


def likeliest(tagger: SequenceTagger, sentences: list[Sentence]) -> list[list[str]]:
    """Of every token the likeliest tag."""
    found = []
    for sentence in sentences:
        with torch.no_grad():
            scores = tagger.forward(*tagger._prepare_tensors([sentence]))
        found.append([tagger.label_dictionary.get_item_for_index(i) for i in scores.argmax(dim=1)])
    return found


if __name__ == "__main__":
    main()
