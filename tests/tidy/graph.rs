//! Which file of `src` uses which, with re-exports followed to where a thing stands.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, code};

type Module = Vec<String>;

/// What one file says.
struct File {
    /// Paths that its code names, but for those that it only passes on.
    uses: Vec<Vec<String>>,
    /// What it imports for itself alone, by name.
    imports: BTreeMap<String, Vec<String>>,
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

/// The paths of a `use` and the names that they get, its braces taken apart: `a::{b, c::d as e}` is `a::b`, named
/// `b`, and `a::c::d`, named `e`.
pub(super) fn expanded(tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, name)| (path, Some(name)));
        let name = alias.unwrap_or_else(|| path.rsplit("::").next().unwrap());
        return if path.is_empty() {
            Vec::new()
        } else {
            vec![(name.trim().to_owned(), path.trim().to_owned())]
        };
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
    let before = before.trim();
    let whole =
        |(name, path): (String, String)| match (&*name, before.trim_end_matches("::").rsplit("::").next()) {
            ("self", Some(module)) => (module.to_owned(), before.trim_end_matches("::").to_owned()),
            _ => (name, format!("{before}{path}")),
        };
    parts.iter().flat_map(|part| expanded(part)).map(whole).collect()
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

/// What a text names.
#[derive(Default)]
struct Names {
    uses: Vec<Vec<String>>,
    imports: BTreeMap<String, Vec<String>>,
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
        for (name, path) in expanded(tree.trim_end_matches(';')) {
            if before.is_empty() {
                self.uses.push(segments(&path));
                self.imports.insert(name, segments(&path));
            } else {
                self.passes_on.insert(name, segments(&path));
            }
        }
    }

    /// Takes the paths that stand within the code. What their first name is, is known when all files are.
    fn take_paths(&mut self, code: &str) {
        for word in code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let path = word.trim_matches(':');
            if path.contains("::") {
                self.uses.push(segments(path));
            }
        }
    }
}

impl Graph {
    pub(super) fn of(sources: &[Source]) -> Self {
        let (mut files, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for source in sources {
            let module = module(source);
            let Names { uses, imports, passes_on, tests: for_tests } = Names::of(&source.text);
            tests.extend(for_tests.into_iter().map(|name| [module.clone(), vec![name]].concat()));
            files.insert(module, File { uses, imports, passes_on, test: false });
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
            name => {
                let own = self.files.get(from)?;
                let import = own.imports.get(name).or_else(|| own.passes_on.get(name))?;
                let whole = [import, &path[1..]].concat();
                return if depth < 8 { self.resolved(from, &whole, depth + 1) } else { None };
            }
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
            Some(path) if depth < 8 => {
                let whole = [path, &rest[1..]].concat();
                self.resolved(&module, &whole, depth + 1).or(Some(module))
            }
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
