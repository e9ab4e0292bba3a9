"""Names of the positions in the flat arrays of the kernel.

``H_`` header of ``st``; ``G_`` header of ``sx``; ``R_`` integers of a replica; ``X_`` its floats; ``S_`` integers of
a slot (a running sequence); ``E_`` integers of a cache entry; ``Q_`` integers of a request; ``F_`` its floats;
``P_`` integers and ``PX_`` floats of a step table.
"""

NEVER = 1e300
"""A time that does not come."""

# --- header of st -------------------------------------------------------------------------------------------
H_REPLICAS = 0
H_REQUESTS = 1
H_CLASSES = 2
H_LEVELS = 3
H_NEXT = 4
"""Next position in the stream of first arrivals."""
H_STREAM = 5
"""Length of that stream."""
H_EVENTS = 6
"""Number of events in the heap."""
H_SEQ = 7
"""Running number of events, for ties."""
H_FEEDBACK = 8
"""Whether completions cause arrivals (sessions, load generator, escalation)."""
H_POLICY = 9
H_BALANCE = 10
H_TURN = 11
"""Round-robin counter."""
H_PRIVATE_STAYS = 12
H_HAS_HOSTED = 13
H_LEAVE_LEVEL = 14
"""Largest sensitivity code that policy ``by_sensitivity`` sends out."""
H_LONG_TOKENS = 15
H_AFTER_FAILURE = 16
H_LOADGEN = 17
"""Next request of the closed-loop load generator; −1 without one."""
H_MAX_RETRIES = 18
H_OUTAGES = 19
H_PARKED_HEAD = 20
"""Requests that wait for any replica to come up."""
H_PARKED_TAIL = 21
H_TICKS = 22
H_TICK = 23
H_REPLICA = 24
"""Offset of the replicas' integers."""
H_HEAP = 25
H_ORDER = 26
H_PATH = 27
"""Offset of the node lists of the requests."""
H_NODE = 28
"""Offset of node starts and ends in tokens (two per node)."""
H_TICK_OUT = 29
H_ITL = 30
"""Offset of the ITL histogram: class by bin."""
H_BINS = 31
H_HOSTED_RUNNING = 32
H_POOLS = 33
H_DONE = 34
"""Requests that have left the system, however."""
H_PARKED = 35
"""Length of the list of parked requests."""
H_DECODE_POOL = 36
"""Pool that takes over after prefill, −1 if none."""
H_HOSTED_MOST = 37
"""Requests in the hosted API at once at most; 0 is no limit."""
H_CHAIN_STRIDE = 38
"""Integers between the cache entries of two dialogues on the same replica."""
H_LOADGEN_END = 39
"""Row after the last request of the load generator."""
H_SCRATCH = 40
"""Offset of the arguments of an entry point that takes a list."""
H_SPARE = 41
"""Head of the list of unused private cache entries, which all replicas take theirs from."""
H_SIZE = 48

# --- header of sx -------------------------------------------------------------------------------------------
G_NOW = 0
G_END = 1
"""Time after which no follow-up call starts."""
G_RPM_RATE = 2
G_RPM_LEVEL = 3
G_RPM_SIZE = 4
G_TPM_RATE = 5
G_TPM_LEVEL = 6
G_TPM_SIZE = 7
G_BUCKET_TIME = 8
G_TTFT_MU = 9
G_TTFT_SIGMA = 10
G_TOKEN_MU = 11
G_TOKEN_SIGMA = 12
G_UNCACHED_S = 13
G_CONTEXT_S = 14
G_BACKOFF_S = 15
G_BACKOFF_MAX_S = 16
G_RETIRED = 17
G_WAIT_LIMIT = 18
G_TRANSFER_S = 19
"""Seconds per prompt token to move KV from a prefill to a decode replica."""
G_TRANSFER_BASE_S = 20
G_REPLICA = 21
"""Offset of the replicas' floats (stored as a float, exact)."""
G_HEAP = 22
G_OUTAGE = 23
G_TICK_S = 24
G_TICK_OUT = 25
G_EDGES = 26
G_CACHE_S = 27
"""Seconds for which the hosted prompt cache keeps a session."""
G_FAIL = 28
"""Offset of the probability to fail, class by tier."""
G_SIZE = 40

TICK_INTS = 4
"""Waiting (parked ones too), running, blocks in use, requests in the hosted API."""

