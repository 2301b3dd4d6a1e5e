//! The format of `numpy.save`: its header, and what an array's elements are.

/// With which the format starts.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// The header, a Python dictionary, and where the data start.
pub(super) fn header(bytes: &[u8]) -> Option<(&str, usize)> {
    // Version 1 counts the bytes of its header in 16 bits, later ones in 32.
    let (from, length) = match *bytes.get(MAGIC.len()..)? {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => return None,
    };
    let start = length.checked_add(from)?;
    Some((std::str::from_utf8(bytes.get(from..start)?).ok()?, start))
}

/// What stands between `key` and the next `end`.
pub(super) fn entry<'a>(header: &'a str, key: &str, end: &str) -> &'a str {
    let value = header.split_once(key).and_then(|(_, rest)| rest.split_once(end));
    value.map_or("something else", |(value, _)| value)
}

/// The encoding and the number of characters of the strings that numpy calls `kind`.
pub(super) fn strings(kind: &str) -> Option<(Character, usize)> {
    let kind = kind.strip_prefix('\'')?.strip_suffix('\'')?;
    let (character, width) = match kind.split_at_checked(2)? {
        ("|S", width) => (Character::Byte, width),
        ("<U", width) => (Character::Little, width),
        (">U", width) => (Character::Big, width),
        _ => return None,
    };
    Some((character, width.parse().ok()?))
}

/// How numpy stores a character.
#[derive(Clone, Copy)]
pub(super) enum Character {
    Byte,
    Little,
    Big,
}

impl Character {
    /// In bytes.
    pub fn size(self) -> usize {
        match self {
            Character::Byte => 1,
            Character::Little | Character::Big => 4,
        }
    }

    /// The character that these bytes are.
    pub fn read(self, bytes: &[u8]) -> Option<char> {
        match (self, bytes) {
            (Character::Byte, &[byte]) => Some(char::from(byte)),
            (Character::Little, &[a, b, c, d]) => char::from_u32(u32::from_le_bytes([a, b, c, d])),
            (Character::Big, &[a, b, c, d]) => char::from_u32(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        }
    }
}
