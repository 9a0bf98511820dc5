//! Encoding and decoding of typed values, and the receipts and errors of the simple verbs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Receipt;
use crate::error::{FailedCondition, Result, StateError};

/// An error of a codec, with the name of the key.
pub(super) fn of_key(key: &str, error: StateError) -> StateError {
    match error {
        StateError::SerializationError(why) => {
            StateError::SerializationError(format!("the value of {key}: {why}"))
        }
        error => error,
    }
}

/// Encodes a value as JSON.
pub(super) fn json<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| of_key(key, error.into()))
}

/// The version after a batch's last write.
pub(super) fn last_version(receipt: &Receipt) -> u64 {
    receipt.versions.last().copied().unwrap_or(0)
}

/// The first failed version condition, as the error of the simple verbs.
pub(super) fn conflict(error: StateError) -> StateError {
    match error {
        StateError::Rejected(rejection) => match rejection.failed.first() {
            Some(FailedCondition::Version { expected, found, .. }) => {
                StateError::VersionConflict { expected: *expected, found: *found }
            }
            _ => StateError::Rejected(rejection),
        },
        error => error,
    }
}

/// Decodes a value from CBOR. No bytes may follow it.
pub(super) fn decode_cbor<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    use ciborium::de::Error;
    let mut rest = bytes;
    let why = match ciborium::from_reader(&mut rest) {
        Ok(value) if rest.is_empty() => return Ok(value),
        Ok(_) => format!("{} bytes follow the value", rest.len()),
        Err(Error::Io(_)) => "CBOR ends too early".into(),
        Err(Error::Syntax(at)) => format!("not CBOR (byte {at})"),
        Err(Error::Semantic(Some(at), _)) => format!("CBOR of another type than expected (byte {at})"),
        Err(Error::Semantic(None, _)) => "CBOR of another type than expected".into(),
        Err(Error::RecursionLimitExceeded) => "CBOR is nested too deeply".into(),
    };
    Err(StateError::SerializationError(why))
}

/// Encodes a value as CBOR.
pub(super) fn encode_cbor<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The messages of both codecs may quote the value.
    match ciborium::into_writer(value, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => {
            Err(StateError::SerializationError(format!("the value for {key} cannot be written as CBOR")))
        }
    }
}
