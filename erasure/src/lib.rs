//! Reed-Solomon codec over GF(2^8), stripe geometry and coding kernels.
