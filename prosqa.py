"""ProsQA, generated: is Tom a lorpus or a zumpus? (Hao et al. 2024, section 4.1 and appendix A.2)

    python prosqa.py data/prosqa_generated                                            # as large and as hard as the original
    python prosqa.py data/prosqa_9 --nodes=9 --hops 2 3 --words 4 8 --depth_matched   # for a tiny model
    python prosqa.py data/statements_9 --nodes=9 --hops 2 3 --words 4 8 --statements  # what its Base reads before
    python prosqa.py --show=2                                                         # look at two, and at the statistics

A graph of made-up concepts grows from two entities, each with a family of its own. The question names one of the
entities and a leaf of either family; following "Every x is a y" from the entity leads to just one of them. Files have the
format of the original: prosqa_{train,valid,test}.json.

In the original and here, the asked family is the one with the deeper leaf, so that "choose the deeper concept" is right
nine times in ten without a look at the entity. With --depth_matched both leaves are equally deep, and either entity is
asked as often: whatever does not read the entity is right half of the time.

Validation and test ask about structures that training does not have: graphs that are not the same up to their words and
the order of telling. Graphs of the original's size nearly all differ anyway. With --depth_matched and --hops 2 3 there are
about 20 structures of 7 nodes, 500 of 8, and thousands of 9.
"""

import json
import math
import os
import random
import zlib
from collections import Counter
from typing import NamedTuple

from configurator import Parser, at_least, one_line_errors

import numpy as np

from data import alone_in, train_tokenizer, whole, write_text

NAMES = "Ada Ben Carl Dora Emil Fay Gus Hugo Ines Jack Kim Leo Mona Nils Olga Paul Rita".split()
CONCEPTS = [onset + rest for rest in ("umpus", "orpus", "impus", "erpus") for onset in "b d f g h k l r v z".split()][:38]

# What makes graphs like the original's: shares of the three ways to draw parents, and the weight of parents without family.
FAMILY, STRAY = (0.38, 0.47, 0.15), 0.04


class Kind(NamedTuple):
    """Of graphs and questions; the defaults are the original's."""

    nodes: int = 27  # that a graph grows to; those without an edge are dropped
    hops: tuple = (3, 6)  # from the entity to the answer
    words: tuple = (len(NAMES), len(CONCEPTS))  # how many names and concepts there are
    depth_matched: bool = False  # both candidates equally deep


ORIGINAL = Kind()


def draw_edges(rng, nodes):
    """Nodes 0 and 1 found the families; every other node draws Poisson(1.5) parents among those before -> [(parent, child)]"""
    label, depth, edges = [1, 2], [0, 0], []  # a label has a bit for each family
    for node in range(2, nodes):
        (way,) = rng.choices((0, 1, 2), FAMILY)  # parents from family 1, from family 2, from anywhere
        near = {
            v: (1.5 * depth[v] + 1) * (1 if label[v] else STRAY) for v in range(node) if way == 2 or label[v] in (0, way + 1)
        }
        label.append(0), depth.append(0)
        for _ in range(min(poisson(rng, 1.5), len(near))):
            (parent,) = rng.choices(list(near), near.values())
            del near[parent]  # without replacement
            label[node] |= label[parent]
            depth[node] = max(depth[node], depth[parent] + 1)
            edges.append((parent, node))
    return edges


def poisson(rng, mean):
    """Knuth's: how many uniform numbers can be multiplied before the product is below exp(-mean)?"""
    count, product = 0, rng.random()
    while product > math.exp(-mean):
        count, product = count + 1, product * rng.random()
    return count


def shortest_paths(edges, root):
    """-> {node: its shortest path from the root, as nodes}"""
    children = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)
    paths, queue = {root: [root]}, [root]
    for node in queue:
        for child in children.get(node, []):
            if child not in paths:
                paths[child] = [*paths[node], child]
                queue.append(child)
    return paths


def leaves(edges):
    """-> for both families, {leaf that belongs to no other family: its shortest path}"""
    inner = {parent for parent, _ in edges}
    a, b = shortest_paths(edges, 0), shortest_paths(edges, 1)
    return [{n: p for n, p in x.items() if n not in inner and n not in y and len(p) > 1} for x, y in ((a, b), (b, a))]


