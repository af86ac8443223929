"""`autoalign-cli merge` on whole model folders: what is read, written and refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autoalign import manifest
from autoalign.cli.main import main
from tests.tiny import save_tiny_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_tiny_model(folder / "a", seed=1)
    save_tiny_model(folder / "b", seed=2)
    save_tiny_model(folder / "base", seed=3)
    save_tiny_model(folder / "untied", seed=4, tie=False)
    (folder / "a" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder


@pytest.fixture
def copy_of_b(models, tmp_path):
    return Path(shutil.copytree(models / "b", tmp_path / "copy"))


def run_merge(*words):
    return main(["merge", *map(str, words)])


def weights(folder):
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        found.update(load_file(path))
    return found


def change(folder, **tensors):
    """Replace tensors of a model folder; a name's dots are written as two underscores, None removes."""
    path = folder / "model.safetensors"
    content = {**load_file(path), **{name.replace("__", "."): value for name, value in tensors.items()}}
    save_file({name: value for name, value in content.items() if value is not None}, path, {"format": "pt"})


def set_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refusal(capsys, *words):
    """The one message of a merge that is refused."""
    capsys.readouterr()
    assert run_merge(*words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("merge: ")]
    assert len(lines) == 1
    return lines[0]


def test_average_of_two_models(models, tmp_path):
    assert run_merge("--models", models / "a", models / "b", "--output_dir", tmp_path / "out") == 0
    a, b, out = weights(models / "a"), weights(models / "b"), weights(tmp_path / "out")
    assert list(out) == list(a)
    assert all(torch.equal(out[name], (a[name] + b[name]) / 2) for name in a)


