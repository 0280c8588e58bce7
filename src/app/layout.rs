//! How a page is laid out, as the query of its address says: alone in a frame, on a wall, side by side.

/// The layout of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// `?embed`: the messages alone, for a frame in another page.
    pub embed: bool,
    /// `?wall`: the messages alone and large, for a screen that is read from afar.
    pub wall: bool,
    /// `?side-by-side`: a column for each of several streams.
    pub side_by_side: bool,
}

impl Layout {
    /// The layout of the page at an address with a query.
    pub(super) fn of_address(address: &str) -> Self {
        let query = address.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let has = |name| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        Self { embed: has("embed"), wall: has("wall"), side_by_side: has("side-by-side") }
    }

    /// Whether the page has only the messages and their status: no header, no form and no footer.
    pub(super) fn is_bare(self) -> bool {
        self.embed || self.wall
    }

    /// The address of a page in this layout.
    pub(super) fn of(self, page: &str) -> String {
        let parameters =
            [("embed", self.embed), ("wall", self.wall), ("side-by-side", self.side_by_side)];
        let mut address = page.to_owned();
        for (name, _) in parameters.into_iter().filter(|(_, is_set)| *is_set) {
            address.push(if address.contains('?') { '&' } else { '?' });
            address.push_str(name);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_known_by_the_query() {
        let embed = Layout { embed: true, ..Layout::default() };
        for address in ["/streams/a?embed", "/t/streams/a?embed", "/streams/a?at=1-2&embed=#at"] {
            assert_eq!(Layout::of_address(address), embed, "{address}");
        }
        for address in [
            "/streams/embed",
            "/streams/a",
            "/streams/a?at=embed",
            "/streams/a?embedded",
            "/streams/wall",
        ] {
            assert_eq!(Layout::of_address(address), Layout::default(), "{address}");
        }
    }

    #[test]
    fn a_layout_is_a_part_of_the_address() {
        for address in [
            "/streams/a",
            "/streams/a?wall",
            "/streams/a,b?side-by-side",
            "/streams/a,b?wall&side-by-side",
        ] {
            let layout = Layout::of_address(address);
            let page = address.split('?').next().expect("a page");
            assert_eq!(layout.of(page), address);
        }
    }
}
