//! The wasm: brings the islands of a rendered page to life.

use wasm_bindgen::prelude::wasm_bindgen;

/// Called once by the page's script.
#[wasm_bindgen]
pub fn hydrate() {
    // A panic would otherwise be an "unreachable" without a place; worth a kilobyte in development.
    if cfg!(debug_assertions) {
        console_error_panic_hook::set_once();
    }
    tidings::hydrate();
}
