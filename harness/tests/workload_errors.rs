//! Each mistake in a workload file gives one error, with its place and what would be right. The expected texts stand in
//! `tests/workload_errors/`; `UPDATE_GOLDEN=1 cargo test` writes them anew.

use std::path::{Path, PathBuf};

use harness::workload::{self, Action};

/// A small workload that is right.
const RIGHT: &str = r#"about = "two nodes"

[cluster]
nodes = 3
partitions = [{ upper = 100 }, { lower = 100 }]
lease = { duration_ms = 300, drift_ppm = 50000 }

[clients]
count = 2
entry = "any"

[operations]
mix = { get = 6, put = 3, cas = 1 }
keys = { count = 4 }

[[nemesis]]
at = "2s"
action = "kill"
target = "leader(1)"
for = "1s"

[[step]]
client = 1
via = 2
put = { key = 1, value = "a" }
"#;

/// The small workload with `from` replaced by `to`.
fn with(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from:?} is not in the workload");
    RIGHT.replacen(from, to, 1)
}

fn golden(name: &str, source: &str) {
    golden_at(Path::new("bad.toml"), name, source);
}

fn golden_at(path: &Path, name: &str, source: &str) {
    let problem = workload::parse(path, source).expect_err("the workload is wrong").to_string();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/workload_errors/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, format!("{problem}\n")).expect("golden text written");
    }
    let expected = std::fs::read_to_string(&file).expect("golden text");
    assert_eq!(format!("{problem}\n"), expected, "{name}");
}

#[test]
fn the_right_workload_is_accepted() {
    let workload = workload::parse(Path::new("workloads/right.toml"), RIGHT).expect("right");
    assert_eq!(workload.name, "right");
    assert_eq!(workload.operations.expect("operations").keys.len(), 4);
}

#[test]
fn an_unknown_key_suggests_the_nearest() {
    golden("unknown-key", &with("count = 2", "cuont = 2"));
    golden("unknown-key-at-the-top", &with("[[nemesis]]", "[[nemesys]]"));
    golden("unknown-key-in-lease", &with("drift_ppm", "drift"));
}

#[test]
fn a_wrong_type_says_what_was_found() {
    golden("wrong-type", &with("nodes = 3", "nodes = \"3\""));
    golden("wrong-duration", &with("at = \"2s\"", "at = \"2\""));
    golden("wrong-target", &with("leader(1)", "leader 1"));
    golden("wrong-entry", &with("\"any\"", "\"some\""));
    golden("wrong-lease", &with("{ duration_ms = 300, drift_ppm = 50000 }", "true"));
    golden("negative-number", &with("nodes = 3", "nodes = -3"));
}

#[test]
fn a_near_miss_of_a_target_is_recognised() {
    golden("near-target", &with("leader(1)", "leeder(1)"));
    golden("near-wait", &format!("{RIGHT}\n[[step]]\nwait = \"leader-chang(1)\"\n"));
}

#[test]
fn keys_go_with_their_actions() {
    let fault = |keys: &str| with("action = \"kill\"\ntarget = \"leader(1)\"\nfor = \"1s\"", keys);
    golden("key-of-another-action", &with("action = \"kill\"", "action = \"kill\"\nparts = 3"));
    golden("no-end", &with("action = \"kill\"", "action = \"wipe\""));
    golden("cut-without-peer", &fault("action = \"cut\"\ntarget = \"leader(1)\""));
    golden("unknown-peer", &fault("action = \"cut\"\ntarget = \"leader(1)\"\npeer = \"node 7\""));
    golden(
        "frames-of-clients",
        &fault("action = \"frame-drop\"\ntarget = \"leader(1)\"\npeer = \"clients\""),
    );
    golden(
        "refuse-of-answers",
        &fault("action = \"refuse\"\ntarget = \"leader(1)\"\npeer = \"clients\"\ndirection = \"out\""),
    );
    golden("clients-as-target", &with("leader(1)", "clients"));
    golden("split-without-parts", &fault("action = \"split\""));
    golden("ring-of-three", &fault("action = \"majorities-ring\""));
    golden(
        "no-distribution",
        &fault("action = \"delay\"\ntarget = \"all\"\ndelay = { mean = \"5ms\", high = \"9ms\" }"),
    );
    golden("no-probability", &fault("action = \"frame-drop\"\ntarget = \"all\"\nchance = 1.5"));
    golden("unknown-message", &fault("action = \"frame-drop\"\ntarget = \"all\"\nkinds = [\"acept\"]"));
    golden("clock-rate-without-rate", &fault("action = \"clock-rate\"\ntarget = \"node 1\""));
}

