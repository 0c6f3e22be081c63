"""The BiLSTM against torch's own bidirectional LSTM on packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nertune.models.lstm import BiLstmEmitter

LENGTHS = [9, 1, 4, 9, 6]


def emitter(num_layers: int = 2, **changes: float) -> BiLstmEmitter:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 5, "num_layers": num_layers}
    return BiLstmEmitter(vocabulary_size=20, num_tags=3, **{**sizes, **changes})  # type: ignore[arg-type]


def batch(lengths: list[int] = LENGTHS, pad_id: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    piece_ids_BL = torch.full((len(lengths), max(lengths)), pad_id)
    attention_BL = torch.zeros_like(piece_ids_BL)
    for row, length in enumerate(lengths):
        piece_ids_BL[row, :length] = torch.randint(1, 20, (length,), generator=generator)
        attention_BL[row, :length] = 1
    return piece_ids_BL, attention_BL


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_equals_torchs_bidirectional_lstm(num_layers: int) -> None:
    ours = emitter(num_layers).eval()
    torchs = nn.LSTM(6, 5, num_layers, batch_first=True, bidirectional=True)
    state = {}
    for layer, (ahead, behind) in enumerate(zip(ours.forwards, ours.backwards, strict=True)):
        for name, value in ahead.named_parameters():
            state[name.replace("_l0", f"_l{layer}")] = value
        for name, value in behind.named_parameters():
            state[name.replace("_l0", f"_l{layer}_reverse")] = value
    torchs.load_state_dict(state)
    piece_ids_BL, attention_BL = batch()
    packed = pack_padded_sequence(
        ours.embedding(piece_ids_BL), torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    hidden_BLD, _ = pad_packed_sequence(torchs(packed)[0], batch_first=True)
    expected_BLK = ours.classifier(hidden_BLD)
    emissions_BLK = ours(piece_ids_BL, attention_BL)
    assert emissions_BLK.shape == (5, 9, 3)
    kept_BL = attention_BL.bool()
    torch.testing.assert_close(emissions_BLK[kept_BL], expected_BLK[kept_BL])


def test_padding_and_company_have_no_influence() -> None:
    model = emitter().eval()
    piece_ids_BL, attention_BL = batch()
    together_BLK = model(piece_ids_BL, attention_BL)
    for row, length in enumerate(LENGTHS):
        alone_BLK = model(
            piece_ids_BL[row : row + 1, :length], attention_BL[row : row + 1, :length]
        )
        torch.testing.assert_close(together_BLK[row, :length], alone_BLK[0])
    # Nor has what stands at the padding.
    loud_BL = piece_ids_BL.masked_fill(attention_BL == 0, 13)
    torch.testing.assert_close(
        model(loud_BL, attention_BL)[attention_BL.bool()], together_BLK[attention_BL.bool()]
    )


def test_both_directions_are_read() -> None:
    """A change at either end reaches the other."""
    model = emitter(1).eval()
    piece_ids_BL, attention_BL = batch([7])
    before_LK = model(piece_ids_BL, attention_BL)[0]
    for changed, seen in ((0, 6), (6, 0)):
        other_BL = piece_ids_BL.clone()
        other_BL[0, changed] = piece_ids_BL[0, changed] % 19 + 1
        assert not torch.allclose(model(other_BL, attention_BL)[0, seen], before_LK[seen])


def test_training_reads_some_pieces_as_unknown() -> None:
    """All of them here: but padding stays, and at prediction nothing is dropped."""
    model = emitter(unknown=1.0, dropout=0.0)
    piece_ids_BL, attention_BL = batch()
    unknown_BL = attention_BL.clone()  # id 1 where there is a piece
    expected_BLK = model.eval()(unknown_BL, attention_BL)
    torch.testing.assert_close(model.train()(piece_ids_BL, attention_BL), expected_BLK)
    assert not torch.allclose(model.eval()(piece_ids_BL, attention_BL), expected_BLK)


def test_the_share_of_unknown_pieces() -> None:
    model = emitter(1, unknown=0.25, dropout=0.0)
    seen: list[Tensor] = []
    model.embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    piece_ids_BL = torch.full((20, 500), 5)
    piece_ids_BL[0] = 0
    model.train()(piece_ids_BL, torch.ones_like(piece_ids_BL))
    assert set(seen[0].unique().tolist()) == {0, 1, 5}
    assert (seen[0][0] == 0).all()
    assert (seen[0][1:] == 1).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_dropout_only_while_training() -> None:
    model = emitter(dropout=0.5, unknown=0.0)
    inputs = batch()
    assert torch.equal(model.eval()(*inputs), model(*inputs))
    assert not torch.allclose(model.train()(*inputs), model(*inputs))


def test_every_weight_learns() -> None:
    model = emitter(unknown=0.0)
    piece_ids_BL, attention_BL = batch()
    model(piece_ids_BL, attention_BL)[attention_BL.bool()].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad[0].any()  # padding has no embedding to learn
