//! Architecture rules: allowed imports between modules (see the map in `lib.rs`), and no import cycles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, UseTree,
    visit::{self, Visit},
};

/// The path of a module, from the root of the crate.
type Module = Vec<String>;

/// The modules of the crate, without `#[cfg(test)]` ones, each with its imports: modules of the crate,
/// and the names of other crates.
struct Imports(BTreeMap<Module, (BTreeSet<Module>, BTreeSet<String>)>);

/// The modules of the server as layers, the lowest first: each imports only earlier ones in this list.
const LAYERS: [&str; 24] = [
    "clock",
    "mount",
    "shutdown",
    "chunked_body",
    "client",
    "supervisor",
    "site",
    "log",
    "error",
    "stream_path",
    "observe",
    "guard",
    "sse",
    "hub",
    "fan_out",
    "stream_list",
    "net",
    "api",
    "openapi",
    "pages",
    "config",
    "streams",
    "state",
    "router",
];

#[test]
fn there_are_no_import_cycles() {
    let imports = Imports::read();
    let parents: BTreeSet<&[String]> =
        imports.0.keys().filter_map(|module| Some(module.split_last()?.1)).collect();
    for parent in parents {
        let children = imports.between_children(parent);
        for child in children.keys() {
            let mut cycle = Vec::new();
            assert!(!reaches(&children, child, child, &mut cycle), "{parent:?}: {cycle:?}");
        }
    }
}

#[test]
fn each_server_module_imports_only_lower_layers() {
    let imports = Imports::read();
    let server = ["server".to_owned()];
    let modules = imports.between_children(&server);
    let height = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    for (module, imported) in &modules {
        let own = height(module).unwrap_or_else(|| panic!("{module} is not in LAYERS"));
        for other in imported {
            let other_height = height(other).unwrap_or_else(|| panic!("{other} is not in LAYERS"));
            assert!(other_height < own, "server/{module} must not import server/{other}");
        }
    }
    assert_eq!(modules.len(), LAYERS.len(), "the modules are {:?}", modules.keys());
}

#[test]
fn forbidden_imports_are_absent() {
    let imports = Imports::read();
    imports.assert_never("app", &["axum", "tokio", "server"], &[]);
    imports.assert_never("feed", &["axum", "tokio", "leptos", "server", "app"], &[]);
    imports.assert_never("problem", &["axum", "tokio", "leptos", "server", "app", "feed"], &[]);
    imports.assert_never(
        "message",
        &["axum", "tokio", "leptos", "server", "app", "feed", "problem"],
        &[],
    );
    let rooms = ["axum", "tokio", "leptos", "server", "app", "feed", "message", "problem"];
    imports.assert_never("filter", &rooms, &[]);
    imports.assert_never("escapes", &[&rooms[..], &["filter"]].concat(), &[]);
    imports.assert_never(
        "base_path",
        &["axum", "tokio", "leptos", "server", "app", "feed", "message", "problem"],
        &[],
    );
    let ours = ["server", "app", "feed", "problem", "base_path"];
    imports.assert_never("terminal", &[&ours[..], &["axum", "leptos", "hyper"]].concat(), &[]);
    for room in ["server", "app", "feed", "problem", "message", "base_path"] {
        imports.assert_never(room, &["terminal", "command_line", "reqwest"], &[]);
    }
    imports.assert_never("", &["web_sys"], &["app::browser", "app::subscription"]);
    imports.assert_never("server", &["app"], &["server::pages"]);
    imports.assert_never("server", &["feed"], &[]);
    imports.assert_never("server", &["leptos"], &["server::pages", "server::site"]);
    imports.assert_never("server::log", &["axum"], &[]);
    imports.assert_never("server::hub", &["axum"], &[]);
    imports.assert_never("server::stream_list", &["axum"], &[]);
    imports.assert_never("server", &["rusqlite"], &["server::log::sqlite"]);
    let with_metrics = ["server::observe", "server::log"];
    imports.assert_never("server", &["prometheus_client"], &with_metrics);
}

#[test]
fn imports_are_found_in_groups_and_in_paths() {
    let code = "use crate::{app::{self, Visit}, message::EventId}; fn f() { super::hub::g() }";
    let modules = ["app", "message", "server", "server::hub", "server::log"].map(path).into();
    let mut imports = ImportVisitor::of(&path("server::log"), &modules);
    imports.visit_file(&syn::parse_file(code).expect("Rust"));
    assert_eq!(imports.modules, ["app", "message", "server::hub"].map(path).into());
}

/// Two lines in `lib.rs` split the crate into server and browser; no other file depends on features.
#[test]
fn only_lib_rs_has_cfg_feature_attributes() {
    for file in sources(&root()) {
        let code = fs::read_to_string(&file).expect("text");
        let allowed = if file.ends_with("src/lib.rs") { 2 } else { 0 };
        assert_eq!(code.matches("#[cfg(feature").count(), allowed, "{}", file.display());
        assert!(!code.contains("#[cfg(target"), "{}", file.display());
    }
}

