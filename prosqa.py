"""A generator of ProsQA: is Tom a lorpus or a zumpus? (Hao et al. 2024, section 4.1 and appendix A.2)

    python prosqa.py data/prosqa_generated                                            # as large and as hard as the original
    python prosqa.py data/prosqa_9 --nodes=9 --hops 2 3 --words 4 8 --depth_matched   # for a tiny model
    python prosqa.py data/statements_9 --nodes=9 --hops 2 3 --words 4 8 --statements  # what its Base is trained on first
    python prosqa.py --show=2                                                         # two questions, and statistics

A graph of made-up concepts grows from two entities, its roots. The question names one of them and two leaves, one for each
root; following "Every x is a y" from the entity leads to only one of the two. Files have the original's format.

In the original, and here, the entity that is asked about has the deeper leaf, so that "choose the deeper concept" is right
nine times in ten whatever the entity. With --depth_matched both leaves are equally deep, and either entity is asked about
as often: a model that ignores the entity is right half of the time.

Validation and test ask about structures that training does not have: graphs that differ in more than their words and the
order of their statements. Graphs of the original's size nearly all do. With --depth_matched and --hops 2 3 there are about
20 structures of 7 nodes, 500 of 8, and thousands of 9.
"""

import json
import math
import os
import random
import zlib
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from configurator import Parser, one_line_errors

import numpy as np

from data import atomic_write, folder_lock, train_tokenizer, write_text

NAMES = "Ada Ben Carl Dora Emil Fay Gus Hugo Ines Jack Kim Leo Mona Nils Olga Paul Rita".split()
CONCEPTS = [onset + rest for rest in ("umpus", "orpus", "impus", "erpus") for onset in "b d f g h k l r v z".split()][:38]


class Kind(NamedTuple):
    """Of graphs and questions; the defaults are the original's."""

    nodes: int = 27  # that a graph grows to; those without an edge are dropped
    hops: tuple = (3, 6)  # from the entity to the answer
    words: tuple = (len(NAMES), len(CONCEPTS))  # how many names and concepts there are
    depth_matched: bool = False  # both leaves equally deep


def sample_edges(rng, nodes):
    """Nodes 0 and 1 are the roots; every other node has Poisson(1.5) parents among those before it -> [(parent, child)]

    The shares and weights make graphs like the original's.
    """
    label, depth, edges = [1, 2], [0, 0], []  # a label has a bit for each root above
    for node in range(2, nodes):
        (group,) = rng.choices((1, 2, 3), (0.38, 0.47, 0.15))  # parents below the first root, below the second, or anywhere
        near = [v for v in range(node) if group == 3 or label[v] in (0, group)]
        weights = {v: (1.5 * depth[v] + 1) * (1 if label[v] else 0.04) for v in near}
        n_parents, product = 0, rng.random()
        while product > math.exp(-1.5):  # Knuth's way to sample from a Poisson distribution
            n_parents, product = n_parents + 1, product * rng.random()
        label.append(0), depth.append(0)
        for _ in range(min(n_parents, len(near))):
            (parent,) = rng.choices(list(weights), weights.values())
            del weights[parent]  # without replacement
            label[node] |= label[parent]
            depth[node] = max(depth[node], depth[parent] + 1)
            edges.append((parent, node))
    return edges


def shortest_paths(edges, root):
    """-> {node: its shortest path from the root, as nodes}"""
    paths, queue = {root: [root]}, [root]
    for node in queue:
        for parent, child in edges:
            if parent == node and child not in paths:
                paths[child] = [*paths[node], child]
                queue.append(child)
    return paths


