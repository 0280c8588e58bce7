//! The wasm module of the page: hydrates the islands of a server-rendered page.

use wasm_bindgen::prelude::wasm_bindgen;

/// Half a kilobyte smaller, as transferred, than the allocator of the standard library, and fast enough
/// for a burst of messages.
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

/// Starts the wasm. The page's script calls it once per instance, before it hydrates the islands.
#[wasm_bindgen]
pub fn hydrate() {
    // Reports panics with message and location instead of "unreachable"; development builds only,
    // because it takes a kilobyte.
    if cfg!(debug_assertions) {
        console_error_panic_hook::set_once();
    }
    tidings::hydrate();
}
