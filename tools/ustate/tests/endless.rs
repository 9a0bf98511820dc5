//! Input that is too large, or has no end.

use std::fs::File;

use snapbox::str;

use crate::support::{Place, check};

#[test]
fn what_is_too_large_is_refused_before_all_of_it_is_read() {
    let place = Place::new();
    std::fs::write(place.path("largest"), vec![0; 1 << 20]).unwrap();
    std::fs::write(place.path("large"), vec![0; (1 << 20) + 1]).unwrap();
    let mut transcript = place.transcript(&[
        "set /a --file largest",
        "set /a --file large",
        "set /a --file /dev/zero",
        "set /a --file /dev/zero --dry-run --json",
        "verify --anchor /dev/zero",
        "verify --anchor large",
    ]);
    for line in ["set /a -", "verify --anchor -", "import - --into new.db"] {
        let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
        let output = command.stdin(File::open("/dev/zero").unwrap()).output().unwrap();
        transcript.extend(["$ ustate ", line, " < /dev/zero\n", &place.shown(&output)]);
    }
    check(
        &transcript,
        str![[r#"
$ ustate set /a --file largest
1 set /a  version 1
$ ustate set /a --file large
! error: large is too large: a value has 1.0 MiB at most
!   nothing was written
[exit 2]
$ ustate set /a --file /dev/zero
! error: /dev/zero is too large: a value has 1.0 MiB at most
!   nothing was written
[exit 2]
$ ustate set /a --file /dev/zero --dry-run --json
! {"v":1,"type":"error","code":"limit_exceeded","exit":2,"message":"/dev/zero is too large: a value has 1.0 MiB at most","facts":["nothing was written"]}
[exit 2]
$ ustate verify --anchor /dev/zero
! error: /dev/zero is too large for a list of anchors
[exit 2]
$ ustate verify --anchor large
! error: large, line 1: this is no anchor
!   an anchor is a line like {"v":1,"type":"anchor","store":…,"seq":4711,"hash":…}
!   hint: ustate anchor
[exit 2]
$ ustate set /a - < /dev/zero
! error: standard input is too large: a value has 1.0 MiB at most
!   nothing was written
[exit 2]
$ ustate verify --anchor - < /dev/zero
! error: standard input is too large for a list of anchors
[exit 2]
$ ustate import - --into new.db < /dev/zero
! error: standard input: this input is not an exported log
!   a log can be imported as 'ustate export' writes it, without --text
!   hint: ustate export -O state.log
[exit 3]

"#]],
    );
    assert_eq!(place.stdout("log -o tsv").lines().count(), 1);
}
