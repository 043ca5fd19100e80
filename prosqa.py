"""ProsQA, generated: is Tom a lorpus or a zumpus? (Hao et al. 2024, section 4.1 and appendix A.2)

    python prosqa.py data/prosqa_generated                                            # as large and as hard as the original
    python prosqa.py data/prosqa_tiny --nodes=9 --hops 2 3 --depth_matched            # for a tiny model
    python prosqa.py --show=2                                                         # look at two, and at the statistics

A graph of made-up concepts grows from two entities, each with a family of its own. The question names one of the
entities and a leaf of either family; following "Every x is a y" from the entity leads to just one of them. Files have the
format of the original: prosqa_{train,valid,test}.json.

In the original and here, the asked family is the one with the deeper leaf, so that "choose the deeper concept" is right
nine times in ten without a look at the entity. With --depth_matched both leaves are equally deep, and either entity is
asked as often: whatever does not read the entity is right half of the time.
"""

import argparse
import json
import os
from collections import Counter

import numpy as np

from configurator import one_line_errors

NAMES = "Ada Ben Carl Dora Emil Fay Gus Hugo Ines Jack Kim Leo Mona Nils Olga Paul Rita".split()
CONCEPTS = [onset + rest for rest in ("umpus", "orpus", "impus", "erpus") for onset in "b d f g h k l r v z".split()][:38]

# What makes graphs like the original's: shares of the three ways to draw parents, and the weight of parents without family.
NODES, FAMILY, STRAY = 27, (0.38, 0.47, 0.15), 0.04


def draw_edges(rng, nodes):
    """Nodes 0 and 1 found the families; every other node draws Poisson(1.5) parents among those before -> [(parent, child)]"""
    label, depth, edges = [1, 2], [0, 0], []  # a label has a bit for each family
    for node in range(2, nodes):
        way = rng.choice(3, p=FAMILY)  # parents from family 1, from family 2, from anywhere
        near = [v for v in range(node) if way == 2 or label[v] in (0, way + 1)]
        weight = np.array([(1.5 * depth[v] + 1) * (1 if label[v] else STRAY) for v in near])
        parents = rng.choice(near, min(rng.poisson(1.5), len(near)), replace=False, p=weight / weight.sum()).tolist()
        label.append(int(np.bitwise_or.reduce([label[p] for p in parents] or [0])))
        depth.append(1 + max((depth[p] for p in parents), default=-1))
        edges += [(p, node) for p in parents]
    return edges


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


def choose(rng, edges, hops, depth_matched):
    """-> (root, path to the target, distractor), or None where the graph does not fit"""
    families = leaves(edges)
    if not all(families):
        return None
    if depth_matched:
        fitting = [(t, d) for t in families[0] for d in families[1] if len(families[0][t]) == len(families[1][d])]
        fitting = [pair for pair in fitting if hops[0] <= len(families[0][pair[0]]) - 1 <= hops[1]]
        if not fitting:
            return None
        pair, root = fitting[rng.integers(len(fitting))], int(rng.integers(2))
        return root, families[root][pair[root]], pair[1 - root]
    deepest = [max(len(p) for p in f.values()) for f in families]
    root = int(rng.integers(2)) if deepest[0] == deepest[1] else int(np.argmax(deepest))
    if not hops[0] <= deepest[root] - 1 <= hops[1]:
        return None
    target = rng.choice([n for n, p in families[root].items() if len(p) == deepest[root]])
    return root, families[root][target], int(rng.choice(list(families[1 - root])))


def name_nodes(rng, edges):
    """-> {node: its word}: entities, which have no parents, get names; the others concepts"""
    used, with_parents = sorted({v for edge in edges for v in edge}), {child for _, child in edges}
    names, concepts = iter(rng.permutation(NAMES).tolist()), iter(rng.permutation(CONCEPTS).tolist())
    return {v: next(concepts if v in with_parents else names) for v in used}


def tell(word, parent, child):
    return f"{'' if word[parent] in NAMES else 'Every '}{word[parent]} is a {word[child]}."


def draw_graph(rng, nodes, hops, depth_matched):
    """-> (edges in the order of telling, words, root, path, distractor)"""
    for _ in range(10000):
        edges = draw_edges(rng, nodes)
        chosen = choose(rng, edges, hops, depth_matched)
        with_parents = {child for _, child in edges}
        if chosen and len({p for p, _ in edges} - with_parents) <= len(NAMES) and len(with_parents) <= len(CONCEPTS):
            return [edges[i] for i in rng.permutation(len(edges))], name_nodes(rng, edges), *chosen
    raise ValueError(f"10,000 graphs of {nodes} nodes had no question of {hops[0]} to {hops[1]} hops")


def draw_example(rng, nodes=NODES, hops=(3, 6), depth_matched=False):
    """-> a dict in the original's format. Raises ValueError where such graphs are too rare."""
    edges, word, root, path, distractor = draw_graph(rng, nodes, hops, depth_matched)
    place = {v: i for i, v in enumerate(word)}
    a, b = (word[v] for v in rng.permutation([path[-1], distractor]).tolist())
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


def draw_statements(rng, nodes=NODES, count=6):
    """The same world without a question: a graph told in any order, then what follows from it, some in steps -> text"""
    edges, word, *_ = draw_graph(rng, nodes, (1, nodes), False)
    lines = [" ".join(tell(word, *e) for e in edges)]
    for root in rng.choice([v for v in word if word[v] in NAMES], count):
        paths = [path for path in shortest_paths(edges, root).values() if len(path) > 1]
        path = paths[rng.integers(len(paths))]
        if rng.random() < 0.5:
            lines += [tell(word, *e) for e in zip(path, path[1:], strict=False)]
        lines.append(f"### {word[root]} is a {word[path[-1]]}.")
    return "\n".join(lines)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", help="the folder to write")
    parser.add_argument(
        "--nodes", type=int, default=NODES, help=f"that a graph grows to (default {NODES}); those without an edge are dropped"
    )
    parser.add_argument("--hops", type=int, nargs=2, default=(3, 6), help="from the entity to the answer (default 3 6)")
    parser.add_argument("--depth_matched", action="store_true", help="both candidates equally deep")
    parser.add_argument(
        "--counts", type=int, nargs=3, default=(17886, 300, 500), help="train, valid, test (default 17886 300 500)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--show", type=int, help="print that many, and statistics, and write nothing")
    a = parser.parse_args()
    if (a.out is None) == (a.show is None):
        raise ValueError("give either a folder to write or --show=2")
    kind = dict(nodes=a.nodes, hops=tuple(a.hops), depth_matched=a.depth_matched)
    if a.show is not None:
        rng = np.random.default_rng(a.seed)
        examples = [draw_example(rng, **kind) for _ in range(max(a.show, 500))]
        for e in examples[: a.show]:
            print(e["question"], *e["steps"], e["answer"], sep="\n", end="\n\n")
        print(*statistics(examples), sep="\n")
        return
    os.makedirs(a.out, exist_ok=True)
    seen = set()  # no question is in two files
    for split, count in zip(("test", "valid", "train"), reversed(a.counts), strict=True):
        rng, examples = np.random.default_rng((a.seed, len(split))), []
        while len(examples) < count:
            e = draw_example(rng, **kind)
            if e["question"] not in seen:
                seen.add(e["question"])
                examples.append(e)
        path = os.path.join(a.out, f"prosqa_{split}.json")
        with open(path, "w") as f:
            json.dump(examples, f)
        print(f"{path}: {count:,} examples")
    print(*statistics(examples[:1000]), sep="\n")


if __name__ == "__main__":
    one_line_errors(main)