def choose_question(rng, edges, kind):
    """-> (root, path to the answer, distractor), or None where the graph does not fit"""
    inner, paths = {parent for parent, _ in edges}, [shortest_paths(edges, root) for root in (0, 1)]
    # for each root, the leaves below it alone, with their paths
    leaves = [{v: p for v, p in paths[r].items() if v not in inner and v not in paths[1 - r] and len(p) > 1} for r in (0, 1)]
    if not all(leaves):
        return None
    low, high = kind.hops[0] + 1, kind.hops[1] + 1  # nodes of a path
    if kind.depth_matched:
        pairs = [(v, w) for v, p in leaves[0].items() for w, q in leaves[1].items() if low <= len(p) == len(q) <= high]
        if not pairs:
            return None
        pair, root = rng.choice(pairs), rng.randrange(2)
        return root, leaves[root][pair[root]], pair[1 - root]
    deepest = [max(map(len, own.values())) for own in leaves]
    root = rng.randrange(2) if deepest[0] == deepest[1] else deepest.index(max(deepest))
    if not low <= deepest[root] <= high:
        return None
    target = rng.choice([v for v, path in leaves[root].items() if len(path) == deepest[root]])
    return root, leaves[root][target], rng.choice(list(leaves[1 - root]))


def name_nodes(rng, edges, kind):
    """-> {node: its word}: entities, which have no parents, get names; the others concepts. None where there are too few."""
    used, with_parents = sorted({v for edge in edges for v in edge}), {child for _, child in edges}
    names, concepts = (rng.sample(w[:n], n) for w, n in zip((NAMES, CONCEPTS), kind.words, strict=True))
    if len(used) - len(with_parents) > len(names) or len(with_parents) > len(concepts):
        return None
    return {v: (concepts if v in with_parents else names).pop() for v in used}


def sample_graph(rng, kind):
    """-> (edges in random order, {node: its word}, root, path to the answer, distractor)"""
    for _ in range(10_000):
        edges = sample_edges(rng, kind.nodes)
        chosen = choose_question(rng, edges, kind)
        word = chosen and name_nodes(rng, edges, kind)
        if word:
            return rng.sample(edges, len(edges)), word, *chosen
    raise ValueError(f"10,000 graphs of {kind.nodes} nodes had no question of {kind.hops[0]} to {kind.hops[1]} hops")


def statement(word, parent, child):
    return f"{'' if word[parent] in NAMES else 'Every '}{word[parent]} is a {word[child]}."


def sample_question(rng, kind):
    """-> a dict in the original's format. Raises ValueError where such graphs are too rare."""
    edges, word, root, path, distractor = sample_graph(rng, kind)
    index = {v: i for i, v in enumerate(word)}
    a, b = (word[v] for v in rng.sample([path[-1], distractor], 2))
    return {
        "question": " ".join([*(statement(word, *e) for e in edges), f"Is {word[root]} a {a} or {b}?"]),
        "answer": f"{word[root]} is a {word[path[-1]]}.",
        "steps": [statement(word, *e) for e in pairwise(path)],
        "idx_to_symbol": list(word.values()),
        "edges": [[index[p], index[c]] for p, c in edges],
        "root": index[root],
        "target": index[path[-1]],
        "neg_target": index[distractor],
    }


def sample_statements(rng, kind, worded=False):
    """A graph, then statements of it and conclusions, half of them step by step -> a dict with the keys of a question's

    One in eight is about sums instead, in the form of GSM8K's annotations. worded: some lines use the words that only
    questions have ("Is Ada a lumpus?", "Ada is a lumpus or zumpus."), so that a Base knows them before it is frozen.
    """
    if rng.random() < 1 / 8:
        first, *lines = sample_sums(rng)
    else:
        edges, word, *_ = sample_graph(rng, kind._replace(hops=(1, kind.nodes), depth_matched=False))
        first, lines = " ".join(statement(word, *e) for e in edges), []
        names = [v for v in word if word[v] in NAMES]
        for _ in range(8):
            if worded and rng.random() < 0.5:
                lines += sample_wording(rng, edges, word, rng.choice(names))
            lines.append(statement(word, *rng.choice(edges)))
            paths = shortest_paths(edges, rng.choice(names))
            path = rng.choice([p for p in paths.values() if len(p) > 1])
            if rng.random() < 0.5:
                lines += [statement(word, *e) for e in pairwise(path)]
            lines.append(f"### {word[path[0]]} is a {word[path[-1]]}.")
    return {"question": first, "steps": lines[:-1], "answer": lines[-1].removeprefix("### ")}