impl Imports {
    fn read() -> Self {
        let mut files = BTreeMap::new();
        for file in sources(&root()) {
            let module = module_of(&file);
            let code = fs::read_to_string(&file).expect("text");
            let code = syn::parse_file(&code);
            let code = code.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            files.insert(module, code);
        }
        let tests: Vec<Module> =
            files.iter().flat_map(|(module, file)| test_modules(module, file)).collect();
        files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let modules: BTreeSet<Module> = files.keys().cloned().collect();
        let imports = files.iter().map(|(module, file)| {
            let mut imports = ImportVisitor::of(module, &modules);
            imports.visit_file(file);
            (module.clone(), (imports.modules, imports.crates))
        });
        Self(imports.collect())
    }

    /// Which children of a module import which of its other children, descendants included.
    fn between_children(&self, parent: &[String]) -> BTreeMap<&str, BTreeSet<&str>> {
        let child = |module: &'_ Module| -> Option<usize> {
            (module.len() > parent.len() && module.starts_with(parent)).then_some(parent.len())
        };
        let mut children: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, (imported, _)) in &self.0 {
            let Some(at) = child(module) else { continue };
            let others = imported.iter().filter(|other| child(other).is_some());
            let others =
                others.map(|other| other[at].as_str()).filter(|other| *other != module[at]);
            children.entry(&module[at]).or_default().extend(others);
        }
        children
    }

    /// Asserts that no module in `scope`, except those in `except`, imports any of `others`, which are
    /// modules or crates.
    fn assert_never(&self, scope: &str, others: &[&str], except: &[&str]) {
        let is_in =
            |module: &Module, parent: &str| parent.is_empty() || module.starts_with(&path(parent));
        let mut in_scope = 0;
        for (module, (modules, crates)) in &self.0 {
            if !is_in(module, scope) || except.iter().any(|parent| is_in(module, parent)) {
                continue;
            }
            in_scope += 1;
            for other in others {
                let imported = modules.iter().any(|module| is_in(module, other));
                let imported = imported || crates.contains(*other);
                assert!(!imported, "{} must not import {other}", module.join("::"));
            }
        }
        assert!(in_scope > 0, "no module is in {scope}: has it moved?");
    }
}

/// Collects the imports of a module from its code.
struct ImportVisitor<'all> {
    module: Module,
    all: &'all BTreeSet<Module>,
    modules: BTreeSet<Module>,
    crates: BTreeSet<String>,
}

impl<'all> ImportVisitor<'all> {
    fn of(module: &Module, all: &'all BTreeSet<Module>) -> Self {
        Self { module: module.clone(), all, modules: BTreeSet::new(), crates: BTreeSet::new() }
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.add_path(&with(&name.ident)),
            UseTree::Rename(name) => self.add_path(&with(&name.ident)),
            UseTree::Glob(_) => self.add_path(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }

    /// Adds the innermost module in a path, or the crate that it begins with.
    fn add_path(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut from = self.module.clone();
        let absolute = match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => [from, rest.to_vec()].concat(),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                from.truncate(from.len().saturating_sub(up));
                [from, path[up..].to_vec()].concat()
            }
            _ => {
                let child = [from, path.to_vec()].concat();
                if self.all.contains(&child[..=self.module.len()]) {
                    child
                } else {
                    // All names of the path: some crates re-export others.
                    self.crates.extend(path.iter().cloned());
                    return;
                }
            }
        };
        let ends = (1..=absolute.len()).rev();
        let found = ends.map(|end| &absolute[..end]).find(|module| self.all.contains(*module));
        self.modules.extend(found.map(<[String]>::to_vec).filter(|found| *found != self.module));
    }
}

impl<'code> Visit<'code> for ImportVisitor<'_> {
    fn visit_item(&mut self, item: &'code Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'code ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'code syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.add_path(&names);
        }
        visit::visit_path(self, path);
    }
}

/// Whether one module imports another, directly or through others, which are added to `by`.
fn reaches<'a>(
    imports: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    from: &str,
    to: &str,
    by: &mut Vec<&'a str>,
) -> bool {
    for next in imports.get(from).into_iter().flatten() {
        if by.contains(next) {
            continue;
        }
        by.push(next);
        if *next == to || reaches(imports, next, to, by) {
            return true;
        }
    }
    false
}

/// The `#[cfg(test)]` modules that a file declares.
fn test_modules(module: &Module, file: &File) -> Vec<Module> {
    let tests = file.items.iter().filter_map(|item| match item {
        Item::Mod(ItemMod { attrs, ident, .. }) if is_test(attrs) => {
            Some([module.clone(), vec![ident.to_string()]].concat())
        }
        _ => None,
    });
    tests.collect()
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn path(module: &str) -> Module {
    module.split("::").map(ToOwned::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn module_of(file: &Path) -> Module {
    let path = file.strip_prefix(root()).expect("a path below src").with_extension("");
    let parts = path.iter().map(|part| part.to_str().expect("text").to_owned());
    parts.filter(|part| part != "lib").collect()
}

/// The files of the library, without the binary and the crate for the browser.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            if entry != root().join("browser") {
                files.extend(sources(&entry));
            }
        } else if entry.extension().is_some_and(|extension| extension == "rs")
            && entry != root().join("main.rs")
        {
            files.push(entry);
        }
    }
    files
}
