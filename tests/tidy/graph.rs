//! Which file of `src` uses which, with re-exports followed to where a thing stands.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, code};

type Module = Vec<String>;

/// What one file says.
struct File {
    /// Paths that its code names, but for those that it only passes on.
    uses: Vec<Vec<String>>,
    /// What it passes on, by name.
    passes_on: BTreeMap<String, Vec<String>>,
    /// Whether it is built for tests alone.
    test: bool,
}

/// The files by their modules, and the modules that each uses.
pub(super) struct Graph {
    files: BTreeMap<Module, File>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

/// The module of a file below `src`: `store::feed` for `src/store/feed/mod.rs`.
fn module(source: &Source) -> Module {
    let path = source.path.strip_prefix("src").unwrap().with_extension("");
    let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// The paths of a `use`, its braces taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(super) fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return if path.is_empty() { Vec::new() } else { vec![path.split_whitespace().collect()] };
    };
    let inner = inner.rsplit_once('}').unwrap().0;
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts.iter().flat_map(|part| expanded(part)).map(|path| format!("{}{path}", before.trim())).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

/// What a text names.
#[derive(Default)]
struct Names {
    uses: Vec<Vec<String>>,
    passes_on: BTreeMap<String, Vec<String>>,
    /// Modules that are built for tests alone.
    tests: Vec<String>,
}

impl Names {
    fn of(text: &str) -> Self {
        let mut names = Self::default();
        let mut rest = String::new();
        for item in code(text).split_inclusive(';') {
            let lines: Vec<&str> = item.lines().map(str::trim).collect();
            let for_tests = item.contains("#[cfg(test)]") || item.contains("#[cfg(all(test");
            let statement = lines.iter().rposition(|line| {
                let plain =
                    line.strip_prefix("pub").map_or(*line, |after| after.split_once(' ').map_or("", |s| s.1));
                // A line of a text may begin so, too.
                plain.starts_with("use ")
                    && line.chars().all(|c| c.is_alphanumeric() || " _:;{},*()".contains(c))
            });
            let Some(at) = statement else {
                if for_tests && let Some((_, module)) = item.rsplit_once("mod ") {
                    names.tests.push(module.trim_end_matches(';').to_owned());
                }
                rest.push_str(item);
                continue;
            };
            rest.push_str(&lines[..at].join(" "));
            if !for_tests {
                names.take_use(&lines[at..].join(" "));
            }
        }
        names.take_paths(&rest);
        names
    }

    /// Takes a statement such as `pub(crate) use a::{b, c};`.
    fn take_use(&mut self, statement: &str) {
        let (before, tree) = statement.split_once("use ").unwrap();
        for path in expanded(tree.trim_end_matches(';')) {
            if before.is_empty() {
                self.uses.push(segments(&path));
            } else {
                self.passes_on.insert(path.rsplit("::").next().unwrap().to_owned(), segments(&path));
            }
        }
    }

    /// Takes the paths that stand within the code.
    fn take_paths(&mut self, code: &str) {
        for start in ["crate::", "super::"] {
            for after in code.split(start).skip(1) {
                let path: String =
                    after.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                self.uses.push(segments(&format!("{start}{}", path.trim_end_matches(':'))));
            }
        }
    }
}

impl Graph {
    pub(super) fn of(sources: &[Source]) -> Self {
        let (mut files, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for source in sources {
            let module = module(source);
            let Names { uses, passes_on, tests: for_tests } = Names::of(&source.text);
            tests.extend(for_tests.into_iter().map(|name| [module.clone(), vec![name]].concat()));
            files.insert(module, File { uses, passes_on, test: false });
        }
        for test in &tests {
            if let Some(file) = files.get_mut(test) {
                file.test = true;
            }
        }
        let mut graph = Self { files, edges: BTreeMap::new() };
        let product: Vec<&Module> = graph
            .files
            .iter()
            .filter(|(module, file)| !file.test && !module.is_empty())
            .map(|(m, _)| m)
            .collect();
        let edges = product.into_iter().map(|module| {
            let used = graph.files[module].uses.iter().filter_map(|path| graph.resolved(module, path, 0));
            (module.clone(), used.filter(|used| used != module && !used.is_empty()).collect())
        });
        graph.edges = edges.collect();
        graph
    }

    /// The module that has what a path of another names, as far as that is one of these.
    fn resolved(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut rest = path;
        let mut module = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => from.clone(),
            name if self.files.contains_key(&[from.clone(), vec![name.to_owned()]].concat()) => from.clone(),
            _ => return None,
        };
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = others;
        }
        while let Some((first, others)) = rest.split_first() {
            let below = [module.clone(), vec![first.clone()]].concat();
            if !self.files.contains_key(&below) {
                break;
            }
            (module, rest) = (below, others);
        }
        let passed_on = rest.first().and_then(|name| self.files.get(&module)?.passes_on.get(name));
        match passed_on {
            Some(path) if depth < 8 => self.resolved(&module, path, depth + 1).or(Some(module)),
            _ => Some(module),
        }
    }

    /// The pairs of modules of which the first uses the second.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&Module, &Module)> {
        self.edges.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
    }

    /// The groups of modules that use each other in circles.
    pub(super) fn circles(&self) -> Vec<BTreeSet<String>> {
        let mut circles: BTreeSet<BTreeSet<String>> = BTreeSet::new();
        for module in self.edges.keys() {
            let both: BTreeSet<String> = self
                .reachable(module)
                .into_iter()
                .filter(|other| self.reachable(other).contains(module))
                .map(|module| module.join("::"))
                .collect();
            if !both.is_empty() {
                circles.insert(both);
            }
        }
        circles.into_iter().collect()
    }

    fn reachable(&self, from: &Module) -> BTreeSet<Module> {
        let (mut found, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for used in self.edges.get(&module).into_iter().flatten() {
                if found.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        found
    }
}