# --- integers of a replica ----------------------------------------------------------------------------------
R_POOL = 0
R_UP = 1
R_SEQS = 2
R_BUDGET = 3
R_BLOCK = 4
R_BLOCKS = 5
R_FIXED = 6
R_CACHE = 7
R_CHUNKED = 8
R_STATIC = 9
R_FREE = 10
R_DECODES = 11
R_RUNNING = 12
R_WAITING = 13
R_CURRENT = 14
"""Slot whose prefill is cut into chunks and not finished, or −1; always the youngest running one."""
R_STEP = 15
"""Decode steps done so far."""
R_KIND = 16
R_STEPS = 17
"""Steps in the segment under way."""
R_BLOCKED = 18
R_ADMITTED = 19
R_HEAD = 20
R_TAIL = 21
R_FRESH = 22
"""Sequences whose prefill ends with the step under way."""
R_OUTSTANDING = 23
R_SLOT = 24
R_HEAP = 25
R_HEAPED = 26
R_PHASE = 27
R_QUEUE = 28
R_TABLE = 29
R_NODES = 30
R_CHAINS = 31
R_DRAFT = 32
R_LOADS = 33
"""Adapters that were copied to the device so far."""
R_CLASS = 34
R_MAX_CONTEXT = 35
R_SLOTS_FREE = 36
R_PREEMPTIONS = 37
R_INSIDE = 38
R_TIER = 39
R_ROLE = 40
R_TOKENS_IN = 41
R_TOKENS_HIT = 42
R_TOKENS_OUT = 43
R_MOVING = 44
"""Decodes that advance in the step under way."""
R_RESTARTED = 45
R_PREFILL = 46
R_PEAK_BLOCKS = 47
R_PEAK_RUNNING = 48
R_RANKS = 49
"""Schedulers that step together: data-parallel ranks that share experts."""
R_ADAPTERS = 50
"""Different adapters in the batch at most; 0 is no limit."""
R_LAST_BIN = 51
R_ADAPTER = 52
"""Offset of the adapters: running sequences and turn of the last use of each (−1: not on the device)."""
R_ADAPTERS_ON = 53
R_LEADER = 54
"""Offset of the first of those ranks, which keeps their clock."""
R_ADAPTER_TURN = 55
"""Running number of the uses of adapters, for LRU."""
R_SIZE = 56

KIND_IDLE = 0
KIND_MIXED = 1
KIND_DECODE = 2
KIND_WAKE = 3

ROLE_SERVE = 0
ROLE_PREFILL = 1
ROLE_DECODE = 2

BLOCKED_NOT = 0
BLOCKED_KV = 1
BLOCKED_SEQS = 2
BLOCKED_BUDGET = 3
BLOCKED_STATIC = 4
BLOCKED_ADAPTER = 6
"""All that wait need an adapter for which the batch has no place."""
BLOCKED_PREEMPTED = 5
"""Nobody is admitted in a step that preempts; the next step tries again."""

# --- floats of a replica ------------------------------------------------------------------------------------
X_TIME = 0
"""End of the segment under way; NEVER when idle."""
X_START = 1
X_BASE = 2
"""Part of a decode step's time that does not depend on context."""
X_CONTEXT = 3
"""Sum of the contexts of the decoding sequences."""
X_BUSY = 4
X_ENERGY = 5
X_POWER = 6
X_ADAPTER_S = 7
"""Time that a step takes longer because some of its sequences use an adapter."""
X_ADAPTER_EACH_S = 8
"""The same for each different adapter."""
X_SINCE = 9
"""When the replica last came up, for idle energy."""
X_IDLE_W = 10
X_GAP = 11
"""Moving average of the time between completions."""
X_LAST_DONE = 12
X_BOUND = 13
"""Busy seconds by what limits a step (four)."""
X_BLOCKED = 17
"""Busy seconds with a queue, by what keeps it waiting (seven)."""
X_UP_S = 24
X_ATTENTION = 25
"""Prefill-attention seconds of the step that is being put together."""
X_LOAD_S = 26
"""Time to copy one adapter to the device, during which nothing else runs."""
X_LOADING = 27
"""Such time in the step that is being put together."""
X_ACCEPTANCE = 28
"""Probability that a draft is accepted, given that the one before it was."""
X_SIZE = 29

# --- slots --------------------------------------------------------------------------------------------------
S_REQUEST = 0
S_FINISH = 1
S_BASE_STEP = 2
S_CONTEXT = 3
"""Tokens computed when decoding began."""
S_DONE = 4
S_TARGET = 5
S_ADMITTED = 6
S_STATE = 7
S_BLOCKS = 8
"""Blocks allocated to this sequence alone (not those of shared entries)."""
S_NODES = 9
"""Leading nodes of its path that it holds."""
S_CHAIN = 10
"""Cache entry of its own continuation that it holds, or −1."""
S_SHARED = 11
"""Blocks that it uses in entries that it holds."""
S_PHASE = 12
S_GIVES = 13
"""Whether its blocks still extend cached entries."""
S_DUPLICATE = 14
"""Blocks of the held entries that it computes again all the same (the last one of a fully cached prompt)."""
S_MADE = 15
"""Tokens that a decoding sequence with drafts has produced since decoding began."""
S_SIZE = 16