def sample_wording(rng, edges, word, root):
    """A true statement about an entity that offers two concepts, or a question about one, with its answer -> lines"""
    paths = shortest_paths(edges, root)
    right = [word[v] for v, path in paths.items() if len(path) > 1]
    wrong = [word[v] for v in word if v not in paths and word[v] not in NAMES]
    if not wrong:
        return []
    pair = rng.choice(right), rng.choice(wrong)
    if rng.random() < 0.5:
        return [f"{word[root]} is a {' or '.join(rng.sample(pair, 2))}."]
    true = rng.randrange(2)
    return [f"Is {word[root]} a {pair[1 - true]}?", "Yes." if true else "No."]


def sample_sums(rng):
    """Four chains of calculations, each of which ends with its result -> lines"""
    lines = []
    for _ in range(4):
        value = rng.randrange(1, 100)
        for _ in range(rng.randrange(1, 4)):
            other, operator = rng.randrange(2, 50), rng.choice("+-*/")
            result = {"+": value + other, "-": value - other, "*": value * other, "/": value / other}[operator]
            if result != int(result) or not 0 <= result < 1000:
                operator, result = "+", value + other
            lines.append(f"<<{value}{operator}{other}={int(result)}>>")
            value = int(result)
        lines.append(f"### {value}")
    return lines


def as_text(e):
    return "\n".join([e["question"], *e["steps"], "### " + e["answer"]])


def question_key(question):
    """What it asks, in whatever order its statements are"""
    *statements, asked = question.split(". ")
    return frozenset(statements), frozenset(asked.rstrip("?").split())


def structure(e):
    """A question's graph and its two candidates, without words and order -> a tuple, the same for isomorphic graphs.

    Which candidate is right makes no difference, or it could be guessed from the graph alone. By colour refinement
    (Weisfeiler and Leman 1968): a node's next colour is its own with those of its parents and children, until none splits.
    """
    edges = e["edges"]
    color = dict.fromkeys(range(len(e["idx_to_symbol"])), 0) | {e["target"]: 1, e["neg_target"]: 1}
    n_colors = 0
    while len(set(color.values())) > n_colors:
        n_colors = len(set(color.values()))
        above, below = ({v: sorted(color[x[1 - i]] for x in edges if x[i] == v) for v in color} for i in (1, 0))
        near = {v: (color[v], above[v], below[v]) for v in color}
        ranked = sorted(near.values())
        color = {v: ranked.index(near[v]) for v in color}
    return tuple(sorted(color.values())), tuple(sorted((color[parent], color[child]) for parent, child in edges))


def split_of(e):
    """A tenth of all structures is test's, a tenth valid's, in every folder."""
    return {0: "test", 1: "valid"}.get(zlib.crc32(str(structure(e)).encode()) % 10, "train")


def sample_split(rng, split, count, kind):
    """-> list of different questions of that split"""
    found, rejected = {}, 0
    while len(found) < count:
        e = sample_question(rng, kind)
        key = question_key(e["question"])
        if split_of(e) == split and key not in found:
            found[key], rejected = e, 0
        elif (rejected := rejected + 1) == 10_000:
            raise ValueError(f"there seem to be only {len(found):,} such questions for {split}: ask for fewer (--counts)")
    return [*found.values()]


def statistics(examples):
    """What is known of the original, for a list of questions -> lines"""
    rows, hops = [], Counter(len(e["steps"]) for e in examples)
    for e in examples:
        roots = {p for p, _ in e["edges"]} - {c for _, c in e["edges"]}
        paths = [shortest_paths(e["edges"], root) for root in roots]
        a, b = (min(len(p[v]) for p in paths if v in p) for v in (e["target"], e["neg_target"]))
        rows.append((len(e["idx_to_symbol"]), len(e["edges"]), len(roots), 0.5 if a == b else float(a > b)))
    (nodes, edges, entities, deeper), std = np.mean(rows, axis=0), np.std(rows, axis=0)
    return [
        f"{len(examples)} graphs: {nodes:.1f} ± {std[0]:.1f} nodes, {edges:.1f} ± {std[1]:.1f} edges, {entities:.2f} entities",
        "hops: " + ", ".join(f"{n}: {count / len(examples):.2f}" for n, count in sorted(hops.items())),
        f'"choose the deeper concept" is right in {100 * deeper:.1f} %',
    ]


