//! The story in the manual of the tool, `tools/ustate/README.md`, happens as it is told there.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{Place, check};

/// The section of the manual that tells it.
fn story(manual: &str) -> &str {
    let (_, story) = manual.split_once("\n## Who broke it?\n").unwrap();
    story.split("\n## ").next().unwrap()
}

/// The blocks of code in it, each with its language.
fn blocks(story: &str) -> Vec<(&str, &str)> {
    story.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

/// Runs lines in a shell that finds `ustate`, what it prints in one.
fn run(place: &Place, lines: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_ustate")).parent().unwrap();
    let path = std::env::join_paths([binary, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut shell = place.as_environment_of("sh");
    shell.args(["-ec", &format!("exec 2>&1\n{lines}")]).env("PATH", path).env("USTATE_DB", "shop.db");
    shell.output().unwrap()
}

/// The story, with what the commands print now.
fn retold(place: &Place, manual: &str) -> String {
    let mut retold = manual.to_owned();
    for (language, block) in blocks(story(manual)) {
        if language == "sh" {
            let output = run(place, block);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            continue;
        }
        assert_eq!(language, "console");
        let mut now = String::new();
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let printed = String::from_utf8(run(place, command).stdout).unwrap();
            write!(now, "$ {command}\n{printed}").unwrap();
        }
        retold = retold.replacen(&format!("```console\n{block}```"), &format!("```console\n{now}```"), 1);
    }
    retold
}

// `SNAPSHOTS=overwrite` writes what is printed now into the manual, if it says something else there.
#[test]
fn the_story_of_the_manual_happens_as_it_is_told() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let manual = fs::read_to_string(&path).unwrap();
    let place = Place::without_store();
    let retold = retold(&place, &manual);
    let (told, happened) = (place.scrubbed(story(&manual)), place.scrubbed(story(&retold)));
    if told != happened && std::env::var("SNAPSHOTS").is_ok_and(|action| action == "overwrite") {
        fs::write(path, retold).unwrap();
        return;
    }
    check(&happened, told);
    // It has the ends that it should: what was broken works, and what was handed over proves itself.
    assert!(happened.contains("5 is the first bad commit") && happened.contains("proved        1 anchor"));
    let settled = |line: &str| String::from_utf8(run(&place, line).stdout).unwrap();
    assert_eq!(settled("ustate get /config/limits"), "{\"max\":100,\"burst\":40}\n");
    assert!(run(&place, "ustate verify -q && ustate verify -q --db audit.log").status.success());
    let handed_over = fs::read(place.path("audit.log")).unwrap();
    assert!(!handed_over.windows(7).any(|window| window == b"hunter2"), "the secret is handed over");
}