SLOT_FREE = 0
SLOT_PREFILL = 1
SLOT_FRESH = 2
SLOT_DECODE = 3

# --- adapters of a replica ----------------------------------------------------------------------------------
A_RUNNING = 0
A_USED = 1
A_SIZE = 2

# --- cache entries ------------------------------------------------------------------------------------------
E_PREV = 0
E_NEXT = 1
"""Next entry of the list, −1 at its end; 0 in an unused entry that never was in one, whose next stands behind it."""
E_BLOCKS = 2
E_HOLDERS = 3
E_OWNER = 4
"""0 for a shared node or session; else 1 + the preempted request that may come back, or −1."""
E_SIZE = 5

# --- requests -----------------------------------------------------------------------------------------------
Q_INPUT = 0
Q_OUTPUT = 1
Q_CLASS = 2
Q_SENSITIVITY = 3
Q_LEVEL = 4
Q_CHAIN = 5
Q_PATH = 6
Q_PATH_LEN = 7
Q_FOLLOWER = 8
Q_SEAT = 9
Q_LINK = 10
Q_STATUS = 11
Q_SERVER = 12
"""Replica that served it, or −1."""
Q_GENERATED = 13
Q_PREEMPTIONS = 14
Q_HIT = 15
Q_ATTEMPTS = 16
"""Times that it was sent to the hosted API."""
Q_SELF = 17
Q_FLAGS = 18
Q_HOME = 19
"""Replica that served the previous call of its session, or −1."""
Q_LEFT = 20
"""Whether it entered anything outside the building."""
Q_RESTARTS = 21
Q_HOSTED_HIT = 22
Q_ADAPTER = 23
"""Adapter (LoRA) that it needs on the shared base model, or −1."""
Q_BEFORE = 24
"""Prompt tokens of the call before it in the same dialogue, which a cache may hold; 0 for one that begins it."""
Q_SIZE = 25

STATUS_UNBORN = 0
STATUS_QUEUED = 1
STATUS_DONE = 2
STATUS_REFUSED_PRIVATE = 3
STATUS_REFUSED_LENGTH = 4
STATUS_REFUSED_HOSTED = 5
STATUS_REFUSED_DOWN = 6
STATUS_CUT = 7
"""A follow-up call that would start after the end."""
STATUS_FREE = 8
"""A row without a request."""

FLAG_READY = 1
"""Its KV has been moved to the decode replica."""
FLAG_ESCALATED = 2
FLAG_DEGRADED = 4
"""The policy wanted to send it out, privacy kept it inside."""
FLAG_SPILLED = 8
FLAG_PARKED = 16

F_ARRIVAL = 0
F_GAP = 1
F_FIRST = 2
F_FINISH = 3
F_LAST = 4
"""Time of its latest token, for the gap after a preemption."""
F_UNIFORM = 5
"""Uniform draw that decides whether a model fails the task, and the seed of all further draws."""
F_NORMAL = 6
"""Standard normal draw for the hosted TTFT."""
F_NORMAL_RATE = 7
F_QUEUED = 8
F_LOCAL_S = 9
F_SIZE = 10

# --- events -------------------------------------------------------------------------------------------------
EVENT_ARRIVE = 0
EVENT_HOSTED_TRY = 1
EVENT_HOSTED_DONE = 2
EVENT_DECODE = 3
EVENT_TICK = 4

# --- routing ------------------------------------------------------------------------------------------------
ROUND_ROBIN = 0
LEAST_OUTSTANDING = 1
PREFIX_AFFINE = 2
PER_SEAT = 3

PRIVATE = 2

# --- step tables (offsets stored as floats at the head of each table in tb) ---------------------------------
P_MAX_TOKENS = 0
P_MAX_SEQS = 1
P_KNOTS = 2
P_TOKEN = 3
P_SAMPLED = 4
P_DECODE = 5
P_KNOT = 6
P_LEVEL = 7
"""[seqs + 1, knots] decode-attention time per sequence at each knot."""
P_SLOPE = 8
P_RATE = 9
"""[knots] prefill-attention time per token at each knot."""
P_TOTAL = 10
"""[knots] its running integral at each knot."""
P_CURVE = 11
P_POWER = 12
P_LIMIT = 13
P_STEP_S = 14
P_PREFILL_S = 15
P_PREFILL_TOKEN_S = 16
P_REQUEST_S = 17
P_IDLE_W = 18
P_SIZE = 19
