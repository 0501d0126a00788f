//! Digests of object bytes: MD5, SHA-1, SHA-256 and CRCs, incremental and combinable.