def choose(rng, edges, kind):
    """-> (root, path to the target, distractor), or None where the graph does not fit"""
    families = leaves(edges)
    if not all(families):
        return None
    if kind.depth_matched:
        fitting = [(t, d) for t in families[0] for d in families[1] if len(families[0][t]) == len(families[1][d])]
        fitting = [pair for pair in fitting if kind.hops[0] <= len(families[0][pair[0]]) - 1 <= kind.hops[1]]
        if not fitting:
            return None
        pair, root = rng.choice(fitting), rng.randrange(2)
        return root, families[root][pair[root]], pair[1 - root]
    deepest = [max(len(p) for p in f.values()) for f in families]
    root = rng.randrange(2) if deepest[0] == deepest[1] else deepest.index(max(deepest))
    if not kind.hops[0] <= deepest[root] - 1 <= kind.hops[1]:
        return None
    target = rng.choice([n for n, p in families[root].items() if len(p) == deepest[root]])
    return root, families[root][target], rng.choice(list(families[1 - root]))


def name_nodes(rng, edges, kind):
    """-> {node: its word}: entities, which have no parents, get names; the others concepts. None where there are too few."""
    used, with_parents = sorted({v for edge in edges for v in edge}), {child for _, child in edges}
    names, concepts = (rng.sample(w[:n], n) for w, n in zip((NAMES, CONCEPTS), kind.words, strict=True))
    if len(used) - len(with_parents) > len(names) or len(with_parents) > len(concepts):
        return None
    return {v: (concepts if v in with_parents else names).pop() for v in used}


def tell(word, parent, child):
    return f"{'' if word[parent] in NAMES else 'Every '}{word[parent]} is a {word[child]}."


def draw_graph(rng, kind):
    """-> (edges in the order of telling, words, root, path, distractor)"""
    for _ in range(10000):
        edges = draw_edges(rng, kind.nodes)
        chosen = choose(rng, edges, kind)
        word = chosen and name_nodes(rng, edges, kind)
        if word:
            return rng.sample(edges, len(edges)), word, *chosen
    raise ValueError(f"10,000 graphs of {kind.nodes} nodes had no question of {kind.hops[0]} to {kind.hops[1]} hops")


def draw_example(rng, kind=ORIGINAL):
    """-> a dict in the original's format. Raises ValueError where such graphs are too rare."""
    edges, word, root, path, distractor = draw_graph(rng, kind)
    place = {v: i for i, v in enumerate(word)}
    a, b = (word[v] for v in rng.sample([path[-1], distractor], 2))
    return {
        "question": " ".join([tell(word, *e) for e in edges] + [f"Is {word[root]} a {a} or {b}?"]),
        "answer": f"{word[root]} is a {word[path[-1]]}.",
        "steps": [tell(word, *e) for e in zip(path, path[1:], strict=False)],
        "idx_to_symbol": list(word.values()),
        "edges": [[place[p], place[c]] for p, c in edges],
        "root": place[root],
        "target": place[path[-1]],
        "neg_target": place[distractor],
    }


def draw_statements(rng, kind=ORIGINAL, count=8, worded=False):
    """The same world without its questions: a graph is told, then what it says and what follows from it, some of it in steps.

    -> a dict like an example's, whose "question" is the telling and whose steps and answer are the statements that follow.
    One in eight tells of sums instead, in the form of GSM8K's annotations. worded: some lines use what else the questions
    are made of ("Is Ada a lumpus?", "Ada is a lumpus or zumpus."), so that a Base knows it before it is frozen.
    """
    if rng.random() < 1 / 8:
        first, *lines = draw_sums(rng)
        return {"question": first, "steps": lines[:-1], "answer": lines[-1]}
    edges, word, *_ = draw_graph(rng, kind._replace(hops=(1, kind.nodes), depth_matched=False))
    lines = []
    names = [v for v in word if word[v] in NAMES]
    for _ in range(count):
        if worded and rng.random() < 0.5:
            lines += draw_wording(rng, edges, word, rng.choice(names))
        lines.append(tell(word, *rng.choice(edges)))
        root = rng.choice(names)
        path = rng.choice([p for p in shortest_paths(edges, root).values() if len(p) > 1])
        if rng.random() < 0.5:
            lines += [tell(word, *e) for e in zip(path, path[1:], strict=False)]
        lines.append(f"### {word[root]} is a {word[path[-1]]}.")
    return {"question": " ".join(tell(word, *e) for e in edges), "steps": lines[:-1], "answer": lines[-1].removeprefix("### ")}


