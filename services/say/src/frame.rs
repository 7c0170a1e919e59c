//! Messages over a pipe: frames of `u32` length (little endian) and bytes; length 0 ends a message.

use std::io;
use std::io::Read;
use std::io::Write;

/// Longest frame that either side sends, in bytes.
pub const BYTES_MAX: usize = 64 << 10;

/// Adds one frame to `out`; nothing for no bytes, since that would end the message.
///
/// # Errors
///
/// When the bytes are more than [`BYTES_MAX`], or what `out` says.
pub fn write(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= BYTES_MAX);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// Ends the message.
///
/// # Errors
///
/// What `out` says.
pub fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&0_u32.to_le_bytes())
}

/// The length in a frame's head.
///
/// # Errors
///
/// When it is more than [`BYTES_MAX`].
pub fn length(head: [u8; 4]) -> io::Result<usize> {
    usize::try_from(u32::from_le_bytes(head))
        .ok()
        .filter(|length| *length <= BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "frame too long"))
}

/// One message: its frames in order. `None` when the other side has gone before it began one.
///
/// # Errors
///
/// When it breaks off, has a frame that is too long, or is more than `bytes_max` in all.
pub fn message(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    loop {
        let mut head = [0; 4];
        match from.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && frames.is_empty() => {
                return Ok(None);
            }
            other => other?,
        }
        let length = length(head)?;
        if length == 0 {
            return Ok(Some(frames));
        }
        bytes += length + size_of::<Vec<u8>>();
        if bytes > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let mut frame = vec![0; length];
        from.read_exact(&mut frame)?;
        frames.push(frame);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20)) {
            let mut pipe = Vec::new();
            for frame in &frames {
                write(&mut pipe, frame).unwrap();
            }
            end(&mut pipe).unwrap();
            prop_assert_eq!(message(&mut pipe.as_slice(), 1 << 20).unwrap(), Some(frames));
        }

        #[test]
        fn garbage_is_an_error_and_takes_no_memory(garbage in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some(frames)) = message(&mut garbage.as_slice(), 1000) {
                prop_assert!(frames.iter().map(Vec::len).sum::<usize>() <= 1000);
            }
        }
    }

    #[test]
    fn the_bounds_hold() {
        assert!(write(&mut Vec::new(), &vec![0; BYTES_MAX]).is_ok());
        assert!(write(&mut Vec::new(), &vec![0; BYTES_MAX + 1]).is_err());
        assert!(length([0xff; 4]).is_err());
        let mut pipe = Vec::new();
        write(&mut pipe, &[7; 100]).unwrap();
        assert!(message(&mut pipe.as_slice(), 99).is_err(), "longer than allowed");
        assert!(message(&mut pipe.as_slice(), 999).is_err(), "breaks off");
        assert_eq!(message(&mut [].as_slice(), 999).unwrap(), None);
    }
}
