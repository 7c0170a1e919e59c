//! The time at the beginning of a line, in RFC 3339: the second is put into words once a second.

use std::cell::Cell;
use std::io::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;

/// `2026-11-21T23:00:00.`
type Second = [u8; 20];

thread_local! {
    static LAST: Cell<Option<(i64, Second)>> = const { Cell::new(None) };
}

/// Appends `at` in UTC, to the millisecond.
pub fn push(line: &mut Vec<u8>, at: SystemTime) {
    let at = OffsetDateTime::from(at);
    let second = at.unix_timestamp();
    let words = match LAST.get() {
        Some((last, words)) if last == second => words,
        _ => {
            let words = words(at);
            LAST.set(Some((second, words)));
            words
        }
    };
    line.extend_from_slice(&words);
    line.extend_from_slice(&thousandths(at.millisecond().into()));
    line.push(b'Z');
}

/// A number below 1,000 as three digits.
pub fn thousandths(number: u32) -> [u8; 3] {
    [100, 10, 1].map(|unit| b'0' + u8::try_from(number / unit % 10).unwrap_or_default())
}

fn words(at: OffsetDateTime) -> Second {
    let mut words = *b"0000-00-00T00:00:00.";
    let (date, time) = (at.date(), at.time());
    // A clock that is off by more than eight thousand years leaves zeros.
    let _: std::io::Result<()> = write!(
        &mut words[..],
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
    );
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_in_utc_to_the_millisecond() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_604_455_007, "2026-11-25T11:00:55.007Z"),
            (1_795_604_455_999, "2026-11-25T11:00:55.999Z"),
            (1_795_604_456_000, "2026-11-25T11:00:56.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        ] {
            let mut line = Vec::new();
            push(&mut line, at(ms));
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }
}