def draw_wording(rng, edges, word, root):
    """A true statement about one of the entities that offers two concepts, or a question after one, with its answer -> lines"""
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


def key(question):
    """What it asks, in whatever order it is told"""
    *told, asked = question.split(". ")
    return frozenset(told), frozenset(asked.rstrip("?").split())


def structure(e):
    """An example's graph and its two candidates, without words and order: the same for isomorphic graphs -> a tuple.

    Not which of the candidates is right: the question after the one and the question after the other count as one structure,
    so that nothing can be guessed from the graph alone.
    Colours are refined until they stand still (Weisfeiler and Leman 1968): both candidates begin with one of their own, and a
    node's next colour is its last one and those of its parents and children.
    """
    parents, children = {}, {}
    for parent, child in e["edges"]:
        parents.setdefault(child, []).append(parent)
        children.setdefault(parent, []).append(child)
    color = dict.fromkeys(range(len(e["idx_to_symbol"])), 0) | {e["target"]: 1, e["neg_target"]: 1}
    before = 0
    while len(set(color.values())) > before:
        before = len(set(color.values()))
        near = {v: (color[v], *(sorted(color[w] for w in by.get(v, [])) for by in (parents, children))) for v in color}
        ranked = sorted(near.values())
        color = {v: ranked.index(near[v]) for v in color}
    return tuple(sorted(color.values())), tuple(sorted((color[parent], color[child]) for parent, child in e["edges"]))


def split_of(e):
    """Which split has the questions of that structure, in every folder? -> test (of a tenth of them), valid (a tenth), train"""
    return {0: "test", 1: "valid"}.get(zlib.crc32(str(structure(e)).encode()) % 10, "train")


def in_full(e):
    return "\n".join([e["question"], *e["steps"], "### " + e["answer"]])


def draw_sums(rng, count=4):
    """Chains of calculations, the last line a bare result -> lines"""
    lines = []
    for _ in range(count):
        value = rng.randrange(1, 100)
        for _ in range(rng.randrange(1, 4)):
            other, operator = rng.randrange(2, 50), rng.choice("+-*/")
            result = {"+": value + other, "-": value - other, "*": value * other, "/": value / other}[operator]
            if result != int(result) or not 0 <= result < 1000:
                operator, result = "+", value + other
            lines.append(f"<<{value}{operator}{other}={int(result)}>>")
            value = int(result)
        lines.append(f"### {value}")
    return [*lines[:-1], lines[-1].removeprefix("### ")]


def write_tokenizer(rng, kind, worded, path):
    """A byte-level BPE for tiny models: "Every lorpus is a zumpus. " is three tokens, a digit is one."""
    texts = []
    for _ in range(500):
        texts += [draw_example(rng, kind)["question"], in_full(draw_statements(rng, kind, worded=worded))]
    train_tokenizer(texts, 512, path, r"(Every| is a| a| or) [a-z]+pus|[A-Z][a-z]+|\. ?|[?]|### |<<|>>|[0-9]|\n")


def statistics(examples):
    """What is known of the original, for a list of examples -> lines"""
    nodes, edges = ([len(e[key]) for e in examples] for key in ("idx_to_symbol", "edges"))
    hops = Counter(len(e["steps"]) for e in examples)
    deeper = []
    for e in examples:
        depth = {}
        for root in {p for p, _ in e["edges"]} - {c for _, c in e["edges"]}:
            for v, path in shortest_paths(e["edges"], root).items():
                depth[v] = min(depth.get(v, 99), len(path))
        a, b = depth[e["target"]], depth[e["neg_target"]]
        deeper.append(0.5 if a == b else float(a > b))
    entities = [len({p for p, _ in e["edges"]} - {c for _, c in e["edges"]}) for e in examples]
    return [
        f"{len(examples)} graphs: {np.mean(nodes):.1f} ± {np.std(nodes):.1f} nodes, {np.mean(edges):.1f} ± "
        f"{np.std(edges):.1f} edges, {np.mean(entities):.2f} entities",
        "hops: " + ", ".join(f"{n}: {count / len(examples):.2f}" for n, count in sorted(hops.items())),
        f'"choose the deeper concept" is right in {100 * np.mean(deeper):.1f} %',
    ]


