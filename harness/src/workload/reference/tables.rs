//! The list itself: every table and key of a workload file, what it takes, and what it is for.

use Kind::{Bool, Inline, Integer, List, Map, Number, OneOf, Target, Text, Time, Words};
use Shown::{Default, Optional, Required};

/// A table of a workload file.
pub struct Table {
    /// As it stands in the file: `[cluster]`, `[[nemesis]]`.
    pub header: &'static str,
    /// What it is for.
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// A key of a table.
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// The value that the reference writes.
    pub value: Shown,
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, value: Shown, about: &'static str) -> Key {
    Key { name, kind, value, about }
}

/// How the reference writes a key.
pub enum Shown {
    /// It must be there; for example like this.
    Required(&'static str),
    /// This is what it is when it is left out.
    Default(&'static str),
    /// It may be there, for example like this.
    Optional(&'static str),
}

/// What a key takes, as far as a schema can say it.
#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Bool,
    /// A whole number from there on.
    Integer(i64),
    Number,
    /// Anything like `"250ms"`.
    Time,
    Target,
    Words(&'static [&'static str]),
    Action,
    List(&'static Kind),
    OneOf(&'static [Kind]),
    /// A table with these keys, of which the first so many must be there.
    Inline(&'static [(&'static str, Kind)], usize),
    /// A table whose keys the user chooses.
    Map(&'static Kind),
}

const COUNT: Kind = Integer(0);
const KEY: Kind = OneOf(&[Integer(i64::MIN), Text]);
const LINKS: Kind = Words(&["hold", "sever", "close", "silence"]);
const MESSAGES: &[&str] = &[
    "handshake",
    "verdict",
    "request",
    "reply",
    "join",
    "table",
    "heartbeat-request",
    "heartbeat-reply",
    "leading",
    "forward",
    "forwarded",
    "prepare",
    "promise",
    "accept-sync",
    "accept",
    "accepted",
    "decide",
    "prepare-req",
    "nack",
    "lease-nack",
    "lease-extend",
    "lease-granted",
    "lease-release",
    "take-over",
    "trimmed",
    "fetch-snapshot",
    "snapshot-piece",
    "accepted-by-all",
];
const LEASE: Kind =
    OneOf(&[Words(&["off"]), Inline(&[("duration_ms", Integer(1)), ("drift_ppm", COUNT)], 2)]);
const RANGE: Kind = Inline(&[("lower", KEY), ("upper", KEY), ("replicas", List(&Integer(1)))], 0);
const PARTITIONS: Kind = OneOf(&[
    List(&RANGE),
    Inline(&[("count", Integer(1)), ("to", Integer(i64::MIN)), ("from", Integer(i64::MIN))], 1),
]);
const KEYS: Kind = Inline(
    &[
        ("count", Integer(1)),
        ("from", Integer(i64::MIN)),
        ("to", Integer(i64::MIN)),
        ("step", Integer(1)),
        ("list", List(&KEY)),
    ],
    0,
);
const PRESET: Kind = OneOf(&[Map(&Text), List(&Inline(&[("keys", KEYS), ("value", Text)], 2))]);
const OF_KEY: Kind = Inline(&[("key", KEY), ("keys", KEYS)], 0);
const MIX: Kind = Inline(&[("get", COUNT), ("put", COUNT), ("cas", COUNT), ("delete", COUNT)], 0);
const DELAY: Kind = OneOf(&[
    Time,
    Inline(&[("shortest", Time), ("longest", Time), ("mean", Time), ("median", Time), ("high", Time)], 0),
]);
const AFTER: Kind = Inline(
    &[
        ("message", Words(MESSAGES)),
        ("from", Integer(1)),
        ("to", Integer(1)),
        ("ballot", COUNT),
        ("partition", Integer(1)),
        ("leader_change", Integer(1)),
        ("writes", Integer(1)),
        ("fault", Text),
        ("ends", Bool),
        ("count", Integer(1)),
        ("plus", Time),
    ],
    0,
);
const MOMENT: Kind = Inline(&[("fault", Text), ("ends", Bool), ("phase", Text), ("plus", Time)], 0);
pub const CLOCK: Kind = Inline(&[("rate_ppm", Integer(i64::MIN)), ("offset_ms", Integer(i64::MIN))], 0);
const EXPECTATION: Kind = Inline(
    &[
        ("outcome", Words(&["ok", "fail", "timeout", "unanswered", "any"])),
        ("value", Text),
        ("absent", Bool),
        ("swapped", Bool),
        ("fast", Bool),
        ("local", Bool),
        ("redirected", Bool),
        ("reconnected", Bool),
        ("leader", Target),
        ("not_leader", Target),
        ("one_leader", Bool),
        ("attempts", Integer(2)),
        ("error", Text),
    ],
    0,
);
const NODE_OR_TARGET: Kind = OneOf(&[Integer(1), Words(&["any", "pinned"]), Target]);
const CLIENTS: Kind = OneOf(&[Integer(1), List(&Integer(1)), Words(&["all"])]);
const ENTRY: Kind = OneOf(&[Words(&["any", "pinned", "leader"]), List(&Integer(1))]);

/// The keys that every fault has, wherever it stands.
pub const FAULT: &[Key] = &[
    key("action", Kind::Action, Required("\"kill\""), "what: see the list of actions"),
    key(
        "target",
        Target,
        Required("\"leader(1)\""),
        "whom: \"node 3\", \"nodes 1, 2\", \"random\" (or \"one\"), \"minority\", \"majority\", \"all\", \"leader(1)\", \
                \"lease-holder(1)\", \"follower(1)\", \"followers(1)\", \"lagging(1)\", \"minority(1)\", \"majority(1)\"; \
                resolved when the fault begins, and recorded",
    ),
    key("for", Time, Optional("\"2s\""), "how long; without it, until everything is healed"),
    key("links", LINKS, Optional("\"hold\""), "what a cut does to its links; \"hold\" if left out"),
    key(
        "direction",
        Words(&["out", "in", "both"]),
        Optional("\"out\""),
        "which way, seen from the target; \"out\" for `cut-oneway`, else \"both\"",
    ),
    key(
        "peer",
        Target,
        Optional("\"follower(1)\""),
        "the other end; all other nodes if left out. \"clients\": every client, of `cut`, `cut-oneway`, `hold`, `refuse`, \
                `half-open` and `delay`; requests go \"in\", answers \"out\"",
    ),
    key("parts", Integer(2), Optional("3"), "of `split`"),
    key("period", Time, Optional("\"200ms\""), "of `swizzle` and `flap`: from change to change"),
    key(
        "slow",
        Time,
        Optional("\"50ms\""),
        "of `stall-disk`: each sync takes so much longer; \
                                                                       without it, none ends",
    ),
    key(
        "delay",
        DELAY,
        Optional("\"20ms\""),
        "of `delay`: a time, { shortest = \"1ms\", longest = \"20ms\" }, { mean = \"5ms\" } (exponential) or \
                { median = \"5ms\", high = \"50ms\" } (lognormal; one in forty is longer than `high`)",
    ),
    key("bytes_per_second", Integer(1), Optional("20000"), "of `throttle`"),
    key(
        "kinds",
        List(&Words(MESSAGES)),
        Optional("[\"accept\"]"),
        "of `frame-…`: these messages; all if left out",
    ),
    key(
        "partition",
        Integer(1),
        Optional("1"),
        "of `frame-…`: about this partition; of `transfer-leader`: whose leader",
    ),
    key("min_ballot", COUNT, Optional("2"), "of `frame-…`: with a ballot of at least this number"),
    key("max_ballot", COUNT, Optional("9"), "of `frame-…`: with a ballot of at most this number"),
    key("chance", Number, Optional("0.1"), "of `frame-…`: each with this probability"),
    key("nth", Integer(1), Optional("3"), "of `frame-…`: only the one with this number"),
    key(
        "at_most",
        Time,
        Optional("\"50ms\""),
        "of `frame-reorder`: how late a message may come; 50 ms if left out",
    ),
    key(
        "rate_ppm",
        Integer(i64::MIN),
        Optional("40000"),
        "of `clock-rate`: the rate error in parts per million",
    ),
    key("offset_ms", Integer(i64::MIN), Optional("500"), "of `clock-offset`: how far the clock jumps"),
];

/// All tables, in the order of the reference.
pub const TABLES: &[Table] = &[
    Table {
        header: "",
        about: "A workload: which cluster is started, what its clients do, what is broken when, and what must be true of it all.",
        keys: &[
            key("about", Text, Optional("\"what it is for\""), "what it is for, in words"),
            key(
                "mutant",
                Text,
                Optional("\"acknowledge-before-sync\""),
                "a planted bug: only in a folder named \
                `negative`, with `verdict = \"violation\"`",
            ),
            key(
                "lose_unsynced",
                Bool,
                Default("false"),
                "a killed node loses what was not synced, as in a power failure",
            ),
        ],
    },
    Table {
        header: "[target]",
        about: "The system under test. Of other systems than the store, `[cluster]` has `nodes` and `key_type` alone, and only what \
            meets processes, connections and bytes can be broken: they are run as processes, not simulated.",
        keys: &[
            key(
                "kind",
                Words(&["store", "etcd", "redis", "maelstrom"]),
                Default("\"store\""),
                "this project's store, etcd, Redis (node 1 is the primary, the others its replicas), or programs that speak Maelstrom's protocol (lin-kv)",
            ),
            key(
                "bin",
                Text,
                Optional("\"python3 node.py\""),
                "the program of a node: for etcd and redis its name or path (`etcd`, `redis-server`); for maelstrom a command of the shell, run in the \
                folder of this file",
            ),
            key(
                "reads",
                Words(&["linearizable", "serializable"]),
                Optional("\"serializable\""),
                "etcd only: how reads are asked for; serializable ones may be old",
            ),
        ],
    },
    Table {
        header: "[cluster]",
        about: "The cluster.",
        keys: &[
            key("nodes", Integer(1), Required("5"), "how many nodes there are, 1 to 64"),
            key(
                "partitions",
                PARTITIONS,
                Required("{ count = 3, from = 1, to = 6001 }"),
                "the ranges of keys: so many \
                even ones, or a list such as [{ upper = 100 }, { lower = 100, replicas = [1, 2, 3] }]; by hash { count = 3 }, or a \
                list without bounds",
            ),
            key(
                "lease",
                LEASE,
                Required("{ duration_ms = 400, drift_ppm = 50000 }"),
                "leader leases: how long a grant \
                lasts, and how wrong a clock's rate may be; or \"off\"",
            ),
            key(
                "late",
                List(&Integer(1)),
                Default("[]"),
                "nodes that are cut off from the others until a step heals them",
            ),
            key(
                "key_type",
                Words(&["integer", "string"]),
                Default("\"integer\""),
                "the kind of keys; bounds compare in it",
            ),
            key(
                "partitioning",
                Words(&["range", "hash"]),
                Default("\"range\""),
                "how a key finds its partition: by the bounds of the partitions, or by its hash (64-bit FNV-1a of an integer's \
                eight bytes, the most significant one first, or of a text's bytes), modulo the number of partitions",
            ),
            key(
                "replication",
                Integer(1),
                Optional("3"),
                "replicas of each partition that does not name them; 3, or all \
                nodes if there are fewer",
            ),
            key(
                "threshold",
                Integer(1),
                Optional("5"),
                "how many nodes must have joined before clients are served; all",
            ),
            key(
                "storage",
                Words(&["durable", "memory"]),
                Default("\"durable\""),
                "where state is kept; in memory, a killed \
                node stays dead",
            ),
            key(
                "routing",
                Words(&["forward", "redirect"]),
                Default("\"forward\""),
                "what a node does with an operation that another node leads: it hands it on, or refuses and says who leads; \
                clients then keep a map of the leaders, go where they are sent, and ask another node when one is gone",
            ),
            key(
                "reads",
                Words(&["linearizable", "local"]),
                Default("\"linearizable\""),
                "who answers reads: the leader; or, \"local\", any replica from what it has applied, once that is as much as \
                the client has seen: then `consistency = \"sequential\"` is what can be asked for",
            ),
            key("heartbeat_ms", Integer(1), Default("80"), "from one heartbeat to the next"),
            key(
                "missed_rounds",
                Integer(1),
                Default("5"),
                "missed heartbeats before a node is suspected: the election \
                timeout is the product of both",
            ),
            key(
                "request_timeout_ms",
                Integer(1),
                Default("1500"),
                "after which a node gives a forwarded request up",
            ),
            key(
                "session_idle_ms",
                Integer(4),
                Default("60000"),
                "after which a client's session that has written nothing expires",
            ),
            key(
                "snapshot_after_bytes",
                Integer(1),
                Default("4194304"),
                "bytes of log entries from one snapshot of a replica's keys to the next, after which the log is trimmed; \
                 partitions share them equally, at least 64 KiB for each; in memory 16 KiB at the most, unless \
                 `keep_log_bytes` is 0",
            ),
            key(
                "keep_log_bytes",
                COUNT,
                Default("16777216"),
                "bytes of trimmed entries that are kept for members that lag, shared like these; who lags more fetches the keys",
            ),
            key(
                "preset",
                PRESET,
                Default("{}"),
                "values that keys hold before the first operation: by key, as in { 1 = \"one\" }, or for many \
                keys at once, as in [{ keys = { from = 2, to = 41, step = 2 }, value = \"{key}\" }], where `{key}` stands for \
                each key, `{key*10}` for ten times the key, and `{|key|}` and `{|key*10|}` for the same without a sign",
            ),
        ],
    },
    Table {
        header: "[clients]",
        about: "The clients. Each asks one thing at a time, and of another node only what certainly has not happened.",
        keys: &[
            key("count", Integer(1), Default("3"), "how many"),
            key(
                "entry",
                ENTRY,
                Default("\"any\""),
                "where operations enter: \"any\" node, each client \"pinned\" to one, \
                at the \"leader\", or at one of a list of nodes",
            ),
            key(
                "timeout_ms",
                Integer(1),
                Default("2000"),
                "after which an operation without an answer counts as unknown",
            ),
            key(
                "share",
                Integer(1),
                Default("1"),
                "so many of them share one connection to each node, for more operations a second: what they ask at the same \
                moment travels together, and is lost together. Not clients of the script; in simulated time each has its own",
            ),
            key(
                "sessions",
                Bool,
                Default("false"),
                "they have sessions: what may have happened they ask for again until their time is up, and it happens once",
            ),
        ],
    },
    Table {
        header: "[operations]",
        about: "What they do at random. Without this table there are only steps.",
        keys: &[
            key(
                "mix",
                MIX,
                Required("{ get = 6, put = 3, cas = 1, delete = 0 }"),
                "kinds of operations by weight",
            ),
            key(
                "keys",
                KEYS,
                Required("{ count = 12 }"),
                "so many keys, dealt to the partitions; or { from = 1, to = 13 }, \
                with `step = 2` every other one; or { list = [1, 2, 3] }",
            ),
            key(
                "distribution",
                Words(&["uniform", "zipf", "hot"]),
                Default("\"uniform\""),
                "how often which key is used",
            ),
            key(
                "skew",
                Number,
                Optional("0.99"),
                "of \"zipf\": the exponent (1); of \"hot\": the first key's share (0.8)",
            ),
            key("value_size", COUNT, Default("0"), "values are padded to so many bytes"),
            key(
                "rate",
                Integer(1),
                Optional("1000"),
                "operations a second of all clients; without it each asks as soon as \
                it is answered",
            ),
            key(
                "total",
                Integer(1),
                Optional("10000"),
                "no more operations than these of all clients together, dealt evenly; the phases go on",
            ),
        ],
    },
    Table {
        header: "[network]",
        about: "How long messages between nodes travel without any fault; what faults add comes on top.",
        keys: &[
            key(
                "delay",
                DELAY,
                Optional("{ shortest = \"1ms\", longest = \"5ms\" }"),
                "on every link, written as for `delay`; as long as the machine takes if left out",
            ),
            key(
                "links",
                List(&Inline(&[("from", Integer(1)), ("to", Integer(1)), ("delay", DELAY)], 3)),
                Default("[]"),
                "on single links, instead: `{ from = 1, to = 2, delay = \"20ms\" }`",
            ),
        ],
    },
    Table {
        header: "[clocks]",
        about: "The nodes' clocks, where they differ from the machine's: `1 = { rate_ppm = 40000, offset_ms = -250 }`. Within the lease's\n\
                `drift_ppm`, unless a violation is expected.",
        keys: &[],
    },
    Table {
        header: "[[nemesis]]",
        about: "A fault: exactly one of `at`, `every` and `after`, then what, whom and for how long. Faults may overlap: what one of them\n\
                frees, another may still hold. Times count from the beginning of the faults phase. A run in which one of them comes to nothing\n\
                is undecided: it never began, found nobody to break, or struck nothing. Of `every`, one time must take effect.",
        keys: &[
            key("at", Time, Required("\"2s\""), "once"),
            key(
                "every",
                Time,
                Optional("\"5s\""),
                "again and again, each time after half to one and a half of this",
            ),
            key(
                "after",
                AFTER,
                Optional("{ writes = 500 }"),
                "when something has happened: { message = \"accept\", ballot = 2, \
                from = 1, to = 2 }, { leader_change = 1 } (the partition), { writes = 500 } (acknowledged) or { fault = \"name\", \
                ends = true }; with `count = 3` the third time (of messages: on all links that are meant together, as they are sent), with `plus = \"10ms\"` that much later",
            ),
            key(
                "name",
                Text,
                Optional("\"the leader dies\""),
                "by which `after` and `[[expect.that]]` call it",
            ),
            key(
                "permanent",
                Bool,
                Default("false"),
                "it outlasts the heal phase: the nodes that it hits are outside of the core that must make progress; with \
                 `every` and `for` it comes and goes until the end",
            ),
        ],
    },
    Table {
        header: "[random]",
        about: "Faults at random, beside those of `[[nemesis]]`; the plan lists each of them with its time. Half of\n\
                them may come to nothing.",
        keys: &[
            key("every", Time, Required("\"2s\""), "the usual time from one to the next"),
            key(
                "swarm",
                Bool,
                Default("false"),
                "each seed draws which of them there are, how often each comes, and how fast",
            ),
        ],
    },
    Table {
        header: "[[random.fault]]",
        about: "What is drawn; without any, the whole vocabulary but what leases do not bear. Each lasts an eighth of `for` to all of it.",
        keys: &[key("weight", Integer(1), Default("1"), "how often, compared with the others")],
    },
    Table {
        header: "[[step]]",
        about: "A step of the script: exactly one of `get`, `put`, `cas`, `delete`, `fault`, `heal`, `wait` and `await`. Steps follow one\n\
                another; the first whose expectation fails ends the script.",
        keys: &[
            key("name", Text, Optional("\"a write\""), "by which later steps call it"),
            key(
                "put",
                Inline(&[("key", KEY), ("keys", KEYS), ("value", Text)], 0),
                Required("{ key = 1, value = \"a\" }"),
                "write; \
                without `value`, one that no other operation writes. Of every operation: instead of `key`, `keys` as in \
                [operations] for one after the other, with `{key}` in values as in `preset`",
            ),
            key("get", OF_KEY, Optional("{ key = 1 }"), "read"),
            key(
                "cas",
                Inline(&[("key", KEY), ("keys", KEYS), ("expected", Text), ("new", Text)], 0),
                Optional("{ key = 1, expected = \"a\", new = \"b\" }"),
                "compare and swap; without `expected`, the key must be absent",
            ),
            key("delete", OF_KEY, Optional("{ key = 1 }"), "remove"),
            key(
                "fault",
                Map(&OneOf(&[])),
                Optional("{ action = \"isolate\", target = \"leader(1)\", for = \"1s\" }"),
                "break \
                something: the keys of a fault, and \"answered(step name)\" as a target",
            ),
            key("heal", Text, Optional("\"a fault's name\""), "undo the named fault, or \"all\""),
            key(
                "wait",
                Text,
                Optional("\"250ms\""),
                "for a time, or for \"open\", \"leader(1)\" or \"leader-change(1)\"",
            ),
            key(
                "await",
                List(&Text),
                Optional("[\"a write\"]"),
                "operations in the background must have ended",
            ),
            key(
                "client",
                CLIENTS,
                Required("1"),
                "who asks: a client, a list of them, or \"all\", side by side",
            ),
            key(
                "via",
                NODE_OR_TARGET,
                Default("\"any\""),
                "where: a node, a target, \"any\" node, or each client \"pinned\" to one",
            ),
            key("times", Integer(1), Default("1"), "how often each of them asks"),
            key("for", Time, Optional("\"1s\""), "instead: for how long each asks again and again"),
            key("within", Time, Optional("\"5s\""), "how long the step may take to come true"),
            key("timeout_ms", Integer(1), Optional("500"), "instead of that in `[clients]`"),
            key("background", Bool, Default("false"), "the next step starts at once"),
            key(
                "expect",
                EXPECTATION,
                Default("{ outcome = \"ok\" }"),
                "what must come back: outcome, value, absent, swapped, \
                fast, local, redirected (a node named the leader), reconnected (a node was gone), leader, not_leader, \
                 one_leader, error; with `attempts = 2`, no answer before the second attempt",
            ),
        ],
    },
    Table {
        header: "[phases]",
        about: "How long what takes.",
        keys: &[
            key(
                "boot",
                Time,
                Default("\"30s\""),
                "at most, until every node serves and every partition has a leader",
            ),
            key("warm_up", Time, Default("\"2s\""), "operations before the first fault"),
            key(
                "faults",
                Time,
                Default("\"10s\""),
                "operations while faults come and go; with steps alone, as long as they take",
            ),
            key(
                "heal",
                Time,
                Default("\"20s\""),
                "at most, until every partition has a leader again after everything is healed",
            ),
            key("quiesce", Time, Default("\"1s\""), "operations after that"),
            key("final_reads", Bool, Default("true"), "every key is read at the end"),
        ],
    },
    Table {
        header: "[checks]",
        about: "What is checked.",
        keys: &[
            key(
                "consistency",
                Words(&["linearizable", "sequential", "unchecked"]),
                Default("\"linearizable\""),
                "how consistent must the history be: each key linearizable; or, as local reads promise, each partition \
                sequentially consistent with the order of its log, and its writes linearizable",
            ),
            key(
                "lease_safety",
                Bool,
                Default("true"),
                "were the leases safe, and did all nodes decide the same?",
            ),
            key(
                "progress",
                Bool,
                Default("true"),
                "is every key readable after everything is healed? The final reads show it: without them, nothing does",
            ),
            key("budget", Time, Default("\"60s\""), "time for each check"),
        ],
    },
    Table {
        header: "[require]",
        about: "What a run must contain to mean anything, each seed of a simulation too; without it, it is undecided. Faults must take effect\n\
                and something must be answered whatever stands here.",
        keys: &[
            key("operations", COUNT, Default("0"), "answered operations"),
            key("operations_per_fault", COUNT, Default("0"), "answered operations that overlap each fault"),
            key("leader_changes", COUNT, Default("0"), "times that a partition got another leader"),
            key("fast_reads", COUNT, Default("0"), "fast reads"),
            key("local_reads", COUNT, Default("0"), "reads that replicas answered themselves"),
            key("redirects", COUNT, Default("0"), "times that a client was redirected to a leader"),
            key(
                "asked_again",
                COUNT,
                Default("0"),
                "times that a client asked again in its session for what may have happened",
            ),
            key(
                "snapshots_fetched",
                COUNT,
                Default("0"),
                "snapshots that a node has fetched from another, since what it lacked was gone from the log",
            ),
            key("fast_read_near_expiry", Bool, Default("false"), "a fast read in the last tenth of a hold"),
            key("final_reads", Bool, Default("false"), "a final read of every key"),
        ],
    },
    Table {
        header: "[expect]",
        about: "How a run should end.",
        keys: &[
            key("verdict", Words(&["valid", "violation"]), Default("\"valid\""), "with which verdict"),
            key(
                "by",
                Words(&["linearizable", "sequential", "lease-safety", "progress", "script", "statements"]),
                Optional("\"lease-safety\""),
                "which \
                check must find the violation; linearizable, sequential or lease-safety if left out",
            ),
        ],
    },
    Table {
        header: "[[expect.that]]",
        about: "What else must be true of a run, from `after` to `until`, each time that they come: { fault = \"name\" }, { fault = \"name\",\n\
                ends = true } or { phase = \"heal\" }, with `plus = \"1s\"` that much later. An operation that is refused was asked and not\n\
                answered. Where nobody asked, or the run ends first, nothing is decided.",
        keys: &[
            key(
                "says",
                Words(&[
                    "silence",
                    "fast-reads",
                    "other-leader",
                    "leader-changes",
                    "failed-elections",
                    "progress",
                    "writes",
                ]),
                Required("\"progress\""),
                "\
                no operation is answered; every read is fast; another leader than before answers within `within`; `at_least` and `at_most` so \
                many leader changes; so many take-overs in the run that never came to lead; an operation, or a write, is answered within `within` (of the heal, without `after`)",
            ),
            key("name", Text, Optional("\"it goes on\""), "its name in the report"),
            key("partition", Integer(1), Optional("1"), "of which partition; of each, if left out"),
            key(
                "after",
                MOMENT,
                Optional("{ phase = \"heal\" }"),
                "from when on; from the beginning, if left out",
            ),
            key("until", MOMENT, Optional("{ phase = \"end\" }"), "until when; to the end, if left out"),
            key("within", Time, Required("\"10s\""), "of \"other-leader\", \"progress\" and \"writes\""),
            key("at_least", COUNT, Optional("1"), "of \"leader-changes\" and \"failed-elections\""),
            key("at_most", COUNT, Optional("3"), "of the same"),
        ],
    },
];
