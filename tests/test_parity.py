"""The same logits as Hugging Face's GPT-2 and Qwen-3, loading their files and writing files that they load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import CONTEXT, VOCAB, close, random_tokens, random_weights, tiny
from safetensors.torch import load_file, save_file

import model as model_file
from coprocessor import ahead_tokens, build
from model import FAMILIES, load_pretrained

transformers = pytest.importorskip("transformers")

TOKENS = random_tokens(2, CONTEXT)  # every position the model has


def hugging_face(family, **changes):
    """A tiny random model of theirs, with no setting at its default."""
    if family == "gpt2":
        settings = dict(
            vocab_size=VOCAB, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, n_inner=80, layer_norm_epsilon=1e-3
        )
        config = transformers.GPT2Config(**settings | changes)
    else:
        settings = dict(
            vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=48, intermediate_size=80,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-3,
            tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        )  # fmt: skip
        config = transformers.Qwen3Config(**settings | changes)
    return random_weights(transformers.AutoModelForCausalLM.from_config(config)).eval()


@pytest.fixture
def folder(family, tmp_path):
    """A folder that Hugging Face wrote."""
    hugging_face(family).save_pretrained(tmp_path)
    return tmp_path


@torch.no_grad()
def their_logits(model):
    return model(TOKENS).logits


@torch.no_grad()
def our_logits(model):
    return model.logits(model.prefix(TOKENS)[0])


def rewrite(folder, change):
    """Load the folder's tensors, let `change` edit the dict (or return another), write them back."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors) or tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, **changes):
    """Change entries of the folder's config.json; None removes one."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))


# -----------------------------------------------------------------------------
# The same logits


def test_their_folder_gives_the_same_logits_here(family, folder):
    model = load_pretrained(str(folder))
    close(our_logits(model), their_logits(hugging_face(family)), 1e-5)
    assert type(model) is FAMILIES[family] and not model.training
    for p in model.parameters():
        assert p.dtype == torch.float32 and p.device.type == "cpu" and p.requires_grad


def test_our_folder_gives_the_same_logits_there(family, tmp_path):
    model = tiny(family, torch.float32)
    model.save_pretrained(str(tmp_path))
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], problem
    close(their_logits(theirs.eval()), our_logits(model), 1e-5)


def test_save_then_load_gives_back_every_bit_and_the_config(family, tmp_path):
    model = tiny(family, torch.float32)
    model.save_pretrained(str(tmp_path / "new" / "folder"))
    again = load_pretrained(str(tmp_path / "new" / "folder"))
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_half_precision_files_become_fp32(family, folder):
    rewrite(folder, lambda t: {k: v.bfloat16() for k, v in t.items()})
    model = load_pretrained(str(folder))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    theirs = hugging_face(family)
    for p in theirs.parameters():  # not .bfloat16(), which would round the rotary frequencies too
        p.data = p.data.bfloat16().float()
    close(our_logits(model), their_logits(theirs), 1e-5)


def test_gpt2_with_the_mlp_width_left_out(tmp_path):
    theirs = hugging_face("gpt2", n_inner=None)  # as in the published checkpoint: four times the width
    theirs.save_pretrained(tmp_path)
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(theirs), 1e-5)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("masks", [False, True])
def test_gpt2_files_old_and_new(prefix, masks, tmp_path):
    """The published file has bare names and the causal masks; files written today a prefix and no masks."""
    theirs = hugging_face("gpt2")
    theirs.save_pretrained(tmp_path)

    def change(tensors):
        tensors = {prefix + k.removeprefix("transformer."): v for k, v in tensors.items()}
        for i in range(2 if masks else 0):
            tensors[f"{prefix}h.{i}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
            tensors[f"{prefix}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        return tensors

    rewrite(tmp_path, change)
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(theirs), 1e-5)


def test_a_second_copy_of_the_tied_head_is_accepted(family, folder):
    embedding = "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"
    rewrite(folder, lambda t: t.update({"lm_head.weight": t[embedding].clone()}))
    close(our_logits(load_pretrained(str(folder))), their_logits(hugging_face(family)), 1e-5)


def test_a_head_of_its_own_as_in_the_larger_qwen3(tmp_path):
    theirs = hugging_face("qwen3", tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_pretrained(str(tmp_path / "theirs"))
    assert not torch.equal(model.head.weight, model.wte.weight)
    close(our_logits(model), their_logits(theirs), 1e-5)
    model.save_pretrained(str(tmp_path / "ours"))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    close(their_logits(again), our_logits(model), 1e-5)
    # a variant around it: the head learns, also where logits are made in chunks; the Coprocessor has none
    variant = build("h2", model, 2)
    assert variant.base.head is model.head and variant.coprocessor.head is None
    sites = torch.tensor([[3, 9], [5, 2]])
    grads = []
    for entries in (model_file.LOGITS_AT_ONCE, 3 * VOCAB):
        model_file.LOGITS_AT_ONCE, before = entries, model_file.LOGITS_AT_ONCE
        variant.zero_grad()
        variant(TOKENS, sites, ahead_tokens(TOKENS, sites, 4)).mean().backward()
        grads.append([model.head.weight.grad, model.wte.weight.grad])
        model_file.LOGITS_AT_ONCE = before
    for a, b in zip(*grads, strict=True):
        assert a.abs().max() > 0
        close(a, b, 1e-5)
    model.add_tokens(2, like=7)
    assert model.logits(torch.ones(1, 48)).shape == (1, VOCAB + 2)
    assert torch.equal(model.head.weight[-1], model.head.weight[7]) and torch.equal(model.wte.weight[-1], model.wte.weight[7])


def test_weights_in_several_files(family, tmp_path):
    theirs = hugging_face(family)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1 and not (tmp_path / "model.safetensors").exists()
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(theirs), 1e-5)
    good = shards[1].read_bytes()
    shards[1].write_bytes(good[:-3])
    assert shards[1].name in error_of(tmp_path, ValueError)
    shards[1].unlink()
    assert shards[1].name in error_of(tmp_path, FileNotFoundError)


def test_qwen3_config_of_the_older_format(tmp_path):
    theirs = hugging_face("qwen3")
    theirs.save_pretrained(tmp_path)
    reconfigure(tmp_path, rope_parameters=None, rope_theta=300.0)  # as published
    close(our_logits(load_pretrained(str(tmp_path))), their_logits(theirs), 1e-5)


# -----------------------------------------------------------------------------
# Errors: one clear line that names the culprit


def error_of(name, kind):
    with pytest.raises(kind) as caught:
        load_pretrained(str(name))
    message = str(caught.value)
    assert message and "\n" not in message and str(name) in message
    assert type(caught.value) is kind and caught.value.__cause__ is None
    return message


NAMES = {
    "gpt2": ["transformer.h.1.attn.c_attn.weight", "transformer.h.0.ln_1.bias", "transformer.wte.weight"],
    "qwen3": ["model.layers.1.self_attn.k_norm.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"],
}


@pytest.mark.parametrize("which", range(3))
def test_a_missing_tensor_is_named(which, family, folder):
    name = NAMES[family][which]
    rewrite(folder, lambda t: t.__delitem__(name))
    assert name.removeprefix("transformer.") in error_of(folder, ValueError)


@pytest.mark.parametrize("extra", ["score.weight", "model.layers.2.mlp.up_proj.weight", "h.0.attn.c_proj.scale"])
def test_an_unknown_tensor_is_named(extra, family, folder):
    rewrite(folder, lambda t: t.update({extra: torch.ones(3)}))
    assert extra in error_of(folder, ValueError)


@pytest.mark.parametrize("which", range(3))
def test_a_misshapen_tensor_is_named_with_its_shape(which, family, folder):
    name, shape = NAMES[family][which], []

    def change(tensors):
        tensors[name] = tensors[name][:-1].clone()
        shape.extend(tensors[name].shape)

    rewrite(folder, change)
    message = error_of(folder, ValueError)
    assert name in message and str(shape) in message


def test_a_transposed_tensor_is_misshapen(family, folder):
    name = NAMES[family][0] if family == "gpt2" else "model.layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda t: t.update({name: t[name].T.contiguous()}))
    assert name in error_of(folder, ValueError)


def test_a_head_of_its_own_is_refused(family, folder):
    rewrite(folder, lambda t: t.update({"lm_head.weight": torch.ones(VOCAB, 48 if family == "qwen3" else 64)}))
    assert "lm_head.weight" in error_of(folder, ValueError)


def config_error_of(folder):
    with pytest.raises(ValueError) as caught:
        load_pretrained(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_untied_head_must_be_there(tmp_path):
    hugging_face("qwen3").save_pretrained(tmp_path)
    reconfigure(tmp_path, tie_word_embeddings=False)
    assert "lm_head.weight is missing" in config_error_of(tmp_path)


def test_an_unknown_model_type_is_named(family, folder):
    reconfigure(folder, model_type="mamba")
    assert "mamba" in config_error_of(folder)


@pytest.mark.parametrize(
    "family, change",
    [
        ("gpt2", {"activation_function": "relu"}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt2", {"tie_word_embeddings": False}),
        ("qwen3", {"hidden_act": "gelu"}),
        ("qwen3", {"use_sliding_window": True}),
        ("qwen3", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    ],
)
def test_a_config_that_would_be_computed_otherwise_is_refused(family, change, tmp_path):
    hugging_face(family).save_pretrained(tmp_path)
    reconfigure(tmp_path, **change)
    message = config_error_of(tmp_path)
    assert next(iter(change)).replace("rope_parameters", "linear") in message and "does not compute" in message


def test_a_missing_rope_theta_is_named(tmp_path):
    hugging_face("qwen3").save_pretrained(tmp_path)
    reconfigure(tmp_path, rope_parameters=None)
    assert "rope_theta" in config_error_of(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(missing, family, folder):
    (folder / missing).unlink()
    assert missing in error_of(folder, FileNotFoundError)


@pytest.mark.parametrize("name", ["no_such_folder", "./no/such", "/no/such", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_name_is_said_to_be(name):
    assert "neither a folder nor a hub name" in error_of(name, FileNotFoundError)


def test_an_unreachable_hub_is_one_clear_error(tmp_path):
    # in a process of its own: the hub's client reads its settings when it is imported
    code = "from model import load_pretrained\ntry: load_pretrained('openai-community/gpt2')\n"
    code += "except FileNotFoundError as e: print(e)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and result.stderr == "", result.stderr
    [message] = result.stdout.splitlines()
    for part in ("config.json", "openai-community/gpt2"):
        assert part in message
