//! Which file of the crate uses which, and that no file uses itself through others. A cycle means that neither file can
//! be understood, moved or tested without the other. A file may use those of the folders that it lies in: a module and
//! its parts are one thing, which the file of the folder puts together.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The path of a module or an item from the root of the crate.
type Path = Vec<String>;

/// The files of a crate, by the path of their module.
#[derive(Default)]
pub struct Files {
    modules: BTreeMap<Path, Module>,
}

/// One file.
struct Module {
    name: String,
    /// What it names of the crate.
    uses: BTreeSet<Path>,
    /// What `use` makes a name of it, for importers of that name.
    aliases: BTreeMap<String, Path>,
}

impl Files {
    /// Reads the sources, each with its path below the top of the workspace. Unit tests are left out.
    pub fn read(sources: impl IntoIterator<Item = (String, String)>) -> Files {
        let mut files = Files::default();
        for (name, text) in sources {
            let Some(path) = module_path(&name) else { continue };
            let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut names = Names { scope: path.clone(), ..Names::default() };
            names.children.extend(file.items.iter().filter_map(child));
            names.visit_file(&file);
            files.modules.insert(path, Module { name, uses: names.uses, aliases: names.aliases });
        }
        files.leave_out_tests();
        files
    }

    /// A module that its parent does not declare outside of `#[cfg(test)]` is one of tests.
    fn leave_out_tests(&mut self) {
        let tests: Vec<Path> = self
            .modules
            .keys()
            .filter(|path| path.iter().any(|word| word == "tests" || word == "testing"))
            .cloned()
            .collect();
        for path in tests {
            self.modules.remove(&path);
        }
    }

    /// The file that defines what `path` leads to: a module may only pass a name on.
    fn defining(&self, path: &[String], depth: usize) -> Option<&Path> {
        let (module, rest) = (0..=path.len())
            .rev()
            .find_map(|n| self.modules.get_key_value(&path[..n]).map(|(key, _)| (key, &path[n..])))?;
        let alias = rest.first().and_then(|name| self.modules[module].aliases.get(name));
        match alias {
            Some(target) if depth < 8 => {
                let whole: Path = target.iter().chain(&rest[1..]).cloned().collect();
                self.defining(&whole, depth + 1)
            }
            _ => Some(module),
        }
    }

    /// The modules that each module uses, itself not among them.
    fn graph(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let edges = |path: &Path, module: &Module| -> BTreeSet<&Path> {
            let defining = module.uses.iter().filter_map(|used| self.defining(used, 0));
            defining.filter(|used| !path.starts_with(used)).collect()
        };
        self.modules.iter().map(|(path, module)| (self.key(path), edges(path, module))).collect()
    }

    fn key(&self, path: &Path) -> &Path {
        self.modules.get_key_value(path).map_or_else(|| unreachable!("{path:?}"), |(key, _)| key)
    }

    /// The groups of files that use each other, with the imports that make them one.
    pub fn cycles(&self) -> Vec<String> {
        let graph = self.graph();
        let reach: BTreeMap<&Path, BTreeSet<&Path>> =
            graph.keys().map(|path| (*path, reachable(&graph, path))).collect();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for path in graph.keys() {
            let group: BTreeSet<&Path> =
                reach[path].iter().copied().filter(|other| reach[other].contains(path)).collect();
            if group.is_empty() || !seen.insert(group.clone()) {
                continue;
            }
            let mut text = format!("{} files use each other:", group.len());
            for member in &group {
                let used: Vec<&str> = graph[member]
                    .iter()
                    .filter(|used| group.contains(*used))
                    .map(|used| self.modules[*used].name.as_str())
                    .collect();
                text.push_str(&format!("\n      {} uses {}", self.modules[*member].name, used.join(", ")));
            }
            found.push(text);
        }
        found
    }
}

/// What can be reached from `start` by one step or more.
fn reachable<'a>(graph: &BTreeMap<&'a Path, BTreeSet<&'a Path>>, start: &'a Path) -> BTreeSet<&'a Path> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        for next in &graph[path] {
            if found.insert(*next) {
                open.push(next);
            }
        }
    }
    found
}

/// `src/plan/mounts.rs` and `src/plan/mounts/mod.rs` are `plan::mounts`. Programs are not modules.
fn module_path(name: &str) -> Option<Path> {
    let below = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut words: Path = below.split('/').map(str::to_owned).collect();
    if words[0] == "bin" {
        return None;
    }
    if matches!(words.last().map(String::as_str), Some("mod" | "lib")) {
        words.pop();
    }
    Some(words)
}

