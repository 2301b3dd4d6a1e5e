//! Files that people take for safetensors: what they are, by their first bytes, and how their weights come out.

/// The beginning of what `torch.save` wrote before PyTorch 1.6: a pickled number that says so.
const OLD_PYTORCH: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Turns an old checkpoint into a new one.
const SAVE_ANEW: &str = "convert it with PyTorch: \
                         python -c \"import torch; torch.save(torch.load('old.pt', map_location='cpu'), 'new.pt')\"";

/// Joins a checkpoint that lies in several files.
const JOIN: &str = "join the files that it lists: python -c \"from glob import glob; from safetensors.torch import load_file, save_file; \
                    save_file({k: v for f in glob('*.safetensors') for k, v in load_file(f).items()}, 'whole.safetensors')\"";

/// What a file is that is not safetensors, and what to do; `None` where nothing is known of it.
pub(super) fn kind(bytes: &[u8]) -> Option<String> {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let is_json = bytes.trim_ascii_start().starts_with(b"{");
    let found = if begins(b"PK\x03\x04") {
        "is a PyTorch checkpoint, or another zip archive: nn::official::import reads the official code's".into()
    } else if begins(OLD_PYTORCH) {
        format!("is a PyTorch checkpoint in the form of before PyTorch 1.6: {SAVE_ANEW}")
    } else if matches!(bytes, [0x80, 2..=5, ..]) {
        format!("is a Python pickle, but none that torch.save writes today: {SAVE_ANEW}")
    } else if bytes.get(257..262) == Some(b"ustar") {
        format!("is a tar archive: unpack it; where it is one of PyTorch before 0.1.10, {SAVE_ANEW}")
    } else if is_json && bytes.windows(12).any(|window| window == b"\"weight_map\"") {
        format!("is the index of a checkpoint in several files, and holds no weights itself: {JOIN}")
    } else if is_json {
        "is JSON and holds no weights: give the file beside it that does".into()
    } else {
        format!("is {}: {}", crate::kind::of(bytes)?, advice(bytes))
    };
    Some(found)
}

/// What to do with a file that others know, too.
fn advice(bytes: &[u8]) -> &'static str {
    let begins = |beginnings: &[&[u8]]| beginnings.iter().any(|beginning| bytes.starts_with(beginning));
    if begins(&[b"version https://git-lfs"]) {
        "run git lfs pull"
    } else if begins(&[b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd"]) {
        "unpack it"
    } else if begins(&[b"\x89HDF", b"\x93NUMPY", b"GGUF"]) {
        "write its weights with the Python package safetensors"
    } else {
        "give the file itself that holds the weights"
    }
}
