"""A slow replica that takes one step at a time and moves one KV block at a time: the oracle of the fast engine.

It shares nothing with the kernel but the meaning of the step tables.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from envelope.serving.fleet import ReplicaConfig
from envelope.serving.kernel.draws import uniform
from envelope.serving.kernel.layout import F_SIZE, F_UNIFORM
from envelope.serving.requests import Requests


@dataclass
class Sequence:
    i: int
    level: int
    generated: int = 0
    computed: int = 0
    target: int = 0
    decoding: bool = False
    made: int = 0
    admitted: int = 0
    keyed: list = field(default_factory=list)
    private: list = field(default_factory=list)
    duplicate: int = 0
    context: float = 0.0
    first: float = math.nan
    finish: float = math.nan
    preemptions: int = 0
    ready: bool = False
    """Whether its KV came from a prefill replica."""


class Reference:
    def __init__(self, config: ReplicaConfig, requests: Requests, *, only_prefill: bool = False) -> None:
        self.c, self.r, self.only_prefill = config, requests, only_prefill
        self.held: list[tuple[float, int]] = []
        """Blocks in use from the start of each step on."""
        self.free = OrderedDict((k, None) for k in range(config.kv_blocks))
        self.users = [0] * config.kv_blocks
        self.key_of: dict[int, tuple] = {}
        self.block_of: dict[tuple, int] = {}
        priorities = [requests.classes[k].priority for k in requests.task]
        self.seqs = [Sequence(i, p) for i, p in enumerate(priorities)]
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.admissions = 0
        self.draws = {F_UNIFORM + F_SIZE * i: float(u) for i, u in enumerate(requests.uniform)}
        self.resident: dict[str, int] = {}
        self.uses = 0
        self.loads = 0

    # --- blocks ---------------------------------------------------------------------------------------------
    def take(self) -> int:
        block, _ = self.free.popitem(last=False)
        key = self.key_of.pop(block, None)
        if key is not None:
            del self.block_of[key]
        return block

    def key(self, i: int, k: int) -> tuple | None:
        bs = self.c.block_tokens
        end = 0
        for node in self.r.path[self.r.path_start[i] : self.r.path_start[i + 1]]:
            first, end = (int(v) // bs for v in self.r.node_tokens[node])
            if first <= k < end:
                return ("node", int(node), k)
        if self.r.chain[i] >= 0:
            return ("chain", int(self.r.chain[i]), k)
        return ("own", i, k)

    def hits(self, s: Sequence, target: int) -> list[tuple]:
        found = []
        if not self.c.prefix_cache:
            return found
        limit = target // self.c.block_tokens
        for k in range(self.c.kv_blocks):
            key = self.key(s.i, k)
            if key not in self.block_of or (key[0] == "own" and k >= limit):
                break
            found.append(key)
        return found

    def publish(self, s: Sequence, upto: int, kinds: tuple) -> None:
        if not self.c.prefix_cache:
            return
        for k in range(len(s.keyed), upto):
            key = self.key(s.i, k)
            if key[0] not in kinds or key in self.block_of:
                return
            block = s.private.pop(0)
            self.block_of[key], self.key_of[block] = block, key
            s.keyed.append(key)

    def give_back(self, s: Sequence, computed: int, comes_back: bool) -> None:
        kinds = ("node", "chain", "own") if comes_back else ("node", "chain")
        self.publish(s, computed // self.c.block_tokens, kinds)
        for block in s.private:
            self.users[block] = 0
            self.free[block] = None
        for key in reversed(s.keyed):
            block = self.block_of[key]
            self.users[block] -= 1
            if self.users[block] == 0:
                self.free[block] = None
        s.keyed, s.private, s.duplicate = [], [], 0
        if not comes_back:
            for key in [k for k in self.block_of if k[0] == "own" and k[1] == s.i]:
                del self.key_of[self.block_of.pop(key)]

    # --- batch ----------------------------------------------------------------------------------------------
    def lacking(self, s: Sequence) -> int:
        """Blocks that a decoding sequence lacks for one token and all drafts."""
        tokens = s.target + s.made + 1 + self.c.draft_tokens
        have = len(s.private) + len(s.keyed) - s.duplicate
        return max(0, -(-tokens // self.c.block_tokens) + self.c.fixed_blocks_per_seq - have)

    def preempt(self, s: Sequence) -> None:
        computed = s.computed
        if s.decoding:
            s.generated += s.made
            computed = s.target + s.made
        self.give_back(s, computed, True)
        s.decoding = s.ready = False
        s.preemptions += 1
        self.leave(s)
        at = next((k for k, w in enumerate(self.waiting) if w.level >= s.level), len(self.waiting))
        self.waiting.insert(at, s)

    def leave(self, s: Sequence) -> None:
        """Take a sequence out of the batch; its adapter stays on the device."""
        self.running.remove(s)
        adapter = self.adapter(s)
        if adapter is not None and all(self.adapter(w) != adapter for w in self.running):
            self.uses += 1
            self.resident[adapter] = self.uses

    def adapter(self, s: Sequence) -> str | None:
        return self.r.classes[self.r.task[s.i]].adapter

    def load_adapter(self, s: Sequence) -> None:
        adapter = self.adapter(s)
        if adapter is None or adapter in self.resident:
            return
        used = {self.adapter(w) for w in self.running}
        idle = sorted((a for a in self.resident if a not in used), key=lambda a: self.resident[a])
        if self.c.max_adapters and len(self.resident) >= self.c.max_adapters:
            del self.resident[idle[0]]
        self.resident[adapter] = 0
        self.loads += 1

    def youngest(self) -> Sequence:
        return max(self.running, key=lambda s: (s.level, s.admitted))

    def chunk(self, s: Sequence, tokens: int) -> bool:
        bs = self.c.block_tokens
        have = len(s.private) + len(s.keyed) - s.duplicate
        need = -(-(s.computed + tokens) // bs) + self.c.fixed_blocks_per_seq - have
        if need > len(self.free):
            return False
        for _ in range(max(need, 0)):
            block = self.take()
            self.users[block] = 1
            s.private.append(block)
        s.computed += tokens
        self.publish(s, s.computed // bs, ("node", "chain"))
        return True

    def adapter_fits(self, s: Sequence) -> bool:
        adapter = self.adapter(s)
        used = {self.adapter(w) for w in self.running} - {None}
        return not self.c.max_adapters or adapter is None or adapter in used or len(used) < self.c.max_adapters

    def admit(self, budget: int, tokens: int, parts: list) -> int:
        if self.c.batching == "static" and self.running:
            return tokens
        while self.waiting and not any(not s.decoding and s.computed < s.target for s in self.running):
            s = next((w for w in self.waiting if self.adapter_fits(w)), None)
            if s is None:
                break
            if len(self.running) >= self.c.slots or budget - tokens <= 0:
                break
            if s.ready:
                if not self.admit_ready(s):
                    break
                budget -= 1 + self.c.draft_tokens
                continue
            bs = self.c.block_tokens
            target = int(self.r.input_tokens[s.i]) + s.generated
            hit = self.hits(s, target)
            usable = min(len(hit), (target - 1) // bs)
            left = target - usable * bs
            chunk = min(left, budget - tokens) if self.c.chunked_prefill else left
            if not self.c.chunked_prefill and tokens > 0 and chunk > budget - tokens:
                break
            unused = sum(self.users[self.block_of[k]] == 0 for k in hit)
            need = -(-(usable * bs + chunk) // bs) - usable + unused + self.c.fixed_blocks_per_seq
            if need > len(self.free):
                break
            self.waiting.remove(s)
            for k in hit:
                block = self.block_of[k]
                self.users[block] += 1
                self.free.pop(block, None)
            s.keyed, s.private = list(hit), []
            s.duplicate = len(hit) - usable
            s.computed, s.target, s.decoding = usable * bs, target, False
            s.admitted = self.admissions
            self.admissions += 1
            self.load_adapter(s)
            self.running.append(s)
            parts.append((s.computed, chunk))
            assert self.chunk(s, chunk)
            tokens += chunk
        return tokens

    def admit_ready(self, s: Sequence) -> bool:
        """Admit a sequence whose prompt another replica has computed; it decodes at once."""
        bs, target = self.c.block_tokens, int(self.r.input_tokens[s.i])
        if -(-(target + 1 + self.c.draft_tokens) // bs) + self.c.fixed_blocks_per_seq > len(self.free):
            return False
        self.waiting.remove(s)
        hit = self.hits(s, target)
        for k in hit:
            self.users[self.block_of[k]] += 1
            self.free.pop(self.block_of[k], None)
        s.keyed, s.private, s.duplicate = list(hit), [], 0
        for _ in range(-(-target // bs) + self.c.fixed_blocks_per_seq - len(hit)):
            s.private.append(self.take())
            self.users[s.private[-1]] = 1
        s.computed = s.target = target
        s.admitted = self.admissions
        self.admissions += 1
        self.load_adapter(s)
        self.running.append(s)
        self.publish(s, target // bs, ("node", "chain"))
        self.begin_decode(s)
        if self.c.chunked_prefill:
            self.grow([s])
        return True

    def begin_decode(self, s: Sequence) -> None:
        s.decoding, s.made = True, 0

    def advance(self, s: Sequence) -> bool:
        """Add the tokens of one step; returns whether the answer is complete."""
        done = s.generated + s.made
        u = uniform(self.draws, s.i, done)
        accepted = 0
        while accepted < self.c.draft_tokens and u < self.c.draft_acceptance_frac ** (accepted + 1):
            accepted += 1
        s.made = min(s.made + 1 + accepted, int(self.r.output_tokens[s.i]) - s.generated)
        return s.generated + s.made == self.r.output_tokens[s.i]

    # --- time -----------------------------------------------------------------------------------------------
    def prefill_attention(self, x: float) -> float:
        """∫₀ˣ f(p) dp with f piecewise linear, by adding piece after piece."""
        t = self.c.steps
        knots = [*t.context_knots_tokens, math.inf]
        total, rate = 0.0, 0.0
        for k, slope in enumerate(t.prefill_slope_s_per_token):
            d = min(x, knots[k + 1]) - knots[k]
            if d <= 0:
                break
            total += rate * d + 0.5 * slope * d * d
            rate += slope * d
        return total + t.prefill_token_s * x

    def decode_attention(self, n: int, mean: float) -> float:
        t = self.c.steps
        knots = [*t.context_knots_tokens, math.inf]
        slopes = t.decode_slope_s_per_token[n]
        return sum(s * max(0.0, min(mean, knots[k + 1]) - knots[k]) for k, s in enumerate(slopes))

    def duration(self, decodes: list[Sequence], parts: list, sampled: int) -> float:
        t, n = self.c.steps, len(decodes)
        tokens = sum(c for _, c in parts)
        m = n * (1 + self.c.draft_tokens) + tokens
        top = t.max_batched_tokens
        dt = t.step_overhead_s + (t.token_s[m] if m <= top else t.token_s[top] * m / top) + t.sampled_s[sampled]
        if n:
            mean = sum(s.target + s.made + 1 for s in decodes) / n
            dt += t.decode_base_s[n] + n * self.decode_attention(n, mean)
        if tokens:
            dt += t.prefill_base_s
            dt += sum(self.prefill_attention(p + c) - self.prefill_attention(p) for p, c in parts)
        used = {self.adapter(s) for s in self.running} - {None}
        if used:
            dt += self.c.adapter_step_s + len(used) * self.c.adapter_each_s + self.loads * self.c.adapter_load_s
        return float(dt)

    # --- step -----------------------------------------------------------------------------------------------
    def plan(self) -> tuple[list[Sequence], list]:
        parts: list = []
        self.loads = 0
        if not self.c.chunked_prefill:
            self.admit(self.c.max_num_batched_tokens, 0, parts)
            if parts:
                return [], parts
        preempted = False
        while sum(self.lacking(s) for s in self.running if s.decoding) > len(self.free):
            self.preempt(self.youngest())
            preempted = True
        decodes = [s for s in self.running if s.decoding]
        self.grow(decodes)
        if self.c.chunked_prefill:
            budget = self.c.max_num_batched_tokens - len(decodes) * (1 + self.c.draft_tokens)
            tokens = 0
            for s in [s for s in self.running if not s.decoding]:
                chunk = min(budget, s.target - s.computed)
                if chunk > 0:
                    before = s.computed
                    if self.chunk(s, chunk):
                        parts.append((before, chunk))
                        tokens += chunk
                    else:
                        self.preempt(s)
                        preempted = True
            if not preempted:
                self.admit(budget, tokens, parts)
                decodes += [s for s in self.running if s.decoding and s not in decodes]
        return decodes, parts

    def grow(self, decodes: list[Sequence]) -> None:
        for s in decodes:
            for _ in range(self.lacking(s)):
                block = self.take()
                self.users[block] = 1
                s.private.append(block)

    def complete(self, t: float, decodes: list[Sequence]) -> list[Sequence]:
        """End the step at time ``t``; returns the sequences that are done."""
        fresh = [s for s in self.running if not s.decoding and s.computed == s.target]
        ended = []
        for s in decodes:
            if self.advance(s):
                ended.append(s)
            self.publish(s, (s.target + s.made) // self.c.block_tokens, ("node", "chain"))
        ended.sort(key=lambda s: s.admitted)
        for s in fresh:
            if s.generated == 0:
                s.first = t
            s.generated += 1
            if s.generated >= self.r.output_tokens[s.i] or self.only_prefill:
                ended.append(s)
            else:
                self.begin_decode(s)
        for s in ended:
            s.finish = t
            self.leave(s)
            full = int(self.r.input_tokens[s.i] + self.r.output_tokens[s.i]) - 1 if s.decoding else s.target
            self.give_back(s, full, False)
        return ended

    def enqueue(self, i: int) -> None:
        s = self.seqs[i]
        at = next((k for k, w in enumerate(self.waiting) if w.level > s.level), len(self.waiting))
        self.waiting.insert(at, s)

    def time_of(self, decodes: list[Sequence], parts: list) -> float:
        """Time of the step that ``plan`` has put together; 0 if it is empty."""
        if not decodes and not parts:
            return 0.0
        fresh = sum(not s.decoding and s.computed == s.target for s in self.running)
        return self.duration(decodes, parts, min(len(decodes) + fresh, self.c.steps.max_num_seqs))