/// The name of a module that an item declares as a file.
fn child(item: &Item) -> Option<String> {
    match item {
        Item::Mod(module) if module.content.is_none() && !is_test(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let only_tests = || attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test");
        attribute.path().is_ident("test") || (attribute.path().is_ident("cfg") && only_tests())
    })
}

/// Collects what a file names.
#[derive(Default)]
struct Names {
    /// The module that is being read.
    scope: Path,
    /// The modules that the file declares.
    children: BTreeSet<String>,
    uses: BTreeSet<Path>,
    aliases: BTreeMap<String, Path>,
}

impl Names {
    /// The path from the root of the crate of one that the file has; nothing for other crates and local names.
    fn absolute(&self, words: &[String]) -> Option<Path> {
        let mut path = self.scope.clone();
        let mut rest = words;
        match words.first()?.as_str() {
            "crate" => {
                path.clear();
                rest = &words[1..];
            }
            "self" => rest = &words[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    path.pop();
                    rest = &rest[1..];
                }
            }
            child if self.children.contains(child) => {}
            _ => return None,
        }
        path.extend(rest.iter().cloned());
        Some(path)
    }

    fn take(&mut self, words: &[String]) {
        if let Some(path) = self.absolute(words) {
            self.uses.insert(path);
        }
    }

    fn take_tree(&mut self, tree: &UseTree, before: &[String]) {
        let joined = |word: String| before.iter().cloned().chain([word]).collect::<Path>();
        match tree {
            UseTree::Path(path) => self.take_tree(&path.tree, &joined(path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.take_tree(item, before)),
            UseTree::Name(name) if name.ident == "self" => {
                self.take_named(before, &before.last().cloned().unwrap_or_default());
            }
            UseTree::Name(name) => self.take_named(&joined(name.ident.to_string()), &name.ident.to_string()),
            UseTree::Rename(rename) => {
                self.take_named(&joined(rename.ident.to_string()), &rename.rename.to_string());
            }
            UseTree::Glob(_) => self.take(before),
        }
    }

    fn take_named(&mut self, path: &[String], name: &str) {
        if let Some(target) = self.absolute(path) {
            self.aliases.insert(name.to_owned(), target.clone());
            self.uses.insert(target);
        }
    }

    /// The arguments of macros are not parsed: every `a::b` in them counts.
    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) if colons == 2 && !path.is_empty() => {
                    path.push(word.to_string());
                    colons = 0;
                }
                other => {
                    self.take(&path);
                    path.clear();
                    colons = 0;
                    match other {
                        TokenTree::Ident(word) => path.push(word.to_string()),
                        TokenTree::Group(group) => self.take_tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.take(&path);
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(i) => &i.attrs,
            Item::Fn(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Const(i) => &i.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.scope.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.scope.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.take_tree(&item.tree, &[]);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    /// `pub(super)` uses nothing, and neither does `#[derive(...)]`.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A lone word is a local name, unless it calls a macro.
        if words.len() > 1 {
            self.take(&words);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.take_tokens(mac.tokens.clone());
    }
}

#[test]
fn cycles_are_found_through_reexports_macros_and_chains() {
    let files = |list: &[(&str, &str)]| {
        Files::read(list.iter().map(|(name, text)| (format!("src/{name}"), (*text).to_owned()))).cycles()
    };
    let cyclic: [&[(&str, &str)]; 4] = [
        &[("a.rs", "use crate::b::X;"), ("b.rs", "use crate::{a::Y, c};")],
        &[("a.rs", "fn f() { print!(\"{}\", crate::b::g()) }"), ("b.rs", "fn g() { crate::a::f(); }")],
        &[
            ("a/mod.rs", "mod b; mod c; pub use b::X;"),
            ("a/b.rs", "use super::c;"),
            ("a/c.rs", "use super::X;"),
        ],
        &[("a.rs", "use crate::b;"), ("b.rs", "use crate::c::{self};"), ("c.rs", "type T = crate::a::T;")],
    ];
    for sources in cyclic {
        assert_eq!(files(sources).len(), 1, "{sources:?}");
    }
    let fine: [&[(&str, &str)]; 5] = [
        &[("a/mod.rs", "mod b; mod c; pub use b::X;"), ("a/b.rs", ""), ("a/c.rs", "use super::X;")],
        &[("a/mod.rs", "mod b; fn f() { b::g() }"), ("a/b.rs", "pub(super) fn g() {}")],
        &[("a/mod.rs", "mod b; fn f() { b::g() }"), ("a/b.rs", "use super::f;")],
        &[("a.rs", "use crate::b;"), ("b.rs", "#[cfg(test)] mod tests { use crate::a; }")],
        &[("a.rs", "use crate::b;"), ("b.rs", "use std::b::a;")],
    ];
    for sources in fine {
        assert_eq!(files(sources), Vec::<String>::new(), "{sources:?}");
    }
}
