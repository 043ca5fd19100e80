"""Let a trained run speak, with and without its latents.

    python sample.py out/tiny_text --prompt="def main():"

The prompt is read once; latents are attached at its end and the Base goes on from them. Training looks n_ahead tokens past an
augmentation, so after that many tokens the text so far becomes the prefix of new latents (--every).
"""

import dataclasses

from configurator import Count, configure, one_line_errors

import torch

from coprocessor import RunOptions, load_run_as
from data import tokenizer_of
from finetuning import load_prompts


@dataclasses.dataclass
class Config(RunOptions):
    run: str = ""  # a run folder; it may stand alone
    prompt: str = "..."  # "...": "def ", or the first test question that the run was asked
    n_tokens: Count = 96  # how many to write
    every: int = 0  # tokens per augmentation; 0: the run's n_ahead, or all of an answer
    temperature: float = 0.8  # 0 is greedy
    top_k: int = 20  # sample among the k likeliest; 0: among all
    seed: int = 0


def continue_text(model, tokenizer, prompt, n_tokens, every, with_latents, eos=None, **how):
    """-> the continuation of the prompt, as text, which ends at the token eos; `how` as in Model.generate_from"""
    tokens, marker = tokenizer.encode(prompt) or [tokenizer.eot], model.ends_prompts_with * with_latents
    room = model.base.config.context - every - model.branch_offset() + 1
    if room < 1:
        raise ValueError(f"every={every} leaves no room for a prompt in {model.base.config.context} positions")
    new = []
    while len(new) < n_tokens and eos not in new:
        prompt = (tokens + new)[-(room - len(marker)) :] + marker  # a long text loses its beginning
        n = min(every, n_tokens - len(new))
        new += model.generate(torch.tensor([prompt]), torch.tensor([len(prompt)]), n, with_latents, eos=eos, **how)[0].tolist()
    return tokenizer.decode(new[: new.index(eos)] if eos in new else new)


def main(argv=None):
    a = configure(Config, __doc__, argv)
    if not a.run:
        raise ValueError("which run? python sample.py out/...")
    model, config = load_run_as(a.run, a)
    tokenizer = tokenizer_of(a.run)
    if "n_ahead" in config:  # a run on text
        prompt = "def " if a.prompt == "..." else a.prompt
        every, eos = a.every or config["n_ahead"], None
    else:  # the prompt is a question, with one augmentation at its end
        prompt = load_prompts(a.run, config, a.split)[0]["question"] if a.prompt == "..." else a.prompt
        prompt, every, eos = prompt.removesuffix("\n") + "\n", a.every or a.n_tokens, tokenizer.eot
    print(f"prompt: {prompt!r}")
    for with_latents in [True, False] if model.n_latents else [False]:
        how = dict(temperature=a.temperature, top_k=a.top_k, generator=torch.Generator().manual_seed(a.seed))
        text = continue_text(model, tokenizer, prompt, a.n_tokens, every, with_latents, eos, **how)
        what = f"with {model.n_latents} latents every {every} tokens" if with_latents else "the Base alone"
        print(f"\n--- {config['variant']}, {what} ---\n{prompt}{text}")


if __name__ == "__main__":
    one_line_errors(main)
