//! The archive of the Long Range Arena, which several of its tasks share.

use super::archive::{Archive, Content, GIB, Selection, Set, Size, owned};

/// The archive for a task whose data lie at one of `there`.
///
/// Of all tasks in it, `listops-1000`, `tsv_data` and, of both sizes, Pathfinder's pictures with lines of 14 bars are unpacked, so that no
/// other task fetches it again; the other pictures, most of its files, are not. No checksum is published for it.
pub(super) fn archive(there: &[&str]) -> Set {
    let folders = owned(&["listops-1000", "tsv_data", "pathfinder32/curv_contour_length_14", "pathfinder128/curv_contour_length_14"]);
    Set::one(
        "https://storage.googleapis.com/long-range-arena/",
        Archive {
            // A tar all the same.
            name: "lra_release.gz".into(),
            size: Size::AtMost(16 * GIB),
            checksum: None,
            there: owned(there),
            content: Content::TarGz { selection: Selection::Folders(folders), max_bytes: 64 * GIB, max_entries: 8_000_000 },
        },
    )
}
