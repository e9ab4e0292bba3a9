"""From recorded block hashes to the shared nodes of prompts: a radix tree whose branches are the nodes."""

from dataclasses import dataclass, field

import numpy as np

from envelope.serving.requests import Ints, Requests, replace_columns


def with_prefixes(requests: Requests, hash_ids: list[list[int]], block_tokens: int) -> Requests:
    """Return ``requests`` whose shared prefixes are those that their block hashes have in common.

    ``hash_ids[i]`` are the hashes of the leading blocks of ``block_tokens`` tokens of prompt ``i``. Blocks that
    only one request has are left out: nobody will ask for them again. A last block that the prompt does not fill is
    shared only with prompts that end at the same token; hashes beyond the prompt are ignored.
    """
    tree = _tree(hash_ids, requests.input_tokens, block_tokens)
    bounds, node_of = _nodes(tree)
    paths: list[int] = []
    start = [0]
    for leaf in tree.last:
        paths.extend(_path(leaf, tree.parent, node_of))
        start.append(len(paths))
    return replace_columns(
        requests,
        path=np.array(paths, dtype=np.int64),
        path_start=np.array(start, dtype=np.int64),
        node_tokens=np.array(bounds, dtype=np.int64).reshape(-1, 2),
    )


@dataclass(slots=True)
class _Tree:
    """Blocks of all prompts, each after the one before it."""

    parent: list[int] = field(default_factory=list)
    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    """Where each block begins and ends in its prompts, in tokens."""
    uses: list[int] = field(default_factory=list)
    """Requests that have each block."""
    last: list[int] = field(default_factory=list)
    """Last block of each request, −1 for none."""


def _tree(hash_ids: list[list[int]], input_tokens: Ints, block_tokens: int) -> _Tree:
    tree = _Tree()
    child: dict[tuple[int, ...], int] = {}
    for ids, length in zip(hash_ids, input_tokens.tolist(), strict=True):
        at = -1
        for begin, block in zip(range(0, length, block_tokens), ids, strict=False):
            end = min(begin + block_tokens, length)
            key = (at, int(block)) if end - begin == block_tokens else (at, int(block), end)
            following = child.get(key)
            if following is None:
                following = child[key] = len(tree.parent)
                tree.parent.append(at)
                tree.begin.append(begin)
                tree.end.append(end)
                tree.uses.append(0)
            tree.uses[following] += 1
            at = following
        tree.last.append(at)
    return tree


def _nodes(tree: _Tree) -> tuple[list[tuple[int, int]], list[int]]:
    """Join runs of blocks that the same requests use; return their bounds in tokens and each block's run."""
    bounds: list[tuple[int, int]] = []
    node_of = [-1] * len(tree.parent)
    for at, up in enumerate(tree.parent):
        if tree.uses[at] < 2:
            continue
        if up >= 0 and tree.uses[up] == tree.uses[at]:
            node = node_of[up]
            bounds[node] = (bounds[node][0], tree.end[at])
        else:
            node = len(bounds)
            bounds.append((tree.begin[at], tree.end[at]))
        node_of[at] = node
    return bounds, node_of


def _path(leaf: int, parent: list[int], node_of: list[int]) -> list[int]:
    """Return the nodes from the root to a request's last block."""
    found: list[int] = []
    at = leaf
    while at >= 0:
        node = node_of[at]
        if node >= 0 and (not found or found[-1] != node):
            found.append(node)
        at = parent[at]
    return found[::-1]


def reuse_frac(requests: Requests) -> float:
    """Return the share of prompt tokens that an unlimited cache would hold when each request arrives."""
    seen: set[int] = set()
    hit = 0
    order: Ints = np.argsort(requests.arrival_s, kind="stable")
    for i in order:
        for node in requests.path[requests.path_start[i] : requests.path_start[i + 1]]:
            if int(node) in seen:
                bounds = requests.node_tokens[node]
                hit += int(min(bounds[1], requests.input_tokens[i]) - bounds[0])
            seen.add(int(node))
    return hit / max(int(requests.input_tokens.sum()), 1)