def main():
    parser = Parser(__doc__)
    parser.add_argument("out", nargs="?", help="the folder to write")
    d = ORIGINAL
    parser.add_argument("--nodes", type=at_least(3, 1000), default=d.nodes, help=f"that a graph grows to (default {d.nodes})")
    parser.add_argument("--hops", type=at_least(1), nargs=2, default=d.hops, help="from the entity to the answer (default 3 6)")
    parser.add_argument(
        "--words", type=at_least(1), nargs=2, default=d.words, help="how many names and concepts (default 17 38)"
    )
    parser.add_argument("--depth_matched", action="store_true", help="both candidates equally deep")
    parser.add_argument(
        "--statements", action="store_true", help="the same world without questions, with a tokenizer, also as shards"
    )
    parser.add_argument("--worded", action="store_true", help="statements also use the words that only questions have")
    parser.add_argument(
        "--counts", type=at_least(1), nargs=3, default=(17886, 300, 500), help="train, valid, test (default 17886 300 500)"
    )
    parser.add_argument("--overwrite", action="store_true", help="also where there are questions already")
    parser.add_argument("--seed", type=at_least(0), default=0, help="default 0")
    parser.add_argument("--show", type=at_least(0), help="print that many, and statistics, and write nothing")
    a = parser.parse_args()
    if (a.out is None) == (a.show is None):
        raise ValueError("give either a folder to write or --show=2")
    if a.worded and not a.statements:
        raise ValueError("--worded says how --statements are made")
    for wanted, words, what in zip(a.words, (NAMES, CONCEPTS), ("names", "concepts"), strict=True):
        if wanted > len(words):
            raise ValueError(f"--words: there are {len(words)} {what}, not {wanted}")
    kind = Kind(a.nodes, tuple(a.hops), tuple(a.words), a.depth_matched)
    if a.show is not None:
        rng = random.Random(a.seed)
        examples = [draw_example(rng, kind) for _ in range(max(a.show, 500))]
        for e in examples[: a.show]:
            print(e["question"], *e["steps"], e["answer"], sep="\n", end="\n\n")
        print(*statistics(examples), sep="\n")
        return
    with alone_in(a.out):
        if not a.overwrite and os.path.exists(os.path.join(a.out, "prosqa_train.json")):
            raise ValueError(f"{a.out} has questions already, which runs may have learnt from: --overwrite makes others")
        write(a, kind)


def write(a, kind):
    """All files of a folder; no question is in two of them, and no structure that is asked about."""
    seen, statements = set(), {}
    for split, count in zip(("test", "valid", "train"), reversed(a.counts), strict=True):
        rng, examples, repeats = random.Random(f"{a.seed} {split}"), [], 0
        while len(examples) < count:
            e = draw_statements(rng, kind, worded=a.worded) if a.statements else draw_example(rng, kind)
            if a.statements or (split_of(e) == split and key(e["question"]) not in seen):
                seen.add(key(e["question"]))
                examples.append(e)
                repeats = 0
            elif (repeats := repeats + 1) == 10_000:
                raise ValueError(
                    f"there seem to be only {len(examples):,} such questions for {split}: ask for fewer (--counts)"
                )
        path = os.path.join(a.out, f"prosqa_{split}.json")
        with whole(path) as unfinished, open(unfinished, "w", encoding="utf-8") as f:
            json.dump(examples, f)
        asked = "" if a.statements else f" of {len({*map(structure, examples)}):,} structures"
        print(f"{path}: {count:,} examples{asked}")
        statements[split] = examples
    if a.statements:
        write_tokenizer(random.Random(a.seed), kind, a.worded, os.path.join(a.out, "tokenizer.json"))
        write_text(a.out, "train", map(in_full, statements["train"]))
        write_text(a.out, "val", map(in_full, statements["valid"]))
    else:
        print(*statistics(examples[:1000]), sep="\n")


if __name__ == "__main__":
    one_line_errors(main)
