//! What must not be taken for something else: damage, and what a model cannot mean, is refused with its place or leaves the
//! verdict open, on the command line.

mod support;

use support::command::{checked, edn, told};

/// Checks that a text is refused with exit code 2 and these words.
fn refused(text: &str, arguments: &[&str], expected: &str) {
    let (code, last) = checked(text, arguments);
    assert!(code == 2 && last.contains(expected), "{text}\n{arguments:?}: {code} {last}");
}

#[test]
fn an_event_is_not_dropped_for_its_process() {
    let event = |process| format!("{{:process {process}, :type :invoke, :f :read, :value nil}}\n");
    let sound = edn(&[(0, "invoke", "read", "nil"), (0, "ok", "read", "0")]);
    for process in ["\"0\"", "99999999999999999999", "1.5", "[0]", "nil"] {
        refused(
            &(sound.clone() + &event(process)),
            &[],
            &format!("line 3, column 1: :process is {process}, no"),
        );
    }
    for process in [":nemesis", "nemesis"] {
        assert_eq!(checked(&(sound.clone() + &event(process)), &[]).0, 0, "{process}");
    }
    let twice = "{:process 0, :type :invoke, :f :write, :value 1, :value 2}\n";
    refused(twice, &[], "line 1, column 1: :value stands twice in this map");
    let log = |process| format!("INFO  jepsen.util - {process}\t:invoke\t:read\tnil\n");
    for (process, column) in [("O", 21), ("99999999999999999999", 21), ("\"0\"", 21)] {
        refused(
            &(log("0") + &log(process)),
            &[],
            &format!("line 2, column {column}: expected a process number"),
        );
    }
    refused(
        "INFO  jepsen.util 0\t:invoke\t:read\tnil\n",
        &[],
        "line 1, column 1: a line of a log without ` - `",
    );
    let other = "INFO  jepsen.core - nodes are up\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n";
    assert_eq!(checked(&(other.to_owned() + &log("0")), &[]).0, 0);
}

#[test]
fn no_operations_are_no_verdict() {
    let nothing = "VERDICT unknown no operations (0 operations on 0 keys";
    let empty = r#"{"record":"header","workload":"w","seed":1,"origin":5,"initial":[]}"#;
    for (text, arguments) in [
        ("{:process :nemesis, :type :info, :f :start}", &[][..]),
        ("[]", &[]),
        ("", &["--format", "edn"]),
        (empty, &[]),
    ] {
        let (code, last) = checked(text, arguments);
        assert!(code == 3 && last.starts_with(nothing), "{text}: {code} {last}");
    }
    let failed = "0 :invoke :write 1\n0 :fail :write 1\n";
    assert_eq!(
        checked(failed, &[]).0,
        0,
        "what was tried and refused is a history in which nothing happened"
    );
}

/// Events of two registers that are written and read at once, as maps and as lists of parts.
fn registers(asked: &str, answered: &str) -> String {
    edn(&[
        (0, "invoke", "write", "{:x 1 :y 2}"),
        (0, "ok", "write", "{:y 2, :x 1}"),
        (1, "invoke", "read", asked),
        (1, "ok", "read", answered),
    ])
}

#[test]
fn parts_of_an_answer_belong_to_parts_of_the_question() {
    let model = ["--model", "multi-register"];
    for (answered, code) in [("{:y 2 :x 1}", 0), ("{:x 1 :y 2}", 0), ("{:y 1 :x 2}", 1), ("{:x 2 :y 1}", 1)] {
        assert_eq!(checked(&registers("{:x nil :y nil}", answered), &model).0, code, "{answered}");
    }
    let other = "line 4, column 1: the answer has other parts than the question";
    refused(&registers("{:x nil :y nil}", "{:x 1 :z 2}"), &model, other);
    refused(&registers("{:x nil :y nil}", "{:x 1}"), &model, other);
    refused(&registers("[[:read :x nil] [:read :y nil]]", "[[:read :y 2] [:read :x 1]]"), &model, other);
    refused(&registers("[[:read :x nil] [:write :y 3]]", "[[:read :x 1] [:write :y 4]]"), &model, other);
    refused(&registers("[[:read :x nil]]", "[[:write :x 1]]"), &model, other);
    assert_eq!(
        checked(&registers("[[:read :x nil] [:write :y 3]]", "[[:read :x 1] [:write :y nil]]"), &model).0,
        0
    );
    refused(&registers("{:x nil :x nil}", "{:x 1}"), &model, ":x stands twice in this map");
}

#[test]
fn a_completion_belongs_to_its_invocation() {
    let wrote = |asked, answered| {
        format!("0 :invoke {asked}\n0 :ok {answered}\n1 :invoke :read nil\n1 :ok :read 1\n")
    };
    assert_eq!(checked(&wrote(":write 1", ":write nil"), &[]).0, 0);
    let differs = "line 2, column 1: this ok of :write 2 does not match the :write 1";
    refused(&wrote(":write 1", ":write 2"), &[], differs);
    refused(&wrote(":cas [0 1]", ":cas [0 2]"), &[], "does not match");
    refused("0 :invoke :add 1\n0 :ok :add 2\n", &["--model", "set"], "does not match");
    refused("0 :invoke :enqueue 1\n0 :info :enqueue 2\n", &["--model", "queue"], "does not match");
    assert_eq!(checked("0 :invoke :write 1\n0 :info :write :timed-out\n", &[]).0, 0);
    // keys in pairs
    let read = |answered| {
        edn(&[
            (0, "invoke", "write", "[1 5]"),
            (0, "ok", "write", "[1 5]"),
            (0, "invoke", "read", "[1 nil]"),
            (0, "ok", "read", answered),
        ])
    };
    assert_eq!(checked(&read("[1 5]"), &[]).0, 0);
    assert_eq!(checked(&read("nil"), &[]).0, 0);
    for answered in ["[2 5]", "5"] {
        refused(&read(answered), &[], "line 4, column 1: the answer is about another key");
    }
}

