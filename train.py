"""Large-scale training (paper, section 4.1): continued pretraining of a Base, with or without latents.

    python train.py config/tiny_text.py --variant=h2                   # one process
    torchrun --nproc_per_node=8 train.py config/h2_gpt2.py             # eight GPUs
    torchrun --nproc_per_node=8 train.py config/h2_gpt2.py --resume    # go on with it

Every step draws sequences, draws M sites in each, and runs the three passes of coprocessor.py over them.
"""

import contextlib
import dataclasses
import math
import os

from configurator import Count, configure, one_line_errors

import torch

import coprocessor
import runtime
from data import Rows, tokenizer_of


@dataclasses.dataclass
class Config(coprocessor.Options):
    # the system
    variant: str = "h2"  # continued | soft | liu | h1 | h2 | tied | pause
    init_from: str = "openai-community/gpt2"  # the Base: a hub name, a folder, a run, or random:<size> (sizes: model.py)
    n_latents: int = 16  # N_L, latents per augmentation
    # the data
    data: str = "data/fineweb_edu_gpt2"  # a folder that data.py made
    seq_len: Count = 1024  # S, tokens per sequence
    n_sites: Count = 64  # M, augmentations per sequence
    n_ahead: Count = 16  # N_A, tokens predicted after each
    seed: int = 1337  # of initialisation, data order and sites
    # the budget
    tokens: Count = 40 * 10**9  # raw tokens, B x S summed over all steps
    tokens_per_step: Count = 480 * 1024  # raw tokens per optimizer step, over all ranks
    batch_size: Count = 12  # sequences per rank and forward pass; accumulation follows
    # the optimizer (AdamW; the paper gives none of this)
    lr: float = 1e-4  # peak learning rate
    min_lr: float = 0.1  # where the cosine ends, as a share of lr
    warmup: float = 0.01  # share of the steps
    weight_decay: float = 0.1  # on matrices only
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0  # of the gradient's norm; 0: none
    # validation and logging
    eval_every: Count = 500  # steps
    eval_rows: Count = 512  # validation sequences, the same for every run, with sites fixed once
    log_every: Count = 10  # steps
    checkpoint_every: Count = 1000  # steps
    keep_checkpoints: int = 0  # how many earlier ones stay, as checkpoint_<step>
    wandb: bool = False  # also log to Weights & Biases (pip install wandb)
    # the machine
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "auto"  # auto (bf16 where the hardware multiplies it) | bf16 | fp32
    compile: bool = False  # torch.compile the forward pass
    # the run
    out_dir: str = ""  # default: out/<config file>, then the settings of the command line
    resume: bool = False  # go on from the folder's checkpoint
    overwrite: bool = False  # delete the folder first


# What a resumed run may change: nothing that changes what is computed (device, compile and batch_size change its last bits).
RESUME_MAY_CHANGE = ("resume", "overwrite", "out_dir", "eval_every", "log_every", "checkpoint_every", "keep_checkpoints")
RESUME_MAY_CHANGE += ("wandb", "device", "compile", "batch_size")