#[test]
fn triggers_say_one_thing_that_exists() {
    let after = |after: &str| with("at = \"2s\"", &format!("after = {after}"));
    golden("after-nothing", &after("{ count = 2 }"));
    golden("after-two-things", &after("{ writes = 5, leader_change = 1 }"));
    golden("after-unknown-fault", &after("{ fault = \"cut\" }"));
    golden("after-message-of-unknown-node", &after("{ message = \"accept\", from = 9 }"));
    golden("ballot-of-no-message", &after("{ writes = 5, ballot = 2 }"));
    golden("at-and-after", &with("at = \"2s\"", "at = \"2s\"\nafter = { writes = 5 }"));
}

#[test]
fn statements_are_about_what_there_is() {
    let that = |that: &str| format!("{RIGHT}\n[[expect.that]]\n{that}\n");
    golden("unknown-statement", &that("says = \"quiet\""));
    golden("statement-without-bound", &that("says = \"progress\""));
    golden("statement-of-unknown-fault", &that("says = \"silence\"\nafter = { fault = \"cut\" }"));
    golden("statement-of-unknown-phase", &that("says = \"silence\"\nafter = { phase = \"heel\" }"));
    golden("stray-key-of-statement", &that("says = \"silence\"\nwithin = \"5s\""));
    golden("statement-without-number", &that("says = \"leader-changes\""));
    golden("statement-of-fewer-than-least", &that("says = \"failed-elections\"\nat_least = 3\nat_most = 2"));
}

#[test]
fn keys_and_values_of_many_at_once_make_sense() {
    let step = |step: &str| with("put = { key = 1, value = \"a\" }", step);
    let preset = |preset: &str| with("nodes = 3", &format!("nodes = 3\npreset = {preset}"));
    golden("no-placeholder", &step("put = { key = 1, value = \"{kye*10}\" }"));
    golden("key-and-keys", &step("get = { key = 1, keys = { from = 1, to = 9 } }"));
    golden("no-keys", &step("get = { keys = { from = 9, to = 1 } }"));
    golden("unknown-key-of-keys", &step("get = { keys = { from = 1, to = 9, stpe = 2 } }"));
    golden("attempts-without-within", &step("get = { key = 1 }\nexpect = { attempts = 2 }"));
    golden("one-attempt", &step("get = { key = 1 }\nwithin = \"5s\"\nexpect = { attempts = 1 }"));
    golden("wrong-preset", &preset("\"one\""));
    golden("unknown-key-of-preset", &preset("[{ keys = { list = [1] }, valeu = \"a\" }]"));
    let twice = "[{ keys = { from = 1, to = 4 }, value = \"a\" }, { keys = { list = [3] }, value = \"b\" }]";
    golden("preset-twice", &preset(twice));
    let texts = |text: &str| {
        let text = text.replace("[{ upper = 100 }, { lower = 100 }]", "[{}]\nkey_type = \"string\"");
        text.replace("key = 1,", "keys = { list = [\"1\", \"one\"] },")
    };
    golden("no-number", &texts(&with("value = \"a\"", "value = \"{key*10}\"")));
    workload::parse(Path::new("right.toml"), &texts(&with("value = \"a\"", "value = \"is {key}\"")))
        .expect("text stands for itself");
}

