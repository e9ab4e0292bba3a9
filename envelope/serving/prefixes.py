"""From recorded block hashes to the shared nodes of prompts: a radix tree whose branches are the nodes."""

import numpy as np

from envelope.serving.requests import Ints, Requests, replace_columns


def with_prefixes(requests: Requests, hash_ids: list[list[int]], block_tokens: int) -> Requests:
    """Return ``requests`` whose shared prefixes are those that their block hashes have in common.

    ``hash_ids[i]`` are the hashes of the leading blocks of ``block_tokens`` tokens of prompt ``i``. Blocks that
    only one request has are left out: nobody will ask for them again.
    """
    parent, depth, uses, last = _tree(hash_ids)
    first_of, node_of = _nodes(parent, depth, uses)
    bounds = np.array([(a * block_tokens, b * block_tokens) for a, b in first_of], dtype=np.int64).reshape(-1, 2)
    paths: list[int] = []
    start = [0]
    for leaf in last:
        paths.extend(_path(leaf, parent, node_of))
        start.append(len(paths))
    return replace_columns(
        requests,
        path=np.array(paths, dtype=np.int64),
        path_start=np.array(start, dtype=np.int64),
        node_tokens=bounds,
    )


def _tree(hash_ids: list[list[int]]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return parent, depth and number of requests of every tree node, and each request's last node (−1: none)."""
    child: dict[tuple[int, int], int] = {}
    parent: list[int] = []
    depth: list[int] = []
    uses: list[int] = []
    last: list[int] = []
    for ids in hash_ids:
        at = -1
        for level, block in enumerate(ids):
            key = (at, int(block))
            following = child.get(key)
            if following is None:
                following = len(parent)
                child[key] = following
                parent.append(at)
                depth.append(level)
                uses.append(0)
            uses[following] += 1
            at = following
        last.append(at)
    return parent, depth, uses, last


def _nodes(parent: list[int], depth: list[int], uses: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Join runs of blocks that the same requests use; return their bounds in blocks and each tree node's run."""
    bounds: list[tuple[int, int]] = []
    node_of = [-1] * len(parent)
    for at, up in enumerate(parent):
        if uses[at] < 2:
            continue
        if up >= 0 and uses[up] == uses[at]:
            node = node_of[up]
            bounds[node] = (bounds[node][0], depth[at] + 1)
        else:
            node = len(bounds)
            bounds.append((depth[at], depth[at] + 1))
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
