//! What a file of the wrong kind is, told by its first bytes: for errors that name it.

/// The first bytes of files, and what these are. Longer beginnings stand before those that they begin with.
const KINDS: [(&[u8], &str); 29] = [
    (b"\xff\xfe\0\0", "text in UTF-32"),
    (b"\0\0\xfe\xff", "text in UTF-32"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"\x1f\x8b", "packed with gzip"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\0", "packed with xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"RIFX", "a WAV file with big-endian numbers (RIFX)"),
    (b"RF64", "a WAV file for more than 4 GB (RF64)"),
    (b"BW64", "a WAV file for more than 4 GB (BW64)"),
    (b"fLaC", "a FLAC sound"),
    (b"OggS", "an Ogg sound"),
    (b"ID3", "an MP3 sound"),
    (b"FORM", "an AIFF sound"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a pointer of Git LFS in the place of the file"),
    (b"\x80\x04", "a Python pickle"),
];

/// What a file that begins so is, as the end of a sentence "this is ..", where that is known.
pub(crate) fn of(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
        return Some("a WebP picture");
    }
    let first = start.trim_ascii_start();
    let page = [&b"<!doctype"[..], b"<html"].iter().any(|tag| first.len() >= tag.len() && first[..tag.len()].eq_ignore_ascii_case(tag));
    let known = || KINDS.iter().find(|(beginning, _)| start.starts_with(beginning)).map(|&(_, kind)| kind);
    if page { Some("a web page") } else { known() }
}