#[test]
fn one_table_presets_and_one_step_asks_for_many_keys() {
    let presets = "nodes = 3\npreset = [{ keys = { from = -2, to = 3, step = 2 }, value = \"{|key*10|}\" }]";
    let text = with("nodes = 3", presets)
        .replace("put = { key = 1, value = \"a\" }", "get = { keys = { from = 1, to = 4 } }\ntimes = 2");
    let workload = workload::parse(Path::new("right.toml"), &text).expect("right");
    let preset: Vec<String> =
        workload.cluster.preset.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(preset, ["-2=20", "0=0", "2=20"]);
    let Action::Operation(step) = &workload.steps[0].action else { panic!("an operation") };
    assert_eq!(step.operations(), 6);
    assert_eq!((0..6).map(|time| step.key(time).to_string()).collect::<String>(), "123123");
}

#[test]
fn an_unknown_word_lists_the_words() {
    golden("unknown-action", &with("action = \"kill\"", "action = \"kil\""));
}

#[test]
fn broken_toml_is_pointed_at() {
    golden("broken-toml", &with("nodes = 3", "nodes = "));
    golden("missing-key", &with("nodes = 3\n", ""));
}

#[test]
fn an_impossible_cluster_is_refused() {
    golden("replication-above-nodes", &with("nodes = 3", "nodes = 3\nreplication = 4"));
    golden("threshold-above-nodes", &with("nodes = 3", "nodes = 3\nthreshold = 4"));
    golden("lease-above-election-timeout", &with("duration_ms = 300", "duration_ms = 500"));
    golden("overlapping-ranges", &with("{ lower = 100 }", "{ lower = 99 }"));
    golden("open-range-in-the-middle", &with("{ upper = 100 }", "{ lower = 1 }"));
    golden("empty-range", &with("{ lower = 100 }", "{ lower = 100, upper = 100 }"));
    golden("bound-of-hash", &with("nodes = 3", "nodes = 3\npartitioning = \"hash\""));
    let even = |rest: &str| with("[{ upper = 100 }, { lower = 100 }]", &format!("{{ count = 2 }}{rest}"));
    golden("even-ranges-of-nothing", &even(""));
    golden(
        "span-of-hash",
        &even("\npartitioning = \"hash\"").replace("count = 2 }", "count = 2, from = 1, to = 9 }"),
    );
    golden("local-reads-linearizable", &with("nodes = 3", "nodes = 3\nreads = \"local\""));
    golden("replica-twice", &with("{ lower = 100 }", "{ lower = 100, replicas = [1, 2, 2] }"));
    golden("key-of-the-wrong-kind", &with("key = 1,", "key = \"1\","));
}

