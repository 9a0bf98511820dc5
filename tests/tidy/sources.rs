//! The sources, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of Rust below a folder of the repository.
pub(super) struct Source {
    /// Its path from the root of the repository.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// All files of Rust below a folder, in order.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root).unwrap().to_owned(),
    };
    paths.into_iter().map(read).collect()
}

impl Source {
    /// The code without comments and without its unit tests, which stand at the end.
    pub(super) fn code(&self) -> String {
        code(&self.text)
    }

    /// How many lines of code it has, without comments, empty lines and unit tests.
    pub(super) fn lines_of_code(&self) -> usize {
        self.code().lines().filter(|line| !line.trim().is_empty()).count()
    }
}

pub(super) fn code(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests {",
        "#[cfg(test)]\npub(super) mod tests {",
        "#[cfg(all(test, unix))]\nmod tests {",
    ];
    let product = tests.iter().fold(text, |text, tests| text.split(tests).next().unwrap());
    product.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}
