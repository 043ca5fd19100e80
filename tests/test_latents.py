"""The latent analysis: textbook versions of capture and silhouette, cases with known answers, interventions, whole runs."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import VOCAB, close, cut, random_tokens, run_here, slow_passes, slow_read, slow_run, slow_step, tiny_variant
from test_data import make_corpus

import analyze_latents as al
import coprocessor
import countdown as cd
import finetune_reasoning as fr
import runtime
import train
from data import tokenizer_of
from model import token_nll

RNG = np.random.default_rng(0)


def slow_capture(z, tau=0.97):
    """As in the paper, by full singular value decompositions and d x d projections, one pair at a time."""
    n, n_latents, width = z.shape
    h = np.zeros((n_latents, n_latents))
    for i in range(n_latents):
        x = z[:, i] - z[:, i].mean(axis=0)
        _, s, v = np.linalg.svd(x, full_matrices=True)
        rank = next(r for r in range(width + 1) if (s[:r] ** 2).sum() >= tau * (s**2).sum() * (1 - 1e-12))
        projection = v[:rank].T @ v[:rank]
        for j in range(n_latents):
            y = z[:, j] - z[:, j].mean(axis=0)
            h[i, j] = np.linalg.norm(y @ projection) ** 2 / np.linalg.norm(y) ** 2
    return h


def slow_silhouette(z):
    """Appendix C, one point at a time over all distances."""
    n, n_latents, _ = z.shape
    s = np.zeros((n, n_latents))
    for k in range(n):
        for i in range(n_latents):
            distances = np.array([[math.dist(z[k, i], z[m, j]) for j in range(n_latents)] for m in range(n)])
            a = distances[:, i].sum() / (n - 1)  # to the others of its latent
            b = min(distances[:, j].mean() for j in range(n_latents) if j != i)
            s[k, i] = (b - a) / max(a, b)
    return s.mean(), s.mean(axis=0)


def spread_unevenly(n, n_latents, width):
    """Every latent has a mean, and directions of its own with more variance and with less."""
    scales = np.exp(RNG.normal(size=(n_latents, 1, width)) * 1.5)
    turn = np.linalg.qr(RNG.normal(size=(n_latents, width, width)))[0]
    return (RNG.normal(size=(n_latents, n, width)) * scales @ turn + RNG.normal(size=(n_latents, 1, width))).swapaxes(0, 1)


@pytest.mark.parametrize("n, n_latents, width", [(60, 3, 8), (5, 4, 12), (2, 2, 3), (40, 2, 1)])
def test_capture_and_silhouette_are_the_textbook_s(n, n_latents, width):
    z = spread_unevenly(n, n_latents, width)
    np.testing.assert_allclose(al.cross_capture(z), slow_capture(z), rtol=0, atol=1e-6)
    overall, each = al.silhouette(z)
    slow_overall, slow_each = slow_silhouette(z)
    np.testing.assert_allclose([overall, *each], [slow_overall, *slow_each], rtol=0, atol=1e-6)


def test_the_smallest_subspace_has_97_percent():
    """Variances 90, 7 and 3 percent along the axes: two directions, exactly; with a little more asked, three."""
    x = np.concatenate([math.sqrt(s) * np.array([v, -v]) for s, v in zip((90, 7, 3), np.eye(3), strict=True)])
    z = np.stack([x, np.roll(x, 1, axis=1)], axis=1)
    assert [b.shape[1] for b in al.subspaces(z, 0.97)[1]] == [2, 2]
    assert [b.shape[1] for b in al.subspaces(z, 0.9701)[1]] == [3, 3]
    h = al.cross_capture(z)  # the second latent's 90 % lie along axis 1, 7 % along axis 2, 3 % along axis 0
    np.testing.assert_allclose(h, [[0.97, 0.93], [0.10, 0.97]], atol=1e-12)
    assert al.off_diagonal(h) == pytest.approx((0.93 + 0.10) / 2)


def test_constructed_cases():
    x = RNG.normal(size=(50, 4))
    z = np.stack([x, 3 * x[::-1] + 7], axis=1)  # the same subspace, elsewhere
    assert al.off_diagonal(al.cross_capture(z, tau=1.0)) == pytest.approx(1, abs=1e-9)
    z = np.zeros((50, 2, 8))
    z[:, 0, :4], z[:, 1, 4:] = x, x  # orthogonal
    assert al.off_diagonal(al.cross_capture(z)) == pytest.approx(0, abs=1e-12)
    assert np.diag(al.cross_capture(z)).min() >= 0.97 - 1e-12
    far = 0.01 * RNG.normal(size=(60, 3, 5)) + 10 * np.eye(3, 5)
    assert al.silhouette(far)[0] > 0.99 and min(al.silhouette(far)[1]) > 0.99
    same = RNG.normal(size=(400, 2, 5))
    assert abs(al.silhouette(same)[0]) < 0.02


def independent(n=1024, n_latents=8, width=64, seed=0):
    """Latents that know nothing of each other and share a spectrum alone: 1, 1/2, 1/3, ..."""
    return np.random.default_rng(seed).normal(size=(n, n_latents, width)) / np.arange(1, width + 1)


def test_a_shared_spectrum_makes_for_capture_and_chance_has_it_too():
    z = independent()
    assert al.off_diagonal(al.cross_capture(z)) == pytest.approx(0.97, abs=0.003), "nothing but the spectrum is shared"
    rank = np.mean([basis.shape[1] for basis in al.subspaces(z)[1]])
    assert rank / 64 == pytest.approx(0.24, abs=0.01), "which a random subspace of that rank does not see"
    capture = {name: al.off_diagonal(al.cross_capture(x)) for name, x in (("z", z), ("shuffled", al.shuffled(z)))}
    assert capture["shuffled"] == pytest.approx(capture["z"], abs=0.001)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 64, 64)))[0]
    apart = (z.swapaxes(0, 1) @ turn).swapaxes(0, 1)  # each latent along directions of its own: there rank / width is right
    assert al.off_diagonal(al.cross_capture(apart)) == pytest.approx(rank / 64, abs=0.02)
    assert al.off_diagonal(al.cross_capture(al.shuffled(apart))) > capture["z"] - 0.3, "shuffled, they share what all have"


def test_shuffled_latents_are_the_same_centred_ones():
    z = spread_unevenly(40, 4, 5)
    z[:, 2] = 0.1
    x, found = z - z.mean(axis=0), al.shuffled(z)
    x[:, 2] = 0
    for before, after in zip(x, found, strict=True):
        np.testing.assert_allclose(sorted(map(tuple, after)), sorted(map(tuple, before)), rtol=0, atol=1e-12)
    moved = [(after != before).any(axis=1).mean() for before, after in zip(x.swapaxes(0, 1), found.swapaxes(0, 1), strict=True)]
    assert min(moved) > 0.5, "one order for all examples would only rename the latents"
    assert (al.shuffled(z, seed=1) != found).any() and (al.shuffled(z) == found).all()


def test_a_mean_has_student_s_interval():
    assert al.mean_and_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.30265273 / math.sqrt(3)))
    assert al.mean_and_interval([7.0]) == (7.0, None)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_degenerate_latents_have_defined_values(constant):
    z = spread_unevenly(30, 3, 6)
    z[:, 1] = constant  # 0.1 cannot be written exactly: its mean is not it
    h = al.cross_capture(z)
    assert not h[1].any() and not h[:, 1].any() and h[0, 2] > 0 and np.isfinite(h).all()
    for scores in (al.silhouette(z), al.silhouette(np.full((4, 3, 2), constant)), al.silhouette(z[:1])):
        assert np.isfinite([scores[0], *scores[1]]).all()
    assert al.silhouette(z[:1])[0] == 0 and not al.silhouette(z[:1])[1].any()  # all singletons
    one = al.cross_capture(z[:, :1])
    assert one.shape == (1, 1) and one[0, 0] >= 0.97 and al.off_diagonal(one) is None
    assert not al.cross_capture(z[:1]).any()  # one example has no variance


def test_nothing_is_measured_of_what_is_not_finite():
    z = spread_unevenly(10, 3, 4)
    for bad in (np.nan, np.inf):
        z[3, 1, 2] = bad
        for diagnostic in (al.cross_capture, al.silhouette):
            with pytest.raises(ValueError):
                diagnostic(z)


def test_a_subsample_keeps_whole_examples_and_repeats(monkeypatch):
    z = spread_unevenly(200, 2, 3)
    assert al.subsampled_silhouette(z)[2] == 0 and al.subsampled_silhouette(z)[0] == al.silhouette(z)[0]
    monkeypatch.setattr(al, "SILHOUETTE_POINTS", 160)
    asked = []
    plain = al.silhouette
    monkeypatch.setattr(al, "silhouette", lambda part: asked.append(part) or plain(part))
    overall, each, spread = al.subsampled_silhouette(z, seed=4)
    assert [part.shape for part in asked] == [(80, 2, 3)] * 3 and 0 < spread < 0.2
    whole = {tuple(row) for row in z.reshape(200, -1)}
    assert all({tuple(row) for row in part.reshape(80, -1)} < whole for part in asked)
    assert al.subsampled_silhouette(z, seed=4)[0] == overall != al.subsampled_silhouette(z, seed=5)[0]
    assert overall == pytest.approx(each.mean()) and abs(overall - plain(z)[0]) < 0.1


# -----------------------------------------------------------------------------
# Z, interventions, words: of tiny random variants

LATENT = ["soft", "liu", "h1", "h2", "h2 scaled", "coconut"]


def batches(n=3):
    return [(random_tokens(2, 14, seed=i), torch.tensor([[3, 7, 5], [9, 2, 2]])) for i in range(n)]


@pytest.mark.parametrize("case", LATENT)
def test_z_is_what_the_branch_says(case):
    """Coprocessor: its last hidden states over the concatenated cache; coconut: each latent from the one before."""
    model = tiny_variant(case, "qwen3").eval()
    found = al.collect(model, batches())
    rows = []
    for tokens, sites in batches():
        for row, row_sites in zip(tokens, sites.tolist(), strict=True):
            hidden, past = slow_read(model.base, row)
            for site in row_sites:
                before = cut(past, site + 1)
                if case == "soft":
                    z = model.soft
                elif case == "coconut":
                    z = [hidden[site]]
                    for i in range(model.n_latents - 1):
                        h, before = slow_step(model.base, z[-1], site + 1 + i, before)
                        z.append(h)
                    z = torch.stack(z)
                else:
                    z, _ = slow_run(model.coprocessor, model.soft, [site] * 3, before)
                rows.append(z.detach().numpy())
    np.testing.assert_allclose(found, np.stack(rows), atol=2e-5)


def test_ordinary_tokens_are_those_up_to_the_site(family):
    model = tiny_variant("h1", family).eval()
    sites, rows = [[3, 1, 2], [0, 13, 5]], []
    tokens = random_tokens(2, 14)
    for row, row_sites in zip(tokens, sites, strict=True):
        hidden, _ = slow_read(model.base, row)
        rows += [hidden[site - 2 : site + 1].detach().numpy() for site in row_sites if site >= 2]  # N_L = 3 of them
    assert len(rows) == 4, "at two sites there are too few"
    found = al.collect_tokens(model, [(tokens, torch.tensor(sites))] * 2)
    np.testing.assert_allclose(found, np.stack(rows * 2), atol=2e-5)
    few = al.collect_tokens(model, [(tokens, torch.tensor([[1, 1, 1], [1, 0, 2]]))])
    assert few.shape[:2] == (5, 2), "as many as half of the examples have"
    template = [(torch.tensor([[7, i, 3], [7, i + 1, 3]]), torch.ones(2, 3, dtype=torch.int64)) for i in (1, 4)]
    assert al.collect_tokens(model, template).shape[:2] == (12, 1), "the first token is the same in all examples"


def nll(model):
    tokens, sites = batches()[0]
    with torch.no_grad():
        return model.ahead_nll(tokens, sites, coprocessor.ahead_tokens(tokens, sites, 3))


@pytest.mark.parametrize("case", ["soft", "liu", "h1", "h2"])
def test_an_intervention_changes_the_message_and_nothing_else(case):
    model = tiny_variant(case, "gpt2").eval()
    plain = nll(model)
    with al.intervene(model, lambda t, key: t.clone()):
        assert torch.equal(nll(model), plain)
    with al.intervene(model, lambda t, key: torch.zeros_like(t)):
        changed = nll(model)
    assert (changed - plain).abs().min() > 0
    assert torch.equal(nll(model), plain), "the intervention is over"
    tokens, sites = batches()[0]
    if case != "h1":  # by hand: a branch that is fed zeros
        x, where = torch.zeros(2, 3, 3, 64, dtype=torch.float64), sites[..., None].expand(2, 3, 3)
        zero = coprocessor.BranchStart(x, sites, where, sites + 1)
        ahead = coprocessor.ahead_tokens(tokens, sites, 3)
        hidden = model.pass3_predict(model.pass1_prefix(tokens), zero, ahead)[:, :, -3:]
        close(changed, token_nll(model.base, hidden, ahead), 1e-12)


@pytest.mark.parametrize("case", ["soft", "pause", "liu", "h1", "h2"])
def test_with_no_message_the_base_goes_on_as_a_language_model(case):
    model = tiny_variant(case, "qwen3").eval()
    plain = coprocessor.build("continued", model.base, 0).eval()
    lengths = torch.tensor([9, 14])
    before = model.generate(batches()[0][0], lengths, 6)
    with al.intervene(model, None):
        assert torch.equal(nll(model), nll(plain)), "also under h1: x_site in its own place, and once"
        none = model.generate(batches()[0][0], lengths, 6)
    assert torch.equal(none, model.generate(batches()[0][0], lengths, 6, with_latents=False)) and not torch.equal(none, before)


def test_an_effect_has_two_parts_each_with_an_interval_over_examples():
    right = dict(untouched=[1, 1, 1, 0], zero=[0] * 4, mean=[0] * 4, swapped=[1, 0, 1, 0], none=[0, 0, 1, 1])
    answers = iter(right.values())

    def score():
        """Of four examples, for each intervention in turn"""
        return np.array(next(answers, [1] * 4), dtype=float)[:, None]

    found, by_ahead, effect = al.interventions(tiny_variant("h2", "gpt2").eval(), batches(), score, "accuracy")
    assert {name: found[name] for name in right} == dict(untouched=75, zero=0, mean=0, swapped=50, none=50)
    assert effect.keys() == {"presence", "content"} and by_ahead == {}
    assert effect["presence"] == (0, pytest.approx(3.18244631 * 100 * math.sqrt(2 / 3) / 2)), "swapped - none: 1, 0, 0, -1"
    assert effect["content"] == (25, pytest.approx(3.18244631 * 50 / 2)), "untouched - swapped: 0, 1, 0, 0"


def sent(model, tokens, sites):
    """-> {key: tensor} of what the model sends the Base"""
    found = {}
    with al.intervene(model, lambda t, key: found.setdefault(key, t)):
        started(model, tokens, sites)
    return found


@pytest.mark.parametrize("case", ["soft", "h1", "h2"])
def test_means_and_swaps(case):
    model = tiny_variant(case, "qwen3").eval()
    messages = [sent(model, *batch) for batch in batches()]
    means, swap = al.mean_message(model, batches()), al.swap()
    swapped = [{key: swap(t, key) for key, t in message.items()} for message in messages]
    assert means.keys() == ({(layer, i) for layer in (0, 1) for i in (0, 1)} if case == "h1" else {"x"})
    for key, mean in means.items():
        before, after = (torch.cat([message[key] for message in which]) for which in (messages, swapped))
        examples = before.transpose(1, 2).flatten(0, 1) if case == "h1" else before.flatten(0, 1)
        close(mean.squeeze(0).squeeze(1 if case == "h1" else 0), examples.double().mean(dim=0), 1e-12)
        assert torch.equal(after[1:], before[:-1]) and torch.equal(after[0], before[1])


def started(model, tokens, sites):
    return model.pass2_start(model.pass1_prefix(tokens), sites)


def test_there_are_interventions_on_both_messages():
    """A variant that sends Z and KV_phi at once, as the README's."""

    class Both(coprocessor.Variant):
        has_coprocessor = True

        def pass2_start(self, prefix, sites):
            z, kv_phi = self.latents(prefix, sites)
            return self.start_with(self.send(x=z), sites, z)._replace(kv=self.send(kv=kv_phi))

    model = Both(tiny_variant("continued", "gpt2").base, 2).double().eval()
    assert len(sent(model, *batches()[0])) == 5
    with al.intervene(model, lambda t, key: t * (key == "x")):
        found = started(model, *batches()[0])
    assert torch.equal(found.x, found.z) and not any(t.any() for pair in found.kv for t in pair)
    with al.intervene(model, lambda t, key: t * (key != "x")):
        found = started(model, *batches()[0])
    assert not found.x.any() and all(t.any() for pair in found.kv for t in pair)


