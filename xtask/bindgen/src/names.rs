//! Minifies the names of imports and exports between the wasm and its script.
//!
//! wasm-bindgen ends them with a hash of 16 hex digits, so that separately compiled crates do not
//! clash. In the finished wasm nothing can clash any more, and random digits do not compress: they
//! were 3.7 kB of the page, half of it in either file. (wasm-opt can minify names too, but does not
//! change the script.)

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use walrus::Module;

/// The number of digits of a hash.
const HASH_DIGITS: usize = 16;

/// The shortened names, by their original names.
pub(crate) struct Shortened {
    imports: BTreeMap<String, String>,
    exports: BTreeMap<String, String>,
}

/// Shortens the name of each import and export that ends with a hash, or with a hash and a number, to a
/// letter or two.
pub(crate) fn shorten(wasm: &mut Module) -> Shortened {
    let imports = short_names(wasm.imports.iter().map(|import| &import.name));
    for import in wasm.imports.iter_mut() {
        if let Some(short) = imports.get(&import.name) {
            import.name.clone_from(short);
        }
    }
    let exports = short_names(wasm.exports.iter().map(|export| &export.name));
    for export in wasm.exports.iter_mut() {
        if let Some(short) = exports.get(&export.name) {
            export.name.clone_from(short);
        }
    }
    Shortened { imports, exports }
}

impl Shortened {
    /// Shortens the same names in the script of the wasm.
    ///
    /// # Errors
    /// When a name is not in the script exactly as wasm-bindgen writes it: script and wasm would no
    /// longer match.
    pub(crate) fn apply_to(&self, script: &str) -> anyhow::Result<String> {
        let mut script = script.to_owned();
        for (name, short) in &self.imports {
            // A property of the object that the script passes to the wasm.
            let (old, new) = (format!(" {name}: "), format!(" {short}: "));
            let found = script.matches(&old).count();
            ensure!(found == 1, "the script has the import {name} {found} times, not once");
            script = script.replace(&old, &new);
        }
        for (name, short) in &self.exports {
            let (old, new) = (format!("wasm.{name}("), format!("wasm.{short}("));
            ensure!(script.contains(&old), "the script never calls the export {name}");
            script = script.replace(&old, &new);
            // The name may be a prefix of another export's name.
            let other = format!("wasm.{name}");
            let is_other =
                |rest: &str| !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric());
            ensure!(
                !script.split(&other).skip(1).any(is_other),
                "the script uses the export {name} other than to call it"
            );
        }
        Ok(script)
    }
}

/// A short name for each name that ends with a hash, different from all existing names.
fn short_names<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    // Sorted, so that the result does not depend on the order in the wasm.
    let (hashed, kept): (BTreeSet<_>, BTreeSet<_>) =
        names.cloned().partition(|name| has_hash(name));
    let free = (0..).map(short_name).filter(|name| !kept.contains(name));
    hashed.into_iter().zip(free).collect()
}

fn has_hash(name: &str) -> bool {
    // The hash of a closure's type is followed by a number.
    let name =
        name.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix('_').unwrap_or(name);
    let digits = name.len().checked_sub(HASH_DIGITS).and_then(|start| name.get(start..));
    digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// `a` to `z`, `aa`, `ba` and so on.
fn short_name(mut number: usize) -> String {
    let mut name = String::new();
    loop {
        name.push(char::from(b"abcdefghijklmnopqrstuvwxyz"[number % 26]));
        number /= 26;
        if number == 0 {
            return name;
        }
        number -= 1;
    }
}

#[cfg(test)]
mod tests {
    use walrus::{FunctionBuilder, Module, ValType};

    use super::shorten;

    const HASH: &str = "0123456789abcdef";

    /// A module that imports and exports functions with these names.
    fn module(imports: &[String], exports: &[String]) -> Module {
        let mut module = Module::default();
        let r#type = module.types.add(&[], &[]);
        for name in imports {
            module.add_import_func("./tidings_bg.js", name, r#type);
        }
        for name in exports {
            let mut function = FunctionBuilder::new(&mut module.types, &[], &[ValType::I32]);
            function.func_body().i32_const(1);
            let function = function.finish(Vec::new(), &mut module.funcs);
            module.exports.add(name, function);
        }
        module
    }

    #[test]
    fn names_with_a_hash_are_short_in_the_wasm_and_in_the_script() {
        let (call, invoke) = (format!("__wbg_call_{HASH}"), format!("invoke__h{HASH}_4"));
        let imports = [call.clone(), "a".to_owned(), format!("__wbg_new_{HASH}"), call.clone()];
        let exports = [invoke.clone(), "hydrate".to_owned()];
        let mut module = module(&imports, &exports);
        let script = format!(
            "const imports = {{ {call}: function() {{ wasm.{invoke}(); }}, a: b, \
             __wbg_new_{HASH}: c }}; function {invoke}() {{ wasm.{invoke}(); wasm.hydrate(); }}"
        );
        let script = shorten(&mut module).apply_to(&script);
        assert_eq!(
            script.expect("the script has every name"),
            format!(
                "const imports = {{ b: function() {{ wasm.a(); }}, a: b, c: c }}; \
                 function {invoke}() {{ wasm.a(); wasm.hydrate(); }}"
            )
        );
        let imports: Vec<_> = module.imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(imports, ["b", "a", "c", "b"]);
        let exports: Vec<_> = module.exports.iter().map(|export| export.name.as_str()).collect();
        assert_eq!(exports, ["a", "hydrate"]);
    }

    #[test]
    fn a_name_that_the_script_lacks_is_an_error() {
        let name = format!("f_{HASH}");
        for (imports, exports) in [(vec![name.clone()], vec![]), (vec![], vec![name.clone()])] {
            let mut module = module(&imports, &exports);
            let error = shorten(&mut module).apply_to("const imports = {};");
            let error = error.expect_err("no such name");
            assert!(error.to_string().contains(&name), "{error}");
        }
    }

    #[test]
    fn there_are_as_many_names_as_are_needed() {
        let imports: Vec<_> = (0..1000).map(|number| format!("f{number}_{HASH}")).collect();
        let mut module = module(&imports, &[]);
        let script: Vec<_> = imports.iter().map(|name| format!(" {name}: f")).collect();
        shorten(&mut module).apply_to(&script.join(",")).expect("the script has every name");
        let mut names: Vec<_> = module.imports.iter().map(|import| &import.name).collect();
        assert!(names.iter().all(|name| name.len() <= 3));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), imports.len());
    }
}
