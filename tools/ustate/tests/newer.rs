//! What only a newer version reads is refused under one exit code, wherever it stands.

use crate::support::Place;

/// The metadata with the actor `alice@ops`, and such with a field that a reader must understand.
const ACTOR: &[u8] = b"\xa1\x65actor\x69alice@ops";
const NEWER: &[u8] = b"\xa1\x20\x6ealice@ops-----";

/// The bytes with every place of the one metadata as the other.
fn made_newer(bytes: &[u8]) -> Vec<u8> {
    let mut made = bytes.to_vec();
    let places: Vec<usize> = (0..made.len()).filter(|at| made[*at..].starts_with(ACTOR)).collect();
    assert!(!places.is_empty());
    for at in places {
        made[at..at + NEWER.len()].copy_from_slice(NEWER);
    }
    made
}

#[test]
fn what_only_a_newer_version_reads_is_no_usable_store() {
    assert_eq!(ACTOR.len(), NEWER.len());
    let place = Place::new();
    place.stdout("set /a 1");
    place.stdout("export -O state.log");
    let export = std::fs::read(place.path("state.log")).unwrap();
    let newer = [&export[..18], &[2], &export[19..]].concat();
    for (file, bytes) in [("field.log", made_newer(&export)), ("format.log", newer)] {
        std::fs::write(place.path(file), bytes).unwrap();
        for line in ["get /a --db", "verify --db", "stats --db", "import --into new.db"] {
            let output = place.output(&format!("{line} {file}"));
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(3), "{line} {file}: {error}");
            assert!(error.contains(file), "{line} {file}: {error}");
        }
    }
    let database = made_newer(&std::fs::read(place.path("state.db")).unwrap());
    std::fs::write(place.path("state.db"), database).unwrap();
    for line in ["log", "show 1", "history /a", "verify", "export -O again.log"] {
        let output = place.output(line);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{line}: {error}");
        assert!(error.contains("a newer version of univrs-state is needed"), "{line}: {error}");
    }
    let json = String::from_utf8(place.output("show 1 --json").stderr).unwrap();
    assert!(json.contains(r#""code":"upgrade_needed","exit":3,"#), "{json}");
}