def test_the_result_is_a_model_folder_that_answers(models, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run_merge("--models", models / "a", models / "b", "--output_dir", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model(**tokenizer("What is 1 plus 1?", return_tensors="pt")).logits.isfinite().all()


def test_the_result_says_what_made_it(models, tmp_path):
    run_merge(
        *("--models", f"{models / 'a'}@0.7", f"{models / 'b'}@0.3"),
        *("--method", "weighted", "--output_dir", tmp_path / "out"),
    )
    made = manifest.read(tmp_path / "out")
    assert (made["job"], made["method"], made["options"]) == ("merge", "weighted", {"normalize": True})
    assert [model["weight"] for model in made["models"]] == [0.7, 0.3]
    assert made["models"][1]["digest"] == manifest.model_digest(models / "b")
    assert manifest.damaged_files(tmp_path / "out") == []


def test_the_result_loads_in_transformers_4(models, tmp_path):
    run_merge("--models", models / "a", models / "b", "--output_dir", tmp_path / "out")
    tokenizer = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "rope_theta" in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["average", "weighted", "slerp"])
def test_a_model_with_itself_is_the_same_model(method, dtype, copy_of_b, tmp_path):
    before = {name: value.to(dtype) for name, value in weights(copy_of_b).items()}
    save_file(before, copy_of_b / "model.safetensors", {"format": "pt"})
    run_merge("--models", copy_of_b, copy_of_b, "--method", method, "--output_dir", tmp_path / "out")
    after = weights(tmp_path / "out")
    assert all(after[name].dtype == dtype and torch.equal(after[name], before[name]) for name in before)


def test_bfloat16_is_rounded_once(models, tmp_path):
    words = ["--models", models / "a", models / "b", models / "base", "--dtype", "bfloat16"]
    run_merge(*words, "--output_dir", tmp_path / "out")
    parts = [weights(models / name) for name in ("a", "b", "base")]
    expected = (sum(part[QUERY].double() for part in parts) / 3).float().bfloat16()
    assert torch.equal(weights(tmp_path / "out")[QUERY], expected)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_shards_hold_what_one_file_holds(models, tmp_path):
    words = ["--models", models / "a", models / "b", "--base_model", models / "base", "--method", "ties"]
    run_merge(*words, "--output_dir", tmp_path / "one")
    run_merge(*words, "--max_shard_size", "2e-5", "--output_dir", tmp_path / "many")
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert len(files) > 2 and sorted(set(index["weight_map"].values())) == files
    one, many = weights(tmp_path / "one"), weights(tmp_path / "many")
    assert index["weight_map"].keys() == one.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    run_merge("--models", tmp_path / "many", "--output_dir", tmp_path / "again")
    assert all(torch.equal(weights(tmp_path / "again")[name], one[name]) for name in one)


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties", "task_arithmetic"])
def test_task_vectors_of_a_whole_model(method, models, tmp_path):
    """With everything kept, the task vectors of one model lead from the base to that model."""
    density = [] if method == "task_arithmetic" else ["--density", "1"]
    words = ["--models", models / "a", "--base_model", models / "base", "--method", method, *density]
    run_merge(*words, "--output_dir", tmp_path / "out")
    a, out = weights(models / "a"), weights(tmp_path / "out")
    assert all(torch.allclose(out[name], a[name], rtol=0, atol=1e-7) for name in a)


def test_dare_gives_the_same_files_again(models, tmp_path):
    words = ["--models", models / "a", models / "b", "--base_model", models / "base", "--method", "dare_ties"]
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        run_merge(*words, "--seed", seed, "--output_dir", tmp_path / name)
    one, two, other = (
        manifest.file_sha256(tmp_path / name / "model.safetensors") for name in ("one", "two", "other")
    )
    assert one == two != other


class TestAdapters:
    """An adapter merged here against PEFT's `merge_and_unload`."""

    @staticmethod
    def save(base, folder, **options):
        """An adapter with random weights, and PEFT's own merge of it, by tensor name."""
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        options = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], **options}
        torch.manual_seed(11)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**options))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = 1.0 + torch.rand_like(parameter) if "magnitude" in name else None
                parameter.data = torch.randn_like(parameter) * 0.1 if scale is None else scale
        model.save_pretrained(folder)
        return model.merge_and_unload().state_dict()

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_rslora": True},
            {"alpha_pattern": {"layers.1.self_attn.q_proj": 3}, "rank_pattern": {"down_proj": 2}},
            {"use_dora": True},
            {"target_modules": ["embed_tokens", "q_proj"]},
            {"modules_to_save": ["norm"]},
        ],
        ids=["plain", "rslora", "patterns", "dora", "embedding", "whole-modules"],
    )
    def test_equals_peft(self, options, models, tmp_path):
        expected = self.save(models / "base", tmp_path / "adapter", **options)
        assert (
            run_merge("--models", tmp_path / "adapter", "--method", "lora", "--output_dir", tmp_path / "out")
            == 0
        )
        out = weights(tmp_path / "out")
        assert out.keys() == weights(models / "base").keys()
        for name, tensor in out.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)

    def test_a_trained_head_ends_the_tie(self, models, tmp_path):
        from transformers import AutoModelForCausalLM

        expected = self.save(models / "untied", tmp_path / "adapter", modules_to_save=["lm_head"])
        words = ["--models", tmp_path / "adapter", "--base_model", models / "base", "--method", "lora"]
        run_merge(*words, "--output_dir", tmp_path / "out")
        head = AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight
        assert torch.equal(head, expected["lm_head.weight"])

    def test_two_adapters_are_merged_like_models(self, models, tmp_path):
        first = self.save(models / "base", tmp_path / "one")
        second = self.save(models / "base", tmp_path / "two", r=2)
        run_merge("--models", tmp_path / "one", tmp_path / "two", "--output_dir", tmp_path / "out")
        torch.testing.assert_close(
            weights(tmp_path / "out")[QUERY], (first[QUERY] + second[QUERY]) / 2, rtol=1e-6, atol=1e-6
        )

    def test_an_adapter_for_another_model_is_refused(self, models, tmp_path, capsys):
        self.save(models / "base", tmp_path / "adapter")
        path = tmp_path / "adapter" / "adapter_model.safetensors"
        content = load_file(path)
        name = f"base_model.model.{QUERY.removesuffix('.weight')}.lora_A.weight"
        save_file({**content, name: torch.zeros(4, 48)}, path)
        words = ["--models", tmp_path / "adapter", "--method", "lora", "--output_dir", tmp_path / "out"]
        assert f"tensor {QUERY} is for 32 x 48, but 32 x 32 in its base model" in refusal(capsys, *words)