@pytest.mark.parametrize("case", ["soft", "h1", "h2"])
def test_a_latent_that_is_dropped_is_gone(case):
    """Dropping the last of three latents is having two."""
    model = tiny_variant(case, "gpt2").eval()
    with al.intervene(model, lambda t, key: t[..., [0, 1], :]):
        dropped = nll(model)
    whole = nll(model)
    model.n_latents = 2
    close(dropped, nll(model), 1e-12)
    assert (dropped - whole).abs().max() > 1e-3


def test_words_are_the_head_s(family):
    class Letters:
        vocab_size = VOCAB - 1

        def decode(self, ids):
            return chr(65 + ids[0])

    model = tiny_variant("h2", family, dtype=torch.float32)
    z = RNG.normal(size=(300, 3, model.base.config.width)).astype(np.float32)
    found = al.words(model, z, Letters(), top=3)
    for i in range(3):
        nearest = (z[:, i] @ model.base.wte.weight.detach().numpy().T).argmax(axis=1)
        counts = np.bincount(nearest, minlength=VOCAB)
        assert len(found[i]) == 3 and found[i][0][1] == counts.max() / 300
        assert all(share == sorted(counts)[::-1][k] / 300 for k, (_, share) in enumerate(found[i]))


# -----------------------------------------------------------------------------
# The orthogonality option