def learning_rate(c, step, steps):
    """Linear warm-up, then a cosine down to min_lr."""
    warmup = max(1, round(c.warmup * steps))
    if step < warmup:
        return c.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return c.lr * (c.min_lr + (1 - c.min_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model, c, device):
    """AdamW, weight decay on matrices only

    Soft tokens are not decayed: like a bias, each is added to nothing that could make up for it.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decayed = [(n, p) for n, p in named if p.dim() >= 2 and n != "soft"]
    other = [(n, p) for n, p in named if p.dim() < 2 or n == "soft"]
    groups = [
        {"params": [p for _, p in decayed], "weight_decay": c.weight_decay},
        {"params": [p for _, p in other], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=c.lr, betas=(c.beta1, c.beta2), fused=device.type == "cuda")


def flops_per_sequence(model, c):
    """What one training sequence costs -> (positions that the models run, floating-point operations).

    Products with weights, 2 operations per weight and position, and attention scores and sums; a backward pass costs
    twice the forward where weights learn, once where gradients only pass through, nothing where no graph is built.
    """
    config, mean_site = model.base.config, (coprocessor.site_limit(c, model.base.config.context) + 1) / 2
    # which model runs how many positions is seen, not known: one forward pass of the shortest prefix with a single branch
    work = []  # (positions, operations of all of them)

    def note(network, learns):
        weights = sum(p.numel() for p in network.blocks.parameters())
        per_key = 4 * len(network.blocks) * network.config.n_head * network.config.head_dim

        def hook(block, x, y):
            if x[0].dim() == 3:  # a prefix (B,S,C): a frozen Base builds no graph
                n, keys, times = c.seq_len, c.seq_len / 2, 3 if learns else 1
            else:  # branches (B,M,T,C): through a frozen Base gradients pass
                n, keys, times = c.n_sites * x[0].size(2), mean_site + x[0].size(2) / 2, 3 if learns else 2
            work.append((n, n * times * (2 * weights + per_key * keys)))

        return network.blocks[0].norm_1.register_forward_hook(hook)

    hooks = [note(model.base, model.trains_base)]
    if model.has_coprocessor:
        hooks.append(note(model.coprocessor, True))
    tokens = torch.zeros((1, c.n_ahead + 1), dtype=torch.int64, device=model.base.wte.weight.device)
    sites = tokens[:, :1]
    torch.manual_seed(c.seed)  # of a variant that draws random numbers it is one draw, the same after a resumption
    with torch.no_grad():
        nll = model(tokens, sites, coprocessor.ahead_tokens(tokens, sites, c.n_ahead))
    for h in hooks:
        h.remove()
    targets = c.n_sites * c.n_ahead if nll.dim() == 3 else c.seq_len - 1
    head = targets * (3 if model.trains_base else 2) * 2 * config.vocab_size * config.width
    return sum(n for n, _ in work), sum(flops for _, flops in work) + head


def main(argv=None):
    c = configure(Config, __doc__, argv, RESUME_MAY_CHANGE)
    if c.variant in coprocessor.REASONING or getattr(coprocessor.VARIANTS.get(c.variant), "adds_tokens", 0):
        raise ValueError(f"{c.variant} is trained on questions: finetune_reasoning.py")
    if c.step_weight:
        raise ValueError(f"step_weight={c.step_weight}: text has no steps to spell; finetune_reasoning.py, countdown.py")
    machine = runtime.start(c.device, c.precision)
    run = runtime.Run(c, machine, RESUME_MAY_CHANGE)

    # tokens per step decide, accumulation follows
    per_step, left = divmod(c.tokens_per_step, c.seq_len)
    micro_batches, uneven = divmod(per_step, c.batch_size * machine.world)
    if left or uneven or not micro_batches:
        raise ValueError(
            f"tokens_per_step={c.tokens_per_step} is not a multiple of seq_len x batch_size x ranks = "
            f"{c.seq_len} x {c.batch_size} x {machine.world}"
        )
    steps = c.tokens // c.tokens_per_step
    if steps < 1:
        raise ValueError(f"tokens={c.tokens} is less than one step of tokens_per_step={c.tokens_per_step}")
    if max(c.warmup, c.min_lr) > 1:
        raise ValueError(f"warmup={c.warmup} and min_lr={c.min_lr} are shares, of the steps and of lr: at most 1")

    # the Base, new or the checkpoint's, and the variant around it
    torch.manual_seed(c.seed)
    train_rows, val_rows = Rows(c.data, "train", c.seq_len, c.seed), Rows(c.data, "val", c.seq_len)
    if run.checkpoint:
        model = coprocessor.load_variant(run.checkpoint, vars(c))
    else:
        base = coprocessor.load_base(c.init_from, tokenizer_of(c.data), c.data, train_rows.vocab_size)
        model = coprocessor.build(c.variant, base, c.n_latents, **coprocessor.options_of(vars(c)))
    base_crc32 = coprocessor.checksum(model.base)
    model = model.to(machine.device).train()

    # which rows and sites a step trains on, and what updates the weights
    limit = coprocessor.site_limit(c, model.base.config.context, model.branch_offset())
    train_batches = coprocessor.Batches(train_rows, c, limit, machine.device)
    val_batches = coprocessor.Batches(val_rows, c, limit, machine.device)
    train_batches([0])  # fails now if fewer sites fit than are asked for
    optimizer = make_optimizer(model, c, machine.device)

    # from here on there is a folder, which nobody else writes to
    run.begin(
        model, optimizer, lambda folder: coprocessor.save(model, folder, c.out_dir),
        tokenizer=os.path.join(c.data, "tokenizer.json"), settings=dict(base_crc32=base_crc32),
        state=dict(data_crc32=[train_rows.crc32, val_rows.crc32]),
    )  # fmt: skip
    wrapped = runtime.wrap(model, machine, c.compile)  # trains; the same module unwrapped is judged and saved
    positions, flops = flops_per_sequence(model, c)
    machine.print(
        f"the Base of {c.init_from}; {steps:,} steps of {c.tokens_per_step:,} tokens in {micro_batches} micro-batches; "
        f"{positions:,} positions per sequence"
    )

    def draw(n):
        """Micro-batch n of this rank, counted from the run's first step on: ranks only decide who computes which rows."""
        start = (n * machine.world + machine.rank) * c.batch_size
        tokens, sites = train_batches(range(start, start + c.batch_size))  # (B, S), (B, M)
        return tokens, sites, coprocessor.ahead_tokens(tokens, sites, c.n_ahead)  # and (B, M, N_A)

    def check():
        # what the last update ruined is neither judged nor saved: the checkpoint before stays the last good one
        run.check(loss, norm, lambda: model(tokens, sites, ahead))

    if run.step == 0:
        record = dict(step=0, tokens=0, seconds=run.elapsed()) | coprocessor.validate(model, val_batches, c, machine)
        run.log(record, f"step 0/{steps}: validation perplexity {record['val_ppl']:.3f}")

    tokens, sites, ahead = draw(run.step * micro_batches)
    for step in range(run.step, steps):
        # the learning rate of this step: a function of its number alone, so that a resumed run follows the same curve
        lr = learning_rate(c, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr

        torch.manual_seed(c.seed + step)  # a variant that draws random numbers resumes to the same ones
        loss = 0.0
        for micro in range(micro_batches):
            # gradients are averaged over ranks once a step, at the last micro-batch. The forward pass belongs inside
            # no_sync, too: it is there that DDP notes whether this backward pass will communicate
            last = micro == micro_batches - 1
            with contextlib.nullcontext() if last or machine.world == 1 else wrapped.no_sync():
                with machine.autocast():
                    # the three passes (section 4.1, Variant.forward): the Base reads the sequences and leaves KV_theta(x); a
                    # branch starts at every site; the Base predicts the ahead tokens of all branches at once
                    nll = wrapped(tokens, sites, ahead)  # (B, M, N_A); continued: (B, S-1)
                # every micro-batch has as many targets, so the mean of means is the mean over the global batch
                micro_loss = nll.mean() / micro_batches
                micro_loss.backward()
            loss = loss + micro_loss.detach()
            # a GPU has only been told what to do: the next batch is drawn while it does that
            tokens, sites, ahead = draw(step * micro_batches + micro + 1)
        # clip the summed gradient, not each micro-batch's; then one step of AdamW
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), c.clip or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        run.step = done = step + 1

        # what this step is followed by is decided by its number alone, so that all ranks do the same
        evaluate_now = done % c.eval_every == 0 or done == steps
        save_now = done % c.checkpoint_every == 0 or done == steps
        log_now = done % c.log_every == 0 or evaluate_now or save_now or done == 1
        if log_now:
            mean = run.finite_loss(loss / machine.world, norm)
            record = dict(step=done, tokens=done * c.tokens_per_step, loss=mean, lr=lr, grad_norm=norm.item())
            record |= dict(seconds=run.elapsed(), positions=done * per_step * positions) | model.report()
            line = f"step {done}/{steps}: loss {mean:.4f}"
            if speed := run.throughput():  # steps per second
                line += f", {speed * c.tokens_per_step:,.0f} tokens/s"
                if machine.peak_flops():
                    line += f", MFU {speed * per_step * flops / machine.peak_flops() / machine.world:.1%}"
            line += run.time_left(steps)
            if evaluate_now:
                check()
                # the module itself, on all ranks: through DDP's wrapper, or on one rank alone, collectives would not match
                with run.saved_if_it_fails():
                    record |= coprocessor.validate(model, val_batches, c, machine)
                line += f", validation perplexity {record['val_ppl']:.3f}"
            run.log(record, line)
        # a checkpoint is all that a resumed run needs to end with the same bytes; who stops a run gets one, too
        stop = run.interrupted(log_now)
        if save_now or stop:
            check()
            run.save()
        if stop:
            run.leave()

    machine.print(f"done: {c.out_dir}/checkpoint holds the weights, {c.out_dir}/metrics.jsonl the curve")
    run.finish()


if __name__ == "__main__":
    one_line_errors(main)
