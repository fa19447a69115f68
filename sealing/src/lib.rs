//! The sealing engine: sealing, proving, sector files, parameters.