def slow_overlap(z):
    """One branch (N_L, C): the mean squared cosine over pairs of latents."""
    pairs = [(a, b) for a in range(len(z)) for b in range(len(z)) if a != b]
    cosines = [z[a] @ z[b] / (z[a].norm() * z[b].norm()) for a, b in pairs]
    return sum(c**2 for c in cosines) / len(pairs)


@pytest.mark.parametrize("case", LATENT)
def test_the_penalty_is_added_to_the_loss_and_to_nothing_else(case):
    model = tiny_variant(case, "gpt2").train()
    tokens, sites = batches()[0]
    ahead = coprocessor.ahead_tokens(tokens, sites, 4)
    plain, scored = model(tokens, sites, ahead), model.ahead_nll(tokens, sites, ahead)
    assert torch.equal(plain, scored)
    close(plain, slow_passes(case, model, tokens, sites, 4)[1], 1e-9)
    model.orthogonality_weight = 0.7
    assert torch.equal(model.ahead_nll(tokens, sites, ahead), scored)
    z = started(model, tokens, sites).z
    expected = torch.stack([torch.stack([slow_overlap(branch) for branch in row]) for row in z])
    close(model(tokens, sites, ahead), plain + 0.7 * expected[..., None], 1e-9)
    # the gradient is that of the sum
    trained = [p for p in model.parameters() if p.requires_grad]
    model(tokens, sites, ahead).mean().backward()
    penalty = coprocessor.overlap(started(model, tokens, sites).z).mean()
    slow = torch.autograd.grad(model.ahead_nll(tokens, sites, ahead).mean() + 0.7 * penalty, trained)
    for p, g in zip(trained, slow, strict=True):
        close(p.grad, g, 1e-9)


