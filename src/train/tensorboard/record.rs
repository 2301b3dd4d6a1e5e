//! TFRecord: how event files frame what is in them, each record with its length and two checksums.

/// A byte's share of a CRC-32C (Castagnoli's polynomial, reflected).
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The checksum as records have it: turned, so that a checksum of bytes that hold a checksum is worth something.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Appends a record.
pub(super) fn frame(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length));
    out.extend(data);
    out.extend(masked(data));
}

/// The first record of `bytes`, what is in it, and what comes behind it; `None` where it is cut or damaged.
pub(super) fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let (checksum, rest) = rest.split_at_checked(4)?;
    let size = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (data, rest) = rest.split_at_checked(size)?;
    let (data_checksum, rest) = rest.split_at_checked(4)?;
    let whole = checksum == masked(length) && data_checksum == masked(data);
    whole.then(|| (&bytes[..bytes.len() - rest.len()], data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        for (bytes, wanted) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&falling, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn a_record_is_read_back_whole_or_not_at_all() {
        let mut file = Vec::new();
        frame(&mut file, b"first");
        let first = file.len();
        frame(&mut file, b"");
        let (record, data, rest) = unframe(&file).unwrap();
        assert_eq!((record, data, rest.len()), (&file[..first], &b"first"[..], 16));
        assert_eq!(unframe(rest).unwrap(), (rest, &b""[..], &b""[..]));
        (0..first).for_each(|cut| assert_eq!(unframe(&file[..cut]), None, "cut after {cut} bytes"));
        for place in 0..first {
            let mut damaged = file.clone();
            damaged[place] ^= 4;
            assert_eq!(unframe(&damaged), None, "byte {place} is another");
        }
    }
}
