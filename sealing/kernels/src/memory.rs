//! Large buffers on the largest pages that the machine gives.