def write(a, kind):
    """All files of a folder; no question is in two of them, and no structure that is asked about."""
    splits = {}
    for split, count in zip(("test", "valid", "train"), reversed(a.counts), strict=True):
        rng = random.Random(f"{a.seed} {split}")
        if a.statements:
            splits[split] = [sample_statements(rng, kind, a.worded) for _ in range(count)]
        else:
            splits[split] = sample_split(rng, split, count, kind)
        path = os.path.join(a.out, f"prosqa_{split}.json")
        with atomic_write(path) as new, open(new, "w", encoding="utf-8") as f:
            json.dump(splits[split], f)
        print(f"{path}: {count:,} examples")
    if not a.statements:
        print(f"{len({*map(structure, splits['train'])}):,} structures", *statistics(splits["train"][:1000]), sep="\n")
        return
    # a byte-level BPE for tiny models: "Every lorpus is a zumpus. " is three tokens, a digit is one
    rng, texts = random.Random(a.seed), []
    for _ in range(500):
        texts += [sample_question(rng, kind)["question"], as_text(sample_statements(rng, kind, a.worded))]
    pattern = r"(Every| is a| a| or) [a-z]+pus|[A-Z][a-z]+|\. ?|[?]|### |<<|>>|[0-9]|\n"
    train_tokenizer(texts, 512, os.path.join(a.out, "tokenizer.json"), pattern)
    for name, split in (("train", "train"), ("val", "valid")):
        write_text(a.out, name, map(as_text, splits[split]))


def main(argv=None):
    parser, original = Parser(__doc__), Kind()
    parser.add_argument("out", nargs="?", help="the folder to write")
    parser.add_argument("--nodes", type=int, default=original.nodes, help="that a graph grows to (default %(default)s)")
    parser.add_argument("--hops", type=int, nargs=2, default=original.hops, help="from the entity to the answer (default 3 6)")
    parser.add_argument("--words", type=int, nargs=2, default=original.words, help="names and concepts (default 17 38)")
    parser.add_argument("--depth_matched", action="store_true", help="both leaves equally deep")
    parser.add_argument("--statements", action="store_true", help="without questions; with a tokenizer, also as shards")
    parser.add_argument("--worded", action="store_true", help="statements also use the words that only questions have")
    parser.add_argument("--counts", type=int, nargs=3, default=(17886, 300, 500), help="train, valid, test")
    parser.add_argument("--overwrite", action="store_true", help="also where there are questions already")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--show", type=int, help="print that many, and statistics, and write nothing")
    a = parser.parse_args(argv)
    if (a.out is None) == (a.show is None):
        parser.error("give either a folder to write or --show=2")
    if a.worded and not a.statements:
        parser.error("--worded says how --statements are made")
    kind = Kind(a.nodes, tuple(a.hops), tuple(a.words), a.depth_matched)
    if a.show is not None:
        rng = random.Random(a.seed)
        examples = [sample_question(rng, kind) for _ in range(max(a.show, 500))]
        for e in examples[: a.show]:
            print(e["question"], *e["steps"], e["answer"], sep="\n", end="\n\n")
        print(*statistics(examples), sep="\n")
        return
    with folder_lock(a.out):
        if not a.overwrite and os.path.exists(os.path.join(a.out, "prosqa_train.json")):
            raise ValueError(f"{a.out} has questions already, on which runs may have been trained: --overwrite makes others")
        write(a, kind)


if __name__ == "__main__":
    one_line_errors(main)
