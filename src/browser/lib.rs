//! The wasm: brings the islands of a rendered page to life.

use wasm_bindgen::prelude::wasm_bindgen;

/// Half a kilobyte of what travels smaller than the one that comes with Rust, and fast enough for a
/// burst of messages.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// Called once by the page's script.
#[wasm_bindgen]
pub fn hydrate() {
    // A panic would otherwise be an "unreachable" without a place; worth a kilobyte in development.
    if cfg!(debug_assertions) {
        console_error_panic_hook::set_once();
    }
    tidings::hydrate();
}
