//! Variables of the environment, patterns that look like folders, numbers below zero, and waiting for standard input.

use std::process::Stdio;

use snapbox::str;

use crate::support::{Place, check};

#[test]
fn an_empty_variable_is_as_one_that_is_not_set() {
    let place = Place::new();
    let shown = |variable: &str, words: &[&str]| {
        let output = place.command(words).env(variable, "").output().unwrap();
        format!("$ {variable}= ustate {}\n{}", words.join(" "), place.shown(&output))
    };
    let mut transcript = shown("USTATE_DB", &["set", "/a", "1", "--db", "state.db"]);
    for words in [&["list"] as &[&str], &["list", "--db", ""], &["init", "new.db", "-q"], &["--help"]] {
        let shown = shown("USTATE_DB", words);
        transcript.extend(shown.split_inclusive('\n').take(4));
    }
    transcript += &shown("USTATE_READONLY", &["set", "/a", "2"]);
    transcript += &place.transcript(&["list --db ''"]);
    check(
        &transcript,
        str![[r#"
$ USTATE_DB= ustate set /a 1 --db state.db
1 set /a  version 1
$ USTATE_DB= ustate list
! error: no store was named
!   give --db PATH, or set USTATE_DB
!   hint: export USTATE_DB=state.db
$ USTATE_DB= ustate list --db 
! error: no store was named
!   give --db PATH, or set USTATE_DB
!   hint: export USTATE_DB=state.db
$ USTATE_DB= ustate init new.db -q
$ USTATE_DB= ustate --help
Look into, watch and verify a univrs-state store.

A store is one file: a log of every change, chained by hashes, and the entries it adds up to.
$ USTATE_READONLY= ustate set /a 2
2 set /a  version 2
$ ustate list --db ''
! error: no store was named
!   give --db PATH, or set USTATE_DB
!   hint: export USTATE_DB=state.db
[exit 2]

"#]],
    );
    let output = place.command(&["set", "/a", "3"]).env("USTATE_ACTOR", "").output().unwrap();
    assert!(output.status.success());
    assert!(!place.stdout("log -n 1 -o tsv").contains("\t\t"), "it is user@host");
}

#[test]
fn a_store_is_read_only_where_the_variable_says_yes_and_it_is_not_guessed_what_it_says() {
    let place = Place::new();
    let code = |value: &str, words: &[&str]| {
        let output = place.command(words).env("USTATE_READONLY", value).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for no in ["", "0", "false", "no", "off", "False", "NO"] {
        assert_eq!(code(no, &["set", "/a", "1"]).0, 0, "{no}");
    }
    for yes in ["1", "true", "yes", "on", "TRUE"] {
        let (exit, stderr) = code(yes, &["set", "/a", "1"]);
        assert!(exit == 2 && stderr.contains("USTATE_READONLY is set"), "{yes}: {stderr}");
    }
    for junk in ["2", "flase", " ", "n o"] {
        let (exit, stderr) = code(junk, &["set", "/a", "1"]);
        assert!(exit == 2 && stderr.contains("neither yes nor no"), "{junk}: {stderr}");
        assert_eq!(code(junk, &["list"]).0, 0, "reading is as ever");
    }
}

#[test]
fn a_pattern_that_looks_like_a_folder_is_told_the_one_that_was_meant() {
    let place = Place::new();
    check(
        &place.transcript(&[
            "list /",
            "list /a/",
            "list '/my keys/' --json",
            "list /a//",
            "list a/",
            "list /a//b",
            "watch /a/",
            "log /a/",
            "diff 0.. /a/",
            "export /a/",
        ]),
        str![[r#"
$ ustate list /
! error: invalid key: "/": it must not end with '/'
!   all keys below it are '/*'
!   hint: ustate list '/*'
[exit 2]
$ ustate list /a/
! error: invalid key: "/a/": it must not end with '/'
!   all keys below it are '/a/*'
!   hint: ustate list '/a/*'
[exit 2]
$ ustate list '/my keys/' --json
! {"v":1,"type":"error","code":"invalid_key","exit":2,"message":"invalid key: \"/my keys/\": it must not end with '/'","facts":["all keys below it are '/my keys/*'"],"hint":"ustate list '/my keys/*'"}
[exit 2]
$ ustate list /a//
! error: invalid key: "/a//": empty segment at byte 2
!   all keys below it are '/a/*'
!   hint: ustate list '/a/*'
[exit 2]
$ ustate list a/
! error: invalid key: "a/": it must start with '/'
[exit 2]
$ ustate list /a//b
! error: invalid key: "/a//b": empty segment at byte 2
[exit 2]
$ ustate watch /a/
! error: invalid key: "/a/": it must not end with '/'
!   all keys below it are '/a/*'
[exit 2]
$ ustate log /a/
! error: invalid key: "/a/": it must not end with '/'
!   all keys below it are '/a/*'
[exit 2]
$ ustate diff 0.. /a/
! error: invalid key: "/a/": it must not end with '/'
!   all keys below it are '/a/*'
[exit 2]
$ ustate export /a/
! error: invalid key: "/a/": it must not end with '/'
!   all keys below it are '/a/*'
[exit 2]

"#]],
    );
}

#[test]
fn a_number_below_zero_gets_a_hint_that_fits() {
    let place = Place::new();
    check(
        &place.transcript(&[
            "watch --after -1",
            "log -n -5",
            "show -1",
            "get /a --at -3",
            "watch --count -1",
        ]),
        str![[r#"
$ ustate watch --after -1
! error: unexpected argument '-1' found
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate watch --help
[exit 2]
$ ustate log -n -5
! error: a word that begins with '-' is no option of 'ustate log'
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate log --help
[exit 2]
$ ustate show -1
! error: unexpected argument '-1' found
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate show --help
[exit 2]
$ ustate get /a --at -3
! error: unexpected argument '-3' found
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate get --help
[exit 2]
$ ustate watch --count -1
! error: unexpected argument '-1' found
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate watch --help
[exit 2]

"#]],
    );
}

#[test]
fn what_waits_for_standard_input_ends_with_a_signal() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        for line in [
            &["set", "/a", "-"] as &[&str],
            &["import", "-", "--into", "new.db"],
            &["verify", "--anchor", "-"],
        ] {
            for begun in ["", "x"] {
                let place = Place::new();
                let mut command = place.command(line);
                let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                std::io::Write::write_all(&mut stdin, begun.as_bytes()).unwrap();
                // It listens to signals as soon as it catches them.
                let status = format!("/proc/{}/status", child.id());
                let catches = || {
                    let status = std::fs::read_to_string(&status).unwrap();
                    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
                    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << 14) != 0
                };
                while !catches() {
                    std::thread::yield_now();
                }
                let kill = format!("kill -{signal} {}", child.id());
                assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
                assert_eq!(child.wait().unwrap().code(), Some(code), "{line:?} {signal}");
                drop(stdin);
                let files = std::fs::read_dir(place.path("")).unwrap().map(|file| file.unwrap().file_name());
                let left: Vec<_> = files.filter(|name| name.to_string_lossy().contains("new.db")).collect();
                assert!(left.is_empty(), "{left:?}");
                assert!(place.stdout("anchor").contains("\"seq\":0,"), "nothing was written");
            }
        }
    }
}

#[test]
fn a_value_that_comes_slowly_is_taken_whole() {
    let place = Place::new();
    let mut command = place.as_environment_of("sh");
    let script =
        "(printf one; sleep 0.2; printf two; head -c 100000 /dev/zero | tr '\\0' x) | \"$0\" set /a - -q";
    command.args(["-c", script, env!("CARGO_BIN_EXE_ustate")]);
    assert!(command.status().unwrap().success());
    let value = place.output("get /a -o raw").stdout;
    assert!(value.starts_with(b"onetwoxxx") && value.len() == 100_006);
}
