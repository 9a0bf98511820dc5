//! Signals that reach what a watch runs, and readers that go away while it waits.

use std::fs;
use std::process::Command;

use crate::support::{Place, Running};

/// A watch of one change that runs a script, with a named pipe to wait at.
fn started(script: &str) -> (Place, Running) {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert!(Command::new("mkfifo").arg(place.path("fifo")).status().unwrap().success());
    let line = format!("watch --after 0 --cursor-file agent.cursor -- sh -c '{script}'");
    let mut watch = place.start(&line);
    assert_eq!(watch.line(), "started");
    (place, watch)
}

fn kept(place: &Place) -> String {
    fs::read_to_string(place.path("agent.cursor")).unwrap()
}

const SIGNALS: [(&str, i32); 3] = [("HUP", 129), ("INT", 130), ("TERM", 143)];

#[test]
fn a_signal_is_passed_to_all_that_the_command_started_and_its_exit_decides_the_place() {
    for (signal, code) in SIGNALS {
        for (exit, place_kept) in [(0, ":1:"), (3, ":0:")] {
            // A child of the command waits, as a server would; both are told.
            let script = format!(
                "trap \"echo command; exit {exit}\" {signal}; \
                 sh -c \"trap \\\"echo child; exit 0\\\" {signal}; echo started; while :; do sleep 0.05; done\"; :"
            );
            let (place, mut watch) = started(&script);
            watch.signal(signal);
            assert_eq!([watch.line(), watch.line()], ["child", "command"], "{signal}");
            assert_eq!(watch.code(), code, "{signal}");
            assert!(kept(&place).contains(place_kept), "{signal} {exit}: {}", kept(&place));
        }
    }
}

#[test]
fn a_command_that_a_signal_ends_gets_its_change_again() {
    for (signal, code) in SIGNALS {
        let (place, watch) = started("echo started; exec cat fifo");
        watch.signal(signal);
        assert_eq!(watch.code(), code);
        assert!(kept(&place).contains(":0:"), "{signal}");
        let again = place.stdout("watch --count 1 --cursor-file agent.cursor -- sh -c 'echo $USTATE_KEY'");
        assert_eq!(again, "/a\n");
    }
}

#[test]
fn a_signal_that_whoever_started_the_watch_ignores_does_not_end_it() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let mut command = place.as_environment_of("sh");
    let script = "trap '' HUP; exec \"$0\" watch --after 0";
    command.args(["-c", script, env!("CARGO_BIN_EXE_ustate")]);
    let mut watch = Running::of(command);
    assert!(watch.line().contains("created /a"));
    watch.signal("HUP");
    assert_eq!(place.code("set /a 2"), 0);
    assert!(watch.line().contains("updated /a"));
    watch.signal("TERM");
    assert_eq!(watch.code(), 143);
}

#[test]
fn a_command_finds_the_store_wherever_it_goes() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    let set = format!("cd / && {} get /a", env!("CARGO_BIN_EXE_ustate"));
    for line in [
        format!("watch --after 0 --count 1 -- sh -c '{set}'"),
        format!("replay -- sh -c '{set}'"),
        format!("bisect --good 0 --bad head -v -- sh -c '{set} > /dev/null && grep -vq a'"),
    ] {
        let output = place.output(&line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("error"), "{line}");
    }
    assert_eq!(place.stdout(&format!("watch --after 0 --count 1 -- sh -c '{set}'")), "1\n");
}

#[test]
fn a_watch_that_nobody_reads_ends_without_another_change() {
    for options in ["", " --json", " --cursor-file agent.cursor", " --caught-up"] {
        let place = Place::new();
        assert_eq!(place.code("set /a 1"), 0);
        let mut watch = place.start(&format!("watch --after 0{options}"));
        assert!(watch.line().contains("created"));
        assert!(watch.hang_up().status.success());
        if options.contains("cursor") {
            assert!(kept(&place).contains(":1:"), "what was delivered is kept");
        }
    }
}

#[test]
fn a_replay_that_nobody_reads_ends_while_it_waits() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert_eq!(place.code("set /a 2"), 0);
    // A million years for the time between two commands.
    let mut replay = place.start("replay --speed 0.0000000001x -o ndjson");
    assert!(replay.line().contains("\"first\":1"));
    assert!(replay.hang_up().status.success());
}
