//! Shard calls on the wire: units, errors and self descriptions, converted once at this border.
//!
//! Errors travel as a gRPC status whose message names the variant, so that the caller gets back the error that the
//! drive gave and not a text.

use ashlar_datapath::{ShardError, Unit};
use ashlar_proto::shard as wire;
use ashlar_types::{Interval, ShardId, ShardMeta, ShardStat, UnitSum};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status};

/// First byte of every encoded description; a reader that does not know it refuses the call.
const FORMAT_VERSION: u8 = 1;

pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let start = vec![FORMAT_VERSION];
    Bytes::from(postcard::to_extend(value, start).expect("plain data serialises into memory"))
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    match bytes.split_first() {
        Some((&FORMAT_VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|_| Status::invalid_argument("malformed description"))
        }
        _ => Err(Status::invalid_argument("description of an unknown version")),
    }
}

pub fn shard_id(bytes: &[u8]) -> Result<ShardId, Status> {
    ShardId::decode(bytes).ok_or_else(|| Status::invalid_argument("malformed shard id"))
}

pub fn meta(bytes: &[u8]) -> Result<ShardMeta, Status> {
    decode(bytes)
}

pub fn stat(bytes: &[u8]) -> Result<ShardStat, Status> {
    decode(bytes)
}

pub fn unit_to_wire(unit: Unit) -> wire::Unit {
    wire::Unit { bytes: unit.bytes, crc64: unit.sum.crc64, data_crc64: unit.sum.data }
}

pub fn unit_from_wire(unit: wire::Unit) -> Result<Unit, Status> {
    let len = u32::try_from(unit.bytes.len()).map_err(|_| Status::invalid_argument("unit too long"))?;
    Ok(Unit { sum: UnitSum { len, crc64: unit.crc64, data: unit.data_crc64 }, bytes: unit.bytes })
}

const NOT_MINE: &str = "not-mine";
const STALE_INTERVAL: &str = "stale-interval:";
const OVERLOADED: &str = "overloaded";
const CORRUPT: &str = "corrupt:";
const NOT_FOUND: &str = "not-found";
const FAILED: &str = "failed";

pub fn error_to_wire(error: &ShardError) -> Status {
    match error {
        ShardError::NotMine => Status::failed_precondition(NOT_MINE),
        ShardError::StaleInterval { current } => {
            Status::failed_precondition(format!("{STALE_INTERVAL}{current}"))
        }
        ShardError::Overloaded => Status::resource_exhausted(OVERLOADED),
        ShardError::Corrupt { unit } => Status::data_loss(format!("{CORRUPT}{unit}")),
        ShardError::NotFound => Status::not_found(NOT_FOUND),
        ShardError::Failed => Status::internal(FAILED),
        ShardError::Unreachable => Status::unavailable("unreachable"),
    }
}

/// A status that no drive made means that the node could not be asked.
pub fn error_from_wire(status: &Status) -> ShardError {
    let message = status.message();
    let number = |prefix: &str| message.strip_prefix(prefix).and_then(|text| text.parse::<u64>().ok());
    let code = status.code();
    let is = |wanted: Code, text: &str| code == wanted && message == text;
    if is(Code::FailedPrecondition, NOT_MINE) {
        ShardError::NotMine
    } else if is(Code::ResourceExhausted, OVERLOADED) {
        ShardError::Overloaded
    } else if is(Code::NotFound, NOT_FOUND) {
        ShardError::NotFound
    } else if is(Code::Internal, FAILED) {
        ShardError::Failed
    } else if let (Code::FailedPrecondition, Some(current)) = (code, number(STALE_INTERVAL)) {
        ShardError::StaleInterval { current: Interval(current) }
    } else if let (Code::DataLoss, Some(unit)) = (code, number(CORRUPT)) {
        ShardError::Corrupt { unit: u32::try_from(unit).unwrap_or(u32::MAX) }
    } else {
        ShardError::Unreachable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_wire() {
        for error in [
            ShardError::NotMine,
            ShardError::StaleInterval { current: Interval(7) },
            ShardError::Overloaded,
            ShardError::Corrupt { unit: 3 },
            ShardError::NotFound,
            ShardError::Failed,
            ShardError::Unreachable,
        ] {
            assert_eq!(error_from_wire(&error_to_wire(&error)), error);
        }
        assert_eq!(error_from_wire(&Status::internal("h2 protocol error")), ShardError::Unreachable);
    }

    #[test]
    fn descriptions_of_other_versions_are_refused() {
        let mut bytes = encode(&Interval(5)).to_vec();
        assert_eq!(decode::<Interval>(&bytes).unwrap(), Interval(5));
        bytes[0] = 2;
        assert!(decode::<Interval>(&bytes).is_err());
        assert!(decode::<Interval>(&[]).is_err());
    }
}
