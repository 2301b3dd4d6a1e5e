//! What the head of an HTTP answer means to a transfer.

use ureq::http::{Response, StatusCode, header};
use ureq::{Body, ResponseExt};

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The body is the file from byte `start` on: 0, or where it was asked for.
    From {
        /// Bytes before it.
        start: u64,
        /// Bytes of the whole file, if known.
        total: Option<u64>,
    },
    /// Everything was there already.
    Complete,
    /// What has arrived does not fit this address.
    Anew(String),
    /// Not now.
    Later(String),
    /// No.
    Refused(String),
}

impl Answer {
    /// The meaning of `response` to a transfer that asked for what follows the first `arrived` bytes.
    pub fn of(response: &Response<Body>, arrived: u64) -> Self {
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
        match response.status() {
            // Of a server that knows no ranges, too.
            StatusCode::OK => Answer::From { start: 0, total: response.body().content_length() },
            StatusCode::PARTIAL_CONTENT => match range.and_then(parse_range) {
                Some((start, total)) if start == arrived => Answer::From { start, total },
                _ => Answer::Anew(format!("asked for what follows byte {arrived}, the server sent {}", range.unwrap_or("some range"))),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if arrived > 0 => match range.and_then(parse_total) {
                Some(total) if total == arrived => Answer::Complete,
                _ => Answer::Anew(format!("the server has nothing that follows byte {arrived}")),
            },
            status => Self::of_status(status, &response.get_uri().to_string()),
        }
    }

    /// The meaning of an answer without the file, from `url`, which a redirection may have led to.
    fn of_status(status: StatusCode, url: &str) -> Self {
        let why = format!("the server answered {status} at {url}");
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::Later(why),
            status if status.is_server_error() => Answer::Later(why),
            _ => Answer::Refused(why),
        }
    }
}

/// The first byte and the length of the whole (`None` for `*`) of `bytes FIRST-LAST/TOTAL`.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (place, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = place.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// The length of the whole of `bytes */TOTAL`.
fn parse_total(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes */")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_contradictions_refused() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes */10", "bytes 5-10/10", "bytes 9-5/10", "items 5-9/10", "bytes -9/10", "bytes 5-9", "bytes 5-9/x"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
        assert_eq!(parse_total("bytes */10"), Some(10));
        for wrong in ["", "bytes 5-9/10", "bytes */*", "bytes */-1"] {
            assert_eq!(parse_total(wrong), None, "{wrong}");
        }
    }
}
