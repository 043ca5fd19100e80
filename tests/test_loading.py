"""What a folder of weights may hold: computed as transformers computes it, or refused in one line that names the culprit."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch
from helpers import CONTEXT, VOCAB, close, random_weights
from safetensors.torch import load_file, save_file
from test_parity import error_of, hugging_face, our_logits, rewrite, their_logits

from model import PUBLISHED, load_pretrained

transformers = pytest.importorskip("transformers")

INDEX = "model.safetensors.index.json"
SIZES = {
    "gpt2": ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"],
    "qwen3": [
        "vocab_size", "max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    ],
}  # fmt: skip
HEAD = {"gpt2": "transformer.wte.weight", "qwen3": "model.embed_tokens.weight"}


def drop(folder, *keys):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in keys}))


def put(folder, **changes):
    """Set entries of config.json, null among them."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(raw))


def same_logits(folder):
    """Our logits of a folder equal those that transformers computes from it."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    close(our_logits(load_pretrained(str(folder))), their_logits(theirs), 1e-5)


@pytest.fixture
def folder(family, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    return tmp_path


# -----------------------------------------------------------------------------
# config.json: what is computed


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "gelu_fast"},  # what Megatron's files say
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "gelu_python_tanh"},
        {"reorder_and_upcast_attn": True},
        {"is_decoder": True, "torch_dtype": "float16", "n_ctx": 1024, "task_specific_params": {"text-generation": {}}},
        {"architectures": ["GPT2Model"]},
        {"architectures": None, "pruned_heads": {}},
        {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": CONTEXT},
        {"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0}},  # nothing that GPT-2 reads
    ],
)
def test_gpt2_configs_that_are_computed(change, tmp_path):
    hugging_face("gpt2").save_pretrained(tmp_path)
    put(tmp_path, **change)
    same_logits(tmp_path)


def test_a_gpt2_config_with_nothing_but_sizes(tmp_path):
    hugging_face("gpt2", n_inner=None, layer_norm_epsilon=1e-5).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: raw[key] for key in ["model_type", *SIZES["gpt2"]]}))
    same_logits(tmp_path)


ROPE = {"rope_type": "default", "rope_theta": 300.0}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 300, "rope_parameters": None, "rope_scaling": None},  # as transformers 4 writes it
        {"rope_theta": 300.0, "rope_parameters": ROPE},  # both say the same
        {"rope_theta": None, "rope_parameters": ROPE, "rope_scaling": ROPE},
        {"rope_theta": 300.0, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 300.0, "rope_parameters": {}, "rope_scaling": {}},
        {"rope_parameters": None, "rope_scaling": {"type": "default", "rope_theta": 300.0}},
        {"rope_theta": 300.0, "rope_parameters": None, "rope_scaling": {"rope_type": "default"}},
        {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
        {"hidden_act": "swish", "sliding_window": 4, "max_window_layers": 0, "use_sliding_window": False},
        {"layer_types": None, "architectures": ["Qwen3Model"], "dtype": "bfloat16"},
    ],
)
def test_qwen3_configs_that_are_computed(change, tmp_path):
    hugging_face("qwen3").save_pretrained(tmp_path)
    put(tmp_path, **change)
    same_logits(tmp_path)


@pytest.mark.parametrize(
    "settings, absent",
    [
        ({"head_dim": 128}, ["head_dim"]),
        ({"num_attention_heads": 64, "num_key_value_heads": 32, "head_dim": 4}, ["num_key_value_heads"]),
        ({"rms_norm_eps": 1e-6}, ["rms_norm_eps"]),
        ({}, ["hidden_act", "attention_bias", "use_sliding_window", "layer_types", "max_window_layers", "architectures"]),
        ({"tie_word_embeddings": False}, ["tie_word_embeddings"]),
    ],
)
def test_what_a_qwen3_config_leaves_out_has_transformers_default(settings, absent, tmp_path):
    hugging_face("qwen3", **settings).save_pretrained(tmp_path)
    drop(tmp_path, *absent)
    same_logits(tmp_path)


def test_kv_heads_of_null_are_as_many_as_the_heads(tmp_path):
    hugging_face("qwen3", num_key_value_heads=4).save_pretrained(tmp_path)
    put(tmp_path, num_key_value_heads=None)
    same_logits(tmp_path)


def test_a_config_with_a_byte_order_mark_and_crlf(family, folder):
    text = (folder / "config.json").read_text().replace("\n", "\r\n")
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    close(our_logits(load_pretrained(str(folder))), their_logits(hugging_face(family)), 1e-5)


# -----------------------------------------------------------------------------
# config.json: what is refused


@pytest.mark.parametrize(
    "change",
    [
        {"is_causal": False},
        {"is_encoder_decoder": True},
        {"attention_chunk_size": 8},
        {"per_layer_config": {"1": {"head_dim": 8}}},
        {"pruned_heads": {"0": [1]}},
        {"text_config": {"model_type": "qwen3"}},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "more": "x" * 500}},
        {"compression_config": {"format": "int-quantized"}},
        {"quantization": {"bits": 4, "group_size": 64}},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"layer_types": ["full_attention"]},
        {"layer_types": "full_attention"},
        {"architectures": ["GPT2ForSequenceClassification"]},
        {"architectures": ["GPT2DoubleHeadsModel"]},
        {"architectures": ["Qwen3MoeForCausalLM"]},
        {"architectures": "GPT2LMHeadModel"},
        {"model_type": "qwen3_moe"},
        {"model_type": "qwen2"},
        {"model_type": ["gpt2"]},
        {"model_type": None},
        {"tie_word_embeddings": None},
        {"tie_word_embeddings": "false"},
    ],
)
def test_what_neither_family_computes_is_refused(change, family, folder):
    put(folder, **change)
    [key] = change
    message = error_of(folder, ValueError)
    assert f"config.json says {key}: " in message and "does not compute" in message and len(message) < 400


@pytest.mark.parametrize(
    "family, change, named",
    [
        ("gpt2", {"activation_function": "gelu"}, "activation_function: 'gelu'"),
        ("gpt2", {"activation_function": None}, "activation_function"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"scale_attn_weights": None}, "scale_attn_weights"),
        ("gpt2", {"sliding_window": 8}, "sliding_window"),
        ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("gpt2", {"num_attention_heads": 8}, "num_attention_heads: 8"),  # beside n_head: 4
        ("gpt2", {"hidden_size": 32}, "hidden_size: 32"),
        ("gpt2", {"num_hidden_layers": 1}, "num_hidden_layers: 1"),
        ("gpt2", {"max_position_embeddings": 32}, "max_position_embeddings: 32"),
        ("gpt2", {"n_head": 5}, "n_head: 5, which does not divide n_embd: 64"),
        ("qwen3", {"hidden_act": "gelu_new"}, "hidden_act"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"mlp_bias": True}, "mlp_bias"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "use_sliding_window"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5"),
        ("qwen3", {"num_key_value_heads": 3}, "num_key_value_heads: 3, which does not divide num_attention_heads: 4"),
        ("qwen3", {"num_key_value_heads": 0}, "num_key_value_heads: 0"),
        ("qwen3", {"head_dim": 15}, "head_dim: 15"),
        ("qwen3", {"head_dim": None}, "head_dim: None"),
        ("qwen3", {"rope_theta": 1e6}, "rope_theta: 1000000.0, and rope_parameters.rope_theta: 300.0"),
        ("qwen3", {"rope_theta": 0}, "rope_theta: 0, and rope_parameters.rope_theta: 300.0"),
        ("qwen3", {"rope_scaling": {"type": "default", "rope_theta": 5.0}}, "rope_parameters: {"),  # two that differ
        ("qwen3", {"rope_scaling": {"type": "default"}}, "rope_parameters: {"),  # transformers 5 computes with 10000
        ("qwen3", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling.type: 'yarn'"),
        ("qwen3", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_scaling.rope_type: 'dynamic'"),
        ("qwen3", {"rope_scaling": {"factor": 4.0}}, "rope_scaling.factor: 4.0"),
        ("qwen3", {"rope_scaling": {"rope_type": "default", "type": "mrope"}}, "rope_scaling.type: 'mrope'"),
        ("qwen3", {"rope_scaling": {"mrope_section": [4, 2, 2]}}, "rope_scaling.mrope_section"),
        ("qwen3", {"rope_scaling": "linear"}, "rope_scaling: 'linear'"),
        ("qwen3", {"rope_scaling": [1]}, "rope_scaling: [1]"),
        ("qwen3", {"rope_parameters": {"full_attention": ROPE}}, "rope_parameters.full_attention"),
        ("qwen3", {"rope_parameters": ROPE | {"rope_type": "llama3"}}, "rope_parameters.rope_type: 'llama3'"),
        ("qwen3", {"rope_parameters": ROPE | {"partial_rotary_factor": 0.25}}, "rope_parameters.partial_rotary_factor: 0.25"),
        ("qwen3", {"rope_parameters": {"rope_type": "default"}}, "rope_theta"),
        ("qwen3", {"rope_parameters": {"rope_theta": "300"}}, "rope_parameters.rope_theta: '300'"),
    ],
)
def test_what_a_family_does_not_compute_is_refused(family, change, named, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    put(tmp_path, **change)
    assert named in error_of(tmp_path, ValueError)


@pytest.mark.parametrize("which", range(6))
def test_a_size_that_is_none(which, family, folder):
    if which == len(SIZES[family]):
        pytest.skip("GPT-2 has five")
    key = SIZES[family][which]
    for value in [0, -1, "64", 64.0, True, None, [64], {}, 2**40, 10**30]:
        put(folder, **{key: value})
        assert f"config.json says {key}: {value!r}" in error_of(folder, ValueError)
    drop(folder, key)
    assert f"config.json has no {key}" in error_of(folder, ValueError)


@pytest.mark.parametrize("value", [0, "64", 1.5, True])
@pytest.mark.parametrize("family, key", [("gpt2", "n_inner"), ("qwen3", "num_key_value_heads"), ("qwen3", "head_dim")])
def test_a_size_that_may_be_absent_but_not_anything(family, key, value, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    put(tmp_path, **{key: value})
    assert f"config.json says {key}: {value!r}" in error_of(tmp_path, ValueError)


@pytest.mark.parametrize("family, key", [("gpt2", "layer_norm_epsilon"), ("qwen3", "rms_norm_eps"), ("qwen3", "rope_theta")])
@pytest.mark.parametrize("value", [0, -1e-6, "1e-6", True, [], float("nan"), float("inf"), 10**400])
def test_a_number_that_is_none(family, key, value, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    put(tmp_path, **{key: value})
    assert f"config.json says {key}: " in error_of(tmp_path, ValueError)


@pytest.mark.parametrize("key", ["n_inner", "head_dim", "num_key_value_heads"])
def test_a_default_that_does_not_fit_the_weights(key, tmp_path):
    hugging_face("gpt2" if key == "n_inner" else "qwen3").save_pretrained(tmp_path)
    drop(tmp_path, key)
    message = error_of(tmp_path, ValueError)
    assert "does not fit config.json" in message or "num_key_value_heads: 32, which does not divide" in message


# -----------------------------------------------------------------------------
# Files that are damaged, or say too little


DAMAGED = [b"", b"\0" * 101, b"{", b"[]", b"[1, 2]", b"3", b"null", b'"gpt2"', b"{'a': 1}", b"\xff\xfe\xfd", b"[" * 10**5]


@pytest.mark.parametrize("which", range(len(DAMAGED)))
@pytest.mark.parametrize("file", ["config.json", INDEX])
def test_damaged_json_is_named(file, which, tmp_path):
    hugging_face("gpt2").save_pretrained(tmp_path, max_shard_size="40KB")
    (tmp_path / file).write_bytes(DAMAGED[which])
    assert f"{file} is damaged" in error_of(tmp_path, ValueError)


@pytest.mark.parametrize("file", ["config.json", INDEX])
def test_json_cut_at_any_place_is_named(file, tmp_path):
    hugging_face("gpt2").save_pretrained(tmp_path, max_shard_size="40KB")
    whole = (tmp_path / file).read_bytes().rstrip()
    for end in range(0, len(whole), 37):
        (tmp_path / file).write_bytes(whole[:end])
        assert f"{file} is damaged" in error_of(tmp_path, ValueError)


@pytest.mark.parametrize(
    "weight_map",
    [
        "absent", None, [], "model.safetensors", {"wte.weight": None}, {"wte.weight": 3}, {"wte.weight": ["a"]},
        {"wte.weight": "../elsewhere/model.safetensors"}, {"wte.weight": "sub/model.safetensors"},
        {"wte.weight": "/etc/passwd"}, {"wte.weight": ""}, {"wte.weight": ".."},
    ],
)  # fmt: skip
def test_an_index_that_names_no_file_of_the_folder(weight_map, tmp_path):
    folder = tmp_path / "folder"
    hugging_face("gpt2").save_pretrained(folder, max_shard_size="40KB")
    hugging_face("gpt2").save_pretrained(tmp_path / "elsewhere")
    hugging_face("gpt2").save_pretrained(folder / "sub")
    (folder / INDEX).write_text(json.dumps({} if weight_map == "absent" else {"weight_map": weight_map}))
    assert f"{INDEX} is damaged" in error_of(folder, ValueError)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n"]
)
def test_weights_that_are_none(content, family, folder):
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors is damaged, or a Git LFS pointer" in error_of(folder, ValueError)


@pytest.mark.parametrize("family, n_files", [("gpt2", 1), ("qwen3", 2)])
def test_pytorch_weights_come_with_the_line_that_converts_them(family, n_files, tmp_path):
    folder = tmp_path / "it's a $HOME"
    theirs = hugging_face(family)
    theirs.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if n_files == 1:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        shards = {key: f"pytorch_model-0000{1 + (i > 5)}-of-00002.bin" for i, key in enumerate(weights)}
        for shard in set(shards.values()):
            torch.save({key: weights[key] for key in weights if shards[key] == shard}, folder / shard)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    [command] = re.findall("`(.*)`", error_of(folder, FileNotFoundError))
    assert command.startswith("python -c ")
    command = shlex.quote(sys.executable) + command.removeprefix("python")
    subprocess.run(command, shell=True, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    close(our_logits(load_pretrained(str(folder))), their_logits(theirs), 1e-5)


def test_a_hub_repository_without_safetensors_comes_with_the_line_too(tmp_path, monkeypatch):
    hugging_face("gpt2").save_pretrained(tmp_path)

    def hub_file(repo, filename, repo_type):
        if filename != "config.json":
            raise FileNotFoundError(f"cannot get {filename} of {repo} from the hub")
        return str(tmp_path / filename)

    monkeypatch.setattr("model.hub_file", hub_file)
    message = error_of("someone/model", FileNotFoundError)
    assert "cannot get model.safetensors of someone/model" in message
    assert "`hf download someone/model --local-dir model && python -c" in message and message.endswith(" model`")


# -----------------------------------------------------------------------------
# Names


@pytest.mark.parametrize(
    "name, hub",
    [
        ("gpt2", "openai-community/gpt2"),
        ("GPT2", "openai-community/gpt2"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("distilgpt2", "distilbert/distilgpt2"),
        ("qwen3", "Qwen/Qwen3-0.6B"),
        ("Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("qwen3-0.6b-base", "Qwen/Qwen3-0.6B-Base"),
        ("Qwen3-8B", "Qwen/Qwen3-8B"),
    ],
)
def test_a_bare_name_is_told_the_one_on_the_hub(name, hub):
    assert error_of(name, FileNotFoundError).endswith(f"the hub has {hub}") and hub in PUBLISHED


@pytest.mark.parametrize("name", ["", "g", "gpt3", "~/gpt2", "folder/", "my models/gpt2", "https://huggingface.co/gpt2"])
def test_other_names_get_no_such_hint(name):
    assert error_of(name, FileNotFoundError).endswith("neither a folder nor a hub name")


def test_a_file_is_no_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    name = f"{folder.name}/model.safetensors"
    assert error_of(name, FileNotFoundError).endswith("neither a folder nor a hub name")


# -----------------------------------------------------------------------------
# Tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_becomes_fp32(dtype, family, folder):
    rewrite(folder, lambda t: {k: v.to(dtype) for k, v in t.items()})
    put(folder, dtype=str(dtype).removeprefix("torch."))
    same_logits(folder)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float8_e4m3fn", "float8_e5m2", "bool", "complex64"])
def test_a_quantised_tensor_is_named(dtype, family, folder):
    name = {"gpt2": "transformer.h.1.mlp.c_fc.weight", "qwen3": "model.layers.1.mlp.up_proj.weight"}[family]
    rewrite(folder, lambda t: t.update({name: t[name].to(getattr(torch, dtype))}))
    message = error_of(folder, ValueError)
    assert name in message and "quantised" in message


def test_a_packed_tensor_is_called_quantised_not_misshapen(folder, family):
    name = {"gpt2": "transformer.h.1.mlp.c_fc.weight", "qwen3": "model.layers.1.mlp.up_proj.weight"}[family]
    rewrite(folder, lambda t: t.update({name: torch.zeros(7, dtype=torch.uint8)}))
    assert "quantised" in error_of(folder, ValueError)


def test_a_model_saved_without_its_head(family, tmp_path):
    whole = hugging_face(family)
    whole.base_model.save_pretrained(tmp_path)  # GPT2Model, Qwen3Model
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["architectures"] == [type(whole.base_model).__name__]
    assert not any(key.startswith(("transformer.", "model.")) for key in load_file(tmp_path / "model.safetensors"))
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(whole), 1e-5)


def test_an_untied_model_saved_without_its_head_lacks_it(tmp_path):
    hugging_face("qwen3", tie_word_embeddings=False).base_model.save_pretrained(tmp_path)
    assert "lm_head.weight is missing" in error_of(tmp_path, ValueError)


def test_another_familys_prefix_is_unknown(family, folder):
    other = {"gpt2": "model.", "qwen3": "transformer."}[family]
    rewrite(folder, lambda t: {other + k.split(".", 1)[1]: v for k, v in t.items()})
    assert "unknown tensor" in error_of(folder, ValueError)


def test_a_tensor_under_both_of_its_names_is_refused(family, folder):
    bare = HEAD[family].split(".", 1)[1]
    rewrite(folder, lambda t: t.update({bare: t[HEAD[family]] + 1}))
    message = error_of(folder, ValueError)
    assert bare in message and "there twice" in message


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    hugging_face("gpt2").save_pretrained(tmp_path, max_shard_size="40KB")
    first, second = sorted(tmp_path.glob("model-*.safetensors"))[:2]
    held = load_file(first)
    save_file(load_file(second) | {key: tensor + 1 for key, tensor in held.items()}, second, metadata={"format": "pt"})
    assert "there twice" in error_of(tmp_path, ValueError)


def test_a_second_head_of_another_shape_is_named(family, folder):
    rewrite(folder, lambda t: t.update({"lm_head.weight": torch.ones(VOCAB + 1, t[HEAD[family]].shape[1])}))
    message = error_of(folder, ValueError)
    assert "lm_head.weight has shape" in message


def test_a_head_of_their_own_for_gpt2_is_refused(tmp_path):
    theirs = hugging_face("gpt2", tie_word_embeddings=False)
    random_weights(theirs, seed=5).save_pretrained(tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert "tie_word_embeddings: False" in error_of(tmp_path, ValueError)
