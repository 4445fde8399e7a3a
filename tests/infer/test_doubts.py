"""What is repeated of a verdict where a model is used."""

from __future__ import annotations

from unetpp.infer.doubts import describe_doubts, describe_verdicts
from unetpp.measure.verdict import join_verdicts
from unetpp.model_notes import KINDS, Verdict


def verdict(kind: str, reason: str = "Still improving: from 0.8 to 0.9.", learned: bool = True) -> Verdict:
    return Verdict(kind=kind, reason=reason, advice="Train longer.", learned=learned)


def test_every_verdict_is_repeated_but_a_good_one() -> None:
    for kind in KINDS:
        assert bool(describe_verdicts([verdict(kind)])) == (kind not in ("no gain", "good"))
        assert describe_verdicts([verdict(kind, learned=False)])


def test_the_note_is_one_short_line_without_figures() -> None:
    text = "verdict on the training of the model: still improving. Train longer."
    one = verdict("still improving")
    assert describe_verdicts([one, None, one]) == (text,)
    joined = join_verdicts({0: verdict("good"), 2: one})
    assert describe_verdicts([joined]) == (text.replace("model:", "model, fold 2:"),)
    unlearned = verdict("weak", "Hardly learned in 9 steps, and no longer improving: Dice 0.1.", learned=False)
    (said,) = describe_verdicts([unlearned])
    assert said.startswith("the model has hardly learned: ") and "0.1" not in said


def test_why_no_dice_is_expected_is_said_beside_it_unless_it_is_clear() -> None:
    assert [text[:7] for text in describe_doubts([verdict("over-fitted")], "few cases")] == ["verdict", "no expe"]
    assert describe_doubts([verdict("good")], "few cases") == ("no expected Dice: few cases",)
    assert len(describe_doubts([verdict("weak", learned=False)], "it has hardly learned")) == 1
