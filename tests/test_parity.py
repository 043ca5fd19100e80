"""The same logits as Hugging Face's models of every family, loading their files and writing files that they load."""

import json

import pytest
import torch
from helpers import CONTEXT, VOCAB, close, random_tokens, random_weights, tiny
from safetensors.torch import load_file, save_file

import model as model_file
from coprocessor import ahead_tokens, build
from model import FAMILIES, load_pretrained

transformers = pytest.importorskip("transformers")

TOKENS = random_tokens(2, CONTEXT)  # every position the model has


ROPE = {"rope_type": "default", "rope_theta": 300.0}
SCALING = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=40)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 300.0, **SCALING}


def hugging_face(family, **changes):
    """A tiny random model of theirs, with no setting at its default."""
    if family == "gpt2":
        settings = dict(
            vocab_size=VOCAB, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, n_inner=80, layer_norm_epsilon=1e-3
        )
    else:
        settings = dict(
            vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=48, intermediate_size=80, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-3, tie_word_embeddings=True,
            rope_parameters=dict(LLAMA3 if family == "llama" else ROPE),
        )  # fmt: skip
    config = transformers.AutoConfig.for_model(family, **settings | changes)
    return random_weights(transformers.AutoModelForCausalLM.from_config(config)).eval()


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


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


def reconfigure(folder, *absent, **changes):
    """Set entries of the folder's config.json, null among them, or remove some."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in absent}))


def embedding(family):
    return "transformer.wte.weight" if family == "gpt2" else "model.embed_tokens.weight"


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
    rewrite(folder, lambda t: t.update({"lm_head.weight": t[embedding(family)].clone()}))
    close(our_logits(load_pretrained(str(folder))), their_logits(hugging_face(family)), 1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_head_of_its_own_as_in_larger_models(family, tmp_path):
    theirs = hugging_face(family, tie_word_embeddings=False)
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
    for entries in (model_file.MAX_LOGITS_PER_CHUNK, 3 * VOCAB):
        model_file.MAX_LOGITS_PER_CHUNK, before = entries, model_file.MAX_LOGITS_PER_CHUNK
        variant.zero_grad()
        variant(TOKENS, sites, ahead_tokens(TOKENS, sites, 4)).mean().backward()
        grads.append([model.head.weight.grad, model.wte.weight.grad])
        model_file.MAX_LOGITS_PER_CHUNK = before
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


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("rope", [ROPE, LLAMA3])
def test_llama_as_published_with_or_without_scaling(rope, kv_heads, tmp_path):
    """SmolLM2 has no scaling, Llama 3.2 has; transformers 4 wrote both, theta at the top."""
    theirs = hugging_face("llama", rope_parameters=dict(rope), num_key_value_heads=kv_heads)
    theirs.save_pretrained(tmp_path)
    scaling = {"rope_type": "llama3", **SCALING} if rope is LLAMA3 else None
    reconfigure(tmp_path, "rope_parameters", rope_theta=300.0, rope_scaling=scaling)
    model = load_pretrained(str(tmp_path))
    assert model.config.rope_scaling == (tuple(SCALING.values()) if scaling else None)
    close(our_logits(model), their_logits(theirs), 1e-5)


def test_llama_saved_for_transformers_4_too(tmp_path):
    """It reads theta at the top and the scaling in rope_scaling, and would take other places for no scaling at all."""
    tiny("llama", torch.float32).save_pretrained(str(tmp_path))
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["rope_theta"] == 300.0 and raw["rope_scaling"] == raw["rope_parameters"] == LLAMA3


def test_llama3_frequencies_at_full_size():
    """Llama 3.2's own numbers: 64 wide heads, theta 500,000, from 8,192 positions to 32 times as many."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = dict(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    config = transformers.LlamaConfig(
        hidden_size=2048, num_attention_heads=32, rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **scaling}
    )
    theirs, factor = ROPE_INIT_FUNCTIONS["llama3"](config)
    plain = 1 / 5e5 ** (torch.arange(0, 64, 2) / 64)
    assert factor == 1 and 0 < (theirs == plain).sum() < 32
    assert torch.equal(model_file.scale_frequencies(plain, *scaling.values()), theirs)