#[test]
fn names_must_exist() {
    golden("unknown-entry-node", &with("entry = \"any\"", "entry = [1, 4]"));
    golden("unknown-partition", &with("leader(1)", "leader(3)"));
    golden("unknown-node", &with("leader(1)", "node 4"));
    golden("unknown-client", &with("client = 1", "client = 3"));
    golden("clock-of-unknown-node", &format!("{RIGHT}\n[clocks]\n4 = {{ rate_ppm = 100 }}\n"));
    let network = |link: &str| format!("{RIGHT}\n[network]\nlinks = [{link}]\n");
    golden("delay-of-unknown-node", &network("{ from = 1, to = 4, delay = \"5ms\" }"));
    golden("delay-to-itself", &network("{ from = 1, to = 1, delay = \"5ms\" }"));
    let link = "{ from = 1, to = 2, delay = \"5ms\" }";
    golden("delay-twice", &network(&format!("{link}, {link}")));
    golden("unknown-step", &format!("{RIGHT}\n[[step]]\nname = \"cut\"\nheal = \"cutt\"\n"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    golden("clock-beyond-the-bound", &format!("{RIGHT}\n[clocks]\n2 = {{ rate_ppm = 60000 }}\n"));
    golden("fault-after-the-phase", &with("at = \"2s\"", "at = \"20s\""));
    golden("far-too-many-clients", &with("count = 2", "count = 10000000"));
    golden("far-too-many-keys", &with("{ count = 4 }", "{ count = 2000000000 }"));
    golden("far-too-long-a-range", &with("{ count = 4 }", "{ from = 0, to = 9000000000000000000 }"));
    golden("log-too-long", &with("nodes = 3", "nodes = 3\nkeep_log_bytes = 1000000000\n"));
    golden("fault-too-rare", &with("at = \"2s\"", "every = \"7s\""));
    golden("fault-without-time", &with("at = \"2s\"\n", ""));
    golden("fault-without-target", &with("target = \"leader(1)\"\n", ""));
    golden("no-weights", &with("{ get = 6, put = 3, cas = 1 }", "{ get = 0 }"));
    golden("restart-in-memory", &with("nodes = 3", "nodes = 3\nstorage = \"memory\""));
    golden("two-verbs", &format!("{RIGHT}get = {{ key = 1 }}\n"));
    let require = |what: &str, source: &str| format!("{source}\n[require]\noperations = 10\n{what}\n");
    golden("asked-again-without-sessions", &require("asked_again = 1", RIGHT));
    golden("session-too-short", &with("nodes = 3", "nodes = 3\nsession_idle_ms = 3"));
    golden("local-reads-of-leaders", &require("local_reads = 1", RIGHT));
    let unleased = with("lease = { duration_ms = 300, drift_ppm = 50000 }", "lease = \"off\"");
    golden("fast-reads-without-leases", &require("fast_reads = 1", &unleased));
    golden("fast-reads-near-no-expiry", &require("fast_read_near_expiry = true", &unleased));
    golden("no-verb", &with("put = { key = 1, value = \"a\" }", ""));
}

#[test]
fn a_permanent_fault_lasts_and_leaves_a_core() {
    let permanent =
        |fault: &str| with("at = \"2s\"\naction = \"kill\"\ntarget = \"leader(1)\"\nfor = \"1s\"\n", fault);
    let dies = "at = \"2s\"\naction = \"kill\"\ntarget = \"node 3\"\npermanent = true\n";
    let workload = workload::parse(Path::new("right.toml"), &permanent(dies)).expect("one of three");
    assert!(workload.nemesis[0].fault.permanent);
    golden("permanent-with-an-end", &with("for = \"1s\"", "for = \"1s\"\npermanent = true"));
    golden("permanent-again-and-again", &permanent(&dies.replace("at =", "every =")));
    golden("permanent-wanders", &with("at = \"2s\"", "every = \"2s\"\npermanent = true"));
    golden("permanent-heal", &permanent("at = \"2s\"\naction = \"heal\"\npermanent = true\n"));
    let deaf =
        "[[nemesis]]\nat = \"1s\"\naction = \"cut-oneway\"\ntarget = \"leader(2)\"\npermanent = true\n";
    golden("permanent-without-a-core", &permanent(&format!("{dies}\n{deaf}")));
    let from_all =
        "at = \"1s\"\naction = \"cut\"\ntarget = \"node 1\"\npeer = \"nodes 2, 3\"\npermanent = true\n";
    golden("permanent-from-all-peers", &permanent(from_all));
    golden("wipe-wanders", &permanent("every = \"1s\"\naction = \"wipe\"\ntarget = \"random\"\n"));
    golden(
        "wipe-at-random",
        &format!(
            "{RIGHT}\n[random]\nevery = \"1s\"\n[[random.fault]]\naction = \"wipe\"\ntarget = \"random\"\n"
        ),
    );
    let step = "\n[[step]]\nfault = { action = \"wipe\", target = \"all\" }\n";
    golden("wipe-of-all-in-a-step", &format!("{RIGHT}{step}"));
}

#[test]
fn a_planted_bug_needs_a_negative_workload() {
    let mutant = format!("mutant = \"acknowledge-before-sync\"\n{RIGHT}");
    golden("mutant-elsewhere", &mutant);
    golden_at(Path::new("workloads/negative/bad.toml"), "mutant-expected-valid", &mutant);
    let negative = format!("{mutant}\n[expect]\nverdict = \"violation\"\n");
    workload::parse(Path::new("workloads/negative/good.toml"), &negative).expect("a negative workload");
    let control = negative.replace("acknowledge-before-sync", "control-prepare-twice");
    golden_at(Path::new("workloads/negative/bad.toml"), "control-expected-to-be-found", &control);
    let control = mutant.replace("acknowledge-before-sync", "control-prepare-twice");
    workload::parse(Path::new("workloads/negative/good.toml"), &control).expect("a control");
    golden("control-elsewhere", &control);
    let untraced = format!("{negative}\n[checks]\nlease_safety = false\n");
    golden_at(Path::new("workloads/negative/bad.toml"), "mutant-without-traces", &untraced);
    golden("unknown-mutant", &format!("mutant = \"acknowledge-before-sink\"\n{RIGHT}"));
}

/// A workload for another system, with this line more in `[cluster]` and this text at its end.
fn of_another(kind: &str, in_cluster: &str, rest: &str) -> String {
    format!("[target]\nkind = \"{kind}\"\n\n[cluster]\nnodes = 3\n{in_cluster}\n{rest}")
}

#[test]
fn what_has_no_meaning_for_another_system_is_refused() {
    let fault = |keys: &str| format!("[[nemesis]]\nat = \"1s\"\n{keys}\n");
    for kind in ["etcd", "maelstrom"] {
        let right = of_another(
            kind,
            "key_type = \"string\"",
            &fault("action = \"kill\"\ntarget = \"random\"\nfor = \"1s\""),
        );
        workload::parse(Path::new("right.toml"), &right).unwrap_or_else(|problem| panic!("{problem}"));
    }
    let drop = fault("action = \"frame-drop\"\ntarget = \"all\"\nchance = 0.1\nfor = \"1s\"");
    workload::parse(Path::new("right.toml"), &of_another("maelstrom", "", &drop))
        .expect("messages are known");

    golden("target-unknown", &of_another("etdc", "", ""));
    golden("target-store-has-no-bin", "[target]\nkind = \"store\"\nbin = \"x\"\n[cluster]\nnodes = 3\n");
    golden(
        "target-reads-of-maelstrom",
        "[target]\nkind = \"maelstrom\"\nreads = \"serializable\"\n[cluster]\nnodes = 3\n",
    );
    golden("target-lease-of-etcd", &of_another("etcd", "lease = \"off\"", ""));
    golden("target-messages-of-etcd", &of_another("etcd", "", &drop));
    golden(
        "target-leader-of-etcd",
        &of_another("etcd", "", &fault("action = \"pause\"\ntarget = \"leader(1)\"\nfor = \"1s\"")),
    );
    golden(
        "target-clock-of-maelstrom",
        &of_another("maelstrom", "", &fault("action = \"clock-freeze\"\ntarget = \"random\"\nfor = \"1s\"")),
    );
    let accepts =
        "action = \"frame-drop\"\ntarget = \"all\"\nkinds = [\"accept\"]\nchance = 0.1\nfor = \"1s\"";
    golden("target-kinds-of-maelstrom", &of_another("maelstrom", "", &fault(accepts)));
    let after = "[[nemesis]]\nafter = { leader_change = 1 }\naction = \"kill\"\ntarget = \"random\"\n";
    golden("target-leader-change-of-etcd", &of_another("etcd", "", after));
    golden(
        "target-deletes-of-maelstrom",
        &of_another("maelstrom", "", "[operations]\nmix = { get = 1, delete = 1 }\nkeys = { count = 2 }\n"),
    );
    golden(
        "target-mutant-of-etcd",
        &format!("mutant = \"adopt-by-ballot-only\"\n{}", of_another("etcd", "", "")),
    );
    golden("target-fast-reads-of-etcd", &of_another("etcd", "", "[require]\nfast_reads = 1\n"));
    golden(
        "target-leader-changes-said-of-etcd",
        &of_another("etcd", "", "[[expect.that]]\nsays = \"leader-changes\"\nat_least = 1\n"),
    );
    golden("target-leader-entry-of-etcd", &of_another("etcd", "", "[clients]\nentry = \"leader\"\n"));
    golden("no-lease", &with("lease = { duration_ms = 300, drift_ppm = 50000 }\n", ""));
}

#[test]
fn steps_ask_another_system_only_what_it_can_answer() {
    let step = |kind: &str, step: &str| of_another(kind, "", &format!("[[step]]\n{step}\n"));
    let expecting = |kind: &str, expect: &str| {
        step(kind, &format!("client = 1\nget = {{ key = 1 }}\nexpect = {{ {expect} }}"))
    };
    for right in [
        step("etcd", "client = 1\nvia = \"node 1\"\ndelete = { key = 1 }"),
        step("redis", "client = 1\ncas = { key = 1, new = \"a\" }\nexpect = { swapped = true }"),
        step("maelstrom", "client = 1\ncas = { key = 1, expected = \"a\", new = \"b\" }"),
        step("maelstrom", "wait = \"open\""),
        step("etcd", "wait = \"100ms\""),
        expecting("etcd", "value = \"a\""),
        expecting("maelstrom", "absent = true"),
        expecting("maelstrom", "outcome = \"fail\", error = \"key-does-not-exist\""),
    ] {
        workload::parse(Path::new("right.toml"), &right).unwrap_or_else(|problem| panic!("{problem}"));
    }
    golden("target-deleting-step-of-maelstrom", &step("maelstrom", "client = 1\ndelete = { key = 1 }"));
    golden(
        "target-swap-of-nothing-of-maelstrom",
        &step("maelstrom", "client = 1\ncas = { key = 1, new = \"a\" }"),
    );
    golden("target-wait-for-leader-of-etcd", &step("etcd", "wait = \"leader(1)\""));
    golden("target-wait-for-leader-change-of-redis", &step("redis", "wait = \"leader-change(1)\""));
    golden("target-via-leader-of-etcd", &step("etcd", "client = 1\nvia = \"leader(1)\"\nget = { key = 1 }"));
    for (key, value) in [
        ("fast", "true"),
        ("local", "false"),
        ("redirected", "true"),
        ("reconnected", "true"),
        ("leader", "\"node 1\""),
        ("not_leader", "\"node 1\""),
        ("one_leader", "true"),
    ] {
        golden(&format!("target-{key}-expected-of-etcd"), &expecting("etcd", &format!("{key} = {value}")));
    }
}

#[test]
fn what_is_promised_of_another_system_is_what_it_can_show() {
    let values = |kind: &str| {
        let operations = "[operations]\nmix = { get = 1 }\nkeys = { count = 2 }\nvalue_size = 20\n";
        of_another(kind, "", operations)
    };
    let promising = |text: &str| of_another("etcd", "", text);
    for right in [
        values("etcd"),
        promising("[checks]\nconsistency = \"linearizable\"\nprogress = false\n"),
        promising("[checks]\nconsistency = \"unchecked\"\n"),
        promising("[clients]\nshare = 1\nsessions = false\n"),
        promising("[expect]\nverdict = \"violation\"\nby = \"linearizable\"\n"),
        promising("[[expect.that]]\nsays = \"progress\"\nwithin = \"5s\"\n"),
    ] {
        workload::parse(Path::new("right.toml"), &right).unwrap_or_else(|problem| panic!("{problem}"));
    }
    golden("target-value-size-of-maelstrom", &values("maelstrom"));
    golden("target-sequential-etcd", &promising("[checks]\nconsistency = \"sequential\"\n"));
    golden("target-lease-safety-of-etcd", &promising("[checks]\nlease_safety = true\n"));
    golden(
        "target-found-by-leases-of-etcd",
        &promising("[expect]\nverdict = \"violation\"\nby = \"lease-safety\"\n"),
    );
    golden("target-shared-connections-of-etcd", &promising("[clients]\nshare = 10\n"));
    golden("target-sessions-of-etcd", &promising("[clients]\ncount = 2\nsessions = true\n"));
}