class TestHeads:
    """`lm_head` is absent where it is the embedding."""

    def test_tied_with_untied_gives_an_untied_model(self, models, tmp_path):
        run_merge("--models", models / "a", models / "untied", "--output_dir", tmp_path / "out")
        a, untied, out = (weights(folder) for folder in (models / "a", models / "untied", tmp_path / "out"))
        expected = (a["model.embed_tokens.weight"] + untied["lm_head.weight"]) / 2
        assert torch.equal(out["lm_head.weight"], expected)
        assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False

    def test_a_tied_head_that_is_stored_is_merged_with_an_untied_one(self, models, copy_of_b, tmp_path):
        from transformers import AutoModelForCausalLM

        head = weights(copy_of_b)["model.embed_tokens.weight"].clone()
        change(copy_of_b, lm_head__weight=head)
        run_merge("--models", copy_of_b, models / "untied", "--output_dir", tmp_path / "out")
        expected = (head + weights(models / "untied")["lm_head.weight"]) / 2
        assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight
        assert torch.equal(loaded, expected)

    def test_a_head_that_was_stored_needlessly_is_left_out(self, models, copy_of_b, tmp_path):
        change(copy_of_b, lm_head__weight=weights(copy_of_b)["model.embed_tokens.weight"].clone())
        run_merge("--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert weights(tmp_path / "out").keys() == weights(models / "a").keys()


class TestRefusals:
    """Exit code 2, one message that names the tensor."""

    def test_another_shape(self, models, copy_of_b, tmp_path, capsys):
        change(copy_of_b, model__norm__weight=torch.ones(33))
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"tensor model.norm.weight is [32] in {models / 'a'}, [33] in {copy_of_b}" in message
        assert not (tmp_path / "out").exists()

    def test_a_larger_vocabulary(self, models, copy_of_b, tmp_path, capsys):
        rows = weights(copy_of_b)["model.embed_tokens.weight"]
        change(copy_of_b, model__embed_tokens__weight=torch.cat([rows, rows[:2]]))
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert "tensor model.embed_tokens.weight" in message
        assert "vocabularies differ in size" in message

    def test_other_tokens_under_the_same_ids(self, models, copy_of_b, tmp_path, capsys):
        path = copy_of_b / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        vocab = tokenizer["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
        path.write_text(json.dumps(tokenizer))
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"token 'a' has id {vocab['a']}, but {vocab['b']} in {models / 'a'}" in message

    def test_a_missing_tensor(self, models, copy_of_b, tmp_path, capsys):
        change(copy_of_b, model__norm__weight=None)
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"tensor model.norm.weight is in {models / 'a'}, but not in {copy_of_b}" in message

    def test_another_architecture(self, models, copy_of_b, tmp_path, capsys):
        set_config(copy_of_b, num_attention_heads=8)
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"{copy_of_b}: num_attention_heads is 8, but 4 in" in message

    def test_not_a_number(self, models, copy_of_b, tmp_path, capsys):
        change(copy_of_b, model__norm__weight=torch.full((32,), float("nan")))
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"{copy_of_b}: tensor model.norm.weight holds infinite values or NaN" in message
        assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]

    def test_a_torn_file(self, models, copy_of_b, tmp_path, capsys):
        path = copy_of_b / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        message = refusal(capsys, "--models", models / "a", copy_of_b, "--output_dir", tmp_path / "out")
        assert f"{path}: can't be read as safetensors" in message

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--models", "A", "B", "--method", "ties"], "method ties needs --base_model"),
            (["--models", "A", "B", "--base_model", "B"], "method average has no use for it"),
            (["--models", "A", "--method", "lora", "--base_model", "B"], "is no LoRA adapter"),
            (["--models", "A@x", "B"], "a number is expected after '@', found 'x'"),
            (["--models", "A@nan", "B", "--method", "weighted"], "a finite weight is expected"),
            (["--models", "A@0.5", "B"], "method average takes no weights"),
            (["--models", "A", "B", "--t", "0.5"], "t is no option of method average"),
            (["--models", "A", "nowhere"], "nowhere: no such model folder"),
        ],
    )
    def test_what_does_not_go_together(self, words, expected, models, tmp_path, capsys):
        folders = {"A": str(models / "a"), "B": str(models / "b")}
        given = [
            folders.get(word[:1], word[:1]) + word[1:] if word[:1] in folders else word for word in words
        ]
        assert expected in refusal(capsys, *given, "--output_dir", tmp_path / "out")

    def test_a_model_is_replaced_only_when_asked(self, models, copy_of_b, capsys):
        words = ["--models", models / "a", models / "a", "--output_dir", copy_of_b]
        assert "give --overwrite to replace it" in refusal(capsys, *words)
        assert run_merge(*words, "--overwrite") == 0
        assert torch.equal(weights(copy_of_b)[QUERY], weights(models / "a")[QUERY])
        assert [path.name for path in copy_of_b.parent.iterdir()] == [copy_of_b.name]

    def test_other_peoples_files_and_inputs_are_never_replaced(self, models, tmp_path, capsys):
        (tmp_path / "notes.txt").write_text("mine")
        words = ["--models", models / "a", models / "b", "--overwrite", "--output_dir"]
        assert "holds other things and no model" in refusal(capsys, *words, tmp_path)
        assert "a model that is read" in refusal(capsys, *words, models / "b")


def test_memory_does_not_grow_with_the_tensors(models, tmp_path):
    """Two models with one more tensor, of 268 MB each: a fifth of one is more than is ever held."""
    rows = 1 << 21
    for name in ("one", "two"):
        folder = Path(shutil.copytree(models / "a", tmp_path / name))
        change(folder, model__big__weight=torch.ones(rows, 64, dtype=torch.bfloat16))
    measured = []
    for pair in ((models / "a", models / "b"), (tmp_path / "one", tmp_path / "two")):
        measured.append(_peak_bytes("--models", *pair, "--output_dir", tmp_path / f"out{len(measured)}"))
    with safe_open(tmp_path / "out1" / "model.safetensors", framework="pt") as file:
        assert file.get_slice("model.big.weight").get_shape() == [rows, 64]
    assert measured[1] - measured[0] < 50e6


def _peak_bytes(*words):
    """Largest resident memory of a merge in a process of its own."""
    command = [sys.executable, "-m", "autoalign.cli", "merge", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss * 1024
