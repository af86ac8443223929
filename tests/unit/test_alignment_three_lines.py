"""One recipe, changed in its three marked lines, aligns another model with another principle."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from autoalign.algorithms import Ask, Reply
from autoalign.alignment.loop import Loop
from autoalign.alignment.machinery import Machinery
from autoalign.alignment.prompts import read
from autoalign.alignment.stages import StageStore
from autoalign.config.align import AlignConfig
from tests.alignment_fakes import FakeTrainer, Fault, digest, verdicts, write_model

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "align" / "context_distillation.yaml"


class Listener:
    """Says what it was asked as, and keeps all that it was shown; as a judge it prefers the new answer."""

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {}
        self.models: set[str] = set()

    def __call__(self, models: Mapping[str, str], asks: Sequence[Ask], store: Path) -> list[Reply]:
        self.models |= {models[ask.model] for ask in asks}
        for ask in asks:
            texts = self.shown.setdefault("judge" if ask.model == "judge" else "policy", [])
            texts.append("\n".join(message.content for message in ask.messages))
        return [self._reply(models[ask.model], ask) for ask in asks]

    def release(self) -> None:
        """Nothing is up."""

    def _reply(self, model: str, ask: Ask) -> Reply:
        if ask.model != "judge":
            return Reply(f"right, says {Path(model).name}: {ask.messages[-1].content}")
        return Reply('{"reason": "so", "preference": "%s"}' % ("A" if ask.key.endswith("new-first") else "B"))


def changed(tmp_path: Path) -> AlignConfig:
    """The recipe with other text in the lines that end in `# 1`, `# 2` and `# 3`, and in no other."""
    values = {"1": str(tmp_path / "other"), "2": str(tmp_path / "out"), "3": '["Answer in rhymes."]'}
    text, count = re.subn(
        r"^(\w+): .*# ([123])$",
        lambda found: f"{found[1]}: {values[found[2]]}",
        RECIPE.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert count == 3
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return AlignConfig.from_sources(path, {})


def test_three_lines_of_a_recipe_make_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config, listener = changed(tmp_path), Listener()
    first = str(write_model(tmp_path / "other", 0.3))
    machinery = Machinery(listener, FakeTrainer(Fault()), digest, None, lambda prompt, text: True)
    ledger = Loop(config, read(config), machinery, StageStore(tmp_path / "out" / "stages"), first).run()
    taught = [text for text in listener.shown["policy"] if "Answer in rhymes." in text]
    assert len(taught) == config.prompts_per_round
    assert listener.shown["judge"] and all("Answer in rhymes." in text for text in listener.shown["judge"])
    # What the recipe's own principle says is nowhere left.
    assert not [text for texts in listener.shown.values() for text in texts if "Answer in one" in text]
    assert all(Path(model).is_relative_to(tmp_path) for model in listener.models)
    assert verdicts(ledger) == [True]
