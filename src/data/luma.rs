//! Colours as grey.

/// The grey of a colour: ITU-R 601 luma in 16-bit fixed point, rounded, bit for bit what Pillow's `convert("L")` gives.
pub(super) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471;
    // The three weights add up to 2^16, so this fits a byte.
    ((sum + 0x8000) >> 16) as u8
}
