//! Trees of PC2: columns, octal trees, the replica.
