//! Talking to Filecoin: JSON-RPC, addresses, messages, gas, keys.
