//! Object data: striping, acknowledgement, degraded reads, garbage and uploads.
