"""What a folder of weights may hold: computed as transformers computes it, or refused in one line that names the culprit."""

import json

import pytest
import torch
from helpers import CONTEXT, VOCAB, close, random_weights
from safetensors.torch import load_file, save_file
from test_parity import LLAMA3, ROPE, SCALING, embedding, hugging_face, our_logits, reconfigure, rewrite, their_logits

from model import FAMILIES, load_pretrained

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    return tmp_path


def weight(family):
    return "transformer.h.1.mlp.c_fc.weight" if family == "gpt2" else "model.layers.1.mlp.up_proj.weight"


def same_logits(folder):
    """Our logits of a folder equal those that transformers computes from it."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    close(our_logits(load_pretrained(str(folder))), their_logits(theirs), 1e-5)


def error_of(name, kind=ValueError):
    with pytest.raises(kind) as caught:
        load_pretrained(str(name))
    assert str(name) in str(caught.value)
    return str(caught.value)


# -----------------------------------------------------------------------------
# config.json: what is computed


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "gelu_fast"},  # what Megatron's files say
        {"is_decoder": True, "torch_dtype": "float16", "n_ctx": 1024, "task_specific_params": {"text-generation": {}}},
        {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": CONTEXT},
        {"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0}},  # nothing that GPT-2 reads
    ],
)
def test_gpt2_configs_that_are_computed(change, tmp_path):
    hugging_face("gpt2").save_pretrained(tmp_path)
    reconfigure(tmp_path, **change)
    same_logits(tmp_path)


def test_a_gpt2_config_with_nothing_but_sizes(tmp_path):
    hugging_face("gpt2", n_inner=None, layer_norm_epsilon=1e-5).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    kept = ("model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    reconfigure(tmp_path, *(key for key in raw if key not in kept))
    same_logits(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 300, "rope_parameters": None, "rope_scaling": None},  # as transformers 4 writes it
        {"rope_theta": 300.0, "rope_parameters": ROPE},  # both say the same
        {"rope_theta": None, "rope_parameters": ROPE, "rope_scaling": ROPE},
        {"rope_theta": 300.0, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 300.0, "rope_parameters": None, "rope_scaling": {"rope_type": "default"}},
        {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
        {"hidden_act": "swish", "sliding_window": 4, "max_window_layers": 0, "use_sliding_window": False},
        {"layer_types": None, "architectures": ["Qwen3Model"], "dtype": "bfloat16"},
    ],
)
def test_qwen3_configs_that_are_computed(change, tmp_path):
    hugging_face("qwen3").save_pretrained(tmp_path)
    reconfigure(tmp_path, **change)
    same_logits(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 300.0, "rope_parameters": ROPE},
        {"rope_theta": 300.0, "rope_parameters": None, "rope_scaling": {"type": "llama3", **SCALING}},
        {"rope_parameters": LLAMA3 | {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}},
        {"original_max_position_embeddings": 40},
        {"pretraining_tp": 2, "bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "bfloat16"},
    ],
)
def test_llama_configs_that_are_computed(change, tmp_path):
    hugging_face("llama").save_pretrained(tmp_path)
    reconfigure(tmp_path, **change)
    same_logits(tmp_path)


@pytest.mark.parametrize(
    "family, settings, absent",
    [
        ("qwen3", {"head_dim": 128}, ["head_dim"]),
        ("qwen3", {"num_attention_heads": 64, "num_key_value_heads": 32, "head_dim": 4}, ["num_key_value_heads"]),
        ("qwen3", {"rms_norm_eps": 1e-6}, ["rms_norm_eps"]),
        ("qwen3", {}, ["hidden_act", "attention_bias", "use_sliding_window", "layer_types", "max_window_layers"]),
        ("qwen3", {"tie_word_embeddings": False}, ["tie_word_embeddings"]),
        (
            "llama",
            {"head_dim": 12, "num_key_value_heads": 4},
            ["head_dim", "num_key_value_heads", "attention_bias", "mlp_bias"],
        ),
        ("llama", {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}, ["rms_norm_eps", "tie_word_embeddings"]),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, ["rope_parameters"]),  # as in Llama 1
        ("qwen2", {"head_dim": 12}, ["head_dim"]),
    ],
)
def test_what_a_config_leaves_out_has_transformers_default(family, settings, absent, tmp_path):
    hugging_face(family, **settings).save_pretrained(tmp_path)
    reconfigure(tmp_path, *absent)
    same_logits(tmp_path)


def test_the_frequencies_that_old_llama_files_hold_are_not_weights(tmp_path):
    hugging_face("llama").save_pretrained(tmp_path)
    rewrite(tmp_path, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}))
    same_logits(tmp_path)


# -----------------------------------------------------------------------------
# config.json: what is refused, since something else would be computed without a word


@pytest.mark.parametrize(
    "change",
    [
        {"is_causal": False},
        {"per_layer_config": {"1": {"head_dim": 8}}},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Other"}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"model_type": "qwen3_moe"},
        {"tie_word_embeddings": None},
    ],
)
def test_what_no_family_computes_is_refused(change, family, folder):
    reconfigure(folder, **change)
    [key] = change
    assert f"config.json says {key}: " in error_of(folder)


@pytest.mark.parametrize(
    "family, change, named",
    [
        ("gpt2", {"activation_function": "relu"}, "activation_function: 'relu'"),
        ("gpt2", {"activation_function": "gelu"}, "activation_function: 'gelu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"sliding_window": 8}, "sliding_window"),
        ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
        ("gpt2", {"num_attention_heads": 8}, "num_attention_heads: 8"),  # beside n_head: 4
        ("qwen3", {"hidden_act": "gelu_new"}, "hidden_act"),
        ("qwen3", {"attention_bias": True}, "attention_bias"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "use_sliding_window"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5"),
        ("qwen3", {"rope_theta": 1e6}, "rope_theta: 1000000.0"),  # beside rope_parameters' 300
        ("qwen3", {"rope_scaling": {"type": "default", "rope_theta": 5.0}}, "rope_parameters: {"),  # two that differ
        ("qwen3", {"rope_scaling": ROPE | {"type": "yarn", "factor": 4.0}, "rope_parameters": None}, "type: 'yarn'"),
        ("qwen3", {"rope_scaling": {"rope_type": "dynamic"}, "rope_parameters": None, "rope_theta": 300.0}, "'dynamic'"),
        ("qwen3", {"rope_parameters": ROPE | {"factor": 4.0}}, "factor: 4.0"),
        ("qwen3", {"rope_parameters": ROPE | {"mrope_section": [4, 2, 2]}}, "mrope_section"),
        ("qwen3", {"rope_parameters": {"full_attention": ROPE}, "rope_theta": 300.0}, "full_attention"),
        ("qwen3", {"rope_parameters": ROPE | {"rope_type": "linear", "factor": 4.0}}, "rope_type: 'linear'"),
        ("qwen3", {"rope_parameters": ROPE | {"partial_rotary_factor": 0.25}}, "partial_rotary_factor: 0.25"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, "type: 'linear'"),
        ("llama", {"rope_scaling": ROPE}, "rope_parameters: {"),  # beside llama3's
        ("llama", {"rope_parameters": LLAMA3 | {"type": "default"}}, "type: 'default'"),
        ("llama", {"rope_parameters": LLAMA3 | {"attention_factor": 2.0}}, "attention_factor: 2.0"),
        ("llama", {"original_max_position_embeddings": 64}, "original_max_position_embeddings: 64"),  # beside 40
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "use_sliding_window"),
    ],
)
def test_what_a_family_does_not_compute_is_refused(family, change, named, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    reconfigure(tmp_path, **change)
    assert named in error_of(tmp_path)


# -----------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("name", ["", "gpt2", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_name(name):
    assert "neither a folder nor a hub name" in error_of(name, FileNotFoundError)


# -----------------------------------------------------------------------------
# Tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_float_becomes_fp32(dtype, family, folder):
    rewrite(folder, lambda t: {k: v.to(dtype) for k, v in t.items()})
    reconfigure(folder, dtype=str(dtype).removeprefix("torch."))
    same_logits(folder)


@pytest.mark.parametrize(
    "dtype, value",
    [("float16", "nan"), ("bfloat16", "-inf"), ("float64", "1e300")],  # too large: inf
)
def test_a_value_that_is_not_finite_is_named_by_tensor_and_file(dtype, value, family, tmp_path):
    hugging_face(family).save_pretrained(tmp_path, max_shard_size="40KB")
    [file] = [path for path in tmp_path.glob("model-*.safetensors") if weight(family) in load_file(path)]
    tensors = {key: tensor.to(getattr(torch, dtype)) for key, tensor in load_file(file).items()}
    tensors[weight(family)][3, 5] = float(value)
    save_file(tensors, file, metadata={"format": "pt"})
    message = error_of(tmp_path)
    assert f"{file.name}: {weight(family)}" in message and "not finite" in message


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_a_quantised_tensor_is_named(dtype, family, folder):
    name = weight(family)
    rewrite(folder, lambda t: t.update({name: t[name].to(getattr(torch, dtype))}))
    message = error_of(folder)
    assert name in message and "quantised" in message


def test_a_tensor_that_is_missing_unknown_or_of_another_shape_is_named(family, folder):
    names = {hf: ours for ours, (hf, _) in load_pretrained(str(folder)).tensor_names().items()}
    ours = names[weight(family).removeprefix("transformer.")]
    whole = load_file(folder / "model.safetensors")
    for change, said in (
        (lambda t: {key: x for key, x in t.items() if key != weight(family)}, f'Missing key(s) in state_dict: "{ours}"'),
        (lambda t: t | {"score.weight": torch.ones(3)}, 'Unexpected key(s) in state_dict: "score.weight"'),
        (lambda t: t | {weight(family): t[weight(family)].T.contiguous()}, f"size mismatch for {ours}"),
        (lambda t: t | {weight(family): t[weight(family)][:-1].clone()}, f"size mismatch for {ours}"),
    ):
        save_file(change(dict(whole)), folder / "model.safetensors", metadata={"format": "pt"})
        assert said in error_of(folder)


def test_a_model_saved_without_its_head(family, tmp_path):
    whole = hugging_face(family)
    whole.base_model.save_pretrained(tmp_path)  # GPT2Model, Qwen3Model
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["architectures"] == [type(whole.base_model).__name__]
    assert not any(key.startswith(("transformer.", "model.")) for key in load_file(tmp_path / "model.safetensors"))
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(whole), 1e-5)


def test_another_familys_prefix_is_not_read(family, folder):
    other = "model." if family == "gpt2" else "transformer."
    rewrite(folder, lambda t: {other + k.split(".", 1)[1]: v for k, v in t.items()})
    assert "Missing key(s)" in error_of(folder)


def test_a_tensor_under_both_of_its_names_is_refused(family, folder):
    bare = embedding(family).split(".", 1)[1]
    rewrite(folder, lambda t: t.update({bare: t[embedding(family)] + 1}))
    message = error_of(folder)
    assert bare in message and "there twice" in message


@pytest.mark.parametrize("rows", [VOCAB, VOCAB + 1])
def test_a_second_head_that_differs_is_refused(rows, family, folder):
    rewrite(folder, lambda t: t.update({"lm_head.weight": torch.ones(rows, t[embedding(family)].shape[1])}))
    assert "lm_head.weight" in error_of(folder)


def test_a_head_of_their_own_for_gpt2_is_refused(tmp_path):
    theirs = hugging_face("gpt2", tie_word_embeddings=False)
    random_weights(theirs, seed=5).save_pretrained(tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert "tie_word_embeddings: False" in error_of(tmp_path)


def test_a_config_with_a_byte_order_mark_and_crlf(family, folder):
    text = (folder / "config.json").read_text().replace("\n", "\r\n")
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    close(our_logits(load_pretrained(str(folder))), their_logits(hugging_face(family)), 1e-5)


def test_kv_heads_of_null_are_as_many_as_the_heads(tmp_path):
    hugging_face("qwen3", num_key_value_heads=4).save_pretrained(tmp_path)
    reconfigure(tmp_path, num_key_value_heads=None)
    same_logits(tmp_path)
