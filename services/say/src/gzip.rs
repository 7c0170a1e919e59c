//! Gzip, RFC 1952: level 1 of libdeflate, which makes speech as small as zlib's level 6 for half
//! the work; higher levels gain next to nothing on speech.

use std::cell::RefCell;

use libdeflater::CompressionLvl;
use libdeflater::Compressor;
use libdeflater::Decompressor;

use crate::budget::Counted;
use crate::budget::Reservation;

/// The fastest that compresses.
const LEVEL: i32 = 1;

thread_local! {
    /// Kept, since it is large and takes time to set up.
    static COMPRESSOR: RefCell<Compressor> =
        RefCell::new(Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default()));
}

/// Compresses or expands within a reservation; `None` when there is no room for the result.
pub type Recode = fn(&[u8], Reservation) -> Option<Counted>;

/// Compresses `bytes`; the same bytes make the same result.
#[must_use]
pub fn compress(bytes: &[u8], mut reservation: Reservation) -> Option<Counted> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut room = room(compressor.gzip_compress_bound(bytes.len()), &mut reservation)?;
        let length = compressor.gzip_compress(bytes, &mut room).ok()?;
        Some(fitted(room, length, reservation))
    })
}

/// Expands what [`compress`] made.
#[must_use]
pub fn expand(bytes: &[u8], mut reservation: Reservation) -> Option<Counted> {
    // The last four bytes are the length, RFC 1952 §2.3.1.
    let length = u32::from_le_bytes(*bytes.last_chunk()?);
    let mut room = room(usize::try_from(length).ok()?, &mut reservation)?;
    let length = Decompressor::new().gzip_decompress(bytes, &mut room).ok()?;
    Some(fitted(room, length, reservation))
}

fn room(length: usize, reservation: &mut Reservation) -> Option<Vec<u8>> {
    reservation.resize(length).then(|| vec![0; length])
}

fn fitted(mut room: Vec<u8>, length: usize, mut reservation: Reservation) -> Counted {
    room.truncate(length);
    room.shrink_to_fit();
    // Shrinking always succeeds.
    let _: bool = reservation.resize(room.capacity());
    Counted::new(room, reservation)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::budget::Budget;

    use super::*;

    proptest! {
        #[test]
        fn what_is_compressed_expands_to_the_same(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let budget = Budget::new(1 << 20);
            let small = compress(&bytes, budget.reserve()).unwrap();
            let again = compress(&bytes, budget.reserve()).unwrap();
            prop_assert_eq!(small.as_ref(), again.as_ref());
            let large = expand(small.as_ref(), budget.reserve()).unwrap();
            prop_assert_eq!(large.as_ref(), bytes.as_slice());
        }
    }

    #[test]
    fn no_room_is_no_result() {
        assert!(compress(&[0; 1000], Budget::new(10).reserve()).is_none());
        let small = compress(&[0; 1000], Budget::new(2000).reserve()).unwrap();
        assert!(expand(small.as_ref(), Budget::new(999).reserve()).is_none());
        assert!(expand(b"xyz", Budget::new(999).reserve()).is_none());
    }
}
