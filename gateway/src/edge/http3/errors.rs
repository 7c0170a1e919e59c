//! quinn's errors in h3's words.

use std::sync::Arc;

use h3::quic::ConnectionErrorIncoming;
use h3::quic::StreamErrorIncoming;
use quinn::ConnectionError;
use quinn::ReadError;
use quinn::WriteError;

/// Why a connection is no more.
pub fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

/// Why a stream cannot be read.
pub fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

/// Why a stream cannot be written to.
pub fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into() }
        }
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}
