//! The parents of all nodes in a file that all sectors of a proof type share.
