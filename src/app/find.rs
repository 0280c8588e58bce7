//! The links to find messages: on a live page by a filter, which is loaded when it is opened, and elsewhere
//! on a page of what was found.

use leptos::prelude::*;
use leptos_router::location::Url;

use super::view::View;
use crate::base_path::BasePath;

/// The address of the module that filters the live page, below the base path.
const MODULE: &str = "/find.js";

/// The link that opens the filter of a live page, which page.js loads; without scripts it leads to the page
/// that finds.
pub(super) fn find_link(base: &BasePath, path: &str) -> impl IntoView + use<> {
    view! {
        <a
            class="find"
            href=find_address(path, "", None)
            data-find=base.address(MODULE)
            aria-keyshortcuts="/"
        >
            "Find"
        </a>
    }
}

/// The address of the page that finds what was typed, in the stream whose page is at `path`.
pub(super) fn find_address(path: &str, typed: &str, view: Option<View>) -> String {
    let typed = Url::escape(typed);
    let view = view.map(|view| format!("&view={}", view.as_str())).unwrap_or_default();
    format!("{path}?find={typed}{view}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_encoded_in_addresses() {
        let address = find_address("/streams/a", "-x \"é&b+\"", Some(View::Log));
        assert_eq!(address, "/streams/a?find=%2Dx%20%22%C3%A9%26b%2B%22&view=log");
    }
}