def test_overlap_of_one_latent_and_of_known_ones():
    assert coprocessor.overlap(torch.randn(2, 1, 8)).abs().max() < 1e-6
    close(coprocessor.overlap(torch.eye(3)[None]), torch.zeros(1), 1e-6)
    close(coprocessor.overlap(torch.tensor([[[1.0, 0], [-2, 0], [0, 0]]])), torch.tensor([-1 / 6 + 1 / 3]), 1e-6)


# -----------------------------------------------------------------------------
# Whole runs


@pytest.fixture(scope="module")
def settings(train_settings, tmp_path_factory):
    corpus = tmp_path_factory.mktemp("corpus")
    make_corpus(corpus)
    return train_settings | dict(data=corpus, tokens=6 * 96, eval_rows=4)


def analyze(run, *more):
    al.main([str(run), "--device=cpu", *more])
    with open(run / "latents.json") as f:
        return json.load(f, parse_constant=lambda x: pytest.fail(f"{x} in latents.json"))


@pytest.mark.parametrize("variant, n_latents", [("h2", 3), ("h1", 2), ("soft", 2), ("liu", 1)])
def test_a_large_scale_run(variant, n_latents, settings, tmp_path, capsys):
    changes = dict(variant=variant, n_latents=n_latents, orthogonality_weight=0.1)
    run = run_here(train, settings | changes, tmp_path / "run_$1_or_$2^")  # a dollar sign is no formula
    result = analyze(run, "--examples=10", "--batch_size=2")
    assert result["setting"] == "text" and result["examples"] == 10 and len(result["words"]) == n_latents
    assert "fewer occurrences than dimensions" in capsys.readouterr().out
    names = [*result["interventions"]]
    assert names[:5] == ["untouched", "zero", "mean", "swapped", "none"]
    assert len(names) == (5 if n_latents == 1 else 5 + (variant != "h1") + n_latents)
    assert (run / "latents.png").read_bytes().startswith(b"\x89PNG")
    whole = analyze(run, "--examples=16", "--batch_size=3")
    last = runtime.read_metrics(run)[-1]["val_ppl"]
    assert whole["interventions"]["untouched"] == pytest.approx(last, rel=1e-5), "the run's own validation"
    ppl, effect = whole["interventions"], whole["effect"]
    assert effect["presence"][0] == pytest.approx(100 * math.log(ppl["none"] / ppl["swapped"]), abs=1e-6)
    assert effect["content"][0] == pytest.approx(100 * math.log(ppl["swapped"] / ppl["untouched"]), abs=1e-6)
    assert (effect["content"][1] > 0) == (variant != "soft"), "one's own soft tokens are another's"
    assert effect["presence"][1] > 0
    if variant == "soft":
        same = [whole["interventions"][name] for name in ("untouched", "mean", "swapped")]
        assert max(same) - min(same) < 1e-4 and not np.any(whole["capture"])
        assert "no variance" in capsys.readouterr().out
    if n_latents == 1:
        assert whole["off_diagonal"] is None and whole["silhouette"] is None and whole["silhouettes"] == []
        assert "chance" not in whole
    else:
        assert whole["chance"].keys() == {"tokens", "shuffled"}


