//! What must never import what (see the map in `lib.rs`), and that no modules import each other.

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

/// The modules of the crate but for those that only tests have, each with what it imports: modules of
/// the crate, and the names of other crates.
struct Imports(BTreeMap<Module, (BTreeSet<Module>, BTreeSet<String>)>);

/// The rooms of the server, from the ground up: each imports only those above it in this list.
const ROOMS: [&str; 20] = [
    "clock",
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
    "net",
    "api",
    "pages",
    "config",
    "streams",
    "state",
    "router",
];

#[test]
fn no_modules_import_each_other() {
    let imports = Imports::read();
    let parents: BTreeSet<&[String]> =
        imports.0.keys().filter_map(|module| Some(module.split_last()?.1)).collect();
    for parent in parents {
        let children = imports.between_children(parent);
        for child in children.keys() {
            let mut circle = Vec::new();
            assert!(!reaches(&children, child, child, &mut circle), "{parent:?}: {circle:?}");
        }
    }
}

#[test]
fn each_room_imports_only_rooms_below_it() {
    let imports = Imports::read();
    let server = ["server".to_owned()];
    let rooms = imports.between_children(&server);
    let height = |room: &str| ROOMS.iter().position(|known| *known == room);
    for (room, imported) in &rooms {
        let own = height(room).unwrap_or_else(|| panic!("{room} is not among the rooms"));
        for other in imported {
            let other_height = height(other).unwrap_or_else(|| panic!("{other} is no room"));
            assert!(other_height < own, "server/{room} must not import server/{other}");
        }
    }
    assert_eq!(rooms.len(), ROOMS.len(), "the rooms are {:?}", rooms.keys());
}

#[test]
fn directions() {
    let imports = Imports::read();
    imports.never("app", &["axum", "tokio", "server"], &[]);
    imports.never("feed", &["axum", "tokio", "leptos", "server", "app"], &[]);
    imports.never("problem", &["axum", "tokio", "leptos", "server", "app", "feed"], &[]);
    imports.never("message", &["axum", "tokio", "leptos", "server", "app", "feed", "problem"], &[]);
    imports.never("", &["web_sys"], &["app::browser", "app::subscription"]);
    imports.never("server", &["app"], &["server::pages"]);
    imports.never("server", &["feed"], &[]);
    imports.never("server", &["leptos"], &["server::pages", "server::site"]);
    imports.never("server::log", &["axum"], &[]);
    imports.never("server::hub", &["axum"], &[]);
    imports.never("server", &["rusqlite"], &["server::log::sqlite"]);
    let counting = ["server::observe", "server::log"];
    imports.never("server", &["prometheus_client"], &counting);
}

#[test]
fn an_import_in_a_group_is_seen() {
    let code = "use crate::{app::{self, Visit}, message::EventId}; fn f() { super::hub::g() }";
    let modules = ["app", "message", "server", "server::hub", "server::log"].map(path).into();
    let mut seen = Uses::of(&path("server::log"), &modules);
    seen.visit_file(&syn::parse_file(code).expect("Rust"));
    assert_eq!(seen.modules, ["app", "message", "server::hub"].map(path).into());
}

/// The split between server and browser is two lines in `lib.rs`.
#[test]
fn the_cfg_budget() {
    for file in sources(&root()) {
        let code = fs::read_to_string(&file).expect("text");
        let budget = if file.ends_with("src/lib.rs") { 2 } else { 0 };
        assert_eq!(code.matches("#[cfg(feature").count(), budget, "{}", file.display());
        assert!(!code.contains("#[cfg(target"), "{}", file.display());
    }
}

impl Imports {
    fn read() -> Self {
        let mut files = BTreeMap::new();
        for file in sources(&root()) {
            let module = module_of(&file);
            let code = fs::read_to_string(&file).expect("text");
            files.insert(module, syn::parse_file(&code).expect("Rust"));
        }
        let tests: Vec<Module> =
            files.iter().flat_map(|(module, file)| tests(module, file)).collect();
        files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let modules: BTreeSet<Module> = files.keys().cloned().collect();
        let uses = files.iter().map(|(module, file)| {
            let mut uses = Uses::of(module, &modules);
            uses.visit_file(file);
            (module.clone(), (uses.modules, uses.crates))
        });
        Self(uses.collect())
    }

    /// Which children of a module import which others, with all that is in them.
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

    /// No module in `scope`, but for those in `except`, imports any of these modules or crates.
    fn never(&self, scope: &str, others: &[&str], except: &[&str]) {
        let is_in =
            |module: &Module, room: &str| room.is_empty() || module.starts_with(&path(room));
        let mut in_scope = 0;
        for (module, (modules, crates)) in &self.0 {
            if !is_in(module, scope) || except.iter().any(|room| is_in(module, room)) {
                continue;
            }
            in_scope += 1;
            for other in others {
                let imported = modules.iter().any(|module| is_in(module, other));
                let imported = imported || crates.contains(*other);
                assert!(!imported, "{} must not import {other}", module.join("::"));
            }
        }
        assert!(in_scope > 0, "nothing is in {scope}: has it moved?");
    }
}

/// What the code of a module names.
struct Uses<'all> {
    module: Module,
    all: &'all BTreeSet<Module>,
    modules: BTreeSet<Module>,
    crates: BTreeSet<String>,
}

impl<'all> Uses<'all> {
    fn of(module: &Module, all: &'all BTreeSet<Module>) -> Self {
        Self { module: module.clone(), all, modules: BTreeSet::new(), crates: BTreeSet::new() }
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.name(&with(&name.ident)),
            UseTree::Rename(name) => self.name(&with(&name.ident)),
            UseTree::Glob(_) => self.name(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }

    /// Notes the innermost module in a path, or the crate that it begins with.
    fn name(&mut self, path: &[String]) {
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
                    // With its modules: some crates give access to others.
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

impl<'code> Visit<'code> for Uses<'_> {
    fn visit_item(&mut self, item: &'code Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'code ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'code syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.name(&names);
        }
        visit::visit_path(self, path);
    }
}

/// Whether one module reaches another by what is imported, and by which.
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

/// The modules of a file that only tests have.
fn tests(module: &Module, file: &File) -> Vec<Module> {
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

/// The files of the crate; its binary and the crate for the browser are others.
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