#[test]
fn a_last_line_without_an_end_is_cut_off() {
    let text = "0 :invoke :write 12\n0 :ok :write 12\n0 :invoke :read nil\n0 :ok :read 12\n";
    let sound = checked(text, &[]);
    assert!(sound.0 == 0 && sound.1.contains("(2 operations"), "{sound:?}");
    for cut in 1.."0 :ok :read 12\n".len() {
        let cut = &text[..text.len() - cut];
        let (code, last) = checked(cut, &[]);
        assert!(code == 0 && last.starts_with("VERDICT valid (2 operations"), "{cut}: {last}");
        let (_, error) = told(cut, &[]);
        assert!(error.contains("note: line 4 is cut off after"), "{error}");
    }
}

#[test]
fn strings_are_equal_only_if_they_are_written_alike() {
    let read = |written, read| {
        edn(&[
            (0, "invoke", "write", written),
            (0, "ok", "write", written),
            (0, "invoke", "read", "nil"),
            (0, "ok", "read", read),
        ])
    };
    let pair = r#""\ud83d\ude00""#;
    assert_eq!(checked(&read(pair, "\"😀\""), &[]).0, 0);
    assert_eq!(checked(&read(pair, r#""\ud83d\ude01""#), &[]).0, 1);
    for half in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\ud83d""#, r#""\ud83d\n""#, r#""\ude00\ud83d""#] {
        refused(&read(half, "1"), &[], "column 47: half of a pair of \\u");
    }
    refused(&read(r#""\q""#, "1"), &[], "column 47: \\q means nothing in a string");
    let (one, other) = ("{:a 1, :b 2}", "{:b 2, :a 1}");
    assert_eq!(checked(&read(one, other), &[]).0, 0, "a map has no order");
}

#[test]
fn nothing_is_read_where_the_model_has_keys_that_are_absent() {
    let text = edn(&[
        (0, "invoke", "put", "1"),
        (0, "ok", "put", "1"),
        (0, "invoke", "get", "nil"),
        (0, "ok", "get", "nil"),
    ]);
    assert_eq!(checked(&text, &["--model", "kv"]).0, 1);
    for model in ["register", "cas-register"] {
        assert_eq!(checked(&text, &["--model", model]).0, 0, "as in Knossos, it says nothing");
    }
}

#[test]
fn keys_begin_as_it_is_said_however_they_are_judged() {
    let text = "0 :invoke :read [1 nil]\n0 :ok :read [1 7]\n";
    for whole in [&[][..], &["--whole"]] {
        for (initial, code) in [("7", 0), ("8", 1), ("nil", 1)] {
            let arguments = [&["--model", "kv", "--initial", initial], whole].concat();
            assert_eq!(checked(text, &arguments).0, code, "{arguments:?}");
        }
    }
}

#[test]
fn keys_that_are_written_alike_are_not_taken_for_one() {
    let text = r#"{:process 0, :type :invoke, :f :put, :key ":a", :value "1"}
{:process 0, :type :ok, :f :put, :key ":a", :value "1"}
{:process 0, :type :invoke, :f :get, :key :a, :value nil}
"#;
    refused(
        text,
        &["--format", "porcupine-kv"],
        "line 3, column 1: this key, :a, reads like another, \":a\"",
    );
}

#[test]
fn json_lines_do_not_take_what_they_tell_themselves() {
    let header = r#"{"record":"header","workload":"w","seed":1,"origin":5,"initial":[[1,"a"]]}"#;
    for arguments in [&["--initial", "7"][..], &["--whole"], &["--verify"]] {
        let expected = format!("{} is not for JSON lines and the compact form", arguments[0]);
        refused(&format!("{header}\n"), arguments, &expected);
        refused("LINHIST1", arguments, &expected);
    }
    let twice = header.replace(r#"[1,"a"]"#, r#"[1,"a"],[1,"b"]"#);
    refused(&format!("{twice}\n"), &[], "line 1, column 1: key 1 has two initial values");
}

#[test]
fn a_long_first_line_tells_the_format_as_well() {
    let long = "x".repeat(5000);
    let event = |kind, function, value: &str, key| {
        format!("{{:process 0, :type :{kind}, :f :{function}, :value {value}, :key \"{key}\"}}\n")
    };
    let value = format!("\"{long}\"");
    let text = [
        event("invoke", "put", &value, 1),
        event("ok", "put", &value, 1),
        event("invoke", "get", "nil", 2),
        event("ok", "get", "\"\"", 2),
    ];
    assert_eq!(checked(&text.concat(), &[]).0, 0, "each key holds the empty text at first");
}
