//! `ustate tree`

use std::collections::BTreeMap;

use clap::Args;
use univrs_state::Scan;

use crate::as_of::AsOf;
use crate::context::Context;
use crate::escape::{escape, escape_field};
use crate::json::Object;
use crate::output::{BOLD, DIM, Format};
use crate::stop::Done;
use crate::value::{counted, size};

const EXAMPLES: &str = "\
Examples:
  ustate tree
  ustate tree /nodes --depth 2 --sizes";

/// Show keys as a tree.
///
/// Fields of -o tsv: path, keys at and below it, bytes of their values.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Tree {
    /// Only this key and what is below it.
    prefix: Option<String>,
    /// At most so many levels; what is deeper is counted.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// The sizes of values as well.
    #[arg(long)]
    sizes: bool,
    #[command(flatten)]
    as_of: AsOf,
}

/// A segment of keys.
#[derive(Default)]
struct Node {
    is_key: bool,
    /// Keys here and below.
    keys: u64,
    bytes: u64,
    below: BTreeMap<String, Node>,
}

impl Node {
    fn add<'a>(&mut self, mut segments: impl Iterator<Item = &'a str>, bytes: u64) {
        self.keys += 1;
        self.bytes += bytes;
        match segments.next() {
            Some(segment) => self.below.entry(segment.to_owned()).or_default().add(segments, bytes),
            None => self.is_key = true,
        }
    }
}

impl Tree {
    pub(crate) async fn run(self, context: &mut Context) -> Done {
        context.refuse(Format::Raw, "tree")?;
        let root = self.prefix.as_deref().unwrap_or("/").trim_end_matches('/');
        if !root.is_empty() {
            univrs_state::key::validate_key(root)?;
        }
        let node = self.read(context, root).await?;
        let depth = self.depth.unwrap_or(usize::MAX);
        match context.format {
            Format::Human => {
                let name = escape(if root.is_empty() { "/" } else { root }).into_owned();
                let name =
                    format!("{}{}", context.out.paint(BOLD, &name), self.said(context, &node, depth > 0));
                context.out.line(&name)?;
                self.draw(context, &node, "", depth)?;
                context.out.flush()?;
                let total = if self.sizes { format!(", {}", size(node.bytes)) } else { String::new() };
                context.note(&format!("{}{total}", counted(node.keys, "key")));
                Ok(())
            }
            Format::Tsv => self.tsv(context, &node, root, depth),
            _ => {
                let object = Object::of_type("tree").text("prefix", if root.is_empty() { "/" } else { root });
                context.out.line(&self.object(object, &node, depth).finish())
            }
        }
    }

    async fn read(&self, context: &Context, root: &str) -> Done<Node> {
        let state = self.as_of.open(context).await?;
        let mut node = Node::default();
        let mut add = |key: &str, bytes| {
            // The prefix is one of bytes: `/a` also finds `/ab`.
            let rest = key.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if let Some(rest) = rest {
                node.add(rest.split('/').skip(1), bytes);
            }
        };
        let prefix = if root.is_empty() { "/" } else { root };
        if !self.sizes {
            state.list(prefix).await?.iter().for_each(|key| add(key, 0));
            return Ok(node);
        }
        let mut next = Some(Scan::prefix(prefix));
        while let Some(scan) = next {
            let page = state.scan(scan).await?;
            page.entries.iter().for_each(|entry| add(&entry.key, entry.value.len() as u64));
            page.erased.iter().for_each(|key| add(key, 0));
            next = page.next;
        }
        Ok(node)
    }

    /// What stands behind a name: how much is below where that is not drawn, and the size.
    fn said(&self, context: &Context, node: &Node, drawn: bool) -> String {
        let mut said = String::new();
        if !drawn && !node.below.is_empty() {
            let below = node.keys - u64::from(node.is_key);
            said.extend(["  ", &counted(below, "key"), " below"]);
        }
        if self.sizes && node.keys > 0 {
            said.extend(["  ", &size(node.bytes)]);
        }
        context.out.paint(DIM, &said)
    }

    fn draw(&self, context: &mut Context, node: &Node, indent: &str, depth: usize) -> Done {
        let Some(deeper) = depth.checked_sub(1) else { return Ok(()) };
        let last = node.below.len().saturating_sub(1);
        for (i, (name, below)) in node.below.iter().enumerate() {
            let (branch, continued) =
                if i == last { ("└── ", "    ") } else { ("├── ", "│   ") };
            let name = escape(name);
            // A folder that is no key itself ends with a slash.
            let slash = if below.is_key { "" } else { "/" };
            let said = self.said(context, below, deeper > 0);
            context.out.line(&format!("{indent}{branch}{name}{slash}{said}"))?;
            self.draw(context, below, &format!("{indent}{continued}"), deeper)?;
        }
        Ok(())
    }

    fn tsv(&self, context: &mut Context, node: &Node, path: &str, depth: usize) -> Done {
        let bytes = if self.sizes { node.bytes.to_string() } else { String::new() };
        let shown = if path.is_empty() { "/" } else { path };
        context.out.fields([&escape_field(shown), &node.keys.to_string(), &bytes])?;
        let Some(deeper) = depth.checked_sub(1) else { return Ok(()) };
        for (name, below) in &node.below {
            self.tsv(context, below, &format!("{path}/{name}"), deeper)?;
        }
        Ok(())
    }

    fn object(&self, object: Object, node: &Node, depth: usize) -> Object {
        let mut object = object.flag("is_key", node.is_key).number("keys", node.keys);
        if self.sizes {
            object = object.number("bytes", node.bytes);
        }
        let Some(deeper) = depth.checked_sub(1) else { return object };
        let below = node
            .below
            .iter()
            .map(|(name, below)| self.object(Object::nested().text("name", name), below, deeper).finish());
        object.list("below", below)
    }
}
