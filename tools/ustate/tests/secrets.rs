//! A value is never taken for an option, and no error shows one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use snapbox::str;

use crate::support::{Place, check};

/// What stands in no output.
const SECRET: &str = "hunter2";

#[test]
fn a_value_that_begins_with_a_dash_is_stored_as_it_is() {
    let place = Place::new();
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----\n";
    for value in
        ["-5x", "-hunter2", "-h5", "-1", "-m", "-qv", "-ojson", "--files=x", "--helper", "--", pem, "-é"]
    {
        let line: &[&str] = match value {
            // They are options as they stand.
            "-m" | "--" => &["set", "/a", "--", value],
            _ => &["set", "/a", value],
        };
        let output = place.command(line).output().unwrap();
        assert!(output.status.success(), "{value}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(place.output("get /a -o raw").stdout, value.as_bytes());
    }
    let words = ["set", "--if-version", "12", "-m", "-x: why", "/a", "--json", "-5", "--actor", "-h"];
    assert!(place.command(&words).output().unwrap().status.success());
    check(
        &place.transcript(&["log -n 1 -o tsv", "log -S -5 --actor -h -o tsv", "log --where '=-5' -o tsv"]),
        str![[r#"
$ ustate log -n 1 -o tsv
13	[EXACT]	updated	/a	json	-5	-h	-x: why
$ ustate log -S -5 --actor -h -o tsv
13	[EXACT]	updated	/a	json	-5	-h	-x: why
$ ustate log --where '=-5' -o tsv
13	[EXACT]	updated	/a	json	-5	-h	-x: why

"#]],
    );
    let bytes = OsString::from_vec(vec![b'-', 0xff]);
    let words = ["set", "/a", "--type", "bytes"].map(OsStr::new);
    assert!(place.command(&[&words[..], &[&bytes]].concat()).output().unwrap().status.success());
    assert_eq!(place.output("get /a -o raw").stdout, [b'-', 0xff]);
    std::fs::write(place.path("file"), "from a file").unwrap();
    for line in ["set /a --file file", "set /a --file=file", "set /a -m why --file file"] {
        assert_eq!(place.code(line), 0);
        assert_eq!(place.stdout("get /a"), "from a file\n");
    }
    assert_eq!(place.code("verify"), 0);
}

#[test]
fn help_is_asked_for_by_nothing_but_its_own_words() {
    let place = Place::new();
    for asked in
        ["-h", "--help", "help", "help set", "set -h", "set /a --help", "get -h --json", "-V", "--version"]
    {
        assert_eq!(place.code(asked), 0, "{asked}");
    }
    check(
        &place.transcript(&["list -hx", "list -qh --json", "delete /a -hunter2", "-Vx", "log -n -hunter2"]),
        str![[r#"
$ ustate list -hx
! error: help is asked for by exactly -h or --help
!   hint: ustate list --help
[exit 2]
$ ustate list -qh --json
! {"v":1,"type":"error","code":"usage","exit":2,"message":"help is asked for by exactly -h or --help","facts":[],"hint":"ustate list --help"}
[exit 2]
$ ustate delete /a -hunter2
! error: help is asked for by exactly -h or --help
!   hint: ustate delete --help
[exit 2]
$ ustate -Vx
! error: the version is asked for by exactly -V or --version
!   hint: ustate --help
[exit 2]
$ ustate log -n -hunter2
! error: a value is required for '-n <N>' but none was supplied
!   hint: ustate log --help
[exit 2]

"#]],
    );
}

#[test]
fn no_error_shows_a_value() {
    let place = Place::new();
    for line in [
        "set hunter2 /a",
        "set /hunter2// /a",
        "set '/a hunter2*' /a",
        "set hunter2",
        "set /a one hunter2",
        "set /a one -hunter2",
        "set /a one --hunter2",
        "set /a one --if-absnt=hunter2",
        "set -hunter2 /a one",
        "set -uhunter2 /a one",
        "set --hunter2 /a",
        "set /a -m -- hunter2 x",
        "set --type /a hunter2",
        "set --type hunter2 /a x",
        "set /a x --type=hunter2",
        "set /a --if-version hunter2",
        "set /a x --if-version 99999999999999999999hunter2",
        "set /a x --json=hunter2",
        "set /a x --tz hunter2",
        "set /a x --busy-timeout hunter2",
        "set /a x -o hunter2",
        "set /a hunter2 --file state.db",
        "set /a hunter2 --if-absent --if-version 3",
        "set /a -hunter2 --type json",
        "set /a '{\"password\": hunter2}' --type json",
        "set /a '{\"password\": \"hunter2\"' --type json",
        "set /a '{\"password\": \"hunter2\\ud8\"}' --type json --dry-run",
        "set /.univrs/x hunter2",
        "set /a hunter2 --db missing.db",
        "set /a hunter2 --if-version 7",
        "log --where hunter2",
        "log --where password=hunter2",
        "log hunter2",
        "log -Z hunter2",
        "log --hunter2",
        "log -S",
        "log --kind hunter2",
        "log -n hunter2",
        "log --at hunter2",
        "log hunter2..",
        "log ..hunter2",
    ] {
        for form in ["human", "json"] {
            // In front, so that what stands behind the key is the value.
            let output = place.output(&format!("-o {form} {line}"));
            let (stdout, stderr) = (output.stdout.as_slice(), String::from_utf8(output.stderr).unwrap());
            assert!(
                !matches!(output.status.code(), Some(0 | 70 | 101) | None),
                "{line}: {:?}",
                output.status
            );
            assert!(!stderr.contains(SECRET) && stdout.is_empty(), "{line}: {stderr}");
            assert!(stderr.contains("error"), "{line}: {stderr}");
        }
    }
    let secret = OsString::from_vec([SECRET.as_bytes(), &[0xff]].concat());
    let (set, key) = (OsStr::new("set"), OsStr::new("/a"));
    for line in [
        [set, key, &secret],
        [set, &secret, key],
        [set, OsStr::new("-m"), &secret],
        [OsStr::new("log"), OsStr::new("-S"), &secret],
    ] {
        let output = place.command(&line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(!String::from_utf8(output.stderr).unwrap().contains(SECRET), "{line:?}");
    }
    let actor = place.command(&["set", "/a", SECRET]).env("USTATE_ACTOR", &secret).output().unwrap();
    assert_eq!(actor.status.code(), Some(2));
    assert!(!String::from_utf8(actor.stderr).unwrap().contains(SECRET));
    assert!(place.stdout("anchor").contains("\"seq\":0,"), "nothing was written");
}

#[test]
fn what_is_wrong_is_said_without_the_value() {
    let place = Place::new();
    check(
        &place.transcript(&[
            "set hunter2 /a",
            "set /a hello world",
            "set /a x --if-absnt",
            "set /a x --type jsn",
            "set /a x --if-version -1",
            "set /a x --json=yes",
            "log --where password=x",
            "log x --json",
        ]),
        str![[r#"
$ ustate set hunter2 /a
! error: invalid key: it must start with '/'
!   the key comes first, then the value
[exit 2]
$ ustate set /a hello world
! error: 'ustate set' takes fewer words; quote a value that has spaces
!   hint: ustate set --help
[exit 2]
$ ustate set /a x --if-absnt
! error: a word that begins with '-' is no option of 'ustate set'
!   a similar argument exists: '--if-absent'
!   hint: ustate set --help
[exit 2]
$ ustate set /a x --type jsn
! error: invalid value for '--type <TYPE>' [possible values: text, json, bytes]
!   a similar value exists: 'json'
!   hint: ustate set --help
[exit 2]
$ ustate set /a x --if-version -1
! error: a word that begins with '-' is no option of 'ustate set'
!   places and counts are never negative; head~1 is before the last commit
!   hint: ustate set --help
[exit 2]
$ ustate set /a x --json=yes
! error: '--json' takes no value
!   hint: ustate set --help
[exit 2]
$ ustate log --where password=x
! error: invalid value for '--where <POINTER=VALUE>': a condition looks like /limits/max=0: a JSON pointer, which starts with '/', and a value
!   hint: ustate log --help
[exit 2]
$ ustate log x --json
! {"v":1,"type":"error","code":"usage","exit":2,"message":"invalid value for '[PATTERN|A..B]...': this is neither a pattern, which starts with '/', nor a range like 40..50","facts":[],"hint":"ustate log --help"}
[exit 2]

"#]],
    );
}
