//! Events in protobuf: TensorFlow's messages `Event`, `Summary` and `SessionLog`, as far as scalars need them.

/// A number with the name of its curve.
pub(super) type Scalar = (String, f32);

/// The first event of a file.
pub(super) fn version(seconds: f64) -> Vec<u8> {
    let mut event = stamp(seconds, 0);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// The event by which a process says that it goes on at `step`: what an earlier one said of this step and later ones does not count.
pub(super) fn start(seconds: f64, step: u64) -> Vec<u8> {
    let (mut event, mut session) = (stamp(seconds, step), Vec::new());
    key(&mut session, 1, 0);
    varint(&mut session, 1);
    bytes(&mut event, 7, &session);
    event
}

/// An event with these numbers of a step; `seconds` since 1970.
pub(super) fn scalars(seconds: f64, step: u64, values: &[Scalar]) -> Vec<u8> {
    let (mut event, mut summary) = (stamp(seconds, step), Vec::new());
    for (tag, number) in values {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, 5);
        value.extend(number.to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    bytes(&mut event, 5, &summary);
    event
}

/// The step of an event, and the name of the first number in it; `None` where it has none.
pub(super) fn first_scalar(event: &[u8]) -> Option<(u64, String)> {
    let step = field(event, 2).map_or(Some(0), |step| read_varint(&mut &*step))?;
    let tag = field(field(field(event, 5)?, 1)?, 1)?;
    Some((step, String::from_utf8(tag.to_vec()).ok()?))
}

fn stamp(seconds: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, 1);
    event.extend(seconds.to_le_bytes());
    key(&mut event, 2, 0);
    varint(&mut event, step);
    event
}

fn bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    key(out, number, 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// A field's number and how it is written: 0 a varint, 1 eight bytes, 2 a length and bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, number: u64, kind: u64) {
    varint(out, number << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let length = 1 + from.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (own, rest) = from.split_at(length);
    *from = rest;
    Some(own.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

/// The content of the first field with this number.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        let size = match key & 7 {
            0 => 1 + message.iter().position(|byte| byte & 0x80 == 0)?,
            1 => 8,
            2 => usize::try_from(read_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = message.split_at_checked(size)?;
        if key >> 3 == wanted {
            return Some(content);
        }
        message = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_bytes_that_protobuf_gives_it() {
        // Event { wall_time: 1.5, step: 300, summary: { value: { tag: "a/b", simple_value: 0.25 } } }
        let wanted = [
            &[0x09][..],
            &1.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02, 0x2a, 0x0c, 0x0a, 0x0a, 0x0a, 0x03, b'a', b'/', b'b', 0x15],
            &0.25f32.to_le_bytes(),
        ];
        assert_eq!(scalars(1.5, 300, &[("a/b".into(), 0.25)]), wanted.concat());
        assert_eq!(start(1.5, 1)[9..], [0x10, 1, 0x3a, 2, 0x08, 1]);
        assert_eq!(version(1.5)[9..], [&[0x10, 0, 0x1a, 13][..], b"brain.Event:2"].concat());
    }

    #[test]
    fn the_step_and_the_first_name_are_read_back() {
        for step in [0, 1, 127, 128, 300, u64::MAX] {
            let event = scalars(0.0, step, &[("loss/train".into(), 1.0), ("lr/train".into(), 2.0)]);
            assert_eq!(first_scalar(&event), Some((step, "loss/train".into())));
            assert!((0..event.len()).all(|cut| first_scalar(&event[..cut]).is_none()), "a cut event has no name");
            assert_eq!(first_scalar(&start(0.0, step)), None);
        }
        assert_eq!(first_scalar(&version(0.0)), None);
        assert_eq!(first_scalar(&[0xff; 40]), None);
    }
}
