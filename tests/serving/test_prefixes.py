"""Shared prefixes from recorded block hashes: by hand, with last blocks that prompts do not fill."""

import numpy as np

from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig
from envelope.serving.prefixes import reuse_frac, with_prefixes
from envelope.serving.requests import Requests, open_loop
from envelope.serving.run import run_once

from .conftest import realistic_tables


def prompts(lengths: list[int], hash_ids: list[list[int]], output: int = 5) -> Requests:
    n = len(lengths)
    return with_prefixes(open_loop(np.arange(n) * 1.0, np.array(lengths), np.full(n, output)), hash_ids, 512)


def paths(made: Requests) -> list[list[tuple[int, int]]]:
    start = made.path_start
    nodes = [made.path[a:b] for a, b in zip(start[:-1], start[1:], strict=True)]
    return [[(int(a), int(b)) for a, b in made.node_tokens[n]] for n in nodes]


def test_prompts_share_their_equal_leading_blocks_and_branch_where_they_differ() -> None:
    made = prompts([1536, 1536, 1024, 512], [[1, 2, 3], [1, 2, 4], [1, 2], [9]])
    assert paths(made) == [[(0, 1024)], [(0, 1024)], [(0, 1024)], []]
    # The second and the third prompt find 1,024 tokens each.
    assert reuse_frac(made) == 2048 / (1536 + 1536 + 1024 + 512)


def test_equal_prompts_share_no_more_than_the_prompt() -> None:
    made = prompts([600, 600], [[1, 2], [1, 2]])
    assert paths(made) == [[(0, 600)], [(0, 600)]]


def test_a_last_block_that_is_not_full_is_no_part_of_a_longer_prompt() -> None:
    made = prompts([600, 1024, 1024], [[1, 2], [1, 2], [1, 2]])
    assert paths(made) == [[(0, 512)], [(0, 512), (512, 1024)], [(0, 512), (512, 1024)]]


def test_hashes_beyond_the_prompt_are_ignored() -> None:
    assert paths(prompts([512, 512], [[1, 2, 3], [1, 2, 3]])) == [[(0, 512)], [(0, 512)]]


def test_answers_to_equal_prompts_are_no_part_of_the_prefix() -> None:
    replica = ReplicaConfig(
        steps=realistic_tables(), max_num_seqs=8, max_num_batched_tokens=1024, kv_blocks=1000, prefix_cache=True
    )
    made = prompts([600, 600], [[1, 2], [1, 2]], output=400)
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), made)
    assert run.final.tokens_hit == 592, "the 37 blocks of 16 tokens that 600 tokens fill"
