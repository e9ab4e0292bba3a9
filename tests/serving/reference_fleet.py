"""Step-by-step engines together: ranks that share their steps, a prefill and a decode replica."""

import heapq
import math

import numpy as np

from envelope.serving.fleet import ReplicaConfig
from envelope.serving.requests import Requests, replace_columns

from .reference import Reference, Sequence


def run_alone(config: ReplicaConfig, r: Requests) -> list[Sequence]:
    """Serve ``r`` on one replica."""
    return run_together([Reference(config, r)], r)[0]


def run_together(ranks: list[Reference], r: Requests) -> list[list[Sequence]]:
    """Serve ``r`` on ranks that step together, requests going to them in turn."""
    arrivals = [(float(r.arrival_s[i]), k, int(i)) for k, i in enumerate(np.flatnonzero(~r.follows))]
    heapq.heapify(arrivals)
    order, t, started, turn = len(arrivals), 0.0, r.concurrency, 0
    while arrivals or any(e.running or e.waiting for e in ranks):
        while arrivals and arrivals[0][0] <= t:
            ranks[turn % len(ranks)].enqueue(heapq.heappop(arrivals)[2])
            turn += 1
        plans = [e.plan() for e in ranks]
        for e in ranks:
            e.held.append((t, e.c.kv_blocks - len(e.free)))
        spent = max(e.time_of(*plan) for e, plan in zip(ranks, plans, strict=True))
        if spent == 0.0:
            t = arrivals[0][0]
            continue
        t += spent
        for e, (decodes, _) in zip(ranks, plans, strict=True):
            for s in e.complete(t, decodes):
                j = int(r.follower[s.i])
                if j >= 0 and t + r.gap_s[j] <= r.span_s:
                    heapq.heappush(arrivals, (t + float(r.gap_s[j]), order, j))
                    order += 1
                if r.concurrency and started < len(r):
                    # The client answers after the engine has begun its next step.
                    heapq.heappush(arrivals, (math.nextafter(t, math.inf), order, started))
                    order, started = order + 1, started + 1
    return [e.seqs for e in ranks]


def run_split(
    prefill: ReplicaConfig, decode: ReplicaConfig, r: Requests, base_s: float, per_token_s: float
) -> tuple[list[Sequence], Reference]:
    """Serve ``r`` on a prefill and a decode replica, moving each prompt's KV in between."""
    first = run_together([Reference(prefill, r, only_prefill=True)], r)[0]
    second = Reference(decode, r)
    ready = np.array([s.first + base_s + per_token_s * float(r.input_tokens[s.i]) for s in first])
    for s, before in zip(second.seqs, first, strict=True):
        s.first, s.finish, s.generated, s.ready = before.first, before.finish, 1, True
    second.r = replace_columns(r, arrival_s=ready, follows=r.output_tokens <= 1)
    run_together([second], second.r)
    for s, before in zip(second.seqs, first, strict=True):
        s.preemptions += before.preemptions
    return second.seqs, second
