//! Imports that are refused: of anything but a whole export, and to where there is no room.

use std::fs;
use std::process::Command;

use snapbox::str;

use crate::carry::stocked;
use crate::support::{Place, check};

/// The names in the folder.
fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(place.path(""))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn whatever_is_no_whole_export_makes_no_store() {
    let place = stocked();
    assert_eq!(place.code("export -O all.log"), 0);
    let whole = fs::read(place.path("all.log")).unwrap();
    let mut other_format = whole.clone();
    other_format[18] = 2;
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    // A value that claims to have 2^63 bytes.
    let at = whole.windows(8).position(|window| window == b"\x47hunter2").unwrap();
    let huge = [&whole[..at], &[0x5b, 0x80, 0, 0, 0, 0, 0, 0, 0], &whole[at + 1..]].concat();
    let longer = [&whole[..], b"x"].concat();
    let before = names(&place);
    let mut transcript = String::new();
    for (what, bytes) in [
        ("another format", other_format.as_slice()),
        ("a flipped bit", &flipped),
        ("a length of 2^63", &huge),
        ("something behind it", &longer),
        ("nothing", b""),
        ("a database", &fs::read(place.path("state.db")).unwrap()),
    ] {
        fs::write(place.path("bad.log"), bytes).unwrap();
        let shown = place.shown(&place.output("import bad.log --into deep/new.db"));
        transcript.extend([what, "\n", &shown]);
        fs::remove_file(place.path("bad.log")).unwrap();
        assert_eq!(names(&place), before, "{what}");
    }
    transcript +=
        &place.transcript(&["import missing.log --into new.db", "import . --into new.db", "import all.log"]);
    check(
        &transcript,
        str![[r#"
another format
! error: bad.log: this input has format 2, but this version of univrs-state reads format 1
[exit 3]
a flipped bit
! error: bad.log: the hashes of the log file do not lead to the head that it names at 4
!   nothing was made of it; see whether another copy is whole
!   hint: ustate import COPY --into deep/new.db
[exit 5]
a length of 2^63
! error: bad.log: the log file is malformed in its item at byte 183: a length is over its limit
!   nothing was made of it; see whether another copy is whole
!   hint: ustate import COPY --into deep/new.db
[exit 5]
something behind it
! error: bad.log: the log file has more bytes after its end item
!   nothing was made of it; see whether another copy is whole
!   hint: ustate import COPY --into deep/new.db
[exit 5]
nothing
! error: bad.log: the log file is cut off within its item at byte 0
!   nothing was made of it; see whether another copy is whole
!   hint: ustate import COPY --into deep/new.db
[exit 5]
a database
! error: bad.log: this input is not an exported log
!   a log can be imported as 'ustate export' writes it, without --text
!   hint: ustate export --db bad.log -O state.log
[exit 3]
$ ustate import missing.log --into new.db
! error: cannot read missing.log: No such file or directory (os error 2)
[exit 7]
$ ustate import . --into new.db
! error: cannot read .: is a directory
[exit 7]
$ ustate import all.log
! error: the following required arguments were not provided: --into <NEW>
!   hint: ustate import --help
[exit 2]

"#]],
    );
    for cut in 0..whole.len() {
        if cut % 7 == 0 || cut + 40 > whole.len() {
            let output = place.fed("import - --into new.db", &whole[..cut]);
            let code = output.status.code().unwrap();
            assert!(code == 5, "cut at {cut}: {}", place.shown(&output));
        }
    }
    assert_eq!(names(&place), before);
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let place = stocked();
    for n in 0..40 {
        fs::write(place.path("value"), vec![n; 20_000]).unwrap();
        assert_eq!(place.code("set /large --file value"), 0);
    }
    assert_eq!(place.code("export -O all.log"), 0);
    let before = names(&place);
    let limited = |arguments: &str| {
        let line =
            format!("trap '' XFSZ; exec prlimit --fsize=200000 {} {arguments}", env!("CARGO_BIN_EXE_ustate"));
        place.as_environment_of("sh").args(["-c", &line]).output().unwrap()
    };
    let shown =
        ["import all.log --into new.db", "export -O more.log"].map(|line| place.shown(&limited(line)));
    check(
        &shown.concat(),
        str![[r#"
! error: storage full: a write was refused: the file reached a size limit, a quota is full, or the disk is failing
[exit 7]
! error: storage full: File too large (os error 27)
[exit 7]

"#]],
    );
    assert_eq!(names(&place), before);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["export", "-q"]).stdout(full).output().unwrap();
    check(
        &place.shown(&output),
        str![[r#"
! error: storage full: No space left on device (os error 28)
[exit 7]

"#]],
    );
}

#[test]
fn a_signal_leaves_nothing_of_an_import() {
    let place = stocked();
    let export = place.output("export -q").stdout;
    let before = names(&place);
    // One of them, or as a whole group of processes is told, in which two tell it.
    for signals in [&["TERM"][..], &["TERM", "INT"]] {
        let fifo = place.path("pipe");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let running = place.start("import pipe --into new.db");
        // Opening waits for the import; it then waits for more than this.
        let mut pipe = fs::File::options().write(true).open(&fifo).unwrap();
        std::io::Write::write_all(&mut pipe, &export[..100]).unwrap();
        while !names(&place).iter().any(|name| name.contains("partial")) {
            std::thread::yield_now();
        }
        for signal in signals {
            running.signal(signal);
        }
        // The signal may come after the end of the pipe, which is an end as well.
        drop(pipe);
        let code = running.code();
        assert!([130, 143, 5].contains(&code), "{code}");
        fs::remove_file(fifo).unwrap();
        assert_eq!(names(&place), before, "{signals:?}");
    }
}
