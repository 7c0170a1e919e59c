//! The `Date` of an answer (RFC 9110 §6.6.1), written once a second.

use std::cell::RefCell;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

/// RFC 9110 §5.6.7.
const FORMAT: StaticFormatDescription = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

thread_local! {
    static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Writes the date now.
pub fn put(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    put_at(out, i64::try_from(now).unwrap_or_default());
}

fn put_at(out: &mut Vec<u8>, seconds: i64) {
    LAST.with_borrow_mut(|(last, text)| {
        if *last != seconds {
            *last = seconds;
            *text = OffsetDateTime::from_unix_timestamp(seconds)
                .ok()
                .and_then(|date| date.format(FORMAT).ok())
                .unwrap_or_default();
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_the_rfc_writes_it() {
        let mut out = Vec::new();
        put_at(&mut out, 784_111_777);
        put_at(&mut out, 784_111_777);
        put_at(&mut out, 0);
        let text = "Sun, 06 Nov 1994 08:49:37 GMTSun, 06 Nov 1994 08:49:37 GMT\
            Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