def test_a_run_whose_weights_are_not_finite_or_whose_ids_are_another_tokenizer_s_is_refused(settings, tmp_path):
    run = run_here(train, settings, tmp_path / "run")
    (tmp_path / "other").mkdir()
    make_corpus(tmp_path / "other", "quite different words")
    config = runtime.read_json(run / "config.json")
    runtime.write_json(run / "config.json", config | {"data": str(tmp_path / "other")})
    with pytest.raises(ValueError, match="run has read another tokenizer's ids than those of .*other"):
        analyze(run)
    runtime.write_json(run / "config.json", config)
    model, _ = coprocessor.load_run(run)
    with torch.no_grad():
        model.soft[1] = math.nan
    coprocessor.save(model, run / "checkpoint", run)
    with pytest.raises(ValueError, match="added.safetensors: soft is not finite"):
        analyze(run)


def test_a_run_on_countdown(countdown_settings, tmp_path):
    run = run_here(cd, countdown_settings | dict(variant="h1"), tmp_path / "run")
    result, last = analyze(run, "--examples=1000", "--batch_size=4"), runtime.read_metrics(run)[-1]
    assert (result["setting"], result["what"], result["examples"]) == ("Countdown", "accuracy", last["test_questions"])
    assert result["interventions"]["untouched"] == pytest.approx(100 * last["test_accuracy"])


def test_a_run_on_questions_whose_latents_spell_their_steps(reasoning_settings, tmp_path):
    run = run_here(fr, reasoning_settings | dict(variant="rounds", step_weight=1.0), tmp_path / "run")
    result, last = analyze(run, "--examples=1000", "--batch_size=4"), runtime.read_metrics(run)[-1]
    assert result["examples"] == last["test_questions"]
    assert result["interventions"]["untouched"] == pytest.approx(100 * last["test_accuracy"])
    # spelled as often as greedy decoding from the latents of one question at a time says the step
    model, _ = coprocessor.load_run(run)
    tokenizer, right = tokenizer_of(str(run)), [[], []]
    for line in map(json.loads, (run / "predictions.jsonl").read_text().splitlines()):
        ids = torch.tensor([tokenizer.encode(line["question"] + "\n")])
        prefix = model.pass1_prefix(ids)
        start = model.pass2_start(prefix, torch.tensor([[ids.size(1) - 1]]))
        for j, step in enumerate(line["steps"][:2]):
            step = tokenizer.encode(step + "\n")
            said = model.spell(model.as_input(start.z), prefix.kv, len(step))[0, j].tolist()
            right[j].append(said == step)
    assert result["spelled"] == [np.mean(found) for found in right]
