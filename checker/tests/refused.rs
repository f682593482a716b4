//! What must not be taken for something else: damage, and what a model cannot mean, is refused with its place or leaves the
//! verdict open, on the command line.

mod support;

use support::command::{checked, edn};

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
