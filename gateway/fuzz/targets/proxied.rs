//! The header of a load balancer: nothing makes it panic, and where it is cut makes no difference.
#![no_main]

use gateway_fuzz::rules::proxied;
use gateway_fuzz::rules::proxied::HEADER_BYTES_MAX;
use gateway_fuzz::rules::proxied::Proxied;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match proxied::parse(bytes) {
        Ok(Proxied::Header { length, source }) => {
            assert!(length > 0 && length <= bytes.len() && length <= HEADER_BYTES_MAX);
            // It does not depend on what follows it, and no beginning of it is one.
            let header = &bytes[..length];
            assert_eq!(proxied::parse(header), Ok(Proxied::Header { length, source }));
            for end in 0..length {
                assert_eq!(proxied::parse(&header[..end]), Ok(Proxied::Partial), "{end}");
            }
        }
        Ok(Proxied::Partial) => {
            assert!(bytes.len() <= HEADER_BYTES_MAX, "waits for ever");
            for end in 0..bytes.len() {
                assert_eq!(proxied::parse(&bytes[..end]), Ok(Proxied::Partial), "{end}");
            }
        }
        // Nothing that follows makes it one.
        Err(_) => {
            let more = [bytes, b"\r\n"].concat();
            assert!(proxied::parse(&more).is_err());
        }
    }
});
