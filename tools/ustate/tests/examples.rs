//! The examples of the help do what they say.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::Place;

/// The lines of a command's help that a shell can run.
fn examples(place: &Place, command: &str) -> Vec<String> {
    let help = place.stdout(format!("{command} --help").trim());
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| line.starts_with("  ustate ")).map(|line| line.trim().to_owned()).collect()
}

/// A shell that finds `ustate`.
fn shell(place: &Place, line: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_ustate")).parent().unwrap();
    let path = std::env::join_paths([binary, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut command = place.as_environment_of("sh");
    command.args(["-c", line]).env("PATH", path);
    command
}

#[test]
fn every_example_runs() {
    let place = Place::new();
    std::fs::write(place.path("app.toml"), "threads = 4").unwrap();
    std::fs::create_dir(place.path("conf")).unwrap();
    std::fs::write(place.path("conf/app.toml"), "threads = 4").unwrap();
    for command in [
        "set", "get", "list", "tree", "log", "show", "history", "diff", "stats", "blame", "bisect", "verify",
        "anchor", "export", "import", "replay", "restore", "load", "doctor", "mark", "delete",
    ] {
        let examples = examples(&place, command);
        assert!(!examples.is_empty(), "{command}");
        for line in examples {
            let output = shell(&place, &line).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !stderr.contains("no "), "{line}: {stderr}");
        }
    }
    assert_eq!(std::fs::read(place.path("app.toml")).unwrap(), b"threads = 4");
}

#[test]
fn the_examples_of_the_first_page_run_in_a_row() {
    let place = Place::without_store();
    let lines = examples(&place, "");
    assert!(lines[0].starts_with("ustate init ") && lines.len() > 3, "{lines:?}");
    let all: Vec<String> = lines.into_iter().filter(|line| !line.contains(" watch ")).collect();
    let output = shell(&place, &all.join(" && ")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_example_of_a_watch_shows_what_happens() {
    let place = Place::new();
    let reload = place.path("reload");
    std::fs::write(&reload, "#!/bin/sh\necho reloaded\n").unwrap();
    std::fs::set_permissions(&reload, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lines = examples(&place, "watch");
    assert_eq!(lines.len(), 3);
    for line in lines {
        let shown = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Until it is shown: the watch may start after the first of them.
            scope.spawn(|| {
                while !shown.load(Ordering::Relaxed) {
                    assert_eq!(place.code("set /nodes/n1 up"), 0);
                    assert_eq!(place.code("set /config/app x"), 0);
                }
            });
            let mut watch = place.start(line.strip_prefix("ustate ").unwrap());
            assert!(!watch.line().is_empty(), "{line}");
            shown.store(true, Ordering::Relaxed);
            drop(watch.kill());
        });
    }
}
