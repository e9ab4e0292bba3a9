"""Loading requests into a running simulation block by block, so that only those in the system take memory."""

from dataclasses import dataclass, field

import numpy as np

from envelope.serving.fleet import Fleet
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Floats, Ints, Mask, Requests
from envelope.serving.state import State, arrival_order, dialogues_stay, priority_levels, request_arrays

ENDED = (
    k.STATUS_DONE, k.STATUS_REFUSED_PRIVATE, k.STATUS_REFUSED_LENGTH, k.STATUS_REFUSED_HOSTED, k.STATUS_REFUSED_DOWN,
    k.STATUS_CUT,
)  # fmt: skip
"""Statuses of requests that need their row no longer."""


@dataclass(slots=True)
class Feed:
    """The rows and dialogues of a running simulation: which are in use, and which may be given to new requests."""

    fleet: Fleet
    state: State
    follows: Mask
    """Whether the request of each row starts only after another one."""
    dialogues: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Numbers of dialogues that are free."""
    last_finish_s: float = 0.0
    """Latest end of a request that has been taken out."""
    _rooms: dict[int, int] = field(default_factory=dict)
    """Length of the regions of ``st`` that were moved, by the header that holds their offset."""

    def add(self, requests: Requests) -> None:
        """Load requests that arrive from now on."""
        self.state.thaw()
        rows = self._free_rows(len(requests))
        rq, rx = request_arrays(requests, priority_levels(requests.classes))
        rq[:, k.Q_FOLLOWER] = np.where(requests.follower >= 0, rows[requests.follower], -1)
        if requests.chains:
            assert self._only_replica(requests.seat[:1])[0] < 0 or dialogues_stay(self.fleet, requests)
            rq[:, k.Q_CHAIN] = np.where(requests.chain >= 0, self._free_dialogues(requests.chains)[requests.chain], -1)
        self._put_paths(rq, requests.path)
        self.state.rows()[rows], self.state.times()[rows] = rq, rx
        self.follows[rows] = requests.follows
        order = self._with_rest(rows[arrival_order(requests)])
        self._put(k.H_ORDER, order)
        st = self.state.st
        st[k.H_NEXT], st[k.H_STREAM] = 0, len(order)
        st[k.H_REQUESTS] += len(requests)
        st[k.H_FEEDBACK] |= int(requests.follows.any())
        if requests.concurrency:
            st[k.H_LOADGEN], st[k.H_LOADGEN_END] = rows[0] + requests.concurrency, rows[-1] + 1
        self.state.freeze()

    def _with_rest(self, order: Ints) -> Ints:
        """Return rows in order of arrival, together with those loaded earlier that have not arrived yet."""
        st = self.state.st
        at = int(st[k.H_ORDER])
        both = np.concatenate([st[at + st[k.H_NEXT] : at + st[k.H_STREAM]], order])
        return both[np.argsort(self.state.times()[both, k.F_ARRIVAL], kind="stable")]

    def take_ended(self) -> tuple[Ints, Floats]:
        """Return the integers and floats of the requests that have ended, in order of arrival, and free their rows."""
        self.state.thaw()
        rq, rx = self.state.rows(), self.state.times()
        rows = np.flatnonzero(np.isin(rq[:, k.Q_STATUS], ENDED))
        rows = rows[np.argsort(rx[rows, k.F_ARRIVAL], kind="stable")]
        ended, times = rq[rows], rx[rows]
        self.last_finish_s = max(self.last_finish_s, float(np.nanmax(times[:, k.F_FINISH], initial=0.0)))
        rq[rows, k.Q_STATUS] = k.STATUS_FREE
        self._retire(ended)
        return ended, times

    def cut_unbegun(self) -> None:
        """Mark follow-up calls that never began: what they follow ended after the end."""
        self.state.thaw()
        rq = self.state.rows()
        rq[(rq[:, k.Q_STATUS] == k.STATUS_UNBORN) & self.follows, k.Q_STATUS] = k.STATUS_CUT

    def _retire(self, ended: Ints) -> None:
        """Free the dialogues none of whose requests is left; ``state`` is thawed before and frozen after it."""
        rq = self.state.rows()
        live = rq[rq[:, k.Q_STATUS] != k.STATUS_FREE, k.Q_CHAIN]
        numbers, first = np.unique(ended[:, k.Q_CHAIN], return_index=True)
        over = (numbers >= 0) & ~np.isin(numbers, live)
        pairs = np.stack([numbers[over], self._only_replica(ended[first[over], k.Q_SEAT])], axis=1)
        self._put(k.H_SCRATCH, pairs.ravel())
        at = int(self.state.st[k.H_SCRATCH])
        self.state.freeze()
        if len(pairs):
            self.state.call("retire_dialogues", at, len(pairs))
            self.dialogues = np.concatenate([self.dialogues, pairs[:, 0]])

    def _only_replica(self, seat: Ints) -> Ints:
        """Return the one replica that serves each seat if replicas share the entries of dialogues, else −1."""
        st, replicas = self.state.st, len(self.fleet.replicas)
        if replicas > 1 and st[k.H_CHAIN_STRIDE] == k.E_SIZE:
            return np.asarray(seat % replicas, dtype=np.int64)
        return np.full(len(seat), -1, dtype=np.int64)

    def _free_rows(self, n: int) -> Ints:
        """Return ``n`` free rows, the lowest first; more are made if there are too few."""
        state = self.state
        free = np.flatnonzero(state.rows()[:, k.Q_STATUS] == k.STATUS_FREE)
        if len(free) < n:
            before, more = len(self.follows), n - len(free)
            rq = np.zeros((more, k.Q_SIZE), dtype=np.int32)
            rq[:, k.Q_STATUS] = k.STATUS_FREE
            state.rq = np.concatenate([state.rq, rq.ravel()])
            state.rx = np.concatenate([state.rx, np.zeros(more * k.F_SIZE)])
            self.follows = np.concatenate([self.follows, np.zeros(more, dtype=np.bool_)])
            free = np.concatenate([free, np.arange(before, before + more)])
            self._move_events(before + more)
        return free[:n]

    def _move_events(self, rows: int) -> None:
        """Give the heap of events room for one event per row."""
        st, sx, events = self.state.st, self.state.sx, int(self.state.st[k.H_EVENTS])
        at, at_x = int(st[k.H_HEAP]), int(sx[k.G_HEAP])
        self._put(k.H_HEAP, st[at : at + 3 * events].copy(), room=3 * (rows + 8))
        self.state.sx = np.concatenate([sx, np.zeros(rows + 8)])
        self.state.sx[len(sx) : len(sx) + events] = sx[at_x : at_x + events]
        self.state.sx[k.G_HEAP] = len(sx)

    def _free_dialogues(self, n: int) -> Ints:
        """Return ``n`` free numbers of dialogues; more are made at the end of ``st`` if there are too few.

        A number is a place counted from the first dialogue's entry on, so that numbers need not be contiguous.
        """
        st = self.state.st
        if len(self.dialogues) < n:
            more = 2 * (n - len(self.dialogues))
            stride = int(st[k.H_CHAIN_STRIDE])
            base = int(st[st[k.H_REPLICA] + k.R_CHAINS])
            number = -(-(len(st) - base) // stride) + np.arange(more)
            self.state.st = np.concatenate([st, np.zeros(base + stride * (int(number[-1]) + 1) - len(st), np.int64)])
            self.dialogues = np.concatenate([self.dialogues, number])
        given, self.dialogues = self.dialogues[:n], self.dialogues[n:]
        return given

    def _put_paths(self, rq: Ints, path: Ints) -> None:
        """Store the nodes of new requests behind those of the requests that are still in the system."""
        old = self.state.rows()
        live = np.flatnonzero((old[:, k.Q_STATUS] != k.STATUS_FREE) & (old[:, k.Q_PATH_LEN] > 0))
        lengths = old[live, k.Q_PATH_LEN]
        begin = np.cumsum(lengths) - lengths
        places = np.repeat(old[live, k.Q_PATH] - begin, lengths) + np.arange(int(lengths.sum()))
        kept = self.state.st[self.state.st[k.H_PATH] + places]
        old[live, k.Q_PATH] = begin
        rq[:, k.Q_PATH] += len(kept)
        self._put(k.H_PATH, np.concatenate([kept, path]))

    def _put(self, header: int, values: Ints, room: int = 0) -> None:
        """Write a region of ``st`` anew; it moves to the end if its place is too short."""
        size = max(len(values), room)
        if size > self._rooms.get(header, 0):
            at = len(self.state.st)
            self._rooms[header] = size + size // 4
            self.state.st = np.concatenate([self.state.st, np.zeros(self._rooms[header], dtype=np.int64)])
            self.state.st[header] = at
        at = int(self.state.st[header])
        self.state.st[at : at + len(values)] = values
