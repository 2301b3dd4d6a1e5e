//! Text for a page: what needs escaping, and numbers as people read them.

/// `text` as the content of an element or of an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in a page, whatever they are written as.
            c if c.is_control() && !c.is_whitespace() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// 174474 as "174,474".
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let commas = |(at, digit): (usize, char)| [(at > 0 && (digits.len() - at).is_multiple_of(3)).then_some(','), Some(digit)];
    digits.chars().enumerate().flat_map(commas).flatten().collect()
}

/// Seconds as "2 h 5 min", "3 min 12 s" or "4.2 s".
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share in [0, 1], as the program prints it elsewhere.
pub(super) fn share(value: f64) -> String {
    format!("{value:.4}")
}

/// The label of a tick on an axis whose largest magnitude is `top`: no more digits than tell it from its neighbours.
pub(super) fn tick(value: f64, top: f64) -> String {
    // What is left of 0.1 + 0.2 - 0.3.
    let value = if value.abs() < top * 1e-9 { 0.0 } else { value };
    match top {
        _ if value == 0.0 => "0".into(),
        1e6.. => trimmed(value / 1e6) + "M",
        1e4.. => trimmed(value / 1e3) + "k",
        0.01.. => trimmed(value),
        _ => {
            let exponent = value.abs().log10().floor();
            format!("{}e{exponent}", trimmed(value / 10f64.powf(exponent)))
        }
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
